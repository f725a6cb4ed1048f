//! The OpenAPI document (version 3) of a group: what `kubectl explain` shows, and clients validate
//! with.

mod custom;
mod protobuf;
mod version_2;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

pub use protobuf::encode;
pub use version_2::version_2;

use crate::resource::{Resource, ResourceRef};
use crate::schema::{Field, Merge, Scalar, Schema, Shape, Topology, Type, TypeId};

/// The document of a group and version, as `/openapi/v3/apis/GROUP/VERSION` answers: of the
/// resources among all that are of these.
#[must_use]
pub fn document(schema: &Schema, all: &[ResourceRef], group: &str, version: &str) -> Value {
    let own: Vec<&ResourceRef> =
        all.iter().filter(|r| r.group == group && r.version == version).collect();
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": own.iter().flat_map(|resource| paths(schema, resource)).collect::<Map<_, _>>(),
        "components": {"schemas": schemas(schema, &own)},
    })
}

/// What resources and all that they consist of are, by their names.
fn schemas(schema: &Schema, own: &[&ResourceRef]) -> Map<String, Value> {
    let mut open: Vec<TypeId> = own
        .iter()
        .flat_map(|r| {
            let list = format!("{}List", r.kind);
            [schema.kind(&r.api_version(), r.kind), schema.kind(&r.api_version(), &list)]
        })
        .flatten()
        .collect();
    let customs: Vec<&ResourceRef> =
        own.iter().copied().filter(|r| r.definition.is_some()).collect();
    if !customs.is_empty() {
        let of_all = ["ObjectMeta", "ListMeta"];
        open.extend(of_all.iter().filter_map(|name| schema.kind("meta/v1", name)));
    }
    let mut reached = BTreeSet::new();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            let below = schema.fields(next).into_iter();
            open.extend(below.filter_map(|field| structure_of(&field.shape)));
        }
    }
    let mut schemas = Map::new();
    for id in reached {
        schemas.insert(name(schema.get(id)), definition(schema, id));
    }
    schemas.extend(customs.into_iter().flat_map(|resource| custom::schemas(resource)));
    schemas
}

/// What a type is called in the document: `io.k8s.api.apps.v1.Deployment`.
#[must_use]
pub fn name(of: &Type) -> String {
    let (group, version) = of.group_version.split_once('/').unwrap_or((of.group_version, "v1"));
    match group {
        "meta" => format!("io.k8s.apimachinery.pkg.apis.meta.{version}.{}", of.name),
        group => {
            let group = group.split('.').next().unwrap_or(group);
            format!("io.k8s.api.{group}.{version}.{}", of.name)
        }
    }
}

fn structure_of(shape: &Shape) -> Option<TypeId> {
    match shape {
        Shape::Object(of) => Some(*of),
        Shape::List(inner) | Shape::Map(inner) => structure_of(inner),
        Shape::Scalar(_) => None,
    }
}

fn definition(schema: &Schema, id: TypeId) -> Value {
    let of = schema.get(id);
    let kinds: Vec<&Resource> = Resource::built_in()
        .iter()
        .filter(|r| schema.kind(&r.api_version(), r.kind) == Some(id))
        .collect();
    let mut properties = Map::new();
    let is_list = of.name.ends_with("List") && schema.field(id, "items").is_some();
    if !kinds.is_empty() || is_list {
        properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
        properties.insert("kind".to_owned(), json!({"type": "string"}));
    }
    let fields = schema.fields(id);
    for field in &fields {
        properties.insert(field.name.to_owned(), property(schema, field));
    }
    let mut definition = json!({"type": "object", "properties": properties});
    let required: Vec<&str> =
        fields.iter().filter(|field| field.is_required).map(|field| field.name).collect();
    if !required.is_empty() {
        definition["required"] = required.into();
    }
    if of.is_atomic {
        definition["x-kubernetes-map-type"] = "atomic".into();
    }
    if !kinds.is_empty() {
        let kinds =
            kinds.iter().map(|r| json!({"group": r.group, "kind": r.kind, "version": r.version}));
        definition["x-kubernetes-group-version-kind"] = kinds.collect();
    }
    definition
}

fn property(schema: &Schema, field: &Field) -> Value {
    let mut property = shape(schema, &field.shape);
    if let Some(default) = field.default.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
        property["default"] = default;
    }
    let is_list = matches!(field.shape, Shape::List(_));
    match &field.topology {
        Topology::Unsaid => {}
        Topology::Atomic if is_list => property["x-kubernetes-list-type"] = "atomic".into(),
        Topology::Atomic => property["x-kubernetes-map-type"] = "atomic".into(),
        Topology::Set => property["x-kubernetes-list-type"] = "set".into(),
        Topology::Keyed(keys) => {
            property["x-kubernetes-list-type"] = "map".into();
            property["x-kubernetes-list-map-keys"] = keys.clone().into();
        }
    }
    let merges = field.merge != Merge::Replace;
    if let Merge::By(key) = field.merge {
        property["x-kubernetes-patch-merge-key"] = key.into();
    }
    let strategy = match (merges, field.retains_keys) {
        (true, true) => "merge,retainKeys",
        (true, false) => "merge",
        (false, true) => "retainKeys",
        (false, false) => return property,
    };
    property["x-kubernetes-patch-strategy"] = strategy.into();
    property
}

fn shape(schema: &Schema, of: &Shape) -> Value {
    match of {
        Shape::Object(id) => {
            json!({"allOf": [{"$ref": format!("#/components/schemas/{}", name(schema.get(*id)))}]})
        }
        Shape::List(item) => json!({"type": "array", "items": shape(schema, item)}),
        Shape::Map(value) => {
            json!({"type": "object", "additionalProperties": shape(schema, value)})
        }
        Shape::Scalar(scalar) => match scalar {
            Scalar::String => json!({"type": "string"}),
            Scalar::Bool => json!({"type": "boolean"}),
            Scalar::Int32 => json!({"type": "integer", "format": "int32"}),
            Scalar::Int64 => json!({"type": "integer", "format": "int64"}),
            Scalar::Double => json!({"type": "number", "format": "double"}),
            Scalar::Bytes => json!({"type": "string", "format": "byte"}),
            Scalar::Time | Scalar::MicroTime => json!({"type": "string", "format": "date-time"}),
            Scalar::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            Scalar::IntOrString => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            Scalar::Raw | Scalar::Json => json!({"type": "object"}),
            Scalar::Strings => json!({"type": "array", "items": {"type": "string"}}),
        },
    }
}

/// The paths of a resource, with what clients look for in them: the kind, the verbs, and that the
/// server checks fields.
fn paths(schema: &Schema, resource: &Resource) -> Vec<(String, Value)> {
    let root = match resource.group {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    };
    let scope = if resource.is_namespaced { "/namespaces/{namespace}" } else { "" };
    let all = format!("{root}{scope}/{}", resource.plural);
    let of = json!({"group": resource.group, "kind": resource.kind, "version": resource.version});
    let body = match schema.kind(&resource.api_version(), resource.kind) {
        _ if resource.definition.is_some() => custom::reference(&custom::name(resource)),
        Some(id) => shape(schema, &Shape::Object(id)),
        None => return Vec::new(),
    };
    let operation = |action: &str| {
        let writes = matches!(action, "post" | "put" | "patch");
        let named = ["dryRun", "fieldManager", "fieldValidation"];
        let parameters: Vec<Value> = named
            .iter()
            .filter(|_| writes)
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
            .collect();
        json!({
            "parameters": parameters,
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": body}}}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": of,
        })
    };
    let verbs = resource.access.verbs();
    let operations = |pairs: &[(&str, &str, &str)]| -> Value {
        let given = pairs.iter().filter(|(_, verb, _)| verbs.contains(verb));
        given.map(|(method, _, action)| ((*method).to_owned(), operation(action))).collect()
    };
    let on_all = operations(&[
        ("get", "list", "list"),
        ("post", "create", "post"),
        ("delete", "deletecollection", "deletecollection"),
    ]);
    let on_one = operations(&[
        ("get", "get", "get"),
        ("put", "update", "put"),
        ("patch", "patch", "patch"),
        ("delete", "delete", "delete"),
    ]);
    let one = format!("{all}/{{name}}");
    [(all, on_all), (one, on_one)]
        .into_iter()
        .filter(|(_, operations)| operations.as_object().is_some_and(|all| !all.is_empty()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<ResourceRef> {
        Resource::built_in().iter().map(ResourceRef::from).collect()
    }

    #[test]
    fn a_document_has_all_that_it_refers_to() {
        let groups: BTreeSet<_> =
            Resource::built_in().iter().map(|r| (r.group, r.version)).collect();
        for (group, version) in groups {
            let document = document(Schema::built_in(), &all(), group, version);
            let schemas = document["components"]["schemas"].as_object().unwrap();
            let text = document.to_string();
            for reference in text.split("#/components/schemas/").skip(1) {
                let name = reference.split('"').next().unwrap();
                assert!(schemas.contains_key(name), "{group}/{version}: {name}");
            }
        }
    }

    #[test]
    fn what_clients_look_for_is_there() {
        let document = document(Schema::built_in(), &all(), "apps", "v1");
        let path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
        let patch = &document["paths"][path]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        assert!(patch["parameters"].to_string().contains("fieldValidation"));
        let schemas = &document["components"]["schemas"];
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        let selector = &schemas["io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"];
        assert_eq!(selector["x-kubernetes-map-type"], "atomic");
    }
}
