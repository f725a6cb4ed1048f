//! Types of custom resources: a structural schema of OpenAPI becomes a [`Schema`] of its own, for
//! whoever walks through objects beside their types.

use serde_json::Value;

use super::{Field, Merge, Scalar, Schema, Shape, TABLES, Topology, Type, TypeId};
use crate::name::intern;

/// Fields that every object has, whatever its schema says of them.
const OF_EVERY_OBJECT: [&str; 3] = ["apiVersion", "kind", "metadata"];

impl Schema {
    /// The types of a structural schema, and the one of the whole object.
    ///
    /// Names are [interned](intern): they stay for as long as the process lives, each once.
    #[must_use]
    pub fn structural(root: &Value) -> (Self, TypeId) {
        // The types of metadata come first, which are what they are everywhere.
        let mut schema = Self::read(&TABLES[..1]);
        let of = schema.add_type(root, true).unwrap_or(TypeId(0));
        (schema, of)
    }

    /// Adds the type of an object with known fields; `None` if there are too many types.
    fn add_type(&mut self, of: &Value, is_whole: bool) -> Option<TypeId> {
        let id = TypeId(u16::try_from(self.types.len()).ok()?);
        self.types.push(Type {
            name: "",
            group_version: "",
            is_atomic: of["x-kubernetes-map-type"] == "atomic",
            fields: Vec::new(),
        });
        let is_own = |name: &str| !is_whole || !OF_EVERY_OBJECT.contains(&name);
        let mut fields = Vec::new();
        for (name, inner) in of["properties"].as_object().into_iter().flatten() {
            if is_own(name) {
                let shape = self.add_shape(inner);
                fields.push(field(intern(name), shape, inner));
            }
        }
        if is_whole {
            let metadata = self.kind("meta/v1", "ObjectMeta").map(Shape::Object)?;
            fields.push(field("metadata", metadata, &Value::Null));
            for name in ["apiVersion", "kind"] {
                fields.push(field(name, Shape::Scalar(Scalar::String), &Value::Null));
            }
        }
        self.types[usize::from(id.0)].fields = fields;
        Some(id)
    }

    fn add_shape(&mut self, of: &Value) -> Shape {
        if of["x-kubernetes-int-or-string"] == true {
            return Shape::Scalar(Scalar::IntOrString);
        }
        let scalar = match of["type"].as_str() {
            Some("object") if of["additionalProperties"].is_object() => {
                return Shape::Map(Box::new(self.add_shape(&of["additionalProperties"])));
            }
            Some("object") => {
                let is_whole = of["x-kubernetes-embedded-resource"] == true;
                return match self.add_type(of, is_whole) {
                    Some(id) => Shape::Object(id),
                    None => Shape::Scalar(Scalar::Raw),
                };
            }
            Some("array") => return Shape::List(Box::new(self.add_shape(&of["items"]))),
            Some("string") => Scalar::String,
            Some("integer") => Scalar::Int64,
            Some("number") => Scalar::Double,
            Some("boolean") => Scalar::Bool,
            _ => Scalar::Raw,
        };
        Shape::Scalar(scalar)
    }
}

fn field(name: &'static str, shape: Shape, of: &Value) -> Field {
    let keys = of["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
    let topology = match (of["x-kubernetes-list-type"].as_str(), &of["x-kubernetes-map-type"]) {
        (Some("map"), _) => Topology::Keyed(keys.filter_map(Value::as_str).map(intern).collect()),
        (Some("set"), _) => Topology::Set,
        (Some("atomic"), _) => Topology::Atomic,
        (_, kind) if *kind == "atomic" => Topology::Atomic,
        _ => Topology::Unsaid,
    };
    let default = of.get("default").map(|value| intern(&value.to_string()));
    Field {
        name,
        number: 0,
        shape,
        is_required: false,
        keeps_zero: true,
        is_inline: false,
        topology,
        merge: Merge::Replace,
        retains_keys: false,
        default,
    }
}
