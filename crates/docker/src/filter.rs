//! Filters: conditions of which those with one key are alternatives.

mod pattern;

use std::collections::BTreeMap;

pub use pattern::Pattern;

use engine::{Error, Kind, PruneFilter, Result};
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use crate::time::parse_timestamp;

/// Conditions by key, each key with the values that were given for it.
#[derive(Debug, Default)]
pub struct Filters(Vec<(String, String)>);

impl Filters {
    /// Conditions as they are typed, `key=value`.
    ///
    /// # Errors
    /// For what is none, or has a key that is not `known`.
    pub fn parse(texts: &[String], known: &[&str]) -> Result<Self> {
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

    /// Conditions as the API has them: an object whose keys have lists of values, or objects whose
    /// keys are the values.
    ///
    /// # Errors
    /// For what is neither, or has a key that is not `known`.
    pub fn of_json(text: &str, known: &[&str]) -> Result<Self> {
        let bad = || Error::invalid("invalid filter");
        let all: Value = match text {
            "" => Value::Object(Map::new()),
            text => serde_json::from_str(text).map_err(|_| bad())?,
        };
        let mut found = Vec::new();
        for (key, values) in all.as_object().ok_or_else(bad)? {
            if !known.contains(&key.as_str()) {
                return Err(Error::invalid(format!("invalid filter '{key}'")));
            }
            match values {
                Value::Array(values) => {
                    for value in values {
                        let value = value.as_str().ok_or_else(bad)?;
                        found.push((key.clone(), value.to_owned()));
                    }
                }
                Value::Object(values) => {
                    let asked =
                        values.iter().filter(|(_, is_asked)| is_asked.as_bool() != Some(false));
                    found.extend(asked.map(|(value, _)| (key.clone(), value.clone())));
                }
                _ => return Err(bad()),
            }
        }
        Ok(Self(found))
    }

    /// Whether there is a condition of this key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(known, _)| known == key)
    }

    /// The values of this key.
    pub fn values<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let key = key.to_owned();
        self.0.iter().filter(move |(known, _)| *known == key).map(|(_, value)| value.as_str())
    }

    /// The values of this key as regular expressions.
    ///
    /// # Errors
    /// For one that is none.
    pub fn patterns(&self, key: &str) -> Result<Vec<Pattern>> {
        let parse = |value: &str| {
            Pattern::parse(value).map_err(|why| {
                Error::invalid(format!("invalid filter '{key}={value}': {why}"))
                    .hint("a regular expression, as in ^web-[0-9]+$")
            })
        };
        self.values(key).map(parse).collect()
    }

    /// Fails at the first value of this key that is not one of `known`.
    ///
    /// # Errors
    /// As it says.
    pub fn only(&self, key: &str, known: &[&str]) -> Result<()> {
        match self.values(key).find(|value| !known.contains(value)) {
            None => Ok(()),
            Some(value) => Err(Error::invalid(format!("invalid filter '{key}={value}'"))
                .hint(format!("it is one of {}", known.join(", ")))),
        }
    }

    /// Whether there is no condition of this key, or one holds.
    #[must_use]
    pub fn any(&self, key: &str, holds: impl Fn(&str) -> bool) -> bool {
        !self.has(key) || self.values(key).any(holds)
    }

    /// Whether all conditions of this key hold.
    #[must_use]
    pub fn all(&self, key: &str, holds: impl Fn(&str) -> bool) -> bool {
        self.values(key).all(holds)
    }
}

/// Whether there is such a label: `key` or `key=value`.
#[must_use]
pub fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|known| known == value),
        None => labels.contains_key(wanted),
    }
}

/// The conditions that prunes of all kinds have in common.
///
/// # Errors
/// For a time that is none.
pub fn prune_filter(filters: &Filters) -> Result<PruneFilter> {
    let now = jiff::Timestamp::now();
    let zone = TimeZone::system().to_offset(now);
    let mut until = None;
    for text in filters.values("until") {
        if until.is_some() {
            return Err(Error::invalid("more than one until filter specified")
                .hint("name the earliest of them"));
        }
        let time = parse_timestamp(text, now, zone).map_err(|error| {
            Error::caused(Kind::Invalid, format!("invalid filter 'until={text}'"), error)
                .hint("an age as in 24h, or a time as in 2026-01-02T03:04:05Z")
        });
        until = Some(time?);
    }
    let own = |key| filters.values(key).map(str::to_owned).collect();
    Ok(PruneFilter { until, labels: own("label"), not_labels: own("label!") })
}

/// A condition that is true or false, in Go's words; `default` where it is not given.
///
/// # Errors
/// For a value that is neither.
pub fn switch(filters: &Filters, key: &str, default: bool) -> Result<bool> {
    let mut value = default;
    for text in filters.values(key) {
        value = match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => {
                return Err(
                    Error::invalid(format!("invalid filter '{key}={text}'")).hint("true or false")
                );
            }
        };
    }
    Ok(value)
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
