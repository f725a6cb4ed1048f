//! Sets of fields of an object, and how `managedFields` writes them (`FieldsV1`).

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

/// One step from a value to a part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// A field of a structure, or a key of a map: `f:name`.
    Field(String),
    /// The item of a list with these values of its keys, as canonical JSON: `k:{"name":"a"}`.
    Key(String),
    /// The item of a set, as JSON: `v:"a"`.
    Value(String),
    /// The item at a place: `i:0`.
    Index(u64),
}

/// A set of paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSet {
    /// Steps that begin a path of the set: whether the step alone is one, and what follows it.
    parts: BTreeMap<Element, Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Part {
    is_member: bool,
    below: FieldSet,
}

/// What is no set of fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("missing or unknown type of key in managed fields: {0:?}")]
pub struct FieldSetError(String);

impl Element {
    fn parse(key: &str) -> Result<Self, FieldSetError> {
        let wrong = || FieldSetError(key.to_owned());
        match key.split_at_checked(2).ok_or_else(wrong)? {
            ("f:", name) => Ok(Self::Field(name.to_owned())),
            ("k:", keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).map_err(|_| wrong())?;
                Ok(Self::key(keys.into_iter().collect()))
            }
            ("v:", value) => {
                let value: Value = serde_json::from_str(value).map_err(|_| wrong())?;
                Ok(Self::Value(value.to_string()))
            }
            ("i:", index) => index.parse().map(Self::Index).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }

    /// The item of a list with these keys.
    pub(super) fn key(keys: BTreeMap<String, Value>) -> Self {
        Self::Key(Value::Object(keys.into_iter().collect()).to_string())
    }

    fn to_key(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => format!("k:{keys}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }
}

/// As upstream shows a path: `.spec.containers[name="a"].image`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(keys) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let pairs: Vec<_> =
                    keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "[{}]", pairs.join(","))
            }
        }
    }
}

impl FieldSet {
    /// Reads what `fieldsV1` holds.
    ///
    /// # Errors
    /// [`FieldSetError`] for a key of no known kind.
    pub fn from_json(json: &Value) -> Result<Self, FieldSetError> {
        let mut set = Self::default();
        for (key, below) in json.as_object().into_iter().flatten() {
            if key == "." {
                continue;
            }
            let below_set = Self::from_json(below)?;
            let is_member = below_set.is_empty() || below.get(".").is_some();
            set.parts.insert(Element::parse(key)?, Part { is_member, below: below_set });
        }
        Ok(set)
    }

    /// The same for `fieldsV1`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        for (element, part) in &self.parts {
            let mut below = Map::new();
            if part.is_member && !part.below.is_empty() {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            if let Value::Object(inner) = part.below.to_json() {
                below.extend(inner);
            }
            json.insert(element.to_key(), Value::Object(below));
        }
        Value::Object(json)
    }

    /// Whether there is no path in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds a path of one step.
    pub(super) fn insert(&mut self, element: Element) {
        self.parts.entry(element).or_default().is_member = true;
    }

    /// Adds paths behind a step.
    pub(super) fn insert_below(&mut self, element: Element, below: &FieldSet) {
        if !below.is_empty() {
            self.parts.entry(element).or_default().below.add(below);
        }
    }

    /// What follows a step, if a path begins with it; and whether the step is a path itself.
    pub(super) fn at(&self, element: &Element) -> Option<(bool, &FieldSet)> {
        self.parts.get(element).map(|part| (part.is_member, &part.below))
    }

    /// Adds all paths of another set.
    pub(super) fn add(&mut self, other: &FieldSet) {
        for (element, part) in &other.parts {
            let own = self.parts.entry(element.clone()).or_default();
            own.is_member |= part.is_member;
            own.below.add(&part.below);
        }
    }

    /// Removes all paths that another set has.
    pub(super) fn remove(&mut self, other: &FieldSet) {
        for (element, part) in &other.parts {
            let Some(own) = self.parts.get_mut(element) else { continue };
            own.is_member &= !part.is_member;
            own.below.remove(&part.below);
            if !own.is_member && own.below.is_empty() {
                self.parts.remove(element);
            }
        }
    }

    /// Removes a path and all that begin with it.
    pub(super) fn forget(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => {
                self.parts.remove(last);
            }
            [first, rest @ ..] => {
                let Some(part) = self.parts.get_mut(first) else { return };
                part.below.forget(rest);
                if !part.is_member && part.below.is_empty() {
                    self.parts.remove(first);
                }
            }
        }
    }

    /// The paths that both have.
    pub(super) fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut both = FieldSet::default();
        for (element, part) in &self.parts {
            let Some(others) = other.parts.get(element) else { continue };
            let shared = Part {
                is_member: part.is_member && others.is_member,
                below: part.below.intersection(&others.below),
            };
            if shared.is_member || !shared.below.is_empty() {
                both.parts.insert(element.clone(), shared);
            }
        }
        both
    }

    /// The paths as text, in order.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, before: &str, paths: &mut Vec<String>) {
        for (element, part) in &self.parts {
            let path = format!("{before}{element}");
            part.below.collect(&path, paths);
            if part.is_member {
                paths.push(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sets_are_read_as_they_were_written() {
        let json = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:finalizers": {"v:\"x/y\"": {}}},
            "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}, "i:3": {}},
        });
        let set = FieldSet::from_json(&json).unwrap();
        assert_eq!(FieldSet::from_json(&set.to_json()).unwrap(), set);
        let paths = set.paths();
        assert!(
            paths.contains(&".spec.ports[port=80,protocol=\"TCP\"].port".to_owned()),
            "{paths:?}"
        );
        assert!(paths.contains(&".metadata.finalizers[=\"x/y\"]".to_owned()), "{paths:?}");
        for wrong in ["x:a", "a", "k:[]", "i:x", "v:"] {
            assert!(FieldSet::from_json(&json!({wrong: {}})).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sets_are_added_and_taken_away() {
        let set = |json| FieldSet::from_json(&json).unwrap();
        let mut a = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
        let b = set(json!({"f:a": {"f:b": {}, "f:d": {}}}));
        assert_eq!(a.intersection(&b), set(json!({"f:a": {"f:b": {}}})));
        a.remove(&b);
        assert_eq!(a, set(json!({"f:a": {}, "f:c": {}})));
        a.add(&b);
        assert_eq!(a, set(json!({"f:a": {".": {}, "f:b": {}, "f:d": {}}, "f:c": {}})));
        a.forget(&[Element::Field("a".to_owned()), Element::Field("b".to_owned())]);
        assert_eq!(a, set(json!({"f:a": {".": {}, "f:d": {}}, "f:c": {}})));
    }
}
