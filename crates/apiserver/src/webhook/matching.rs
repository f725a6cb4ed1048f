//! Which requests webhooks and policies are about.

use cel::policy::Attempt;
use objects::resource::{Resource, ResourceRef};
use serde_json::{Value, json};

use crate::cluster::{Cluster, items};
use crate::failure::Failure;
use crate::log::LogError;
use crate::request::Request;
use crate::target::{self, Target};

/// What of a request is the same for all who are asked about it.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    target: &'a Target,
    name: String,
    namespace: Option<Value>,
    pub(crate) user: Value,
    pub(crate) is_dry_run: bool,
    pub(crate) operation: &'static str,
}

impl<'a> Context<'a> {
    /// Of a change from `old`, null if there is none, to `object`, null if it goes.
    pub(crate) fn new(
        cluster: &Cluster,
        request: &Request,
        target: &'a Target,
        old: &Value,
        object: &Value,
    ) -> Result<Self, Failure> {
        let one = if object.is_null() { old } else { object };
        let name = one["metadata"]["name"].as_str().unwrap_or(&target.name).to_owned();
        Ok(Self {
            target,
            name,
            namespace: namespace_of(cluster, target)?,
            user: request.user.to_json(),
            is_dry_run: request.is_dry_run()?,
            operation: match (old.is_null(), object.is_null()) {
                _ if is_connection(&target.subresource) => "CONNECT",
                (true, _) => "CREATE",
                (false, true) => "DELETE",
                (false, false) => "UPDATE",
            },
        })
    }

    /// The change as one of `of`, which may be another version of the request's own resource.
    pub(crate) fn attempt<'b>(
        &'b self,
        of: &'b Resource,
        old: &'b Value,
        object: &'b Value,
    ) -> Attempt<'b> {
        Attempt {
            operation: self.operation,
            resource: (of.group, of.version, of.plural, of.kind),
            subresource: &self.target.subresource,
            namespace: &self.target.namespace,
            name: &self.name,
            object,
            old,
            namespace_object: self.namespace.as_ref(),
            user: &self.user,
            is_dry_run: self.is_dry_run,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// Whether a subresource is a connection to what an object stands for.
pub(crate) fn is_connection(subresource: &str) -> bool {
    matches!(subresource, "attach" | "exec" | "portforward" | "proxy")
}

/// What is said of a connection: the query, as an object of its own.
pub(crate) fn connection_options(request: &Request, target: &Target) -> Value {
    let (group, version, kind) = crate::discovery::kind_of(&target.resource, &target.subresource);
    let api_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut options = json!({"kind": kind, "apiVersion": api_version});
    for name in ["stdin", "stdout", "stderr", "tty"] {
        if request.is_set(name) {
            options[name] = true.into();
        }
    }
    let said = |name: &str| -> Vec<&str> {
        let own = request.query.iter().filter(|(known, _)| known == name);
        own.map(|(_, value)| value.as_str()).collect()
    };
    if let Some(container) = said("container").first() {
        options["container"] = (*container).into();
    }
    let command = said("command");
    if !command.is_empty() {
        options["command"] = command.into();
    }
    let ports: Vec<u16> = said("ports").iter().filter_map(|port| port.parse().ok()).collect();
    if !ports.is_empty() {
        options["ports"] = ports.into();
    }
    if target.subresource == "proxy" && !target.rest.is_empty() {
        options["path"] = format!("/{}", target.rest).into();
    }
    options
}

/// The namespace that a request is in, if it is in one.
fn namespace_of(cluster: &Cluster, target: &Target) -> Result<Option<Value>, LogError> {
    if target.namespace.is_empty() {
        return Ok(None);
    }
    Ok(cluster.object("", "namespaces", "", &target.namespace))
}

/// The version of a resource in which a webhook is asked about a change; `None` if it is not.
pub(super) fn version(
    cluster: &Cluster,
    hook: &Value,
    context: &Context<'_>,
    old: &Value,
    object: &Value,
) -> Result<Option<ResourceRef>, LogError> {
    if items(&hook["rules"]).is_empty() {
        return Ok(None);
    }
    let constraints = json!({
        "resourceRules": hook["rules"],
        "namespaceSelector": hook["namespaceSelector"],
        "objectSelector": hook["objectSelector"],
    });
    let is_about =
        |of: &Resource| cel::policy::matches(&constraints, &context.attempt(of, old, object));
    let own = &context.target.resource;
    if is_about(own) {
        return Ok(Some(own.clone()));
    }
    if hook["matchPolicy"] == "Exact" {
        return Ok(None);
    }
    let kept = target::prefix(own, "");
    let is_same = |of: &ResourceRef| of.kind == own.kind && target::prefix(of, "") == kept;
    Ok(cluster.resources()?.into_iter().filter(is_same).find(|of| is_about(of)))
}
