//! Server-side apply: who owns which field, and what becomes of an object when somebody says what of
//! it shall be so (structured-merge-diff, `merge.Updater`).
//!
//! Managers are in `metadata.managedFields`. [`apply`] is for a patch of what somebody wants;
//! [`update`] for everything else that changes an object.

mod fields;
mod walk;

use serde_json::{Map, Value, json};

pub use fields::{Element, FieldSet, FieldSetError};
use walk::Walker;

use crate::schema::{Schema, TypeId};

/// Fields of `metadata` that the server itself keeps: nobody owns them.
const OF_THE_SERVER: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
    "clusterName",
];
/// Managers that have updated and not applied: more are merged into one.
const UPDATERS_MAX: usize = 10;
/// What the merged ones are called.
const ANCIENT: &str = "ancient-changes";

/// Somebody who changes an object, and how.
#[derive(Debug, Clone, Copy)]
pub struct Manager<'a> {
    /// `kubectl`, for example: the request's `fieldManager`.
    pub name: &'a str,
    /// The version that the request is in.
    pub api_version: &'a str,
    /// `status`, for example; empty for the object itself.
    pub subresource: &'a str,
    /// Now, as JSON has it.
    pub time: &'a str,
}

/// What cannot be applied.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields that would change: for each of them, the manager and the field.
    #[error("{}", conflict_words(.0))]
    Conflict(Vec<Conflict>),
    /// `metadata.managedFields` of the object is not what it must be.
    #[error(transparent)]
    Fields(#[from] FieldSetError),
    /// Two items of a list with the same keys, or one without.
    #[error("{0}")]
    Item(String),
    /// A patch that says who owns what.
    #[error("metadata.managedFields must be nil")]
    Managed,
}

/// A field that somebody else owns and that would change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The other's name, with version and subresource as upstream words it.
    pub manager: String,
    /// `.spec.replicas`, for example.
    pub field: String,
}

fn conflict_words(conflicts: &[Conflict]) -> String {
    let plural = if conflicts.len() == 1 { "" } else { "s" };
    let mut words = format!("Apply failed with {} conflict{plural}: ", conflicts.len());
    let mut managers: Vec<&str> = conflicts.iter().map(|c| c.manager.as_str()).collect();
    managers.dedup();
    if let [manager] = managers[..] {
        words += &format!("conflict{plural} with {manager}:");
        match conflicts {
            [one] => words += &format!(" {}", one.field),
            all => all.iter().for_each(|c| words += &format!("\n- {}", c.field)),
        }
        return words;
    }
    for manager in managers {
        let of = conflicts.iter().filter(|c| c.manager == manager);
        words += &format!("conflicts with {manager}:");
        of.for_each(|c| words += &format!("\n- {}", c.field));
        words += "\n";
    }
    words.trim_end().to_owned()
}

/// Who owns what, one entry of `metadata.managedFields`.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    name: String,
    is_apply: bool,
    api_version: String,
    subresource: String,
    time: String,
    fields: FieldSet,
}

/// Makes a configuration so: fields that it has are merged into the object and belong to the manager
/// then; those that the manager has left out since, and nobody else owns, go.
///
/// # Errors
/// [`ApplyError`]; the object is as it was.
pub fn apply(
    schema: &Schema,
    of: Option<TypeId>,
    object: &Value,
    config: &Value,
    manager: Manager<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    if !config["metadata"]["managedFields"].is_null() {
        return Err(ApplyError::Managed);
    }
    let walker = Walker { schema };
    let mut entries = entries(object)?;
    let live = without_managers(object);
    let mut wanted = walker.fields_of(of, config)?;
    forget_server_fields(&mut wanted);
    let merged = walker.merge(of, &live, config)?;

    let is_own = |entry: &Entry| {
        entry.is_apply && entry.name == manager.name && entry.subresource == manager.subresource
    };
    let own = entries.iter().position(is_own);
    let last = own.map(|at| entries.remove(at));
    let mut kept = wanted.clone();
    entries.iter().for_each(|entry| kept.add(&entry.fields));
    let result = match &last {
        Some(last) => walker.prune(of, &merged, &last.fields, &with_metadata(kept)),
        None => merged,
    };
    let changes = walker.compare(of, &live, &result)?;
    give_up(&mut entries, &changes, force)?;
    let is_same = changes.is_empty() && last.as_ref().is_some_and(|last| last.fields == wanted);
    let time = match last {
        Some(last) if is_same => last.time,
        _ => manager.time.to_owned(),
    };
    entries.push(Entry {
        name: manager.name.to_owned(),
        is_apply: true,
        api_version: manager.api_version.to_owned(),
        subresource: manager.subresource.to_owned(),
        time,
        fields: wanted,
    });
    Ok(with_managers(result, entries))
}

/// With the frame of what the server sets itself, and nobody owns: it goes by its fields alone.
fn with_metadata(mut fields: FieldSet) -> FieldSet {
    let mut name = FieldSet::default();
    name.insert(Element::Field("name".to_owned()));
    fields.insert_below(Element::Field("metadata".to_owned()), &name);
    fields
}

/// Notes who changed what from one state of an object to the next.
///
/// # Errors
/// [`ApplyError::Fields`] and [`ApplyError::Item`].
pub fn update(
    schema: &Schema,
    of: Option<TypeId>,
    old: &Value,
    new: &Value,
    manager: Manager<'_>,
) -> Result<Value, ApplyError> {
    let walker = Walker { schema };
    // Whoever sends an empty list of managers wants them forgotten.
    let source = if new["metadata"]["managedFields"].is_array() { new } else { old };
    let mut entries = entries(source)?;
    let (before, after) = (without_managers(old), without_managers(new));
    let changes = walker.compare(of, &before, &after)?;
    give_up(&mut entries, &changes, true)?;
    let is_own = |entry: &&mut Entry| {
        !entry.is_apply
            && entry.name == manager.name
            && entry.subresource == manager.subresource
            && entry.api_version == manager.api_version
    };
    let mut gained = changes.set;
    forget_server_fields(&mut gained);
    match entries.iter_mut().find(is_own) {
        Some(_) if gained.is_empty() => {}
        Some(own) => {
            own.fields.add(&gained);
            own.time = manager.time.to_owned();
        }
        None if gained.is_empty() => {}
        None => entries.push(Entry {
            name: manager.name.to_owned(),
            is_apply: false,
            api_version: manager.api_version.to_owned(),
            subresource: manager.subresource.to_owned(),
            time: manager.time.to_owned(),
            fields: gained,
        }),
    }
    merge_ancient(&mut entries);
    Ok(with_managers(after, entries))
}

/// What an object's fields became.
struct Changes {
    /// Fields that are new or have another value.
    set: FieldSet,
    /// Fields that are gone.
    removed: FieldSet,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }
}

/// Takes from all others what has changed, which is a conflict without force.
fn give_up(entries: &mut Vec<Entry>, changes: &Changes, force: bool) -> Result<(), ApplyError> {
    if !force {
        let mut conflicts = Vec::new();
        for entry in &*entries {
            let words = entry.words();
            let fields = entry.fields.intersection(&changes.set).paths();
            let conflict = |field| Conflict { manager: words.clone(), field };
            conflicts.extend(fields.into_iter().map(conflict));
        }
        if !conflicts.is_empty() {
            conflicts.sort();
            return Err(ApplyError::Conflict(conflicts));
        }
    }
    for entry in &mut *entries {
        entry.fields.remove(&changes.set);
        entry.fields.remove(&changes.removed);
    }
    entries.retain(|entry| !entry.fields.is_empty());
    Ok(())
}

fn forget_server_fields(fields: &mut FieldSet) {
    let name = |name: &str| Element::Field(name.to_owned());
    fields.forget(&[name("apiVersion")]);
    fields.forget(&[name("kind")]);
    for field in OF_THE_SERVER {
        fields.forget(&[name("metadata"), name(field)]);
    }
}

/// Keeps the managers that have updated last; what the others own is put together.
fn merge_ancient(entries: &mut Vec<Entry>) {
    let updaters = entries.iter().filter(|entry| !entry.is_apply).count();
    if updaters <= UPDATERS_MAX {
        return;
    }
    let mut oldest: Vec<usize> = (0..entries.len()).filter(|at| !entries[*at].is_apply).collect();
    oldest.sort_by(|a, b| entries[*a].time.cmp(&entries[*b].time));
    oldest.truncate(updaters - UPDATERS_MAX + 1);
    oldest.sort_unstable();
    let mut gone = oldest.into_iter().rev().map(|at| entries.remove(at));
    let Some(mut ancient) = gone.next() else { return };
    for entry in gone {
        ancient.fields.add(&entry.fields);
        ancient.time = ancient.time.max(entry.time);
    }
    ANCIENT.clone_into(&mut ancient.name);
    entries.push(ancient);
}

impl Entry {
    fn read(json: &Value) -> Result<Self, FieldSetError> {
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            name: text("manager"),
            is_apply: json["operation"] == "Apply",
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            fields: FieldSet::from_json(&json["fieldsV1"])?,
        })
    }

    fn to_json(&self) -> Value {
        let mut entry = json!({
            "manager": self.name,
            "operation": if self.is_apply { "Apply" } else { "Update" },
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_json(),
        });
        if !self.subresource.is_empty() {
            entry["subresource"] = self.subresource.clone().into();
        }
        entry
    }

    /// As upstream names it in a conflict.
    fn words(&self) -> String {
        let mut words = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            words += &format!(" with subresource {:?}", self.subresource);
        }
        match self.is_apply {
            true => words,
            false => format!("{words} using {}", self.api_version),
        }
    }
}

fn entries(object: &Value) -> Result<Vec<Entry>, FieldSetError> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.map(Entry::read).collect()
}

fn without_managers(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    object
}

fn with_managers(mut object: Value, mut entries: Vec<Entry>) -> Value {
    entries.sort_by(|a, b| {
        let key = |entry: &Entry| (!entry.is_apply, entry.time.clone(), entry.name.clone());
        key(a).cmp(&key(b))
    });
    let entries: Vec<Value> = entries.iter().map(Entry::to_json).collect();
    if let (Some(root), false) = (object.as_object_mut(), entries.is_empty()) {
        let metadata = root.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        metadata["managedFields"] = entries.into();
    }
    object
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "literals of JSON read better as values")]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["one", "two"];

    fn manager(name: &'static str) -> Manager<'static> {
        let time = "2026-01-01T00:00:00Z";
        Manager { name, api_version: "apps/v1", subresource: "", time }
    }

    fn deployment() -> Option<TypeId> {
        Schema::built_in().kind("apps/v1", "Deployment")
    }

    fn applied(
        object: &Value,
        config: Value,
        by: &'static str,
        force: bool,
    ) -> Result<Value, ApplyError> {
        let mut config = config;
        config["metadata"]["name"] = "d".into();
        apply(Schema::built_in(), deployment(), object, &config, manager(by), force)
    }

    fn updated(old: &Value, new: Value, by: &'static str) -> Value {
        update(Schema::built_in(), deployment(), old, &new, manager(by)).unwrap()
    }

    fn owned(object: &Value, by: &str) -> Value {
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["manager"] == by);
        entry.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
    }

    fn containers(list: Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": list}}}})
    }

    #[test]
    fn who_applies_owns_what_is_in_the_configuration() {
        let config = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 2}});
        let object = applied(&json!({}), config, NAMES[0], false).unwrap();
        let expected =
            json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:replicas": {}}});
        assert_eq!(owned(&object, "one"), expected);
        assert_eq!(object["spec"]["replicas"], 2);
        // What is left out goes, and what it stood in.
        let object = applied(&object, json!({"spec": {"replicas": 2}}), NAMES[0], false).unwrap();
        assert_eq!(object["metadata"].get("labels"), None);
    }

    #[test]
    fn others_fields_are_a_conflict_unless_they_are_the_same() {
        let object =
            applied(&json!({}), json!({"spec": {"replicas": 2}}), NAMES[0], false).unwrap();
        let object = applied(&object, json!({"spec": {"replicas": 2}}), NAMES[1], false).unwrap();
        assert_eq!(owned(&object, "one"), owned(&object, "two"));
        let error =
            applied(&object, json!({"spec": {"replicas": 3}}), NAMES[1], false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas"
        );
        let object = applied(&object, json!({"spec": {"replicas": 3}}), NAMES[1], true).unwrap();
        assert_eq!(
            (object["spec"]["replicas"].as_i64(), owned(&object, "one")),
            (Some(3), Value::Null)
        );
        // Shared fields stay until the last owner leaves them out.
        let object = applied(&object, json!({"spec": {"replicas": 3}}), NAMES[0], false).unwrap();
        let object = applied(&object, json!({}), NAMES[1], false).unwrap();
        assert_eq!(object["spec"]["replicas"], 3);
        let object = applied(&object, json!({}), NAMES[0], false).unwrap();
        assert_eq!(object["spec"].get("replicas"), None);
    }

    #[test]
    fn an_object_keeps_its_name_when_its_labels_go() {
        let object = json!({"metadata": {"name": "d"}});
        let labels = json!({"metadata": {"labels": {"a": "b"}}});
        let object = applied(&object, labels, NAMES[0], false).unwrap();
        let object = applied(&object, json!({}), NAMES[0], false).unwrap();
        assert_eq!(object["metadata"]["name"], "d");
        assert_eq!(object["metadata"].get("labels"), None);
    }

    #[test]
    fn items_of_lists_have_owners_by_their_keys() {
        let own = containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]));
        let object = applied(&json!({}), own, NAMES[0], false).unwrap();
        let fields = owned(&object, "one");
        let list = &fields["f:spec"]["f:template"]["f:spec"]["f:containers"];
        assert_eq!(list["k:{\"name\":\"a\"}"], json!({".": {}, "f:image": {}, "f:name": {}}));
        // Somebody else adds one, and defaults that nobody owns.
        let other = containers(json!([{"name": "c", "image": "3"}]));
        let mut object = applied(&object, other, NAMES[1], false).unwrap();
        object["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
        let own = containers(json!([{"name": "b", "image": "2"}]));
        let object = applied(&object, own, NAMES[0], false).unwrap();
        let names: Vec<_> = object["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|container| container["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["b", "c"]);
    }

    #[test]
    fn what_is_atomic_has_one_owner() {
        let selector = |label: &str| json!({"spec": {"selector": {"matchLabels": {label: "x"}}}});
        let object = applied(&json!({}), selector("a"), NAMES[0], false).unwrap();
        assert_eq!(owned(&object, "one"), json!({"f:spec": {"f:selector": {}}}));
        assert!(applied(&object, selector("b"), NAMES[1], false).is_err());
        let object = applied(&object, selector("b"), NAMES[1], true).unwrap();
        assert_eq!(object["spec"]["selector"], json!({"matchLabels": {"b": "x"}}));
    }

    #[test]
    fn whoever_updates_owns_what_has_changed() {
        let first =
            json!({"metadata": {"name": "d", "labels": {"a": "b"}}, "spec": {"replicas": 1}});
        let object = updated(&json!({}), first, "create");
        let made = containers(json!([{"name": "a", "image": "1"}]));
        let made = updated(&json!({"metadata": {"name": "d"}}), made, "create");
        let list = json!({"k:{\"name\":\"a\"}": {".": {}, "f:image": {}, "f:name": {}}});
        let list = json!({".": {}, "k:{\"name\":\"a\"}": list["k:{\"name\":\"a\"}"]});
        let expected = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": list}}}});
        assert_eq!(owned(&made, "create"), expected);
        let mut next = object.clone();
        next["spec"]["replicas"] = 5.into();
        let object = updated(&object, next, "scale");
        assert_eq!(owned(&object, "scale"), json!({"f:spec": {"f:replicas": {}}}));
        let created = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}});
        assert_eq!(owned(&object, "create"), created);
        let error =
            applied(&object, json!({"spec": {"replicas": 2}}), NAMES[0], false).unwrap_err();
        assert!(
            error.to_string().ends_with("with \"scale\" using apps/v1: .spec.replicas"),
            "{error}"
        );
        let mut next = object.clone();
        next["metadata"].as_object_mut().unwrap().remove("labels");
        let object = updated(&object, next, "edit");
        assert_eq!(owned(&object, "create"), Value::Null);
    }

    #[test]
    fn a_second_time_changes_nothing() {
        let config = json!({"spec": {"replicas": 2, "paused": true}});
        let object = applied(&json!({}), config.clone(), NAMES[0], false).unwrap();
        let mut later = manager(NAMES[0]);
        later.time = "2027-01-01T00:00:00Z";
        let mut config = config;
        config["metadata"]["name"] = "d".into();
        let again =
            apply(Schema::built_in(), deployment(), &object, &config, later, false).unwrap();
        assert_eq!(again, object);
    }

    #[test]
    fn wrong_configurations_are_told() {
        let twice = containers(json!([{"name": "a"}, {"name": "a"}]));
        let error = applied(&json!({}), twice, NAMES[0], false).unwrap_err();
        assert!(error.to_string().contains("duplicate"), "{error}");
        let unnamed = containers(json!([{"image": "a"}]));
        assert!(applied(&json!({}), unnamed, NAMES[0], false).is_err());
        let managed = json!({"metadata": {"managedFields": []}});
        assert_eq!(applied(&json!({}), managed, NAMES[0], false), Err(ApplyError::Managed));
    }

    #[test]
    fn the_oldest_updaters_are_put_together() {
        let mut object = json!({"metadata": {"name": "d"}});
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        for name in names {
            let mut next = object.clone();
            next["metadata"]["labels"][name] = "x".into();
            object = updated(&object, next, name);
        }
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(entries.len(), UPDATERS_MAX);
        assert!(entries.iter().any(|entry| entry["manager"] == ANCIENT));
    }
}
