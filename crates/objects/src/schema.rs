//! What the kinds consist of: fields with their types, numbers and rules of merging.
//!
//! The tables in `schema/` are one file for each group and version. A line at the margin begins a
//! type, `atomic` behind its name says that it has one owner as a whole; each line below it is a
//! field:
//!
//! ```text
//! PodSpec
//!   containers 2 []Container required map(name) merge(name)
//!   nodeSelector 7 {}string atomic
//! ```
//!
//! These are the name in JSON, the number in Protocol Buffers, the type (`[]` a list, `{}` a map from
//! strings, a type of another group with the group in front), and rules:
//!
//! | rule | meaning |
//! |---|---|
//! | `required` | the API's reference does not call it optional |
//! | `zero` | a zero, an empty text or structure is not the same as none |
//! | `inline` | its fields stand in JSON where it would stand itself |
//! | `map(keys)`, `set`, `atomic` | what a list is for server-side apply (`x-kubernetes-list-type`); `atomic` of maps and structures, too |
//! | `merge(key)`, `merge` | a strategic merge patch merges the list, items by this field, or as a set |
//! | `retainKeys` | a strategic merge patch may say which fields stay (`$retainKeys`) |
//! | `default=` | what the API's reference says an absent field means, as JSON |

mod structural;

use std::collections::HashMap;
use std::sync::OnceLock;

/// The tables, and the group and version of each.
const TABLES: &[(&str, &str)] = &[
    ("meta/v1", include_str!("schema/meta_v1.txt")),
    ("core/v1", include_str!("schema/core_v1.txt")),
    ("apps/v1", include_str!("schema/apps_v1.txt")),
    ("batch/v1", include_str!("schema/batch_v1.txt")),
    ("autoscaling/v1", include_str!("schema/autoscaling_v1.txt")),
    ("autoscaling/v2", include_str!("schema/autoscaling_v2.txt")),
    ("networking.k8s.io/v1", include_str!("schema/networking_v1.txt")),
    ("policy/v1", include_str!("schema/policy_v1.txt")),
    ("rbac.authorization.k8s.io/v1", include_str!("schema/rbac_v1.txt")),
    ("storage.k8s.io/v1", include_str!("schema/storage_v1.txt")),
    ("scheduling.k8s.io/v1", include_str!("schema/scheduling_v1.txt")),
    ("coordination.k8s.io/v1", include_str!("schema/coordination_v1.txt")),
    ("discovery.k8s.io/v1", include_str!("schema/discovery_v1.txt")),
    ("events.k8s.io/v1", include_str!("schema/events_v1.txt")),
    ("node.k8s.io/v1", include_str!("schema/node_v1.txt")),
    ("certificates.k8s.io/v1", include_str!("schema/certificates_v1.txt")),
    ("authentication.k8s.io/v1", include_str!("schema/authentication_v1.txt")),
    ("authorization.k8s.io/v1", include_str!("schema/authorization_v1.txt")),
    ("admissionregistration.k8s.io/v1", include_str!("schema/admissionregistration_v1.txt")),
    ("flowcontrol.apiserver.k8s.io/v1", include_str!("schema/flowcontrol_v1.txt")),
    ("apiextensions.k8s.io/v1", include_str!("schema/apiextensions_v1.txt")),
    ("metrics.k8s.io/v1beta1", include_str!("schema/metrics_v1beta1.txt")),
    ("networking.k8s.io/v1beta1", include_str!("schema/networking_v1beta1.txt")),
    ("autoscaling/v2beta1", include_str!("schema/autoscaling_v2beta1.txt")),
];

/// All types that the tables have.
#[derive(Debug)]
pub struct Schema {
    types: Vec<Type>,
    /// By group and version, and name.
    places: HashMap<(&'static str, &'static str), TypeId>,
}

/// One of a [`Schema`]'s types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(u16);

/// A structure.
#[derive(Debug)]
pub struct Type {
    /// Its name, `PodSpec` for example.
    pub name: &'static str,
    /// The group and version that it is of, `apps/v1` for example; `core/v1` for the one without a
    /// name.
    pub group_version: &'static str,
    /// Whether it has one owner as a whole, wherever it stands.
    pub is_atomic: bool,
    /// In the order of the table.
    pub fields: Vec<Field>,
}

/// A field of a [`Type`].
#[derive(Debug)]
pub struct Field {
    /// In JSON; of one that is inline, no name there.
    pub name: &'static str,
    /// In Protocol Buffers.
    pub number: u32,
    /// What it holds.
    pub shape: Shape,
    /// Whether the API's reference does not call it optional.
    pub is_required: bool,
    /// Whether a zero, an empty text or an empty structure is not the same as none.
    pub keeps_zero: bool,
    /// Whether its own fields stand where it would.
    pub is_inline: bool,
    /// What server-side apply takes it for.
    pub topology: Topology,
    /// What a strategic merge patch does with it.
    pub merge: Merge,
    /// Whether a strategic merge patch may say which fields stay.
    pub retains_keys: bool,
    /// What an absent field means, as JSON.
    pub default: Option<&'static str>,
}

/// What a field, an item or a value holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// A single value.
    Scalar(Scalar),
    /// A structure.
    Object(TypeId),
    /// A list of equals.
    List(Box<Shape>),
    /// A map from strings to equals.
    Map(Box<Shape>),
}

/// A value without parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// Text.
    String,
    /// True or false.
    Bool,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A number.
    Double,
    /// Bytes: base64 in JSON.
    Bytes,
    /// A time to the second: RFC 3339 in JSON.
    Time,
    /// A time to the microsecond.
    MicroTime,
    /// An amount: see [`crate::Quantity`].
    Quantity,
    /// A number or text.
    IntOrString,
    /// Any JSON: a whole object.
    Raw,
    /// Any JSON: a set of fields (`FieldsV1`).
    Json,
    /// A list of texts that is a message of its own in Protocol Buffers.
    Strings,
}

/// What server-side apply takes a list, a map or a structure for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Topology {
    /// Each part has owners of its own; of a list, no part has.
    #[default]
    Unsaid,
    /// It has one owner as a whole.
    Atomic,
    /// A list whose items are unique.
    Set,
    /// A list whose items are told apart by these fields.
    Keyed(Vec<&'static str>),
}

/// What a strategic merge patch does with a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Merge {
    /// The patch's list takes its place.
    #[default]
    Replace,
    /// It gets the patch's items that it has not.
    Union,
    /// Items with an equal value of this field are merged.
    By(&'static str),
}

impl Schema {
    /// The schema of all built-in kinds.
    ///
    /// # Panics
    /// If a table is wrong, which its tests exclude.
    #[must_use]
    pub fn built_in() -> &'static Self {
        static SCHEMA: OnceLock<Schema> = OnceLock::new();
        SCHEMA.get_or_init(|| Self::read(TABLES))
    }

    /// The type of a kind: `("apps/v1", "Deployment")`; of the group without a name, `("v1", "Pod")`.
    #[must_use]
    pub fn kind(&self, api_version: &str, kind: &str) -> Option<TypeId> {
        let group_version = if api_version == "v1" { "core/v1" } else { api_version };
        let own = self.places.get(&(group_version, kind));
        let own = own.or_else(|| {
            let alike = crate::convert::alike(group_version, kind)?;
            self.places.get(&(alike, kind))
        });
        own.copied()
    }

    /// A type's definition.
    #[must_use]
    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[usize::from(id.0)]
    }

    /// All types, in the order of the tables.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, &Type)> {
        (0_u16..).map(TypeId).zip(&self.types)
    }

    /// A type's field by its name in JSON, among those of inline fields, too.
    #[must_use]
    pub fn field(&self, of: TypeId, name: &str) -> Option<&Field> {
        self.fields(of).into_iter().find(|field| field.name == name)
    }

    /// A type's fields as JSON has them: those of an inline field in its place.
    #[must_use]
    pub fn fields(&self, of: TypeId) -> Vec<&Field> {
        let mut all = Vec::new();
        for field in &self.get(of).fields {
            match field {
                Field { is_inline: true, shape: Shape::Object(inner), .. } => {
                    all.extend(self.fields(*inner));
                }
                field => all.push(field),
            }
        }
        all
    }

    fn read(tables: &[(&'static str, &'static str)]) -> Self {
        let mut places = HashMap::new();
        let headings = tables.iter().flat_map(|(group_version, text)| {
            let headings = text.lines().filter(|line| !line.starts_with(' '));
            headings.map(|heading| (*group_version, heading.split(' ').next().unwrap_or(heading)))
        });
        for (number, place) in (0..).zip(headings) {
            assert!(places.insert(place, TypeId(number)).is_none(), "{place:?} stands twice");
        }
        let mut types: Vec<Type> = Vec::with_capacity(places.len());
        for &(group_version, text) in tables {
            for line in text.lines() {
                match line.strip_prefix("  ") {
                    None => types.push(Type::read(group_version, line)),
                    Some(words) => {
                        let owner = types.last_mut().expect("a table begins with a type");
                        owner.fields.push(Self::read_field(&places, group_version, words));
                    }
                }
            }
        }
        Self { types, places }
    }

    fn read_field(
        places: &HashMap<(&'static str, &'static str), TypeId>,
        group_version: &'static str,
        line: &'static str,
    ) -> Field {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("a word is missing: {line}"));
        let (name, number, shape) = (word(), word(), word());
        let mut field = Field {
            name,
            number: number.parse().unwrap_or_else(|_| panic!("not a number: {line}")),
            shape: read_shape(places, group_version, shape),
            is_required: false,
            keeps_zero: false,
            is_inline: false,
            topology: Topology::Unsaid,
            merge: Merge::Replace,
            retains_keys: false,
            default: None,
        };
        for rule in words {
            field.obey(rule);
        }
        field
    }
}

impl Type {
    fn read(group_version: &'static str, heading: &'static str) -> Self {
        let (name, is_atomic) = match heading.split_once(' ') {
            None => (heading, false),
            Some((name, "atomic")) => (name, true),
            Some(_) => panic!("no such rule: {heading}"),
        };
        Self { name, group_version, is_atomic, fields: Vec::new() }
    }
}

impl Field {
    fn obey(&mut self, rule: &'static str) {
        let (word, inner) = match rule.strip_suffix(')').and_then(|rule| rule.split_once('(')) {
            Some((word, inner)) => (word, Some(inner)),
            None => (rule, None),
        };
        match (word, inner) {
            ("required", None) => self.is_required = true,
            ("zero", None) => self.keeps_zero = true,
            ("inline", None) => self.is_inline = true,
            ("atomic", None) => self.topology = Topology::Atomic,
            ("set", None) => self.topology = Topology::Set,
            ("map", Some(keys)) => self.topology = Topology::Keyed(keys.split(',').collect()),
            ("merge", Some(key)) => self.merge = Merge::By(key),
            ("merge", None) => self.merge = Merge::Union,
            ("retainKeys", None) => self.retains_keys = true,
            _ => match rule.strip_prefix("default=") {
                Some(value) => self.default = Some(value),
                None => panic!("no such rule: {rule}"),
            },
        }
    }
}

fn read_shape(
    places: &HashMap<(&'static str, &'static str), TypeId>,
    group_version: &'static str,
    word: &'static str,
) -> Shape {
    if let Some(item) = word.strip_prefix("[]") {
        return Shape::List(Box::new(read_shape(places, group_version, item)));
    }
    if let Some(value) = word.strip_prefix("{}") {
        return Shape::Map(Box::new(read_shape(places, group_version, value)));
    }
    if let Some(scalar) = Scalar::named(word) {
        return Shape::Scalar(scalar);
    }
    let place = word.rsplit_once('.').unwrap_or((group_version, word));
    let found = places.get(&place);
    Shape::Object(*found.unwrap_or_else(|| panic!("{group_version}: no type {word}")))
}

impl Scalar {
    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "string" => Self::String,
            "bool" => Self::Bool,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "time" => Self::Time,
            "microtime" => Self::MicroTime,
            "quantity" => Self::Quantity,
            "intstr" => Self::IntOrString,
            "raw" => Self::Raw,
            "json" => Self::Json,
            "strings" => Self::Strings,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_whole() {
        let schema = Schema::built_in();
        assert!(schema.types.len() > 500);
        for (id, of) in schema.types() {
            let fields = schema.fields(id);
            let mut names: Vec<_> = fields.iter().map(|field| field.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), fields.len(), "{}: a name stands twice", of.name);
            let mut numbers: Vec<_> = of.fields.iter().map(|field| field.number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), of.fields.len(), "{}: a number stands twice", of.name);
            for field in &of.fields {
                check_rules(schema, of, field);
            }
        }
    }

    fn check_rules(schema: &Schema, of: &Type, field: &Field) {
        let place = format!("{}.{}", of.name, field.name);
        let item = match &field.shape {
            Shape::List(item) => Some(&**item),
            _ => None,
        };
        let has = |key: &str| matches!(item, Some(Shape::Object(item)) if schema.field(*item, key).is_some());
        match &field.topology {
            Topology::Keyed(keys) => assert!(keys.iter().all(|key| has(key)), "{place}"),
            Topology::Set => assert!(item.is_some(), "{place}"),
            Topology::Atomic | Topology::Unsaid => {}
        }
        if let Merge::By(key) = field.merge {
            assert!(has(key), "{place}");
        }
        if let Some(default) = field.default {
            assert!(serde_json::from_str::<serde_json::Value>(default).is_ok(), "{place}");
        }
    }

    #[test]
    fn kinds_and_fields_are_found() {
        let schema = Schema::built_in();
        let pod = schema.kind("v1", "Pod").unwrap();
        assert_eq!(schema.get(pod).group_version, "core/v1");
        let Shape::Object(spec) = schema.field(pod, "spec").unwrap().shape else { panic!() };
        let containers = schema.field(spec, "containers").unwrap();
        assert_eq!((containers.merge, containers.number), (Merge::By("name"), 2));
        assert_eq!(containers.topology, Topology::Keyed(vec!["name"]));
        assert!(containers.is_required);
        // Inline: JSON has a probe's handler in the probe itself.
        let probe = schema.kind("v1", "Probe").unwrap();
        assert!(
            schema.field(probe, "httpGet").is_some() && schema.field(probe, "handler").is_none()
        );
        assert_eq!(schema.kind("apps/v1", "Pod"), None);
        assert_eq!(schema.kind("extensions/v1beta9", "Deployment"), None);
    }
}
