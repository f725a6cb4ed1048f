//! Which objects a request is about: selectors of labels and of fields.

use objects::resource::Resource;
use objects::{FieldSelector, Selector};
use serde_json::Value;

use crate::failure::Failure;
use crate::request::Request;

/// The selectors of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Select {
    labels: Selector,
    fields: FieldSelector,
}

impl Select {
    pub(crate) fn of(request: &Request, resource: &Resource) -> Result<Self, Failure> {
        let labels = Selector::parse(request.parameter("labelSelector"));
        let labels = labels
            .map_err(|why| Failure::bad_request(format!("unable to parse requirement: {why}")))?;
        let fields = FieldSelector::parse(request.parameter("fieldSelector"));
        let fields = fields.map_err(|why| Failure::bad_request(why.to_string()))?;
        if let Some((path, ..)) = fields.terms.iter().find(|(path, ..)| !is_known(resource, path)) {
            let message = format!("field label not supported: {path}");
            return Err(Failure::bad_request(message));
        }
        Ok(Self { labels, fields })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.terms.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels.matches_object(object) && self.fields.matches(|path| field(object, path))
    }
}

/// Fields that clients may select by (upstream's `AddFieldLabelConversionFunc` of each kind).
fn is_known(of: &Resource, path: &str) -> bool {
    let custom = of.definition.as_ref().map_or(&[][..], |definition| &definition.selectable);
    if custom.iter().any(|known| known == path) {
        return true;
    }
    let own: &[&str] = match (of.group, of.kind) {
        ("", "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "Event") | ("events.k8s.io", "Event") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "reason",
            "reportingComponent",
            "reportingController",
            "source",
            "type",
        ],
        ("", "Node") => &["spec.unschedulable"],
        ("", "Namespace") => &["status.phase"],
        ("", "Secret") => &["type"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("", "ReplicationController") | ("apps", "ReplicaSet") => &["status.replicas"],
        ("batch", "Job") => &["status.successful"],
        ("certificates.k8s.io", _) => &["spec.signerName"],
        _ => &[],
    };
    matches!(path, "metadata.name" | "metadata.namespace") || own.contains(&path)
}

fn field(object: &Value, path: &str) -> Option<String> {
    let path = match path {
        "source" => "source.component",
        "status.successful" => "status.succeeded",
        path => path,
    };
    let value = path.split('.').fold(object, |value, part| &value[part]);
    match value {
        Value::Null if path == "spec.unschedulable" || path == "spec.hostNetwork" => {
            Some("false".to_owned())
        }
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
