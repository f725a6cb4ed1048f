//! Policies of admission: who binds them to requests, with which parameters, and what becomes of a
//! request that one denies (apiserver, `admission/plugin/policy/validating`).

use cel::policy::{Attempt, Denial};
use objects::Selector;
use objects::resource::{Resource, ResourceRef};
use objects::validate::{Invalid, Problem};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::log::{LogError, Range};
use crate::request::Request;
use crate::target::{self, Target};

const POLICIES: &str = "/admissionregistration.k8s.io/validatingadmissionpolicies/";
const BINDINGS: &str = "/admissionregistration.k8s.io/validatingadmissionpolicybindings/";

/// What of a policy or a binding this server cannot do, or nobody can.
pub(crate) fn check(of: &Resource, object: &Value) -> Vec<Invalid> {
    match (of.group, of.kind) {
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => {
            cel::policy::check_policy(object)
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding") => {
            let actions = object["spec"]["validationActions"].as_array().into_iter().flatten();
            let field = |number| format!("spec.validationActions[{number}]");
            let why = "only Deny is done by this server yet";
            let others = actions.enumerate().filter(|(_, action)| **action != "Deny");
            others
                .map(|(number, _)| Invalid {
                    field: field(number),
                    problem: Problem::Forbidden(why.to_owned()),
                })
                .collect()
        }
        ("admissionregistration.k8s.io", _)
            if !crate::cluster::items(&object["webhooks"]).is_empty() =>
        {
            // Whoever asks to be asked must not believe that it is.
            let why = "webhooks are not called by this server yet".to_owned();
            vec![Invalid { field: "webhooks".to_owned(), problem: Problem::Forbidden(why) }]
        }
        _ => Vec::new(),
    }
}

impl Cluster {
    /// Refuses a change that a bound policy denies: from `old`, null if there is none, to `object`,
    /// null if it goes.
    pub(crate) fn enforce(
        &self,
        request: &Request,
        target: &Target,
        old: &Value,
        object: &Value,
    ) -> Result<(), Failure> {
        let of = &target.resource;
        // Policies are not about policies: nobody could take a wrong one back.
        if of.group == "admissionregistration.k8s.io" {
            return Ok(());
        }
        let policies = self.all(POLICIES)?;
        if policies.is_empty() {
            return Ok(());
        }
        let bindings = self.all(BINDINGS)?;
        let namespace = self.namespace_of(target)?;
        let one = if object.is_null() { old } else { object };
        let name = one["metadata"]["name"].as_str().unwrap_or_default();
        let attempt = Attempt {
            operation: match (old.is_null(), object.is_null()) {
                (true, _) => "CREATE",
                (false, true) => "DELETE",
                (false, false) => "UPDATE",
            },
            resource: (of.group, of.version, of.plural, of.kind),
            subresource: &target.subresource,
            namespace: &target.namespace,
            name,
            object,
            old,
            namespace_object: namespace.as_ref(),
            user: &user_info(request),
            is_dry_run: request.is_dry_run()?,
        };
        for policy in policies {
            let spec = &policy["spec"];
            let policy_name = &policy["metadata"]["name"];
            let own =
                bindings.iter().filter(|binding| binding["spec"]["policyName"] == *policy_name);
            if !cel::policy::matches(&spec["matchConstraints"], &attempt) {
                continue;
            }
            for binding in own {
                if !cel::policy::matches(&binding["spec"]["matchResources"], &attempt) {
                    continue;
                }
                if let Some(denial) = self.denial(&policy, binding, &attempt)? {
                    return Err(denied(of, &policy, binding, name, &denial));
                }
            }
        }
        Ok(())
    }

    /// What a policy says with each of a binding's parameters.
    fn denial(
        &self,
        policy: &Value,
        binding: &Value,
        attempt: &Attempt<'_>,
    ) -> Result<Option<Denial>, LogError> {
        let first = |params: Option<&Value>| {
            cel::policy::evaluate(policy, params, attempt).into_iter().next()
        };
        let (kind, reference) = (&policy["spec"]["paramKind"], &binding["spec"]["paramRef"]);
        if kind.is_null() || reference.is_null() {
            return Ok(first(None));
        }
        let params = self.params(kind, reference, attempt.namespace)?;
        if params.is_empty() && reference["parameterNotFoundAction"] != "Allow" {
            let message = "no params found for policy binding with `Deny` parameterNotFoundAction";
            return Ok(Some(Denial { message: message.to_owned(), reason: "Invalid".to_owned() }));
        }
        Ok(params.iter().find_map(|params| first(Some(params))))
    }

    fn params(
        &self,
        kind: &Value,
        reference: &Value,
        namespace: &str,
    ) -> Result<Vec<Value>, LogError> {
        let is = |r: &ResourceRef| kind["kind"] == r.kind && kind["apiVersion"] == r.api_version();
        let Some(of) = self.resources()?.into_iter().find(is) else { return Ok(Vec::new()) };
        let namespace = match (of.is_namespaced, reference["namespace"].as_str()) {
            (false, _) => "",
            (true, Some(own)) => own,
            (true, None) => namespace,
        };
        if let Some(name) = reference["name"].as_str() {
            let (entry, _) = self.log.get(&target::key(&of, namespace, name));
            return Ok(entry.iter().map(|entry| self.found(&of, entry).object).collect());
        }
        let Ok(selector) = Selector::from_json(&reference["selector"]) else {
            return Ok(Vec::new());
        };
        let prefix = target::prefix(&of, namespace);
        let page = self.log.range(Range { prefix: &prefix, ..Range::default() })?;
        let all = page.entries.iter().map(|entry| self.found(&of, entry).object);
        Ok(all.filter(|object| selector.matches_object(object)).collect())
    }

    fn all(&self, prefix: &str) -> Result<Vec<Value>, LogError> {
        let page = self.log.range(Range { prefix, ..Range::default() })?;
        let read = |value: &[u8]| serde_json::from_slice(value).unwrap_or_default();
        Ok(page.entries.iter().map(|entry| read(&entry.value)).collect())
    }

    /// The namespace that a request is in, if it is in one.
    fn namespace_of(&self, target: &Target) -> Result<Option<Value>, LogError> {
        let is = |r: &&Resource| r.group.is_empty() && r.kind == "Namespace";
        let of = Resource::built_in().iter().find(is).filter(|_| !target.namespace.is_empty());
        let Some(of) = of else { return Ok(None) };
        let (entry, _) = self.log.get(&target::key(of, "", &target.namespace));
        Ok(entry.map(|entry| self.found(of, &entry).object))
    }
}

fn user_info(request: &Request) -> Value {
    request.user.to_json()
}

fn denied(of: &Resource, policy: &Value, binding: &Value, name: &str, denial: &Denial) -> Failure {
    let called =
        |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let why = format!(
        "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {}",
        called(policy),
        called(binding),
        denial.message
    );
    let (code, reason) = match denial.reason.as_str() {
        "Unauthorized" => (401, "Unauthorized"),
        "Forbidden" => (403, "Forbidden"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    let mut failure = Failure { code, reason, ..Failure::forbidden(of, name, &why) };
    failure.details["causes"] = json!([{"message": why}]);
    failure
}
