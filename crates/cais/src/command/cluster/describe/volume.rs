//! Volumes and claims, described.

use serde_json::Value;

use super::super::{Outcome, list, word};
use super::Subject;
use super::page::{Page, number, scalar, truth};

/// The volumes of a pod.
pub(super) fn volumes(page: &mut Page, spec: &Value, space: &str) {
    let all: Vec<&Value> = list(spec, "/volumes").collect();
    if all.is_empty() {
        return page.line(0, &format!("{space}Volumes:\t<none>"));
    }
    page.line(0, &format!("{space}Volumes:"));
    let indent = if space.is_empty() { "" } else { " " };
    for volume in all {
        page.line(1, &format!("{indent}{}:", word(volume, "/name")));
        one(page, volume);
    }
}

fn one(page: &mut Page, volume: &Value) {
    let fields = volume.as_object().into_iter().flatten();
    let Some((kind, own)) = fields.into_iter().find(|(key, _)| *key != "name") else {
        return page.line(1, "<unknown>");
    };
    let optional = || truth(own, "/optional").to_string();
    let text = |field: &str| word(own, field).to_owned();
    let (what, fields): (&str, Vec<(&str, String)>) = match kind.as_str() {
        "hostPath" => (
            "HostPath (bare host directory volume)",
            vec![("Path", text("/path")), ("HostPathType", scalar(own, "/type", "<none>"))],
        ),
        "emptyDir" => (
            "EmptyDir (a temporary directory that shares a pod's lifetime)",
            vec![("Medium", text("/medium")), ("SizeLimit", scalar(own, "/sizeLimit", "<unset>"))],
        ),
        "secret" => (
            "Secret (a volume populated by a Secret)",
            vec![("SecretName", text("/secretName")), ("Optional", optional())],
        ),
        "configMap" => (
            "ConfigMap (a volume populated by a ConfigMap)",
            vec![("Name", text("/name")), ("Optional", optional())],
        ),
        "persistentVolumeClaim" => (
            "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
            vec![
                ("ClaimName", text("/claimName")),
                ("ReadOnly", truth(own, "/readOnly").to_string()),
            ],
        ),
        "nfs" => (
            "NFS (an NFS mount that lasts the lifetime of a pod)",
            vec![
                ("Server", text("/server")),
                ("Path", text("/path")),
                ("ReadOnly", truth(own, "/readOnly").to_string()),
            ],
        ),
        "image" => (
            "Image (a container image or OCI artifact)",
            vec![("Reference", text("/reference")), ("PullPolicy", text("/pullPolicy"))],
        ),
        "projected" => {
            page.field(
                2,
                "Type",
                "Projected (a volume that contains injected data from multiple sources)",
            );
            return list(own, "/sources").for_each(|source| projected(page, source));
        }
        "downwardAPI" => {
            page.field(2, "Type", "DownwardAPI (a volume populated by information about the pod)");
            page.line(2, "Items:");
            return items(page, own);
        }
        _ => return page.line(1, "<unknown>"),
    };
    page.field(2, "Type", what);
    fields.iter().for_each(|(name, value)| page.field(2, name, value));
}

fn items(page: &mut Page, of: &Value) {
    for item in list(of, "/items") {
        let path = word(item, "/path");
        for field in ["/fieldRef/fieldPath", "/resourceFieldRef/resource"] {
            if !word(item, field).is_empty() {
                page.line(3, &format!("{} -> {path}", word(item, field)));
            }
        }
    }
}

fn projected(page: &mut Page, source: &Value) {
    let own = |field: &str| Some(&source[field]).filter(|own| !own.is_null());
    if let Some(own) = own("secret") {
        page.field(2, "SecretName", word(own, "/name"));
        page.field(2, "Optional", truth(own, "/optional"));
    } else if own("downwardAPI").is_some() {
        page.field(2, "DownwardAPI", true);
    } else if let Some(own) = own("configMap") {
        page.field(2, "ConfigMapName", word(own, "/name"));
        page.field(2, "Optional", truth(own, "/optional"));
    } else if let Some(own) = own("serviceAccountToken") {
        page.field(2, "TokenExpirationSeconds", number(own, "/expirationSeconds"));
    }
}

/// `ReadWriteOnce` as people abbreviate it.
pub(super) fn access(of: &Value, pointer: &str) -> String {
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    list(of, pointer).map(short).collect::<Vec<_>>().join(",")
}

/// A claim.
pub(super) fn claim(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let claim = subject.object;
    page.head(claim);
    page.field(0, "StorageClass", word(claim, "/spec/storageClassName"));
    let removed = !claim["metadata"]["deletionTimestamp"].is_null();
    let phase = if removed { "Terminating" } else { word(claim, "/status/phase") };
    page.field(0, "Status", phase);
    page.field(0, "Volume", word(claim, "/spec/volumeName"));
    page.labels_of(claim);
    let finalizers: Vec<&str> =
        list(claim, "/metadata/finalizers").filter_map(Value::as_str).collect();
    page.field(0, "Finalizers", format!("[{}]", finalizers.join(" ")));
    let bound = !word(claim, "/spec/volumeName").is_empty();
    page.field(0, "Capacity", if bound { word(claim, "/status/capacity/storage") } else { "" });
    page.field(
        0,
        "Access Modes",
        if bound { access(claim, "/status/accessModes") } else { String::new() },
    );
    page.field_if(0, "VolumeMode", word(claim, "/spec/volumeMode"));
    let name = super::name(claim);
    let uses = |pod: &Value| {
        list(pod, "/spec/volumes").any(|own| word(own, "/persistentVolumeClaim/claimName") == name)
    };
    let mut users: Vec<String> = subject
        .list("pods", &Vec::new())?
        .iter()
        .filter(|pod| uses(pod))
        .map(|pod| super::name(pod).to_owned())
        .collect();
    users.sort();
    page.below("", "Used By", users);
    Ok(())
}
