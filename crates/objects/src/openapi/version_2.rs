//! The OpenAPI document in version 2 ("Swagger"), one for all groups: what clients from before
//! Kubernetes 1.24 look at.

use serde_json::{Map, Value, json};

use super::{paths, schemas};
use crate::resource::ResourceRef;
use crate::schema::Schema;

/// Keywords that version 2 does not have; what they say of a value goes unsaid there.
const UNKNOWN: &[&str] = &["allOf", "anyOf", "oneOf", "not", "nullable"];

/// The document of all resources, as `/openapi/v2` answers.
#[must_use]
pub fn version_2(schema: &Schema, all: &[ResourceRef]) -> Value {
    let own: Vec<&ResourceRef> = all.iter().collect();
    let definitions: Map<String, Value> =
        schemas(schema, &own).into_iter().map(|(name, inner)| (name, older(inner))).collect();
    let mut paths: Map<String, Value> =
        all.iter().flat_map(|resource| paths(schema, resource)).collect();
    for (_, operations) in &mut paths {
        for (_, operation) in operations.as_object_mut().into_iter().flatten() {
            *operation = older_operation(operation);
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "definitions": definitions,
    })
}

fn older_operation(operation: &Value) -> Value {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let parameters: Vec<Value> = parameters
        .map(|one| {
            json!({"name": one["name"], "in": one["in"], "type": "string", "uniqueItems": true})
        })
        .collect();
    let answer = &operation["responses"]["200"]["content"]["application/json"]["schema"];
    json!({
        "parameters": parameters,
        "produces": ["application/json"],
        "responses": {"200": {"description": "OK", "schema": older(answer.clone())}},
        "x-kubernetes-action": operation["x-kubernetes-action"],
        "x-kubernetes-group-version-kind": operation["x-kubernetes-group-version-kind"],
    })
}

/// A schema as version 2 has it.
fn older(schema: Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let reference = fields.get("allOf").and_then(|all| all[0]["$ref"].as_str());
            if let Some(name) = reference.and_then(|path| path.rsplit('/').next()) {
                return json!({"$ref": format!("#/definitions/{name}")});
            }
            let is_either = fields.get("format").is_some_and(|format| format == "int-or-string");
            let is_untyped = fields.contains_key("oneOf") && !fields.contains_key("type");
            let mut older: Map<String, Value> = fields
                .into_iter()
                .filter(|(name, _)| !UNKNOWN.contains(&name.as_str()))
                .map(|(name, inner)| match name.as_str() {
                    "properties" => (name, each(inner)),
                    "default" | "enum" | "example" => (name, inner),
                    _ => (name, self::older(inner)),
                })
                .collect();
            if is_either || is_untyped {
                older.insert("type".to_owned(), "string".into());
            }
            Value::Object(older)
        }
        Value::Array(items) => items.into_iter().map(older).collect(),
        other => other,
    }
}

/// Schemas by the names of fields, which may be called like keywords.
fn each(properties: Value) -> Value {
    match properties {
        Value::Object(fields) => {
            fields.into_iter().map(|(name, inner)| (name, older(inner))).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Resource;

    #[test]
    fn the_document_has_all_that_it_refers_to() {
        let all: Vec<ResourceRef> = Resource::built_in().iter().map(ResourceRef::from).collect();
        let document = version_2(Schema::built_in(), &all);
        let definitions = document["definitions"].as_object().unwrap();
        let text = document.to_string();
        let mut count = 0;
        for reference in text.split("#/definitions/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(definitions.contains_key(name), "{name}");
            count += 1;
        }
        assert!(count > 500 && !text.contains("#/components/") && !text.contains("\"oneOf\""));
        let spec = &definitions["io.k8s.api.apps.v1.Deployment"]["properties"]["spec"];
        assert_eq!(spec["$ref"], "#/definitions/io.k8s.api.apps.v1.DeploymentSpec");
        let port = &definitions["io.k8s.api.core.v1.ServicePort"]["properties"]["targetPort"];
        assert_eq!(port["type"], "string");
    }
}
