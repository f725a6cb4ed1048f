//! Whether a pod may be removed on purpose: a budget counts how many are missing already.

use objects::Selector;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::log::LogError;
use crate::target;

/// How often it is tried again when somebody changes the budget meanwhile.
const TRIES: usize = 5;
const VIOLATION: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

impl Cluster {
    /// Takes the eviction of a pod from its budget, if it has one.
    ///
    /// # Errors
    /// There is nothing left of it: 429, which clients try again.
    pub(crate) fn may_evict(&self, pod: &Value) -> Result<(), Failure> {
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        let has_ended = matches!(phase, "Succeeded" | "Failed" | "Pending");
        if has_ended || !pod["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        for _ in 0..TRIES {
            match self.take_from_budget(pod) {
                Err(Error::Conflict) => {}
                Err(Error::Failed(failure)) => return Err(*failure),
                Ok(()) => return Ok(()),
            }
        }
        Err(Failure::too_many_requests(VIOLATION))
    }

    fn take_from_budget(&self, pod: &Value) -> Result<(), Error> {
        const GROUP: &str = "policy";
        const PLURAL: &str = "poddisruptionbudgets";
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let budgets = self.objects(GROUP, PLURAL, namespace, "")?;
        let is_its = |budget: &&Value| {
            let selector = Selector::from_json(&budget["spec"]["selector"]);
            selector.is_ok_and(|selector| selector.matches_object(pod))
        };
        let mut own = budgets.iter().filter(is_its);
        let Some(budget) = own.next() else { return Ok(()) };
        if own.next().is_some() {
            let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource \
                       does not support.";
            return Err(Failure::internal(why).into());
        }
        let name = budget["metadata"]["name"].as_str().unwrap_or_default();
        let key = target::key(Self::resource(GROUP, PLURAL), namespace, name);
        let Some(entry) = self.log.get(&key).0 else { return Ok(()) };
        let mut budget: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
        if is_sick(pod) && is_open_to_sick(&budget) {
            return Ok(());
        }
        let number = |pointer: &str| budget.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        let allowed = number("/status/disruptionsAllowed");
        let is_known = number("/status/observedGeneration") >= number("/metadata/generation");
        if allowed <= 0 || !is_known {
            return Err(Failure::too_many_requests(VIOLATION).into());
        }
        let status = &mut budget["status"];
        status["disruptionsAllowed"] = (allowed - 1).into();
        let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
        status["disruptedPods"][pod] = json!(crate::cluster::now());
        self.put(&key, Some(entry.modified), &budget).map(drop).map_err(Error::from)
    }
}

fn is_sick(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    !conditions.into_iter().any(|own| own["type"] == "Ready" && own["status"] == "True")
}

/// Whether pods that are not ready may go: always, or as long as enough others are (the default).
fn is_open_to_sick(budget: &Value) -> bool {
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        || (number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0)
}

enum Error {
    /// Somebody was faster.
    Conflict,
    Failed(Box<Failure>),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Conflict(_) => Self::Conflict,
            other => Failure::from(other).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asking::{ask, make};
    use crate::authentication::User;

    #[test]
    fn a_budget_allows_so_many_evictions() {
        let cluster = Cluster::new(std::sync::Arc::new(crate::log::Memory::default())).unwrap();
        let admin = |method: &str, path: &str, body: &Value| {
            ask(&cluster, &User::administrator(), method, path, body)
        };
        let pods = "/api/v1/namespaces/default/pods";
        for name in ["a", "b"] {
            let pod = json!({"metadata": {"name": name, "labels": {"app": "x"}},
                "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
            make(&cluster, pods, &pod);
            let status = json!({"metadata": {"name": name, "labels": {"app": "x"}},
                "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
            assert_eq!(admin("PUT", &format!("{pods}/{name}/status"), &status).0, 200);
        }
        let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
        let budget = json!({"metadata": {"name": "budget"}, "spec": {"minAvailable": 1,
            "selector": {"matchLabels": {"app": "x"}}}});
        make(&cluster, budgets, &budget);
        let mut known = budget;
        known["status"] = json!({"observedGeneration": 1, "disruptionsAllowed": 1,
            "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2});
        assert_eq!(admin("PUT", &format!("{budgets}/budget/status"), &known).0, 200);
        let evict = |name: &str| {
            let body = json!({"metadata": {"name": name}});
            admin("POST", &format!("{pods}/{name}/eviction"), &body)
        };
        assert_eq!(evict("a").0, 201);
        let (code, refusal) = evict("b");
        assert_eq!((code, &refusal["message"]), (429, &json!(VIOLATION)));
    }
}
