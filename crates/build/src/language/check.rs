//! Which checks a file wants: the value of `# check=`.

use crate::error::{Error, Result};

/// Rules by name, or all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rules {
    all: bool,
    names: Vec<String>,
}

impl Rules {
    fn parse(value: &str) -> Self {
        match value.trim() {
            "all" => Self { all: true, names: Vec::new() },
            names => {
                let names = names.split(',').map(|name| name.trim().to_owned());
                Self { all: false, names: names.collect() }
            }
        }
    }

    fn contains(&self, name: &str) -> bool {
        self.all || self.names.iter().any(|own| own == name)
    }

    fn add(&mut self, other: &Self) {
        self.all |= other.all;
        self.names.extend(other.names.iter().cloned());
    }
}

/// Which checks are made, and whether what they find is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckOptions {
    skip: Rules,
    experimental: Rules,
    /// Whether a build fails if anything is found.
    pub is_error: bool,
}

impl CheckOptions {
    /// Reads `skip=A,B;error=true;experimental=all`.
    ///
    /// # Errors
    /// For an unknown option or value.
    pub fn parse(text: &str) -> Result<Self> {
        let mut options = Self::default();
        if text.trim().is_empty() {
            return Ok(options);
        }
        for part in text.splitn(3, ';') {
            let Some((key, value)) = part.split_once('=') else {
                return Err(Error::new(format!("invalid check option {part:?}")));
            };
            match key.trim() {
                "skip" => options.skip = Rules::parse(value),
                "experimental" => options.experimental = Rules::parse(value),
                "error" => {
                    options.is_error = boolean(value.trim()).ok_or_else(|| {
                        Error::new(format!("failed to parse check option {part:?}"))
                    })?;
                }
                key => return Err(Error::new(format!("invalid check option {key:?}"))),
            }
        }
        Ok(options)
    }

    /// The same, and what else is said about one instruction.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.skip.add(&other.skip);
        both.experimental.add(&other.experimental);
        both
    }

    /// Whether a rule is left out: an experimental one unless it is asked for.
    #[must_use]
    pub fn skips(&self, rule: &str, is_experimental: bool) -> bool {
        match is_experimental {
            true => !self.experimental.contains(rule),
            false => self.skip.contains(rule),
        }
    }
}

/// A truth value in any of the spellings of Go's `strconv.ParseBool`.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let options = CheckOptions::parse("skip=A, B;error=true").unwrap();
        assert!(options.is_error && options.skips("B", false) && !options.skips("C", false));
        assert!(options.skips("X", true));
        let options = CheckOptions::parse("experimental=all").unwrap();
        assert!(!options.skips("X", true));
        assert!(CheckOptions::parse("skip").is_err());
        assert!(CheckOptions::parse("x=y").is_err());
        assert!(CheckOptions::parse("error=maybe").is_err());
    }
}
