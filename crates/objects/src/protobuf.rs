//! Objects in Protocol Buffers, as typed clients send them, into JSON (apimachinery,
//! `runtime/serializer/protobuf`: `k8s\0` and a message `runtime.Unknown`).
//!
//! The numbers and types of fields are those of the [`Schema`]; fields that it does not have are
//! passed by, as every reader of Protocol Buffers does.

use base64::Engine as _;
use serde_json::{Map, Value};

use crate::schema::{Scalar, Schema, Shape, TypeId};
use crate::time;

/// What a body begins with.
pub const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may stand in each other. A schema of JSON in JSON could go on for ever.
const DEPTH_MAX: usize = 64;
/// What a time without content says, which Go has for none.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// Why bytes are no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// They do not begin with [`MAGIC`].
    #[error("provided data does not appear to be a protobuf message, expected prefix 0x6b387300")]
    Magic,
    /// A length, a number or a tag goes past the end, or is no such thing.
    #[error("proto: {0}: the message is cut off or malformed")]
    Malformed(&'static str),
    /// Text that is not UTF-8.
    #[error("proto: {0}: the text is not UTF-8")]
    Text(&'static str),
    /// Messages in messages without end.
    #[error("proto: messages are nested too deeply")]
    Depth,
    /// A kind that is not of the schema.
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    Kind {
        /// Group and version, as the message has it.
        api_version: String,
        /// The kind.
        kind: String,
    },
    /// The content of `runtime.Unknown` is compressed, or no Protocol Buffers.
    #[error("unsupported content in a protobuf message: {0}")]
    Content(String),
}

type Result<T> = std::result::Result<T, ProtobufError>;

/// Reads a whole body: `apiVersion` and `kind` come from its envelope.
///
/// # Errors
/// [`ProtobufError`].
pub fn decode(schema: &Schema, body: &[u8]) -> Result<Value> {
    let unknown = body.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(unknown) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Fields(meta) {
                    match field? {
                        (1, Wire::Bytes(bytes)) => api_version = text("apiVersion", bytes)?,
                        (2, Wire::Bytes(bytes)) => kind = text("kind", bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            (3 | 4, Wire::Bytes(bytes)) if !bytes.is_empty() => {
                return Err(ProtobufError::Content(text("contentType", bytes)?));
            }
            _ => {}
        }
    }
    // Options of requests are of every group (apimachinery, `metav1.AddToGroupVersion`).
    let of = schema.kind(&api_version, &kind).or_else(|| match kind.ends_with("Options") {
        true => schema.kind("meta/v1", &kind),
        false => None,
    });
    let Some(of) = of else {
        return Err(ProtobufError::Kind { api_version, kind });
    };
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    message(schema, of, raw, &mut object, 0)?;
    Ok(Value::Object(object))
}

/// Reads a message's fields into an object.
fn message(
    schema: &Schema,
    of: TypeId,
    bytes: &[u8],
    into: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(ProtobufError::Depth);
    }
    let known = &schema.get(of).fields;
    for found in Fields(bytes) {
        let (number, wire) = found?;
        let Some(field) = known.iter().find(|field| field.number == number) else { continue };
        match (&field.shape, wire) {
            (Shape::Object(inner), Wire::Bytes(bytes)) if field.is_inline => {
                message(schema, *inner, bytes, into, depth + 1)?;
            }
            (Shape::List(item), wire) => {
                let list = into.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    items(schema, field.name, item, wire, list, depth)?;
                }
            }
            (Shape::Map(value), Wire::Bytes(bytes)) => {
                let (key, value) = entry(schema, field.name, value, bytes, depth)?;
                let map = into.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(map) = map {
                    map.insert(key, value);
                }
            }
            (shape, wire) => {
                let value = value(schema, field.name, shape, wire, depth)?;
                // Go writes every field that is no pointer, and leaves it out of JSON if it is empty.
                if field.keeps_zero || !is_empty(&value) {
                    into.insert(field.name.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == EPOCH,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// One item of a list, or several that are packed.
fn items(
    schema: &Schema,
    name: &'static str,
    item: &Shape,
    wire: Wire<'_>,
    list: &mut Vec<Value>,
    depth: usize,
) -> Result<()> {
    let is_number = matches!(item, Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Bool));
    match wire {
        Wire::Bytes(mut packed) if is_number => {
            while !packed.is_empty() {
                let number = varint(&mut packed).ok_or(ProtobufError::Malformed(name))?;
                list.push(value(schema, name, item, Wire::Number(number), depth)?);
            }
        }
        wire => list.push(value(schema, name, item, wire, depth)?),
    }
    Ok(())
}

/// An entry of a map.
fn entry(
    schema: &Schema,
    name: &'static str,
    shape: &Shape,
    bytes: &[u8],
    depth: usize,
) -> Result<(String, Value)> {
    let (mut key, mut found) = (String::new(), None);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => key = text(name, bytes)?,
            (2, wire) => found = Some(value(schema, name, shape, wire, depth)?),
            _ => {}
        }
    }
    match found {
        Some(found) => Ok((key, found)),
        None => Ok((key, value(schema, name, shape, Wire::Bytes(&[]), depth)?)),
    }
}

fn value(
    schema: &Schema,
    name: &'static str,
    shape: &Shape,
    wire: Wire<'_>,
    depth: usize,
) -> Result<Value> {
    let wrong = || ProtobufError::Malformed(name);
    match (shape, wire) {
        (Shape::Object(of), Wire::Bytes(bytes)) => {
            let mut object = Map::new();
            message(schema, *of, bytes, &mut object, depth + 1)?;
            Ok(Value::Object(object))
        }
        (Shape::Scalar(scalar), Wire::Bytes(bytes)) => bytes_value(name, *scalar, bytes),
        (Shape::Scalar(scalar), Wire::Number(number)) => match scalar {
            Scalar::Bool => Ok((number != 0).into()),
            Scalar::Int32 => Ok((number as i32).into()),
            Scalar::Int64 => Ok((number as i64).into()),
            _ => Err(wrong()),
        },
        (Shape::Scalar(Scalar::Double), Wire::Fixed64(bits)) => {
            Ok(serde_json::Number::from_f64(f64::from_bits(bits)).ok_or_else(wrong)?.into())
        }
        // Neither maps nor lists stand in others.
        _ => Err(wrong()),
    }
}

/// A value that is written as bytes, or as a small message of its own.
fn bytes_value(name: &'static str, scalar: Scalar, bytes: &[u8]) -> Result<Value> {
    let inner = |number: u32| -> Result<Option<Wire<'_>>> {
        let mut last = None;
        for field in Fields(bytes) {
            let (found, wire) = field?;
            if found == number {
                last = Some(wire);
            }
        }
        Ok(last)
    };
    let number = |found: Option<Wire<'_>>| match found {
        Some(Wire::Number(number)) => number as i64,
        _ => 0,
    };
    Ok(match scalar {
        Scalar::String => text(name, bytes)?.into(),
        Scalar::Bytes => base64::prelude::BASE64_STANDARD.encode(bytes).into(),
        Scalar::Time => time::seconds(number(inner(1)?)).into(),
        Scalar::MicroTime => {
            time::micros(number(inner(1)?), number(inner(2)?).clamp(0, 999_999_999) as u32).into()
        }
        Scalar::Quantity => match inner(1)? {
            Some(Wire::Bytes(bytes)) => text(name, bytes)?.into(),
            _ => "0".into(),
        },
        Scalar::IntOrString => match (number(inner(1)?), inner(3)?) {
            (1, Some(Wire::Bytes(bytes))) => text(name, bytes)?.into(),
            (1, _) => "".into(),
            _ => (number(inner(2)?) as i32).into(),
        },
        Scalar::Raw | Scalar::Json => match inner(1)? {
            Some(Wire::Bytes(bytes)) => {
                serde_json::from_slice(bytes).map_err(|_| ProtobufError::Malformed(name))?
            }
            _ => Value::Null,
        },
        Scalar::Strings => {
            let mut list = Vec::new();
            for field in Fields(bytes) {
                if let (1, Wire::Bytes(bytes)) = field? {
                    list.push(Value::from(text(name, bytes)?));
                }
            }
            list.into()
        }
        Scalar::Bool => false.into(),
        Scalar::Int32 | Scalar::Int64 => 0.into(),
        Scalar::Double => 0.0.into(),
    })
}

fn text(name: &'static str, bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Text(name))
}

/// What stands on the wire under a number.
#[derive(Debug, Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// A type that no message here has.
    Other,
}

/// The fields of a message, with their numbers, as they come.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or(ProtobufError::Malformed("field")))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u32, Wire<'a>)> {
        let tag = varint(&mut self.0)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number != 0)?;
        let wire = match tag & 7 {
            0 => Wire::Number(varint(&mut self.0)?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                let _ = self.take(4)?;
                Wire::Other
            }
            _ => return None,
        };
        Some((number, wire))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn tag(number: u32, content: &[u8]) -> Vec<u8> {
        assert!(content.len() < 128, "one byte of length is enough here");
        [&[(number << 3 | 2) as u8, content.len() as u8], content].concat()
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [tag(1, api_version.as_bytes()), tag(2, kind.as_bytes())].concat();
        [MAGIC, &tag(1, &meta), &tag(2, raw), &tag(3, b""), &tag(4, b"")].concat()
    }

    #[test]
    fn what_kubectl_sends_is_read() {
        // `kubectl create configmap c --from-literal=a=b`, with a creation time of nothing.
        let metadata = tag(1, &[tag(1, b"c"), tag(8, b"")].concat());
        let data = tag(2, &[tag(1, b"a"), tag(2, b"b")].concat());
        let raw = [metadata, data].concat();
        let decoded = decode(Schema::built_in(), &body("v1", "ConfigMap", &raw)).unwrap();
        let expected = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
            "metadata": {"name": "c"},
        });
        assert_eq!(decoded, expected);
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let probe =
            [tag(1, &tag(2, &tag(2, &[&[8, 1][..], &tag(3, b"http")].concat()))), vec![16, 5]];
        let port = tag(6, &[tag(1, b"web"), vec![24, 80]].concat());
        let limits = tag(1, &[tag(1, b"cpu"), tag(2, &tag(1, b"500m"))].concat());
        let container = [tag(1, b"c"), port, tag(8, &limits), tag(10, &probe.concat())].concat();
        let spec = [tag(2, &container), vec![11 << 3, 1], vec![4 << 3, 30]].concat();
        let raw = tag(2, &spec);
        let decoded = decode(Schema::built_in(), &body("v1", "Pod", &raw)).unwrap();
        let expected = json!({
            "containers": [{
                "name": "c", "ports": [{"name": "web", "containerPort": 80}],
                "resources": {"limits": {"cpu": "500m"}},
                "livenessProbe": {"httpGet": {"port": "http"}, "initialDelaySeconds": 5},
            }],
            "hostNetwork": true, "terminationGracePeriodSeconds": 30,
        });
        assert_eq!(decoded["spec"], expected);
    }

    #[test]
    fn what_go_leaves_out_is_left_out() {
        // No restart policy, no replicas, an empty directory: only the second and third are there.
        let template = tag(
            3,
            &tag(
                2,
                &[tag(3, b""), tag(1, &[tag(1, b"v"), tag(2, &tag(2, b""))].concat())].concat(),
            ),
        );
        let raw = tag(2, &[vec![8, 0], template].concat());
        let decoded = decode(Schema::built_in(), &body("apps/v1", "Deployment", &raw)).unwrap();
        let volumes = json!([{"name": "v", "emptyDir": {}}]);
        let expected = json!({"replicas": 0, "template": {"spec": {"volumes": volumes}}});
        assert_eq!(decoded["spec"], expected);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let schema = Schema::built_in();
        assert_eq!(decode(schema, b"{}"), Err(ProtobufError::Magic));
        let unknown = decode(schema, &body("v1", "Nothing", b"")).unwrap_err();
        assert_eq!(unknown.to_string(), "no kind \"Nothing\" is registered for version \"v1\"");
        for raw in [&[10, 5, 1][..], &[0xff; 12], &[3], &tag(1, &tag(1, &[0xff]))] {
            assert!(decode(schema, &body("v1", "Pod", raw)).is_err(), "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(raw in proptest::collection::vec(any::<u8>(), 0..100)) {
            let raw = &raw[..raw.len().min(99)];
            let _ = decode(Schema::built_in(), &body("apps/v1", "Deployment", raw));
        }
    }
}
