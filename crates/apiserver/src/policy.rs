//! Policies of admission: who binds them to requests, with which parameters, and what becomes of a
//! request that one denies (apiserver, `admission/plugin/policy/validating`).

use std::collections::BTreeMap;

use cel::policy::{Attempt, Denial, Verdict};
use objects::Selector;
use objects::resource::{Resource, ResourceRef};
use objects::validate::{Invalid, Problem};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::log::{LogError, Range};
use crate::request::Request;
use crate::target::{self, Target};
use crate::webhook::Context;

const POLICIES: &str = "/admissionregistration.k8s.io/validatingadmissionpolicies/";
/// What auditors are told under of denials that were only to be told.
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";
const BINDINGS: &str = "/admissionregistration.k8s.io/validatingadmissionpolicybindings/";

/// What of a policy or a binding this server cannot do, or nobody can.
pub(crate) fn check(of: &Resource, object: &Value) -> Vec<Invalid> {
    match (of.group, of.kind) {
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => {
            cel::policy::check_policy(object)
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding") => {
            check_actions(&object["spec"]["validationActions"])
        }
        ("admissionregistration.k8s.io", _) => crate::webhook::check(of, object),
        _ => Vec::new(),
    }
}

/// What is done about a denial: something, and nothing twice (upstream's words).
fn check_actions(actions: &Value) -> Vec<Invalid> {
    const KNOWN: [&str; 3] = ["Audit", "Deny", "Warn"];
    const FIELD: &str = "spec.validationActions";
    let all = crate::cluster::items(actions);
    let invalid = |field: String, problem: Problem| Invalid { field, problem };
    let mut found = Vec::new();
    if all.is_empty() {
        let why = "at least one validation action is required".to_owned();
        found.push(invalid(FIELD.to_owned(), Problem::Required(why)));
    }
    for (number, action) in all.iter().enumerate() {
        let field = format!("{FIELD}[{number}]");
        if !KNOWN.iter().any(|known| action == known) {
            let known = KNOWN.iter().map(|word| (*word).to_owned()).collect();
            found.push(invalid(field, Problem::Unsupported(action.to_string(), known)));
        } else if all[..number].contains(action) {
            found.push(invalid(field, Problem::Duplicate(action.to_string())));
        }
    }
    if ["Deny", "Warn"].iter().all(|action| all.iter().any(|own| own == action)) {
        let why = "must not contain both Deny and Warn (repeating the same validation failure \
                   information in the API response and headers serves no purpose)";
        found.push(invalid(FIELD.to_owned(), Problem::Value(actions.to_string(), why.to_owned())));
    }
    found
}

/// What auditors are told of a request by policies, as it comes together.
#[derive(Default)]
struct Told {
    /// Under the key of each policy's annotation, what its bindings have said.
    annotations: BTreeMap<String, Vec<String>>,
    failures: Vec<Value>,
}

impl Cluster {
    /// Refuses a change that a bound policy denies, or a webhook: from `old`, null if there is none, to
    /// `object`, null if it goes.
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
        if !policies.is_empty() {
            let context = Context::new(self, request, target, old, object)?;
            let attempt = context.attempt(of, old, object);
            self.enforce_policies(request, of, &policies, &attempt)?;
        }
        crate::webhook::validate(self, request, target, old, object)
    }

    fn enforce_policies(
        &self,
        request: &Request,
        of: &Resource,
        policies: &[Value],
        attempt: &Attempt<'_>,
    ) -> Result<(), Failure> {
        let bindings = self.all(BINDINGS)?;
        let (mut told, mut refusal) = (Told::default(), None);
        for policy in policies {
            let policy_name = &policy["metadata"]["name"];
            if !cel::policy::matches(&policy["spec"]["matchConstraints"], attempt) {
                continue;
            }
            let own =
                bindings.iter().filter(|binding| binding["spec"]["policyName"] == *policy_name);
            for binding in own {
                if !cel::policy::matches(&binding["spec"]["matchResources"], attempt) {
                    continue;
                }
                for verdict in self.verdicts(policy, binding, attempt)? {
                    told.note(policy, verdict.annotations);
                    for denial in verdict.denials {
                        told.act(request, policy, binding, &denial);
                        if refusal.is_none() && acts(binding, "Deny") {
                            refusal = Some(denied(of, policy, binding, attempt.name, &denial));
                        }
                    }
                }
            }
        }
        told.tell(request);
        refusal.map_or(Ok(()), Err)
    }

    /// What a policy says with each of a binding's parameters.
    fn verdicts(
        &self,
        policy: &Value,
        binding: &Value,
        attempt: &Attempt<'_>,
    ) -> Result<Vec<Verdict>, LogError> {
        let (kind, reference) = (&policy["spec"]["paramKind"], &binding["spec"]["paramRef"]);
        if kind.is_null() || reference.is_null() {
            return Ok(vec![cel::policy::evaluate(policy, None, attempt)]);
        }
        let params = self.params(kind, reference, attempt.namespace)?;
        if params.is_empty() && reference["parameterNotFoundAction"] != "Allow" {
            let message = "no params found for policy binding with `Deny` parameterNotFoundAction";
            let denial =
                Denial { number: 0, message: message.to_owned(), reason: "Invalid".to_owned() };
            return Ok(vec![Verdict { denials: vec![denial], annotations: Vec::new() }]);
        }
        let evaluate = |params| cel::policy::evaluate(policy, Some(params), attempt);
        Ok(params.iter().map(evaluate).collect())
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
}

impl Told {
    fn note(&mut self, policy: &Value, annotations: Vec<(String, String)>) {
        let policy = policy["metadata"]["name"].as_str().unwrap_or_default();
        for (key, value) in annotations {
            let said = self.annotations.entry(format!("{policy}/{key}")).or_default();
            if !said.contains(&value) {
                said.push(value);
            }
        }
    }

    /// Does about a denial what a binding says, but for refusing.
    fn act(&mut self, request: &Request, policy: &Value, binding: &Value, denial: &Denial) {
        if acts(binding, "Audit") {
            self.failures.push(json!({
                "message": denial.message,
                "policy": policy["metadata"]["name"],
                "binding": binding["metadata"]["name"],
                "expressionIndex": denial.number,
                "validationActions": binding["spec"]["validationActions"],
            }));
        }
        if acts(binding, "Warn") {
            request.notes.warn(format!(
                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                called(policy),
                called(binding),
                denial.message
            ));
        }
    }

    fn tell(self, request: &Request) {
        for (key, said) in self.annotations {
            request.notes.annotate(key, &said.join(", "));
        }
        if !self.failures.is_empty() {
            let failures = Value::from(self.failures).to_string();
            request.notes.annotate(FAILURES, &failures);
        }
    }
}

/// Whether a binding has something done about a denial.
fn acts(binding: &Value, action: &str) -> bool {
    crate::cluster::items(&binding["spec"]["validationActions"]).iter().any(|own| own == action)
}

fn called(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn denied(of: &Resource, policy: &Value, binding: &Value, name: &str, denial: &Denial) -> Failure {
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
