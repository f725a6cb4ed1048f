//! Webhooks that make of an object of one version the same one in another (`ConversionReview` of
//! `apiextensions.k8s.io/v1`).
//!
//! Objects are kept in the version that their definition says, and converted when they are read in
//! another one.

use std::borrow::Cow;

use objects::Schema;
use objects::resource::Resource;
use serde_json::{Value, json};

use crate::cluster::{Cluster, items, random, uid};
use crate::failure::Failure;
use crate::log::LogError;
use crate::outbound::Hook;

/// How long a webhook is waited for (apiextensions-apiserver).
const SECONDS: u64 = 30;

impl Cluster {
    /// Brings objects that are of other versions into that of `of`, where its definition has a webhook
    /// for that.
    pub(crate) fn convert(&self, of: &Resource, objects: &mut [Value]) -> Result<(), Failure> {
        let Some(definition) = &of.definition else { return Ok(()) };
        let Some(webhook) = definition.conversion() else { return Ok(()) };
        let wanted = of.api_version();
        let mut others: Vec<&mut Value> =
            objects.iter_mut().filter(|object| object["apiVersion"] != wanted).collect();
        let Some(first) = others.first() else { return Ok(()) };
        let from = first["apiVersion"].as_str().unwrap_or_default().to_owned();
        let asked: Vec<Value> = others.iter().map(|object| (**object).clone()).collect();
        let converted = ask(self, webhook, &wanted, asked).map_err(|why| {
            let why = format!("conversion webhook for {from}, Kind={} failed: {why}", of.kind);
            Failure { message: why, ..Failure::internal("") }
        })?;
        for (object, converted) in others.iter_mut().zip(converted) {
            **object = converted;
            if let Some(fields) = object.as_object_mut() {
                let _ = definition.prune(fields);
                definition.complete(fields);
            }
        }
        Ok(())
    }

    /// An object in the version that it is kept in.
    pub(crate) fn in_kept_version<'a>(
        &self,
        object: &'a Value,
    ) -> Result<Cow<'a, Value>, LogError> {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if Schema::built_in().kind(version, kind).is_some() || version.is_empty() {
            return Ok(Cow::Borrowed(object));
        }
        let customs = self.customs()?;
        let own = customs.iter().find(|of| of.kind == kind && of.api_version() == version);
        let definition = own.and_then(|of| of.definition.as_ref());
        let kept =
            definition.filter(|own| own.conversion().is_some()).map(|own| own.kept_version());
        let Some(kept) = kept.filter(|kept| *kept != version) else {
            return Ok(Cow::Borrowed(object));
        };
        let is_kept = |of: &&std::sync::Arc<Resource>| of.kind == kind && of.api_version() == kept;
        let mut object = object.clone();
        match customs.iter().find(is_kept) {
            Some(of) => self.convert(of, std::slice::from_mut(&mut object)),
            None => Err(Failure::internal(format!("{kept}, in which it is kept, is not served"))),
        }
        .map_err(|failure| LogError::Storage(failure.message.into()))?;
        Ok(Cow::Owned(object))
    }
}

fn ask(
    cluster: &Cluster,
    webhook: &Value,
    wanted: &str,
    objects: Vec<Value>,
) -> Result<Vec<Value>, String> {
    let own = uid(&random::<16>());
    let versions = items(&webhook["conversionReviewVersions"]).iter().filter_map(Value::as_str);
    let version = versions.into_iter().find(|v| matches!(*v, "v1" | "v1beta1")).unwrap_or("v1");
    let api_version = format!("apiextensions.k8s.io/{version}");
    let review = json!({
        "kind": "ConversionReview",
        "apiVersion": api_version,
        "request": {"uid": own, "desiredAPIVersion": wanted, "objects": objects},
    });
    let hook = Hook::find(cluster, &webhook["clientConfig"], SECONDS)?;
    let mut answer = hook.post(&review, SECONDS)?;
    let mut response = answer["response"].take();
    if answer["kind"] != "ConversionReview" || answer["apiVersion"] != api_version {
        return Err(format!("expected webhook response of {api_version}, Kind=ConversionReview"));
    }
    if response["uid"] != own {
        return Err(format!("expected response.uid={own:?}, got {}", response["uid"]));
    }
    let result = &response["result"];
    if result["status"] != "Success" {
        return Err(result["message"].as_str().unwrap_or("unknown error").to_owned());
    }
    let Value::Array(converted) = response["convertedObjects"].take() else {
        return Err("response.convertedObjects is required".to_owned());
    };
    if converted.len() != objects.len() {
        return Err(format!("returned {} objects, expected {}", converted.len(), objects.len()));
    }
    let pairs = converted.into_iter().zip(objects).enumerate();
    pairs.map(|(number, (new, old))| settled(number, new, &old, wanted)).collect()
}

/// A converted object, which is the same one still: of metadata, labels and annotations may change.
fn settled(number: usize, mut new: Value, old: &Value, wanted: &str) -> Result<Value, String> {
    let invalid = |why: &str| Err(format!("invalid converted object at index {number}: {why}"));
    if new["apiVersion"] != wanted {
        return invalid(&format!("invalid groupVersion (required: {wanted})"));
    }
    if new["kind"] != old["kind"] {
        return invalid(&format!("invalid kind (required: {})", old["kind"]));
    }
    for field in ["name", "namespace", "uid"] {
        if new["metadata"][field] != old["metadata"][field] {
            return invalid(&format!("must have the same {field}"));
        }
    }
    let mut metadata = old["metadata"].clone();
    for field in ["labels", "annotations"] {
        match new["metadata"][field].take() {
            Value::Null => drop(metadata.as_object_mut().map(|own| own.shift_remove(field))),
            changed => metadata[field] = changed,
        }
    }
    new["metadata"] = metadata;
    Ok(new)
}
