//! Variables in texts: `$V`, `${V}`, `${V:-default}` and their like.

use std::cell::RefCell;
use std::collections::BTreeSet;

/// How deep defaults may lie in defaults.
const DEPTH_MAX: usize = 32;

/// Where values come from, and which were not there.
#[derive(Clone, Copy)]
pub struct Variables<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    missing: &'a RefCell<BTreeSet<String>>,
}

impl std::fmt::Debug for Variables<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Variables").field("missing", &self.missing).finish_non_exhaustive()
    }
}

impl<'a> Variables<'a> {
    /// Values by `lookup`; the names that have none are put into `missing`.
    pub fn new(
        lookup: &'a dyn Fn(&str) -> Option<String>,
        missing: &'a RefCell<BTreeSet<String>>,
    ) -> Self {
        Self { lookup, missing }
    }

    /// The value of a variable, if it has one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name)
    }

    /// A text with the values in the places of their variables. What is no variable, as in `$1` or
    /// `$(x)`, stays as it is.
    ///
    /// # Errors
    /// Compose's words for a variable that must have a value, and for what is no template.
    pub fn expand(&self, text: &str) -> Result<String, String> {
        self.nested(text, 0)
    }

    fn nested(&self, text: &str, depth: usize) -> Result<String, String> {
        if depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} variables in each other"));
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out += &rest[..at];
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix('$') {
                out.push('$');
                rest = behind;
            } else if let Some(inner) = rest.strip_prefix('{') {
                let end = closing(inner).ok_or_else(|| invalid(text))?;
                out +=
                    &self.braced(&inner[..end], depth).map_err(|e| e.unwrap_or(invalid(text)))?;
                rest = &inner[end + 1..];
            } else {
                let name = name(rest);
                match name {
                    "" => out.push('$'),
                    name => out += &self.or_blank(name),
                }
                rest = &rest[name.len()..];
            }
        }
        Ok(out + rest)
    }

    /// What stands between braces. `None` as an error: it is no template.
    fn braced(&self, inner: &str, depth: usize) -> Result<String, Option<String>> {
        let variable = name(inner);
        if variable.is_empty() {
            return Err(None);
        }
        let behind = &inner[variable.len()..];
        if behind.is_empty() {
            return Ok(self.or_blank(variable));
        }
        let (is_strict, behind) = match behind.strip_prefix(':') {
            Some(behind) => (true, behind),
            None => (false, behind),
        };
        let operator = behind.chars().next().ok_or(None)?;
        let word = &behind[operator.len_utf8()..];
        let value = self.get(variable);
        let is_there = value.as_ref().is_some_and(|value| !(is_strict && value.is_empty()));
        let expand = || self.nested(word, depth + 1).map_err(Some);
        match operator {
            '-' if is_there => Ok(value.unwrap_or_default()),
            '-' => expand(),
            '+' if is_there => expand(),
            '+' => Ok(value.unwrap_or_default()),
            '?' if is_there => Ok(value.unwrap_or_default()),
            '?' => {
                let what = format!("required variable {variable} is missing a value");
                Err(Some(match expand()? {
                    why if why.is_empty() => what,
                    why => format!("{what}: {why}"),
                }))
            }
            _ => Err(None),
        }
    }

    fn or_blank(&self, name: &str) -> String {
        self.get(name).unwrap_or_else(|| {
            self.missing.borrow_mut().insert(name.to_owned());
            String::new()
        })
    }
}

fn invalid(text: &str) -> String {
    format!("invalid template: \"{text}\"")
}

/// The name of a variable that a text begins with.
fn name(text: &str) -> &str {
    let bytes = text.as_bytes();
    let letter = |b: &u8| b.is_ascii_alphabetic() || *b == b'_';
    if !bytes.first().is_some_and(letter) {
        return "";
    }
    let end = bytes.iter().position(|b| !(letter(b) || b.is_ascii_digit()));
    &text[..end.unwrap_or(text.len())]
}

/// Where the brace that was opened before `text` is closed.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                open += 1;
                at += 1;
            }
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expand(text: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        Variables::new(&lookup, &RefCell::default()).expand(text)
    }

    #[test]
    fn variables_are_replaced() {
        for (text, expected) in [
            ("$A-${A}", "a-a"),
            ("$$A $${A}", "$A ${A}"),
            ("[$NONE][${NONE}]", "[][]"),
            ("${A:-d} ${EMPTY:-d} ${NONE:-d}", "a d d"),
            ("${A-d} ${EMPTY-d} ${NONE-d}", "a  d"),
            ("${A:+x} ${EMPTY:+x} ${NONE:+x}", "x  "),
            ("${A+x} ${EMPTY+x} ${NONE+x}", "x x "),
            ("${A:?e} ${EMPTY?e}", "a "),
            ("${NONE:-${A}} ${NONE:-${ALSO:-{}}}", "a {}"),
            ("${NONE:-a:-b}", "a:-b"),
            ("$1 $(id) $ 5$", "$1 $(id) $ 5$"),
            ("${NONE:-http://x?y=$A}", "http://x?y=a"),
            ("äö$Aü", "äöaü"),
        ] {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(
            expand("${NONE:?set $A}"),
            Err("required variable NONE is missing a value: set a".into())
        );
        assert_eq!(expand("${EMPTY:?}"), Err("required variable EMPTY is missing a value".into()));
        for bad in ["${", "${A", "${}", "${1}", "${A!b}", "${A:}", "a ${-x}"] {
            assert_eq!(expand(bad), Err(format!("invalid template: \"{bad}\"")), "{bad}");
        }
        let deep = format!("{}x{}", "${N:-".repeat(40), "}".repeat(40));
        assert!(expand(&deep).unwrap_err().contains("variables in each other"));
    }

    #[test]
    fn missing_variables_are_noted() {
        let missing = RefCell::default();
        let variables = Variables::new(&|_| None, &missing);
        variables.expand("$B ${A} ${C:-x}").unwrap();
        assert_eq!(missing.into_inner().into_iter().collect::<Vec<_>>(), ["A", "B"]);
    }

    proptest! {
        #[test]
        fn an_escaped_text_comes_back(text in "\\PC*") {
            prop_assert_eq!(expand(&text.replace('$', "$$")), Ok(text));
        }

        #[test]
        fn values_are_not_read_again(value in "[$${}A-Z:?-]{0,20}") {
            let lookup = |_: &str| Some(value.clone());
            let missing = RefCell::default();
            let variables = Variables::new(&lookup, &missing);
            prop_assert_eq!(variables.expand("<${X}>"), Ok(format!("<{value}>")));
        }

        #[test]
        fn nothing_makes_it_panic(text in "[$${}A-Z:?+-]{0,40}") {
            let _ = expand(&text);
        }
    }
}
