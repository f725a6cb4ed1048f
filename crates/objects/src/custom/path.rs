//! Paths into objects, as definitions write them: the simple part of JSONPath.

use serde_json::Value;

/// Steps that a path may have.
const STEPS_MAX: usize = 64;

/// A path: `.spec.replicas`, `.metadata.labels['app\.kubernetes\.io/name']`,
/// `.status.conditions[?(@.type=="Ready")].status`, `.spec.hosts[*]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    /// From the end, if it is negative.
    Index(i64),
    All,
    /// Items with a field, by a path, of this value.
    Where(Path, Value),
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// What of it cannot be read, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        let mut rest = inner.strip_prefix('$').unwrap_or(inner);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if steps.len() == STEPS_MAX {
                return Err(format!("has more than {STEPS_MAX} steps"));
            }
            rest = match rest.as_bytes()[0] {
                b'.' => named(&rest[1..], &mut steps)?,
                b'[' => {
                    let end = end_of_bracket(rest).ok_or("unterminated array")?;
                    steps.push(bracket(&rest[1..end])?);
                    &rest[end + 1..]
                }
                _ if steps.is_empty() => named(rest, &mut steps)?,
                _ => return Err(format!("unrecognized character in action: {rest:?}")),
            };
        }
        Ok(Self(steps))
    }

    /// Whether it is made of names alone, so that it leads to one place.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.iter().all(|step| matches!(step, Step::Name(_)))
    }

    /// Whether it begins with this name.
    #[must_use]
    pub fn is_below(&self, name: &str) -> bool {
        self.0.len() > 1 && matches!(&self.0[0], Step::Name(first) if first == name)
    }

    /// All values at the place.
    #[must_use]
    pub fn all<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![object];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.below(value)).collect();
        }
        found
    }

    /// The first value at the place that is not null.
    #[must_use]
    pub fn get<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.all(object).into_iter().find(|value| !value.is_null())
    }

    /// What of a merge patch sets the place to a value.
    #[must_use]
    pub fn patch(&self, value: Value) -> Value {
        self.0.iter().rev().fold(value, |inner, step| match step {
            Step::Name(name) => Value::Object([(name.clone(), inner)].into_iter().collect()),
            _ => inner,
        })
    }
}

impl Step {
    fn below<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Step::Name(name), value) => value.get(name).into_iter().collect(),
            (Step::Index(index), Value::Array(items)) => {
                let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let index = if *index < 0 { index + count } else { *index };
                usize::try_from(index).ok().and_then(|at| items.get(at)).into_iter().collect()
            }
            (Step::All, Value::Array(items)) => items.iter().collect(),
            (Step::All, Value::Object(fields)) => fields.values().collect(),
            (Step::Where(path, wanted), Value::Array(items)) => {
                items.iter().filter(|item| path.get(item) == Some(wanted)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A name up to the next step; a backslash keeps a dot in it.
fn named<'a>(text: &'a str, steps: &mut Vec<Step>) -> Result<&'a str, String> {
    let (mut name, mut is_kept) = (String::new(), false);
    let mut end = text.len();
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_kept => {
                name.push(letter);
                is_kept = false;
            }
            '\\' => is_kept = true,
            '.' | '[' => {
                end = at;
                break;
            }
            _ => name.push(letter),
        }
    }
    match name.as_str() {
        "" => return Err("has an empty name".to_owned()),
        "*" => steps.push(Step::All),
        _ => steps.push(Step::Name(name)),
    }
    Ok(&text[end..])
}

/// Where the bracket at the beginning ends, quotes and inner brackets aside.
fn end_of_bracket(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), letter) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Result<Step, String> {
    let inner = inner.trim();
    if inner == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = unquoted(inner) {
        return Ok(Step::Name(name.replace("\\.", ".")));
    }
    if let Ok(index) = inner.parse() {
        return Ok(Step::Index(index));
    }
    let filter = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')'));
    let wrong = || format!("is beyond the simple paths that are known here: [{inner}]");
    let (path, wanted) = filter.and_then(|filter| filter.split_once("==")).ok_or_else(wrong)?;
    let path = path.trim().strip_prefix('@').ok_or_else(wrong)?;
    let wanted = wanted.trim();
    let wanted = match unquoted(wanted) {
        Some(text) => text.into(),
        None => serde_json::from_str(wanted).map_err(|_| wrong())?,
    };
    Ok(Step::Where(Path::parse(path)?, wanted))
}

fn unquoted(text: &str) -> Option<&str> {
    let inner = |quote: char| text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote));
    inner('\'').or_else(|| inner('"'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_values() {
        let object = json!({
            "metadata": {"labels": {"a.b/c": "x"}},
            "status": {"conditions": [{"type": "A", "status": "1"}, {"type": "Ready", "status": "2"}]},
            "spec": {"n": 0, "hosts": ["p", "q"]},
        });
        for (path, expected) in [
            (".spec.n", json!([0])),
            ("spec.hosts[1]", json!(["q"])),
            (".spec.hosts[-1]", json!(["q"])),
            (".spec.hosts[*]", json!(["p", "q"])),
            (".metadata.labels.a\\.b/c", json!(["x"])),
            (".metadata.labels['a\\.b/c']", json!(["x"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["2"])),
            (".status.conditions[?(@.type=='None')].status", json!([])),
            ("{.spec.none.below}", json!([])),
        ] {
            let found = Path::parse(path).unwrap();
            assert_eq!(json!(found.all(&object)), expected, "{path}");
        }
        for wrong in [".a[", "..a", ".a[?(x)]", ".a]b["] {
            assert!(Path::parse(wrong).is_err() || wrong == ".a]b[", "{wrong}");
        }
    }

    #[test]
    fn plain_paths_can_be_set() {
        let path = Path::parse(".spec.replicas").unwrap();
        assert!(path.is_plain() && path.is_below("spec") && !path.is_below("status"));
        assert_eq!(path.patch(json!(3)), json!({"spec": {"replicas": 3}}));
        assert!(!Path::parse(".spec.list[0]").unwrap().is_plain());
    }
}
