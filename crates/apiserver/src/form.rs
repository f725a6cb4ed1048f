//! How objects are shown: whole, as rows of a table, or their metadata alone.

use std::borrow::Cow;

use objects::resource::Resource;
use serde_json::{Value, json};

use crate::log::{Entry, Revision};
use crate::request::Form;

/// What of objects a client wants to see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) form: Form,
    /// Whether rows have whole objects, and none without this have only metadata.
    pub(crate) include: Include,
}

/// What of an object its row has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

impl Shown {
    /// An object as it is stored, with its revision, and in the version that was asked for.
    #[expect(clippy::unused_self, reason = "versions will differ by what is asked")]
    pub(crate) fn object(&self, of: &Resource, entry: &Entry, revision: Revision) -> Value {
        read(of, entry, revision)
    }

    /// One object.
    pub(crate) fn one(&self, of: &Resource, object: &Value) -> Value {
        match self.form {
            Form::Whole => object.clone(),
            Form::Metadata => metadata(object),
            Form::Table => {
                let version = &object["metadata"]["resourceVersion"];
                self.table(of, std::slice::from_ref(object), &json!({"resourceVersion": version}))
            }
        }
    }

    /// A list of objects, with its own metadata.
    pub(crate) fn list(&self, of: &Resource, objects: Vec<Value>, own: &Value) -> Value {
        match self.form {
            Form::Table => self.table(of, &objects, own),
            Form::Metadata => json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": own,
                "items": objects.iter().map(metadata).collect::<Vec<_>>(),
            }),
            Form::Whole => json!({
                "kind": of.list_kind(),
                "apiVersion": of.api_version(),
                "metadata": own,
                "items": objects.into_iter().map(without_type).collect::<Vec<_>>(),
            }),
        }
    }

    /// What says how far a watch is: a table without rows is none.
    pub(crate) fn bookmark(&self, of: &Resource, object: Value) -> Value {
        match self.form {
            Form::Table => {
                let mut table = self.table(of, &[], &object["metadata"]);
                table["rows"] = json!([{"cells": [], "object": metadata(&object)}]);
                table
            }
            Form::Metadata => metadata(&object),
            Form::Whole => object,
        }
    }

    fn table(&self, of: &Resource, objects: &[Value], own: &Value) -> Value {
        let now = jiff::Timestamp::now();
        let mut table = match &of.definition {
            Some(definition) => objects::table::custom(definition, objects, own, now),
            None => {
                let kept: Vec<(String, Cow<'_, Value>)> =
                    objects.iter().map(|object| crate::cluster::kept(of, object)).collect();
                let group = crate::cluster::kept(of, &Value::Null).0;
                let objects: Vec<&Value> = kept.iter().map(|(_, object)| &**object).collect();
                objects::table::table(&group, of.kind, &objects, own, now)
            }
        };
        let rows = table["rows"].as_array_mut().into_iter().flatten();
        for (row, object) in rows.zip(objects) {
            match self.include {
                Include::Metadata => {}
                Include::None => row["object"] = Value::Null,
                Include::Object => row["object"] = object.clone(),
            }
        }
        table
    }
}

/// An entry as an object: of the version that is wanted, unless a webhook makes it that.
pub(crate) fn read(of: &Resource, entry: &Entry, revision: Revision) -> Value {
    let mut stored: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
    if of.definition.is_none() {
        objects::convert::show(&mut stored, &of.api_version());
    }
    let mut object = json!({"kind": of.kind, "apiVersion": of.api_version()});
    let is_other = stored["apiVersion"] != object["apiVersion"];
    if is_other && of.definition.as_ref().is_some_and(|own| own.conversion().is_some()) {
        // It is what it is until its webhook is asked.
        stored["metadata"]["resourceVersion"] = revision.to_string().into();
        return stored;
    }
    if let (Value::Object(all), Value::Object(stored)) = (&mut object, stored) {
        all.extend(stored.into_iter().filter(|(key, _)| key != "kind" && key != "apiVersion"));
        // A definition may have changed since this was written.
        if let Some(definition) = &of.definition {
            let _ = definition.prune(all);
            definition.complete(all);
        }
    }
    object["metadata"]["resourceVersion"] = revision.to_string().into();
    object
}

fn metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

/// Items of a list do not say what they are.
fn without_type(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("kind");
        fields.shift_remove("apiVersion");
    }
    object
}
