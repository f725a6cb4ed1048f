//! Webhooks that are asked whether a change may be, and what becomes of it.

use std::thread;

use objects::resource::ResourceRef;
use serde_json::{Value, json};

use super::matching::{self, Context};
use super::review::{Question, Verdict};
use crate::cluster::{Cluster, items};
use crate::failure::Failure;
use crate::log::Range;
use crate::operations;
use crate::request::Request;
use crate::target::Target;

const GROUP: &str = "admissionregistration.k8s.io";
const MUTATING: &str = "/admissionregistration.k8s.io/mutatingwebhookconfigurations/";
const VALIDATING: &str = "/admissionregistration.k8s.io/validatingwebhookconfigurations/";

/// A webhook, and the configuration that it is of.
#[derive(Debug)]
struct Webhook {
    configuration: String,
    hook: Value,
}

impl Webhook {
    fn name(&self) -> &str {
        self.hook["name"].as_str().unwrap_or_default()
    }

    fn fails(&self) -> bool {
        self.hook["failurePolicy"] != "Ignore"
    }
}

/// Has webhooks change an object, null if it goes: whether one has. What it becomes is given to
/// `settle`, which brings it into the form of its type.
pub(crate) fn mutate(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
    old: &Value,
    object: &mut Value,
    settle: &dyn Fn(&mut Value) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let hooks = webhooks(cluster, target, MUTATING)?;
    if hooks.is_empty() {
        return Ok(false);
    }
    let before = object.clone();
    // After each one's turn, what it has seen of the object last.
    let mut seen: Vec<Option<Value>> = vec![None; hooks.len()];
    for round in 0..2 {
        for (number, webhook) in hooks.iter().enumerate() {
            if round > 0 {
                let wants = webhook.hook["reinvocationPolicy"] == "IfNeeded";
                let is_old = seen[number].as_ref().is_some_and(|seen| seen != object);
                if !wants || !is_old {
                    continue;
                }
            }
            let place = format!("round_{round}_index_{number}");
            let asked = Asked { cluster, request, target, old, object, webhook };
            let Some(changed) = asked.change(&place)? else { continue };
            if let Some(mut changed) = changed {
                settle(&mut changed)?;
                *object = changed;
            }
            seen[number] = Some(object.clone());
        }
    }
    Ok(*object != before)
}

/// Refuses a change that a webhook refuses.
pub(crate) fn validate(
    cluster: &Cluster,
    request: &Request,
    target: &Target,
    old: &Value,
    object: &Value,
) -> Result<(), Failure> {
    let hooks = webhooks(cluster, target, VALIDATING)?;
    let ask = |number: usize, webhook: &Webhook| {
        let place = format!("round_0_index_{number}");
        Asked { cluster, request, target, old, object, webhook }.allow(&place)
    };
    match &hooks[..] {
        [] => Ok(()),
        [one] => ask(0, one),
        all => thread::scope(|scope| {
            let ask = &ask;
            let begin = |(number, webhook)| scope.spawn(move || ask(number, webhook));
            let asked: Vec<_> = all.iter().enumerate().map(begin).collect();
            let broken = || Failure::internal("a thread that asked a webhook broke");
            let answers = asked.into_iter().map(|one| one.join().unwrap_or_else(|_| Err(broken())));
            // All are waited for; the first that refuses is told.
            answers.fold(Ok(()), Result::and)
        }),
    }
}

/// All webhooks, by the names of their configurations. None is asked about what says who is asked:
/// nobody could take a wrong one back.
fn webhooks(cluster: &Cluster, target: &Target, prefix: &str) -> Result<Vec<Webhook>, Failure> {
    if target.resource.group == GROUP {
        return Ok(Vec::new());
    }
    let page = cluster.log.range(Range { prefix, ..Range::default() })?;
    let mut found = Vec::new();
    for entry in &page.entries {
        let configuration: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
        let name = configuration["metadata"]["name"].as_str().unwrap_or_default();
        let of = |hook: &Value| Webhook { configuration: name.to_owned(), hook: hook.clone() };
        found.extend(items(&configuration["webhooks"]).iter().map(of));
    }
    Ok(found)
}

/// A webhook that is asked about a change.
struct Asked<'a> {
    cluster: &'a Cluster,
    request: &'a Request,
    target: &'a Target,
    old: &'a Value,
    object: &'a Value,
    webhook: &'a Webhook,
}

impl Asked<'_> {
    /// What the webhook makes of the object, if anything; `None` if it is not about the change.
    fn change(&self, place: &str) -> Result<Option<Option<Value>>, Failure> {
        let Some((of, verdict)) = self.ask("mutation", place)? else { return Ok(None) };
        let Some(verdict) = verdict else { return Ok(Some(None)) };
        let mut changed = None;
        if let Some(patch) = &verdict.patch {
            if self.object.is_null() {
                let why = format!(
                    "admission webhook {:?} attempted to modify the object, which is not supported \
                     for this operation",
                    self.webhook.name()
                );
                return Err(Failure::internal(why));
            }
            let mut object = self.in_version(&of, self.object)?;
            let failed = |why: Failure| Failure::internal(why.message);
            operations::patch(&mut object, patch).map_err(failed)?;
            let object = self.in_version(&self.target.resource, &object)?;
            changed = Some(object).filter(|object| object != self.object);
        }
        let told = json!({
            "configuration": self.webhook.configuration,
            "webhook": self.webhook.name(),
            "mutated": changed.is_some(),
        });
        let key = format!("mutation.webhook.admission.k8s.io/{place}");
        self.request.notes.annotate(key, &told.to_string());
        Ok(Some(changed))
    }

    /// Refuses the change if the webhook does.
    fn allow(&self, place: &str) -> Result<(), Failure> {
        self.ask("validating", place).map(drop)
    }

    /// Asks, if the webhook is about the change: the version it was asked in, and its answer, which
    /// allows; none if it has none, and that does not matter.
    fn ask(
        &self,
        stage: &str,
        place: &str,
    ) -> Result<Option<(ResourceRef, Option<Verdict>)>, Failure> {
        let (hook, name) = (&self.webhook.hook, self.webhook.name());
        let context = Context::new(self.cluster, self.request, self.target, self.old, self.object)?;
        let found = matching::version(self.cluster, hook, &context, self.old, self.object)?;
        let Some(of) = found else { return Ok(None) };
        let (old, object) = (self.in_version(&of, self.old)?, self.in_version(&of, self.object)?);
        let attempt = context.attempt(&of, &old, &object);
        match cel::policy::meets(&hook["matchConditions"], &attempt) {
            Ok(true) => {}
            Err(why) if self.webhook.fails() => {
                let own = &self.target.resource;
                return Err(Failure::forbidden(own, context.name(), &why));
            }
            Ok(false) | Err(_) => return Ok(None),
        }
        if context.is_dry_run
            && !matches!(hook["sideEffects"].as_str(), Some("None" | "NoneOnDryRun"))
        {
            let why = format!("admission webhook {name:?} does not support dry run");
            return Err(Failure::bad_request(why));
        }
        let question = Question {
            context: &context,
            request: self.request,
            target: self.target,
            of: &of,
            old: &old,
            object: &object,
        };
        match question.ask(self.cluster, hook) {
            Ok(verdict) => self.told(verdict).map(|verdict| Some((of, Some(verdict)))),
            Err(why) if self.webhook.fails() => {
                Err(Failure::internal(format!("failed calling webhook {name:?}: {why}")))
            }
            Err(_) => {
                let key = format!("failed-open.{stage}.webhook.admission.k8s.io/{place}");
                self.request.notes.annotate(key, name);
                Ok(Some((of, None)))
            }
        }
    }

    /// Passes on what a webhook says to people and auditors.
    fn told(&self, mut verdict: Verdict) -> Result<Verdict, Failure> {
        for warning in verdict.warnings.drain(..) {
            self.request.notes.warn(warning);
        }
        for (key, value) in verdict.annotations.drain(..) {
            self.request.notes.annotate(key, &value);
        }
        match verdict.refusal {
            Some(refusal) => Err(refusal),
            None => Ok(verdict),
        }
    }

    /// An object in another version of its kind.
    fn in_version(&self, of: &ResourceRef, object: &Value) -> Result<Value, Failure> {
        let version = of.api_version();
        if object.is_null() || object["apiVersion"] == version {
            return Ok(object.clone());
        }
        let mut object = object.clone();
        match &of.definition {
            Some(own) if own.conversion().is_some() => {
                self.cluster.convert(of, std::slice::from_mut(&mut object))?;
            }
            // All versions are alike.
            Some(_) => object["apiVersion"] = version.into(),
            None => objects::convert::show(&mut object, &version),
        }
        Ok(object)
    }
}
