//! Selectors: which labels, or which fields, an object must have (apimachinery, `labels.Parse`,
//! `fields.ParseSelector`, `metav1.LabelSelector`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Conditions on labels, all of which an object must meet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    conditions: Vec<Condition>,
}

/// Conditions on fields, all of which an object must meet: `metadata.name=a,status.phase!=Failed`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    /// Path, whether it must be equal or must not, and the value.
    pub terms: Vec<(String, bool, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(BTreeSet<String>),
    /// An object without the label meets it.
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

type Result<T> = std::result::Result<T, SelectorError>;

fn fail<T>(why: impl Into<String>) -> Result<T> {
    Err(SelectorError(why.into()))
}

impl Selector {
    /// Reads `a=b,c!=d,e in (f,g),!h,i`, as it stands in `labelSelector=` of a request.
    ///
    /// # Errors
    /// [`SelectorError`] with the place, in the words of `kubectl`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut words = Words { rest: text };
        let mut conditions = Vec::new();
        if words.peek().is_none() {
            return Ok(Self::default());
        }
        loop {
            conditions.push(words.condition()?);
            match words.next() {
                None => return Ok(Self { conditions }),
                Some(",") => {}
                Some(other) => {
                    return fail(format!("found '{other}', expected: ',' or 'end of string'"));
                }
            }
        }
    }

    /// Reads a `LabelSelector`: `matchLabels` and `matchExpressions`. An empty one selects all.
    ///
    /// # Errors
    /// [`SelectorError`] if an operator is unknown, or has values it must not have or none it needs.
    pub fn from_json(selector: &Value) -> Result<Self> {
        let mut conditions = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            conditions.push(Condition {
                key: key.clone(),
                test: Test::In([value.as_str().unwrap_or_default().to_owned()].into()),
            });
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            let values = expression["values"].as_array().into_iter().flatten();
            let values: BTreeSet<String> =
                values.filter_map(|value| value.as_str().map(str::to_owned)).collect();
            let operator = expression["operator"].as_str().unwrap_or_default();
            let test = match (operator, values.is_empty()) {
                ("In", false) => Test::In(values),
                ("NotIn", false) => Test::NotIn(values),
                ("In" | "NotIn", true) => {
                    return fail("for 'in', 'notin' operators, values set can't be empty");
                }
                ("Exists", true) => Test::Exists,
                ("DoesNotExist", true) => Test::Absent,
                ("Exists" | "DoesNotExist", false) => {
                    return fail("values set must be empty for exists and does not exist");
                }
                _ => return fail(format!("{operator:?} is not a valid label selector operator")),
            };
            conditions.push(Condition { key, test });
        }
        Ok(Self { conditions })
    }

    /// Selects objects that have all these labels, as a `Service`'s selector does.
    #[must_use]
    pub fn from_labels(labels: &BTreeMap<String, String>) -> Self {
        let equal = |(key, value): (&String, &String)| Condition {
            key: key.clone(),
            test: Test::In([value.clone()].into()),
        };
        Self { conditions: labels.iter().map(equal).collect() }
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether an object's labels, given by a look-up, meet all conditions.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.conditions.iter().all(|condition| condition.test.holds(label(&condition.key)))
    }

    /// Whether an object's `metadata.labels` do.
    #[must_use]
    pub fn matches_object(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.matches(|key| labels.get(key).and_then(Value::as_str))
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::Greater(than) => number().is_some_and(|number| number > *than),
            Test::Less(than) => number().is_some_and(|number| number < *than),
        }
    }
}

/// The words of a selector of labels: names, and what stands between them.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let first = self.rest.chars().next()?;
        let is_special = |c: char| "=!(),<>".contains(c);
        let length = match first {
            '=' | '!' if self.rest[1..].starts_with('=') => 2,
            c if is_special(c) => 1,
            _ => self
                .rest
                .find(|c: char| is_special(c) || c.is_whitespace())
                .unwrap_or(self.rest.len()),
        };
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(word)
    }

    fn peek(&self) -> Option<&'a str> {
        Words { rest: self.rest }.next()
    }

    fn name(&mut self, what: &str) -> Result<String> {
        match self.next() {
            Some(word) if !"=!(),<>".contains(&word[..1]) => Ok(word.to_owned()),
            Some(word) => fail(format!("found '{word}', expected: {what}")),
            None => fail(format!("found '', expected: {what}")),
        }
    }

    fn condition(&mut self) -> Result<Condition> {
        if self.peek() == Some("!") {
            let _ = self.next();
            return Ok(Condition { key: self.key()?, test: Test::Absent });
        }
        let key = self.key()?;
        let test = match self.peek() {
            None | Some(",") => return Ok(Condition { key, test: Test::Exists }),
            Some("=" | "==") => Test::In([self.value()?].into()),
            Some("!=") => Test::NotIn([self.value()?].into()),
            Some("in") => Test::In(self.values()?),
            Some("notin") => Test::NotIn(self.values()?),
            Some(">") => Test::Greater(self.number()?),
            Some("<") => Test::Less(self.number()?),
            Some(other) => {
                let known = "in, notin, =, ==, !=, gt, lt";
                return fail(format!("found '{other}', expected: {known}"));
            }
        };
        Ok(Condition { key, test })
    }

    fn key(&mut self) -> Result<String> {
        let key = self.name("identifier")?;
        match crate::name::check_label_key(&key) {
            Ok(()) => Ok(key),
            Err(why) => fail(format!("<nil>: Invalid value: {key:?}: {why}")),
        }
    }

    /// The operator, and what it compares with: nothing is a value, too.
    fn value(&mut self) -> Result<String> {
        let _ = self.next();
        match self.peek() {
            None | Some(",") => Ok(String::new()),
            Some(_) => self.label_value(),
        }
    }

    fn label_value(&mut self) -> Result<String> {
        let value = self.name("identifier")?;
        match crate::name::check_label_value(&value) {
            Ok(()) => Ok(value),
            Err(why) => fail(format!("<nil>: Invalid value: {value:?}: {why}")),
        }
    }

    fn number(&mut self) -> Result<i64> {
        let _ = self.next();
        let word = self.name("identifier")?;
        let why = "for 'Gt', 'Lt' operators, the value must be an integer";
        word.parse().or_else(|_| fail(why))
    }

    fn values(&mut self) -> Result<BTreeSet<String>> {
        let _ = self.next();
        match self.next() {
            Some("(") => {}
            other => return fail(format!("found '{}' expected: '('", other.unwrap_or_default())),
        }
        let mut values = BTreeSet::new();
        loop {
            let value = match self.peek() {
                Some("," | ")") => String::new(),
                _ => self.label_value()?,
            };
            values.insert(value);
            match self.next() {
                Some(",") => {}
                Some(")") => return Ok(values),
                other => {
                    let found = other.unwrap_or_default();
                    return fail(format!("found '{found}', expected: ',', or ')'"));
                }
            }
        }
    }
}

impl FieldSelector {
    /// Reads `path=value,path!=value`; a backslash makes the next character an ordinary one.
    ///
    /// # Errors
    /// [`SelectorError`] where an operator is missing or a backslash escapes nothing.
    pub fn parse(text: &str) -> Result<Self> {
        let mut terms = Vec::new();
        for term in split_unescaped(text).into_iter().filter(|term| !term.is_empty()) {
            let at = term.find('=');
            let Some(at) = at else {
                let why = "invalid selector: can't understand";
                return fail(format!("{why} '{term}'"));
            };
            let (path, rest) = term.split_at(at);
            let value = rest.strip_prefix("==").unwrap_or(&rest[1..]);
            let (path, is_equal) = match path.strip_suffix('!') {
                Some(path) => (path, false),
                None => (path, true),
            };
            terms.push((path.trim().to_owned(), is_equal, unescape(value)?));
        }
        Ok(Self { terms })
    }

    /// Whether a look-up of fields meets all conditions; a field that is not there is empty.
    pub fn matches(&self, field: impl Fn(&str) -> Option<String>) -> bool {
        let holds = |(path, is_equal, value): &(String, bool, String)| {
            (field(path).unwrap_or_default() == *value) == *is_equal
        };
        self.terms.iter().all(holds)
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut is_escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(value: &str) -> Result<String> {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some(c @ ('\\' | ',' | '=')) => plain.push(c),
                _ => return fail("invalid field selector: invalid escape sequence"),
            },
            '=' => return fail("invalid field selector: unescaped '=' in value"),
            c => plain.push(c),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let selector = Selector::parse(selector).unwrap();
        selector.matches(|key| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v))
    }

    #[test]
    fn labels_are_selected() {
        let labels = [("app", "web"), ("tier", "front"), ("example.com/n", "7"), ("empty", "")];
        for yes in [
            "",
            "app",
            "app=web",
            "app==web",
            "app = web , tier=front",
            "app!=db",
            "none!=x",
            "app in (db,web)",
            "app in ( web )",
            "app notin (db)",
            "none notin (db)",
            "!none",
            "example.com/n>6",
            "example.com/n<8",
            "empty=",
            "empty in (,a)",
            "in",
            "notin!=a",
        ] {
            let own = [("in", "x")];
            let labels: Vec<_> = labels.iter().chain(&own).copied().collect();
            assert!(selects(yes, &labels), "{yes}");
        }
        for no in ["none", "app=db", "app!=web", "!app", "app in (db)", "example.com/n>7", "app>1"]
        {
            assert!(!selects(no, &labels), "{no}");
        }
        for bad in
            ["app=web tier", "app in web", "app in (", "=a", "a=b=c", "-a", "a=!", "x>y", ",", "a,"]
        {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn selectors_of_objects_are_read() {
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["d", "e"]},
            {"key": "f", "operator": "DoesNotExist"},
        ]});
        let selector = Selector::from_json(&selector).unwrap();
        let object = |labels: Value| json!({"metadata": {"labels": labels}});
        assert!(selector.matches_object(&object(json!({"a": "b", "c": "d"}))));
        assert!(!selector.matches_object(&object(json!({"a": "b", "c": "d", "f": ""}))));
        assert!(!selector.matches_object(&object(json!({"a": "b"}))));
        assert!(Selector::from_json(&json!({})).unwrap().is_empty());
        let wrong = json!({"matchExpressions": [{"key": "c", "operator": "Is"}]});
        assert!(Selector::from_json(&wrong).is_err());
    }

    #[test]
    fn fields_are_selected() {
        let field = |path: &str| match path {
            "metadata.name" => Some("a,b=c".to_owned()),
            _ => None,
        };
        let selects = |text: &str| FieldSelector::parse(text).unwrap().matches(field);
        assert!(selects(r"metadata.name=a\,b\=c") && selects("") && selects("spec.nodeName="));
        assert!(selects("metadata.name!=x,spec.nodeName==") && !selects("metadata.name=a"));
        assert!(FieldSelector::parse("metadata.name").is_err());
        assert!(FieldSelector::parse(r"a=\b").is_err() && FieldSelector::parse("a=b=c").is_err());
    }
}
