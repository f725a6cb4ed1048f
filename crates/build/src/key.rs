//! What a step's outcome depends on, as data: so that two of them can be compared.

use std::collections::BTreeMap;

use oci::Digest;
use serde::{Deserialize, Serialize};

/// Everything that can matter for a step, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key {
    fields: BTreeMap<String, String>,
}

/// The first field in which two keys differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub field: String,
    /// Its value in the first, if it is there.
    pub before: Option<String>,
    /// Its value in the second.
    pub after: Option<String>,
}

impl Key {
    /// A key of these fields.
    #[must_use]
    pub fn new(fields: BTreeMap<String, String>) -> Self {
        Self { fields }
    }

    /// Adds a field.
    pub fn set(&mut self, field: impl Into<String>, value: impl Into<String>) {
        self.fields.insert(field.into(), value.into());
    }

    /// The value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// What stands for all of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let text = serde_json::to_vec(&self.fields).expect("strings are JSON");
        Digest::of(&text)
    }

    /// The first field in which another differs, if there is one.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        let names = self.fields.keys().chain(other.fields.keys());
        let differs = |name: &&String| self.fields.get(*name) != other.fields.get(*name);
        let field = names.filter(differs).min()?.clone();
        let (before, after) = (self.fields.get(&field).cloned(), other.fields.get(&field).cloned());
        Some(Difference { field, before, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_found() {
        let key = |fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            Key::new(fields.collect())
        };
        let (old, new) =
            (key(&[("a", "1"), ("c", "1")]), key(&[("a", "1"), ("b", "2"), ("c", "2")]));
        let found = old.difference(&new).unwrap();
        assert_eq!(
            (found.field.as_str(), found.before, found.after),
            ("b", None, Some("2".into()))
        );
        assert_eq!(old.difference(&old), None);
        assert_ne!(old.digest(), new.digest());
    }
}
