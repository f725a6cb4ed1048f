//! CustomResourceDefinitions: whether they may be so, what the server says of them, and which
//! resources they make.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Column, Definition, Path, Scale, structural};
use crate::name::{self, intern};
use crate::resource::{Access, Resource};
use crate::schema::Schema;
use crate::validate::{Findings, Problem};

const APPROVAL: &str = "api-approved.kubernetes.io";
const COLUMN_KINDS: &[&str] = &["boolean", "date", "integer", "number", "string"];

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn words(value: &Value) -> Vec<&str> {
    items(value).iter().filter_map(Value::as_str).collect()
}

/// What a definition does not say of its names and versions.
pub(crate) fn complete(definition: &mut Map<String, Value>) {
    let Some(spec) = definition.get_mut("spec") else { return };
    let Some(kind) = spec["names"]["kind"].as_str().map(str::to_owned) else { return };
    let is_empty = |value: &Value| value.as_str().is_none_or(str::is_empty);
    if is_empty(&spec["names"]["singular"]) {
        spec["names"]["singular"] = kind.to_lowercase().into();
    }
    if is_empty(&spec["names"]["listKind"]) {
        spec["names"]["listKind"] = format!("{kind}List").into();
    }
    if spec["conversion"].is_null() {
        spec["conversion"] = json!({"strategy": "None"});
    }
}

/// Whether a definition may be so.
pub(crate) fn check(found: &mut Findings, definition: &Value) {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    if text(&definition["metadata"]["name"]) != format!("{plural}.{group}") {
        let why = "must be spec.names.plural+\".\"+spec.group";
        found.invalid("metadata.name", &definition["metadata"]["name"], why);
    }
    found.named("spec.group", &spec["group"], name::check_subdomain);
    if !group.is_empty() && !group.contains('.') {
        let why = "should be a domain with at least one dot";
        found.invalid("spec.group", &spec["group"], why);
    }
    let is_protected = [".k8s.io", ".kubernetes.io"].iter().any(|end| group.ends_with(end));
    if is_protected && text(&definition["metadata"]["annotations"][APPROVAL]).is_empty() {
        let words = format!("protected groups must have approval annotation {APPROVAL:?}");
        found.add(format!("metadata.annotations[{APPROVAL}]"), Problem::Required(words));
    }
    found.one_of("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]);
    if spec["preserveUnknownFields"] == true {
        let why = "must be false: the schema says which unknown fields are kept, by \
                   x-kubernetes-preserve-unknown-fields";
        found.invalid("spec.preserveUnknownFields", &json!(true), why);
    }
    check_conversion(found, &spec["conversion"]);
    check_names(found, &spec["names"]);
    check_versions(found, &spec["versions"]);
}

/// How objects become those of another version; where its webhook is, is checked by whoever calls it.
fn check_conversion(found: &mut Findings, conversion: &Value) {
    const PLACE: &str = "spec.conversion";
    let webhook = &conversion["webhook"];
    found.one_of(format!("{PLACE}.strategy"), &conversion["strategy"], &["None", "Webhook"]);
    if conversion["strategy"] != "Webhook" {
        if !webhook.is_null() {
            let why = "should not be set when strategy is not set to Webhook";
            found.forbid(format!("{PLACE}.webhook"), why);
        }
        return;
    }
    if webhook["clientConfig"].is_null() {
        let field = format!("{PLACE}.webhook.clientConfig");
        let why = "required when strategy is set to Webhook".to_owned();
        found.add(field, Problem::Required(why));
    }
    let versions = words(&webhook["conversionReviewVersions"]);
    let field = format!("{PLACE}.webhook.conversionReviewVersions");
    if versions.is_empty() {
        found.add(field, Problem::Required(String::new()));
    } else if !versions.iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
        let why = "must include at least one of v1, v1beta1";
        found.invalid(field, &webhook["conversionReviewVersions"], why);
    }
}

fn check_names(found: &mut Findings, names: &Value) {
    for field in ["plural", "singular"] {
        found.named(format!("spec.names.{field}"), &names[field], name::check_service);
    }
    for field in ["kind", "listKind"] {
        let (place, own) = (format!("spec.names.{field}"), &names[field]);
        match own.as_str() {
            None | Some("") => found.require(place),
            Some(text) => {
                if let Err(why) = name::check_service(&text.to_lowercase()) {
                    let why = format!("may have mixed case, but should otherwise match: {why}");
                    found.invalid(place, own, why);
                }
            }
        }
    }
    if names["kind"].is_string() && names["kind"] == names["listKind"] {
        let why = "kind and listKind may not be the same";
        found.invalid("spec.names.listKind", &names["listKind"], why);
    }
    for field in ["shortNames", "categories"] {
        for (place, own) in items(&names[field]).iter().enumerate() {
            found.named(format!("spec.names.{field}[{place}]"), own, name::check_service);
        }
    }
}

fn check_versions(found: &mut Findings, versions: &Value) {
    let all = items(versions);
    let mut names: Vec<&str> = all.iter().filter_map(|version| version["name"].as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        found.invalid("spec.versions", versions, "must contain unique version names");
    }
    if all.iter().filter(|version| version["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        found.invalid("spec.versions", versions, why);
    }
    for (number, version) in all.iter().enumerate() {
        check_version(found, &format!("spec.versions[{number}]"), version);
    }
}

fn check_version(found: &mut Findings, path: &str, version: &Value) {
    found.named(format!("{path}.name"), &version["name"], name::check_service);
    let schema = &version["schema"]["openAPIV3Schema"];
    let place = format!("{path}.schema.openAPIV3Schema");
    if schema.is_null() {
        found.add(place, Problem::Required("schemas are required".to_owned()));
    } else {
        structural::check(found, &place, schema);
    }
    if version["deprecated"] != true && version["deprecationWarning"].is_string() {
        let why = "can only be set for deprecated versions";
        let field = format!("{path}.deprecationWarning");
        found.invalid(field, &version["deprecationWarning"], why);
    }
    for (number, column) in items(&version["additionalPrinterColumns"]).iter().enumerate() {
        let path = format!("{path}.additionalPrinterColumns[{number}]");
        found.one_of(format!("{path}.type"), &column["type"], COLUMN_KINDS);
        if column["name"].as_str().is_none_or(str::is_empty) {
            found.require(format!("{path}.name"));
        }
        check_path(found, format!("{path}.jsonPath"), &column["jsonPath"], |_| true, "");
    }
    for (number, field) in items(&version["selectableFields"]).iter().enumerate() {
        let path = format!("{path}.selectableFields[{number}].jsonPath");
        let why = "must be a simple path to one field";
        check_path(found, path, &field["jsonPath"], Path::is_plain, why);
    }
    let scale = &version["subresources"]["scale"];
    if !scale.is_null() {
        let path = format!("{path}.subresources.scale");
        let below = |name: &'static str| move |path: &Path| path.is_plain() && path.is_below(name);
        let (spec, status) =
            (format!("{path}.specReplicasPath"), format!("{path}.statusReplicasPath"));
        let why = "should be a json path under .spec";
        check_path(found, spec, &scale["specReplicasPath"], below("spec"), why);
        let why = "should be a json path under .status";
        check_path(found, status, &scale["statusReplicasPath"], below("status"), why);
        if !scale["labelSelectorPath"].is_null() {
            let is_either =
                |path: &Path| path.is_plain() && (path.is_below("spec") || path.is_below("status"));
            let why = "should be a json path under either .spec or .status";
            let field = format!("{path}.labelSelectorPath");
            check_path(found, field, &scale["labelSelectorPath"], is_either, why);
        }
    }
}

fn check_path(
    found: &mut Findings,
    field: String,
    own: &Value,
    is_right: impl Fn(&Path) -> bool,
    why: &str,
) {
    match own.as_str() {
        None | Some("") => found.require(field),
        Some(text) => match Path::parse(text) {
            Ok(path) if is_right(&path) => {}
            Ok(_) => found.invalid(field, own, why),
            Err(why) => found.invalid(field, own, why),
        },
    }
}

/// What of a definition may not change.
pub(crate) fn check_update(found: &mut Findings, old: &Value, new: &Value) {
    let (before, after) = (&old["spec"], &new["spec"]);
    found.unchanged("spec.group", &before["group"], &after["group"]);
    let plural = "spec.names.plural";
    found.unchanged(plural, &before["names"]["plural"], &after["names"]["plural"]);
    if condition(old, "Established") {
        found.unchanged("spec.scope", &before["scope"], &after["scope"]);
        found.unchanged("spec.names.kind", &before["names"]["kind"], &after["names"]["kind"]);
    }
    let versions: Vec<&Value> = items(&after["versions"]).iter().map(|v| &v["name"]).collect();
    for (place, stored) in items(&new["status"]["storedVersions"]).iter().enumerate() {
        if !versions.contains(&stored) {
            let field = format!("status.storedVersions[{place}]");
            found.invalid(field, stored, "must appear in spec.versions");
        }
    }
}

fn condition(definition: &Value, kind: &str) -> bool {
    let mut all = items(&definition["status"]["conditions"]).iter();
    all.any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// Says of a definition what upstream's controllers would: whether its names are its own, and that it
/// is served, at `time`. `others` are all definitions of the same group.
pub fn settle(definition: &mut Value, others: &[Value], time: &str) {
    let conflict = conflict(definition, others);
    let accepted = match &conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, name)) => ("False", *reason, format!("{name:?} is already in use")),
    };
    if conflict.is_none() {
        definition["status"]["acceptedNames"] = definition["spec"]["names"].clone();
    } else if definition["status"]["acceptedNames"].is_null() {
        definition["status"]["acceptedNames"] = json!({"plural": "", "kind": ""});
    }
    let is_established = conflict.is_none() || condition(definition, "Established");
    let established = match is_established {
        true => ("True", "InitialNamesAccepted", "the initial names have been accepted".to_owned()),
        false => ("False", "NotAccepted", "not all names are accepted".to_owned()),
    };
    set_condition(definition, "NamesAccepted", accepted, time);
    set_condition(definition, "Established", established, time);
    let storage = storage_of(&definition["spec"]);
    let storage = Some(storage["name"].clone()).filter(Value::is_string);
    let mut stored = items(&definition["status"]["storedVersions"]).to_vec();
    stored.extend(storage.filter(|storage| !stored.contains(storage)));
    definition["status"]["storedVersions"] = stored.into();
}

/// Says of a definition that it goes, as soon as its objects have gone.
pub fn terminating(definition: &mut Value, time: &str) {
    let message = "CustomResource deletion is in progress".to_owned();
    let words = ("True", "InstanceDeletionInProgress", message);
    set_condition(definition, "Terminating", words, time);
}

/// A name that another definition has had first, and what kind of name it is.
fn conflict(definition: &Value, others: &[Value]) -> Option<(&'static str, String)> {
    let names = &definition["spec"]["names"];
    for other in others {
        let is_same = other["metadata"]["name"] == definition["metadata"]["name"];
        if is_same || other["spec"]["group"] != definition["spec"]["group"] {
            continue;
        }
        let taken = &other["status"]["acceptedNames"];
        let mut used = words(&taken["shortNames"]);
        used.extend(taken["plural"].as_str());
        used.extend(taken["singular"].as_str());
        let own = [("PluralConflict", "plural"), ("SingularConflict", "singular")];
        let mut own: Vec<(&str, &str)> =
            own.iter().filter_map(|(why, field)| Some((*why, names[field].as_str()?))).collect();
        own.extend(words(&names["shortNames"]).iter().map(|name| ("ShortNamesConflict", *name)));
        let kinds = [taken["kind"].as_str(), taken["listKind"].as_str()];
        let clash = own.into_iter().find(|(_, name)| used.contains(name)).or_else(|| {
            let own = [("KindConflict", "kind"), ("ListKindConflict", "listKind")];
            let mut own =
                own.iter().filter_map(|(why, field)| Some((*why, names[field].as_str()?)));
            own.find(|(_, name)| kinds.contains(&Some(name)))
        });
        if let Some((why, name)) = clash {
            return Some((why, name.to_owned()));
        }
    }
    None
}

/// Sets a condition; its time changes only with its status.
fn set_condition(
    definition: &mut Value,
    kind: &str,
    (status, reason, message): (&str, &str, String),
    time: &str,
) {
    let mut all = items(&definition["status"]["conditions"]).to_vec();
    let own = all.iter().position(|condition| condition["type"] == kind);
    let before = own.map(|place| &all[place]).filter(|own| own["status"] == status);
    let since = before.map_or_else(|| time.into(), |own| own["lastTransitionTime"].clone());
    let new = json!({
        "type": kind, "status": status, "lastTransitionTime": since,
        "reason": reason, "message": message,
    });
    match own {
        Some(place) => all[place] = new,
        None => all.push(new),
    }
    definition["status"]["conditions"] = all.into();
}

/// The resources that a definition makes, one for each version that is served, in the order in
/// which discovery prefers them; none if its names are another's.
#[must_use]
pub fn resources(definition: &Value) -> Vec<Resource> {
    if !condition(definition, "Established") {
        return Vec::new();
    }
    let mut versions: Vec<&Value> =
        items(&definition["spec"]["versions"]).iter().filter(|v| v["served"] == true).collect();
    versions.sort_by(|a, b| {
        let name = |version: &Value| version["name"].as_str().unwrap_or_default().to_owned();
        by_priority(&name(a), &name(b))
    });
    versions.iter().map(|version| resource(definition, version, &versions)).collect()
}

/// The version that objects are kept in.
fn storage_of(spec: &Value) -> &Value {
    let storage = items(&spec["versions"]).iter().find(|version| version["storage"] == true);
    storage.unwrap_or(&Value::Null)
}

fn resource(definition: &Value, version: &Value, all: &[&Value]) -> Resource {
    let (spec, names) = (&definition["spec"], &definition["status"]["acceptedNames"]);
    let text = |value: &Value| intern(value.as_str().unwrap_or_default());
    let list = |value: &Value| words(value).into_iter().map(intern).collect();
    let own = Definition {
        name: text(&definition["metadata"]["name"]).to_owned(),
        list_kind: text(&names["listKind"]).to_owned(),
        columns: items(&version["additionalPrinterColumns"]).iter().filter_map(column).collect(),
        scale: scale(&version["subresources"]["scale"]),
        selectable: items(&version["selectableFields"])
            .iter()
            .filter_map(|field| field["jsonPath"].as_str())
            .map(|path| path.trim_start_matches('.').to_owned())
            .collect(),
        warning: warning(spec, version, all),
        is_going: !definition["metadata"]["deletionTimestamp"].is_null(),
        conversion: match spec["conversion"]["strategy"].as_str() {
            Some("Webhook") => spec["conversion"]["webhook"].clone(),
            _ => Value::Null,
        },
        kept: format!("{}/{}", text(&spec["group"]), text(&storage_of(spec)["name"])),
        source: version.clone(),
        typed: Schema::structural(&version["schema"]["openAPIV3Schema"]),
    };
    let mut subresources = Vec::new();
    if own.has_status() {
        subresources.push("status");
    }
    if own.scale.is_some() {
        subresources.push("scale");
    }
    Resource {
        group: text(&spec["group"]),
        version: text(&version["name"]),
        kind: text(&names["kind"]),
        plural: text(&names["plural"]),
        singular: text(&names["singular"]),
        short_names: list(&names["shortNames"]),
        categories: list(&names["categories"]),
        is_namespaced: spec["scope"] == "Namespaced",
        access: Access::Stored,
        subresources,
        definition: Some(Arc::new(own)),
    }
}

fn column(column: &Value) -> Option<Column> {
    let text = |field: &str| column[field].as_str().unwrap_or_default().to_owned();
    Some(Column {
        name: text("name"),
        kind: text("type"),
        format: text("format"),
        description: text("description"),
        priority: column["priority"].as_i64().unwrap_or_default(),
        path: Path::parse(column["jsonPath"].as_str()?).ok()?,
    })
}

fn scale(scale: &Value) -> Option<Scale> {
    let path = |field: &str| Path::parse(scale[field].as_str()?).ok();
    Some(Scale {
        spec: path("specReplicasPath")?,
        status: path("statusReplicasPath")?,
        selector: path("labelSelectorPath"),
    })
}

/// What the users of a deprecated version are told.
fn warning(spec: &Value, version: &Value, all: &[&Value]) -> Option<String> {
    if version["deprecated"] != true {
        return None;
    }
    if let Some(own) = version["deprecationWarning"].as_str() {
        return Some(own.to_owned());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, kind) = (text(&spec["group"]), text(&spec["names"]["kind"]));
    let own = text(&version["name"]);
    let said = format!("{group}/{own} {kind} is deprecated");
    let newer = all.iter().filter(|other| other["deprecated"] != true).map(|v| text(&v["name"]));
    let newer = newer.into_iter().find(|name| by_priority(name, &own) == Ordering::Less);
    Some(newer.map_or_else(|| said.clone(), |name| format!("{said}; use {group}/{name} {kind}")))
}

/// The order of versions (apimachinery, `version.CompareKubeAwareVersionStrings`): stable before beta
/// before alpha, later ones first; names of other forms behind them, by the alphabet.
fn by_priority(a: &str, b: &str) -> Ordering {
    let parsed = |name: &str| -> Option<(u8, u64, u64)> {
        let rest = name.strip_prefix('v')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..end].parse().ok()?;
        match &rest[end..] {
            "" => Some((2, major, 0)),
            tail => {
                let (rank, minor) = match tail.strip_prefix("beta") {
                    Some(minor) => (1, minor),
                    None => (0, tail.strip_prefix("alpha")?),
                };
                Some((rank, major, minor.parse().ok()?))
            }
        }
    };
    match (parsed(a), parsed(b)) {
        (Some(a), Some(b)) => Reverse(a).cmp(&Reverse(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(definition: &mut Value) {
        super::complete(definition.as_object_mut().unwrap());
    }

    fn definition() -> Value {
        json!({
            "metadata": {"name": "crontabs.stable.example.com"},
            "spec": {
                "group": "stable.example.com", "scope": "Namespaced",
                "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"]},
                "versions": [
                    {"name": "v1beta1", "served": true, "storage": false, "deprecated": true,
                        "schema": {"openAPIV3Schema": {"type": "object"}}},
                    {"name": "v1", "served": true, "storage": true,
                        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                            "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}}},
                        "subresources": {"status": {}, "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas"}}},
                ],
            },
        })
    }

    fn wrong(definition: &Value) -> Vec<String> {
        let mut found = Findings::default();
        check(&mut found, definition);
        found.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn versions_are_in_the_order_of_their_stability() {
        let mut names =
            ["foo10", "v1", "v11beta2", "v2", "foo1", "v3beta1", "v12alpha1", "v10beta3", "v10"];
        names.sort_by(|a, b| by_priority(a, b));
        let expected =
            ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "foo1", "foo10"];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_definition_makes_resources_once_its_names_are_its_own() {
        let mut first = definition();
        complete(&mut first);
        assert_eq!(wrong(&first), Vec::<String>::new());
        assert!(resources(&first).is_empty());
        settle(&mut first, &[], "now");
        let made = resources(&first);
        assert_eq!(made.len(), 2);
        assert_eq!((made[0].version, made[0].singular), ("v1", "crontab"));
        assert_eq!(made[0].subresources, ["status", "scale"]);
        let old = made[1].definition.as_ref().unwrap();
        let words =
            "stable.example.com/v1beta1 CronTab is deprecated; use stable.example.com/v1 CronTab";
        assert_eq!(old.warning.as_deref(), Some(words));
        assert_eq!(first["status"]["storedVersions"], json!(["v1"]));

        let mut other = definition();
        other["metadata"]["name"] = "others.stable.example.com".into();
        other["spec"]["names"] = json!({"plural": "others", "kind": "Other", "shortNames": ["ct"]});
        complete(&mut other);
        settle(&mut other, &[first], "now");
        let accepted = &other["status"]["conditions"][0];
        assert_eq!(
            (&accepted["status"], &accepted["reason"]),
            (&json!("False"), &json!("ShortNamesConflict"))
        );
        assert!(resources(&other).is_empty());
    }

    #[test]
    fn what_a_definition_may_not_be_is_said() {
        let changed = |pointer: &str, value: Value| {
            let mut definition = definition();
            complete(&mut definition);
            *definition.pointer_mut(pointer).unwrap() = value;
            wrong(&definition)
        };
        for (pointer, value, expected) in [
            (
                "/metadata/name",
                json!("a.b"),
                "metadata.name: Invalid value: \"a.b\": must be spec.names.plural+\".\"+spec.group",
            ),
            (
                "/spec/scope",
                json!("All"),
                "spec.scope: Unsupported value: \"All\": supported values: \"Cluster\", \"Namespaced\"",
            ),
            (
                "/spec/versions/1/subresources/scale/specReplicasPath",
                json!(".status.x"),
                "spec.versions[1].subresources.scale.specReplicasPath: Invalid value: \".status.x\": should be a json path under .spec",
            ),
            (
                "/spec/versions/0/schema",
                json!({}),
                "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
            ),
        ] {
            assert_eq!(changed(pointer, value), [expected]);
        }
        assert_eq!(
            changed("/spec/conversion", json!({"strategy": "Webhook"})),
            [
                "spec.conversion.webhook.clientConfig: Required value: required when strategy is set to Webhook",
                "spec.conversion.webhook.conversionReviewVersions: Required value",
            ]
        );
        assert!(
            changed("/spec/versions/1/storage", json!(false))[0].contains("exactly one version")
        );
    }
}
