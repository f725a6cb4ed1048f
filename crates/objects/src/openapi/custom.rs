//! Custom resources in OpenAPI documents: the schemas of their definitions, with what every object
//! has.

use serde_json::{Map, Value, json};

use crate::resource::Resource;

/// What a kind is called in documents: `com.example.stable.v1.CronTab`.
pub(super) fn name(of: &Resource) -> String {
    format!("{}.{}", prefix(of), of.kind)
}

fn prefix(of: &Resource) -> String {
    let mut labels: Vec<&str> = of.group.split('.').collect();
    labels.reverse();
    format!("{}.{}", labels.join("."), of.version)
}

/// Another schema of the document.
pub(super) fn reference(name: &str) -> Value {
    json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}]})
}

/// The schemas of a kind and of a list of it.
pub(super) fn schemas(of: &Resource) -> Vec<(String, Value)> {
    let Some(definition) = &of.definition else { return Vec::new() };
    let kind = |kind: &str| json!([{"group": of.group, "kind": kind, "version": of.version}]);
    let meta = |name: &str| reference(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"));
    let text = json!({"type": "string"});
    let mut one = definition.schema().clone();
    let own = one["properties"].as_object().cloned().unwrap_or_default();
    let mut properties = Map::new();
    properties.insert("apiVersion".to_owned(), text.clone());
    properties.insert("kind".to_owned(), text.clone());
    properties.extend(own);
    properties.insert("metadata".to_owned(), meta("ObjectMeta"));
    one["properties"] = properties.into();
    one["x-kubernetes-group-version-kind"] = kind(of.kind);
    let name = name(of);
    let list = json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text,
            "kind": text,
            "metadata": meta("ListMeta"),
            "items": {"type": "array", "items": reference(&name)},
        },
        "x-kubernetes-group-version-kind": kind(&definition.list_kind),
    });
    vec![(format!("{}.{}", prefix(of), definition.list_kind), list), (name, one)]
}
