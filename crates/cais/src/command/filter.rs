//! `--filter`: conditions of which those with one key are alternatives.

mod pattern;

use std::collections::BTreeMap;

pub(super) use pattern::Pattern;

use engine::{Error, Result};

/// Conditions by key, each key with the values that were given for it.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<(String, String)>);

impl Filters {
    pub(super) fn parse(texts: &[String], known: &[&str]) -> Result<Self> {
        let parse = |text: &String| {
            let Some((key, value)) = text.split_once('=') else {
                return Err(Error::invalid(format!(
                    "invalid argument \"{text}\" for \"-f, --filter\" flag: invalid filter '{text}'"
                ))
                .hint("as in --filter status=exited"));
            };
            let key = key.trim().to_lowercase();
            if !known.contains(&key.as_str()) {
                return Err(Error::invalid(format!("invalid filter '{key}'"))
                    .hint(format!("filters are {}", known.join(", "))));
            }
            Ok((key, value.trim().to_owned()))
        };
        texts.iter().map(parse).collect::<Result<_>>().map(Self)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(known, _)| known == key)
    }

    pub(super) fn values<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let key = key.to_owned();
        self.0.iter().filter(move |(known, _)| *known == key).map(|(_, value)| value.as_str())
    }

    /// The values of this key as regular expressions.
    pub(super) fn patterns(&self, key: &str) -> Result<Vec<Pattern>> {
        let parse = |value: &str| {
            Pattern::parse(value).map_err(|why| {
                Error::invalid(format!("invalid filter '{key}={value}': {why}"))
                    .hint("a regular expression, as in ^web-[0-9]+$")
            })
        };
        self.values(key).map(parse).collect()
    }

    /// Fails at the first value of this key that is not one of `known`.
    pub(super) fn only(&self, key: &str, known: &[&str]) -> Result<()> {
        match self.values(key).find(|value| !known.contains(value)) {
            None => Ok(()),
            Some(value) => Err(Error::invalid(format!("invalid filter '{key}={value}'"))
                .hint(format!("it is one of {}", known.join(", ")))),
        }
    }

    /// Whether there is no condition of this key, or one holds.
    pub(super) fn any(&self, key: &str, holds: impl Fn(&str) -> bool) -> bool {
        !self.has(key) || self.values(key).any(holds)
    }

    /// Whether all conditions of this key hold.
    pub(super) fn all(&self, key: &str, holds: impl Fn(&str) -> bool) -> bool {
        self.values(key).all(holds)
    }
}

/// `key` or `key=value`.
pub(super) fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|known| known == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_alternatives_and_keys_are_known() {
        let own = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let filters = Filters::parse(&own(&["status=a", "status=b"]), &["status"]).unwrap();
        assert!(filters.any("status", |value| value == "b"));
        assert!(!filters.any("status", |value| value == "c"));
        assert!(filters.any("name", |_| false));
        assert!(filters.only("status", &["a", "b"]).is_ok());
        assert!(filters.only("status", &["a"]).is_err());
        assert!(Filters::parse(&own(&["colour=red"]), &["status"]).is_err());
        assert!(Filters::parse(&own(&["status"]), &["status"]).is_err());
    }
}
