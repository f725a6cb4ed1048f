//! Brings an object into the form of its type: what the type does not have goes and is told, what has
//! the wrong type is refused, amounts are written in their canonical way.
//!
//! Upstream decodes into structures of Go and encodes them again; this has the same result and its
//! words, and says besides which name was probably meant.

use serde_json::{Map, Value};

use crate::Quantity;
use crate::schema::{Scalar, Schema, Shape, TypeId};

/// How deep an object may go. Deeper ones would use up the stack.
const DEPTH_MAX: usize = 128;
/// Unknown fields that are told; the rest is passed over in silence.
const UNKNOWN_MAX: usize = 100;
/// Letters in which a name may differ from the one that was meant.
const DISTANCE_MAX: usize = 2;

/// A field that a type does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Where it stands: `spec.containers[0].imagee`.
    pub path: String,
    /// What was probably meant, as a path from where it stands, or a whole one.
    pub meant: Option<String>,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unknown field {:?}", self.path)?;
        match &self.meant {
            Some(meant) => write!(f, " (did you mean {meant:?}?)"),
            None => Ok(()),
        }
    }
}

/// Why an object is none of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A value of another type than the field's.
    #[error("json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {wanted}")]
    Type {
        /// What it is: `string`, `number 1.5`, `object`, …
        found: String,
        /// The type that the field is of.
        owner: &'static str,
        /// Where it stands.
        path: String,
        /// What it must be, in Go's words.
        wanted: &'static str,
    },
    /// Text that must have a form: an amount, a time, base64.
    #[error("{path}: {why}")]
    Form {
        /// Where it stands.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Structures in structures without end.
    #[error("the object is nested too deeply")]
    Depth,
}

/// Normalises an object of a type, and returns the fields that were unknown, which it has no more.
///
/// # Errors
/// [`DecodeError`] at the first value that cannot be what its field is.
pub fn normalize(
    schema: &Schema,
    of: TypeId,
    object: &mut Map<String, Value>,
) -> Result<Vec<Unknown>, DecodeError> {
    let mut decoder = Decoder { schema, path: Vec::new(), owners: Vec::new(), unknown: Vec::new() };
    decoder.structure(of, object)?;
    Ok(decoder.unknown)
}

struct Decoder<'a> {
    schema: &'a Schema,
    /// Names and places from the root to where it is.
    path: Vec<Step>,
    /// The types on that way.
    owners: Vec<TypeId>,
    unknown: Vec<Unknown>,
}

enum Step {
    Name(String),
    Place(usize),
}

impl Decoder<'_> {
    fn structure(
        &mut self,
        of: TypeId,
        object: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        if self.path.len() > DEPTH_MAX {
            return Err(DecodeError::Depth);
        }
        self.owners.push(of);
        object.retain(|_, value| !value.is_null());
        let is_root = self.path.is_empty();
        let stray = |name: &String| {
            let is_type = is_root && (name == "apiVersion" || name == "kind");
            !is_type && self.schema.field(of, name).is_none()
        };
        let strays: Vec<String> = object.keys().filter(|name| stray(name)).cloned().collect();
        for name in strays {
            object.shift_remove(&name);
            self.tell(of, name);
        }
        for (name, value) in &mut *object {
            let Some(field) = self.schema.field(of, name) else { continue };
            self.path.push(Step::Name(name.clone()));
            self.value(&field.shape, value)?;
            self.path.pop();
        }
        self.owners.pop();
        Ok(())
    }

    fn value(&mut self, shape: &Shape, value: &mut Value) -> Result<(), DecodeError> {
        match (shape, value) {
            (Shape::Object(of), Value::Object(object)) => self.structure(*of, object),
            (Shape::List(item), Value::Array(items)) => {
                for (place, value) in items.iter_mut().enumerate() {
                    self.path.push(Step::Place(place));
                    self.value(item, value)?;
                    self.path.pop();
                }
                Ok(())
            }
            (Shape::Map(inner), Value::Object(map)) => {
                for (key, value) in map {
                    self.path.push(Step::Name(key.clone()));
                    self.value(inner, value)?;
                    self.path.pop();
                }
                Ok(())
            }
            (Shape::Scalar(scalar), value) => self.scalar(*scalar, value),
            (Shape::Object(_), value) => Err(self.mismatch(value, "struct")),
            (Shape::List(_), value) => Err(self.mismatch(value, "[]")),
            (Shape::Map(_), value) => Err(self.mismatch(value, "map[string]")),
        }
    }

    fn scalar(&self, scalar: Scalar, value: &mut Value) -> Result<(), DecodeError> {
        let in_range = |number: i64| scalar != Scalar::Int32 || i32::try_from(number).is_ok();
        let is_right = match (scalar, &*value) {
            (Scalar::Raw | Scalar::Json, _) | (Scalar::String, Value::String(_)) => true,
            (Scalar::Bool, value) => value.is_boolean(),
            (Scalar::Int32 | Scalar::Int64, value) => value.as_i64().is_some_and(in_range),
            (Scalar::Double, value) => value.is_number(),
            (Scalar::IntOrString, Value::String(_)) => true,
            (Scalar::IntOrString, value) => {
                value.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
            }
            (Scalar::Strings, Value::Array(items)) => items.iter().all(Value::is_string),
            (Scalar::Bytes, Value::String(text)) => return self.base64(text),
            (Scalar::Time | Scalar::MicroTime, Value::String(text)) => return self.time(text),
            (Scalar::Quantity, Value::String(_) | Value::Number(_)) => {
                return self.quantity(value);
            }
            _ => false,
        };
        match is_right {
            true => Ok(()),
            false => Err(self.mismatch(value, words(scalar))),
        }
    }

    fn quantity(&self, value: &mut Value) -> Result<(), DecodeError> {
        let text = match &*value {
            Value::String(text) => text.trim().to_owned(),
            number => number.to_string(),
        };
        let quantity: Quantity = text.parse().map_err(|why| self.form(format!("{why}")))?;
        *value = quantity.to_string().into();
        Ok(())
    }

    fn base64(&self, text: &str) -> Result<(), DecodeError> {
        use base64::Engine as _;
        let decoded = base64::prelude::BASE64_STANDARD.decode(text);
        decoded.map(drop).map_err(|why| self.form(format!("illegal base64 data: {why}")))
    }

    fn time(&self, text: &str) -> Result<(), DecodeError> {
        let parsed: Result<jiff::Timestamp, _> = text.parse();
        let words = || format!("parsing time {text:?}: it is not of the form 2006-01-02T15:04:05Z");
        parsed.map(drop).map_err(|_| self.form(words()))
    }

    fn form(&self, why: String) -> DecodeError {
        DecodeError::Form { path: self.shown(), why }
    }

    fn mismatch(&self, value: &Value, wanted: &'static str) -> DecodeError {
        let found = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) => format!("number {number}"),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let owner = self.owners.last().map_or("", |of| self.schema.get(*of).name);
        DecodeError::Type { found, owner, path: self.shown(), wanted }
    }

    fn shown(&self) -> String {
        let mut shown = String::new();
        for step in &self.path {
            match step {
                Step::Place(place) => shown += &format!("[{place}]"),
                Step::Name(name) if shown.is_empty() => shown += name,
                Step::Name(name) => {
                    shown.push('.');
                    shown += name;
                }
            }
        }
        shown
    }

    fn tell(&mut self, of: TypeId, name: String) {
        if self.unknown.len() >= UNKNOWN_MAX {
            return;
        }
        let meant = self.meant(of, &name);
        self.path.push(Step::Name(name));
        self.unknown.push(Unknown { path: self.shown(), meant });
        self.path.pop();
    }

    /// The right name or place of a field: beside it, one level below, or further up.
    fn meant(&self, of: TypeId, name: &str) -> Option<String> {
        let fields = self.schema.fields(of);
        let near = fields.iter().map(|field| (distance(field.name, name), field.name));
        if let Some((_, near)) = near.filter(|(far, _)| *far <= DISTANCE_MAX).min() {
            return Some(near.to_owned());
        }
        let below = fields.iter().find_map(|field| match &field.shape {
            Shape::Object(inner) if self.schema.field(*inner, name).is_some() => Some(field.name),
            _ => None,
        });
        if let Some(below) = below {
            return Some(format!("{below}.{name}"));
        }
        // The types on the way are those of structures, and each has one name on the path.
        let above = self.owners.iter().rposition(|of| self.schema.field(*of, name).is_some())?;
        let mut shown = String::new();
        let names = self.path.iter().filter_map(|step| match step {
            Step::Name(name) => Some(name),
            Step::Place(_) => None,
        });
        for step in names.take(above) {
            shown += &format!("{step}.");
        }
        Some(shown + name)
    }
}

/// What Go calls the type.
fn words(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::String => "string",
        Scalar::Bool => "bool",
        Scalar::Int32 => "int32",
        Scalar::Int64 => "int64",
        Scalar::Double => "float64",
        Scalar::Bytes => "[]uint8",
        Scalar::Time => "v1.Time",
        Scalar::MicroTime => "v1.MicroTime",
        Scalar::Quantity => "resource.Quantity",
        Scalar::IntOrString => "intstr.IntOrString",
        Scalar::Strings => "[]string",
        Scalar::Raw | Scalar::Json => "runtime.RawExtension",
    }
}

/// In how many letters two names differ, upper and lower case apart (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > DISTANCE_MAX {
        return usize::MAX;
    }
    let lower = |text: &str| text.to_ascii_lowercase().into_bytes();
    let (a, b) = (lower(a), lower(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (corner + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "literals of JSON read better as values")]
mod tests {
    use serde_json::json;

    use super::*;

    fn normalized(
        api_version: &str,
        kind: &str,
        object: Value,
    ) -> Result<(Value, Vec<String>), String> {
        let schema = Schema::built_in();
        let Value::Object(mut object) = object else { panic!() };
        let of = schema.kind(api_version, kind).unwrap();
        let unknown = normalize(schema, of, &mut object).map_err(|error| error.to_string())?;
        Ok((Value::Object(object), unknown.iter().map(ToString::to_string).collect()))
    }

    fn unknown(spec: Value) -> Vec<String> {
        normalized("v1", "Pod", json!({"apiVersion": "v1", "kind": "Pod", "spec": spec})).unwrap().1
    }

    #[test]
    fn unknown_fields_are_named_with_what_was_meant() {
        let containers = |fields: Value| json!({"containers": [fields]});
        for (spec, expected) in [
            (
                containers(json!({"imagee": "x"})),
                "unknown field \"spec.containers[0].imagee\" (did you mean \"image\"?)",
            ),
            (
                containers(json!({"requests": {"cpu": 1}})),
                "unknown field \"spec.containers[0].requests\" (did you mean \"resources.requests\"?)",
            ),
            (
                containers(json!({"nodeSelector": {}})),
                "unknown field \"spec.containers[0].nodeSelector\" (did you mean \"spec.nodeSelector\"?)",
            ),
            (
                containers(json!({"imagepullpolicy": "Always"})),
                "unknown field \"spec.containers[0].imagepullpolicy\" (did you mean \"imagePullPolicy\"?)",
            ),
            (json!({"nonsense": 1}), "unknown field \"spec.nonsense\""),
        ] {
            assert_eq!(unknown(spec), [expected]);
        }
        assert!(unknown(json!({"containers": [{"name": "a"}], "replicas": null})).is_empty());
    }

    #[test]
    fn values_of_the_wrong_type_are_refused_in_gos_words() {
        let fails =
            |spec: Value| normalized("apps/v1", "Deployment", json!({"spec": spec})).unwrap_err();
        assert_eq!(
            fails(json!({"replicas": "3"})),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
        );
        assert!(fails(json!({"replicas": 3_000_000_000_i64})).contains("number 3000000000"));
        assert!(fails(json!({"replicas": 1.5})).contains("number 1.5"));
        assert!(fails(json!({"template": []})).contains("array into Go struct field"));
        let memory = json!({"template": {"spec": {"containers": [
            {"resources": {"limits": {"memory": "1 Gi"}}}
        ]}}});
        let said = fails(memory);
        let place =
            "spec.template.spec.containers[0].resources.limits.memory: quantities must match";
        assert!(said.starts_with(place), "{said}");
    }

    #[test]
    fn amounts_become_canonical_and_nulls_go() {
        let object = json!({"spec": {"hostname": null, "containers": [
            {"name": "a", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}
        ]}});
        let (object, _) = normalized("v1", "Pod", object).unwrap();
        let expected = json!({"spec": {"containers": [
            {"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}
        ]}});
        assert_eq!(object, expected);
    }

    #[test]
    fn text_has_the_form_that_it_must_have() {
        let secret = |data: &str| normalized("v1", "Secret", json!({"data": {"a": data}}));
        assert!(secret("YQ==").is_ok());
        assert!(secret("?").unwrap_err().starts_with("data.a: illegal base64 data"));
        let lease = |time: &str| {
            normalized("coordination.k8s.io/v1", "Lease", json!({"spec": {"renewTime": time}}))
        };
        assert!(lease("2026-01-01T00:00:00.123456Z").is_ok() && lease("yesterday").is_err());
    }

    #[test]
    fn endless_objects_are_refused() {
        let schema = Schema::built_in();
        let mut deep = json!({});
        for _ in 0..1000 {
            deep = json!({"spec": deep});
        }
        // A type that has itself inside: none of the built-in ones but these.
        let recursive: Vec<_> =
            schema.types().filter(|(id, _)| is_recursive(schema, *id)).collect();
        assert!(recursive.is_empty(), "test the depth with {recursive:?}");
        assert!(normalized("v1", "Pod", deep).is_ok());
    }

    fn is_recursive(schema: &Schema, of: TypeId) -> bool {
        fn inner(shape: &Shape) -> Option<TypeId> {
            match shape {
                Shape::Object(of) => Some(*of),
                Shape::List(item) | Shape::Map(item) => inner(item),
                Shape::Scalar(_) => None,
            }
        }
        let (mut open, mut seen) = (vec![of], Vec::new());
        while let Some(next) = open.pop() {
            for below in schema.fields(next).iter().filter_map(|field| inner(&field.shape)) {
                if below == of {
                    return true;
                }
                if !seen.contains(&below) {
                    seen.push(below);
                    open.push(below);
                }
            }
        }
        false
    }
}
