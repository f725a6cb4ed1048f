//! What the API has: groups, versions and resources, as clients discover them.

use std::collections::BTreeSet;

use objects::resource::{Access, Resource};
use objects::{Schema, openapi};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The version of Kubernetes whose API this is.
pub(crate) const MAJOR: &str = "1";
pub(crate) const MINOR: &str = "36";

/// `GET /version`.
pub(crate) fn version() -> Value {
    json!({
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "gitVersion": format!("v{MAJOR}.{MINOR}.0+cais"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", architecture()),
    })
}

/// As Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Groups with their versions, the preferred one first, in the order of the table.
fn groups() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for resource in Resource::built_in() {
        match groups.iter_mut().find(|(group, _)| *group == resource.group) {
            Some((_, versions)) if versions.contains(&resource.version) => {}
            Some((_, versions)) => versions.push(resource.version),
            None => groups.push((resource.group, vec![resource.version])),
        }
    }
    groups
}

/// `GET /api`.
pub(crate) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `GET /apis`.
pub(crate) fn group_list() -> Value {
    let groups: Vec<Value> =
        groups().iter().filter(|(group, _)| !group.is_empty()).map(group_of).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `GET /apis/GROUP`.
pub(crate) fn group(name: &str) -> Option<Value> {
    let groups = groups();
    let found = groups.iter().find(|(group, _)| *group == name && !group.is_empty())?;
    let mut group = group_of(found);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

fn group_of((name, versions): &(&str, Vec<&str>)) -> Value {
    let version =
        |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions[0]})
}

/// `GET /api/v1` and `/apis/GROUP/VERSION`.
pub(crate) fn resource_list(group: &str, version: &str) -> Option<Value> {
    let own: Vec<&Resource> = of(group, version).collect();
    let api_version = own.first()?.api_version();
    let resources: Vec<Value> = own.into_iter().flat_map(resources_of).collect();
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api_version,
        "resources": resources,
    }))
}

fn of<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static Resource> + 'a {
    Resource::built_in().iter().filter(move |r| r.group == group && r.version == version)
}

fn resources_of(resource: &Resource) -> Vec<Value> {
    let mut own = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.is_namespaced,
        "kind": resource.kind,
        "verbs": resource.access.verbs(),
    });
    if !resource.short_names.is_empty() {
        own["shortNames"] = resource.short_names.clone().into();
    }
    if !resource.categories.is_empty() {
        own["categories"] = resource.categories.clone().into();
    }
    if resource.access == Access::Stored {
        let hash = Sha256::digest(format!("{}/{}", resource.group, resource.kind));
        own["storageVersionHash"] =
            base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &hash[..8]).into();
    }
    let subresource = |name: &&str| {
        let (group, version, kind) = kind_of(resource, name);
        let mut shown = json!({
            "name": format!("{}/{name}", resource.plural),
            "singularName": "",
            "namespaced": resource.is_namespaced,
            "kind": kind,
            "verbs": verbs_of(name),
        });
        if (group, version) != (resource.group, resource.version) {
            shown["group"] = group.into();
            shown["version"] = version.into();
        }
        shown
    };
    let parts = served(resource).map(|name| subresource(&name)).collect::<Vec<_>>();
    [vec![own], parts].concat()
}

/// Subresources that are answered.
fn served(resource: &Resource) -> impl Iterator<Item = &'static str> {
    const YET: &[&str] = &["status", "scale", "binding", "eviction", "finalize", "approval"];
    resource.subresources.clone().into_iter().filter(|name| YET.contains(name))
}

/// What a subresource reads and writes.
pub(crate) fn kind_of(
    of: &Resource,
    subresource: &str,
) -> (&'static str, &'static str, &'static str) {
    match subresource {
        "scale" => ("autoscaling", "v1", "Scale"),
        "eviction" => ("policy", "v1", "Eviction"),
        "binding" => ("", "v1", "Binding"),
        "token" => ("authentication.k8s.io", "v1", "TokenRequest"),
        _ => {
            let same = Resource::built_in()
                .iter()
                .find(|r| r.group == of.group && r.version == of.version && r.kind == of.kind);
            same.map_or(("", "", ""), |r| (r.group, r.version, r.kind))
        }
    }
}

fn verbs_of(subresource: &str) -> &'static [&'static str] {
    match subresource {
        "binding" | "eviction" | "token" => &["create"],
        "finalize" => &["update"],
        _ => &["get", "patch", "update"],
    }
}

/// All groups in one document (`apidiscovery.k8s.io`), for `/api` or `/apis`.
pub(crate) fn aggregated(is_core: bool, version: &str) -> Value {
    let items: Vec<Value> = groups()
        .into_iter()
        .filter(|(group, _)| group.is_empty() == is_core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = of(group, version).map(discovered).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = match group {
                "" => json!({"creationTimestamp": null}),
                name => json!({"name": name, "creationTimestamp": null}),
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn discovered(resource: &Resource) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let scope = if resource.is_namespaced { "Namespaced" } else { "Cluster" };
    let mut shown = json!({
        "resource": resource.plural,
        "responseKind": kind(resource.group, resource.version, resource.kind),
        "scope": scope,
        "singularResource": resource.singular,
        "verbs": resource.access.verbs(),
    });
    if !resource.short_names.is_empty() {
        shown["shortNames"] = resource.short_names.clone().into();
    }
    if !resource.categories.is_empty() {
        shown["categories"] = resource.categories.clone().into();
    }
    let parts: Vec<Value> = served(resource)
        .map(|name| {
            let (group, version, own) = kind_of(resource, name);
            json!({
                "subresource": name,
                "responseKind": kind(group, version, own),
                "verbs": verbs_of(name),
            })
        })
        .collect();
    if !parts.is_empty() {
        shown["subresources"] = parts.into();
    }
    shown
}

/// `GET /openapi/v3`: where the documents of the groups are.
pub(crate) fn openapi_index() -> Value {
    let mut paths = serde_json::Map::new();
    let versions: BTreeSet<(&str, &str)> =
        Resource::built_in().iter().map(|r| (r.group, r.version)).collect();
    for (group, version) in versions {
        let path = match group {
            "" => format!("api/{version}"),
            group => format!("apis/{group}/{version}"),
        };
        let text = openapi::document(Schema::built_in(), group, version).to_string();
        let digest = Sha256::digest(text.as_bytes());
        let hash: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        let place = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path, json!({"serverRelativeURL": place}));
    }
    json!({"paths": paths})
}

/// The document of a group, by the parts of its path behind `/openapi/v3`.
pub(crate) fn openapi_document(parts: &[&str]) -> Option<Value> {
    let (group, version) = match parts {
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return None,
    };
    let _ = of(group, version).next()?;
    Some(openapi::document(Schema::built_in(), group, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_discovery_say_the_same() {
        let mut one_by_one = BTreeSet::new();
        for resource in Resource::built_in() {
            let list = resource_list(resource.group, resource.version).unwrap();
            for shown in list["resources"].as_array().unwrap() {
                let name = format!("{}/{}", list["groupVersion"], shown["name"]).replace('"', "");
                one_by_one.insert(name);
            }
        }
        let mut at_once = BTreeSet::new();
        for is_core in [true, false] {
            for group in aggregated(is_core, "v2")["items"].as_array().unwrap() {
                let name = group["metadata"]["name"].as_str().unwrap_or_default();
                for version in group["versions"].as_array().unwrap() {
                    let slash = if name.is_empty() { "" } else { "/" };
                    let own = format!("{name}{slash}{}", version["version"].as_str().unwrap());
                    for resource in version["resources"].as_array().unwrap() {
                        let plural = resource["resource"].as_str().unwrap();
                        at_once.insert(format!("{own}/{plural}"));
                        for part in resource["subresources"].as_array().into_iter().flatten() {
                            let part = part["subresource"].as_str().unwrap();
                            at_once.insert(format!("{own}/{plural}/{part}"));
                        }
                    }
                }
            }
        }
        assert_eq!(one_by_one, at_once);
        assert!(at_once.contains("apps/v1/deployments/scale") && at_once.contains("v1/pods"));
    }

    #[test]
    fn documents_are_where_the_index_says() {
        let index = openapi_index();
        let path = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
        assert!(path.starts_with("/openapi/v3/apis/apps/v1?hash="), "{path}");
        assert!(openapi_document(&["apis", "apps", "v1"]).is_some());
        assert!(openapi_document(&["apis", "nonsense", "v1"]).is_none());
    }
}
