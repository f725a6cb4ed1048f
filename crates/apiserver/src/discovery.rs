//! What the API has: groups, versions and resources, as clients discover them.

use std::collections::BTreeSet;

use std::sync::OnceLock;

use objects::resource::{Access, Resource, ResourceRef};
use objects::{Schema, openapi};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::log::LogError;
use crate::request::{Answer, Request};

/// The version of Kubernetes whose API this is.
pub(crate) const MAJOR: &str = "1";
pub(crate) const MINOR: &str = "36";

/// What the document of version 2 is asked for as in Protocol Buffers.
const BINARY_OPENAPI: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];

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

impl Cluster {
    /// Documents of what there is, by the parts of their paths.
    pub(crate) fn discover(
        &self,
        request: &Request,
        parts: &[&str],
    ) -> Result<Option<Value>, Failure> {
        if !matches!(parts, [] | ["api" | "apis"] | ["api" | "apis", _] | ["apis", _, _])
            && parts.first() != Some(&"openapi")
        {
            return Ok(None);
        }
        let all = self.resources()?;
        Ok(match parts {
            [] => Some(root(&all)),
            ["api"] | ["apis"] => {
                let is_core = parts == ["api"];
                Some(match crate::api::aggregated_version(&request.accept) {
                    Some(version) => aggregated(&all, is_core, version),
                    None if is_core => core_versions(),
                    None => group_list(&all),
                })
            }
            ["api", version] => resource_list(&all, "", version),
            ["apis", name] => group(&all, name),
            ["apis", group, version] => resource_list(&all, group, version),
            ["openapi", "v2"] => {
                // Who wants Protocol Buffers alone must not get what it cannot read.
                let _ = request.form()?;
                Some(openapi::version_2(Schema::built_in(), &all))
            }
            ["openapi", "v3"] => Some(openapi_index(&all)),
            ["openapi", "v3", rest @ ..] => openapi_document(&all, rest),
            _ => None,
        })
    }
}

impl Cluster {
    /// `GET /openapi/v2`, for whoever wants it in Protocol Buffers: kubectl before 1.24 wants nothing
    /// else.
    pub(crate) fn binary_openapi(
        &self,
        request: &Request,
        parts: &[&str],
    ) -> Result<Option<Answer>, LogError> {
        let is_wanted = BINARY_OPENAPI.iter().any(|media| request.accept.contains(media));
        if parts != ["openapi", "v2"] || !is_wanted {
            return Ok(None);
        }
        // The older name is no media type for who reads strictly.
        let media_type = BINARY_OPENAPI[1];
        let document = openapi::version_2(Schema::built_in(), &self.resources()?);
        Ok(Some(Answer::Bytes { media_type, bytes: openapi::encode(&document) }))
    }
}

/// `GET /`.
fn root(all: &[ResourceRef]) -> Value {
    let mut paths: Vec<String> = all.iter().map(|r| format!("/{}", place(r))).collect();
    let others = ["/api", "/apis", "/healthz", "/openapi/v2", "/openapi/v3", "/version"];
    paths.extend(others.map(str::to_owned));
    paths.sort();
    paths.dedup();
    json!({"paths": paths})
}

/// Where a resource's group and version are: `apis/apps/v1`.
fn place(of: &Resource) -> String {
    match of.group {
        "" => format!("api/{}", of.version),
        group => format!("apis/{group}/{}", of.version),
    }
}

/// Groups with their versions, the preferred one first, in the order of the table.
fn groups(all: &[ResourceRef]) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for resource in all {
        match groups.iter_mut().find(|(group, _)| *group == resource.group) {
            Some((_, versions)) if versions.contains(&resource.version) => {}
            Some((_, versions)) => versions.push(resource.version),
            None => groups.push((resource.group, vec![resource.version])),
        }
    }
    groups
}

/// `GET /api`.
fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `GET /apis`.
fn group_list(all: &[ResourceRef]) -> Value {
    let groups: Vec<Value> =
        groups(all).iter().filter(|(group, _)| !group.is_empty()).map(group_of).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `GET /apis/GROUP`.
fn group(all: &[ResourceRef], name: &str) -> Option<Value> {
    let groups = groups(all);
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
fn resource_list(all: &[ResourceRef], group: &str, version: &str) -> Option<Value> {
    let own: Vec<&Resource> = of(all, group, version).collect();
    let api_version = own.first()?.api_version();
    let resources: Vec<Value> = own.into_iter().flat_map(resources_of).collect();
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api_version,
        "resources": resources,
    }))
}

fn of<'a>(
    all: &'a [ResourceRef],
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'a Resource> {
    all.iter().map(|r| &**r).filter(move |r| r.group == group && r.version == version)
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
pub(crate) fn served(resource: &Resource) -> impl Iterator<Item = &'static str> {
    const YET: &[&str] = &[
        "status",
        "scale",
        "binding",
        "eviction",
        "finalize",
        "approval",
        "token",
        "log",
        "exec",
        "attach",
        "portforward",
        "ephemeralcontainers",
        "resize",
        "proxy",
    ];
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
        "exec" => ("", "v1", "PodExecOptions"),
        "attach" => ("", "v1", "PodAttachOptions"),
        "portforward" => ("", "v1", "PodPortForwardOptions"),
        "proxy" if of.kind == "Node" => ("", "v1", "NodeProxyOptions"),
        "proxy" if of.kind == "Service" => ("", "v1", "ServiceProxyOptions"),
        "proxy" => ("", "v1", "PodProxyOptions"),
        _ => (of.group, of.version, of.kind),
    }
}

fn verbs_of(subresource: &str) -> &'static [&'static str] {
    match subresource {
        "binding" | "eviction" | "token" => &["create"],
        "exec" | "attach" | "portforward" => &["create", "get"],
        "log" => &["get"],
        "finalize" => &["update"],
        "proxy" => &["create", "delete", "get", "patch", "update"],
        _ => &["get", "patch", "update"],
    }
}

/// All groups in one document (`apidiscovery.k8s.io`), for `/api` or `/apis`.
fn aggregated(all: &[ResourceRef], is_core: bool, version: &str) -> Value {
    let items: Vec<Value> = groups(all)
        .into_iter()
        .filter(|(group, _)| group.is_empty() == is_core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = of(all, group, version).map(discovered).collect();
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
fn openapi_index(all: &[ResourceRef]) -> Value {
    static BUILT_IN: OnceLock<serde_json::Map<String, Value>> = OnceLock::new();
    let built_in = || {
        let all: Vec<ResourceRef> = Resource::built_in().iter().map(ResourceRef::from).collect();
        index_of(&all)
    };
    let mut paths = BUILT_IN.get_or_init(built_in).clone();
    // What a definition adds to a group that is there changes its document.
    let customs: BTreeSet<(&str, &str)> =
        all.iter().filter(|r| r.definition.is_some()).map(|r| (r.group, r.version)).collect();
    let changed = all.iter().filter(|r| customs.contains(&(r.group, r.version)));
    paths.extend(index_of(&changed.cloned().collect::<Vec<_>>()));
    json!({"paths": paths})
}

fn index_of(all: &[ResourceRef]) -> serde_json::Map<String, Value> {
    let mut paths = serde_json::Map::new();
    for of in all {
        let path = place(of);
        if paths.contains_key(&path) {
            continue;
        }
        let text = openapi::document(Schema::built_in(), all, of.group, of.version).to_string();
        let digest = Sha256::digest(text.as_bytes());
        let hash: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        let place = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path, json!({"serverRelativeURL": place}));
    }
    paths
}

/// The document of a group, by the parts of its path behind `/openapi/v3`.
fn openapi_document(all: &[ResourceRef], parts: &[&str]) -> Option<Value> {
    let (group, version) = match parts {
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return None,
    };
    let _ = of(all, group, version).next()?;
    Some(openapi::document(Schema::built_in(), all, group, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<ResourceRef> {
        Resource::built_in().iter().map(ResourceRef::from).collect()
    }

    #[test]
    fn both_ways_of_discovery_say_the_same() {
        let mut one_by_one = BTreeSet::new();
        for resource in Resource::built_in() {
            let list = resource_list(&all(), resource.group, resource.version).unwrap();
            for shown in list["resources"].as_array().unwrap() {
                let name = format!("{}/{}", list["groupVersion"], shown["name"]).replace('"', "");
                one_by_one.insert(name);
            }
        }
        let mut at_once = BTreeSet::new();
        for is_core in [true, false] {
            for group in aggregated(&all(), is_core, "v2")["items"].as_array().unwrap() {
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
        let index = openapi_index(&all());
        let path = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
        assert!(path.starts_with("/openapi/v3/apis/apps/v1?hash="), "{path}");
        assert!(openapi_document(&all(), &["apis", "apps", "v1"]).is_some());
        assert!(openapi_document(&all(), &["apis", "nonsense", "v1"]).is_none());
    }
}
