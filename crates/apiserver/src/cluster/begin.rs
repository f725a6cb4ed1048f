//! What every cluster has from its beginning.

use std::thread;

use serde_json::{Value, json};

use super::{Cluster, own};
use crate::authorization::{bootstrap, settle};
use crate::log::LogError;

/// The group of roles.
const ROLES: &str = "rbac.authorization.k8s.io";
/// Namespaces, by name.
const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
/// How many objects are written at a time: those of one time are on disk together.
const AT_A_TIME: usize = 32;

impl Cluster {
    /// Makes what every cluster has where it is not.
    pub(super) fn begin(&self) -> Result<(), LogError> {
        let mut all: Vec<(&str, &str, Value)> = Vec::new();
        for name in NAMESPACES {
            all.push(("", "namespaces", own::namespace(name)));
        }
        all.extend(priority_classes().map(|class| ("scheduling.k8s.io", "priorityclasses", class)));
        all.extend(bootstrap::wanted().into_iter().map(|w| (ROLES, w.plural, w.object)));
        for chunk in all.chunks(AT_A_TIME) {
            let made: Result<(), LogError> = thread::scope(|scope| {
                let begin = |(group, plural, object): &(&'static str, &'static str, Value)| {
                    let (group, plural, object) = (*group, *plural, object.clone());
                    scope.spawn(move || self.ensure_whole(group, plural, &object))
                };
                let workers: Vec<_> = chunk.iter().map(begin).collect();
                let broken = || LogError::Storage("a thread that made an object broke".into());
                workers.into_iter().try_for_each(|w| w.join().unwrap_or_else(|_| Err(broken())))
            });
            made?;
        }
        for name in NAMESPACES {
            crate::admission::furnish(self, name)?;
        }
        settle(self)
    }

    /// Makes the class of volumes that claims get which name none: directories of nodes, where the first
    /// pod of a claim runs. One that is there stays as it is.
    ///
    /// # Errors
    /// The log fails.
    pub fn provide_storage(&self) -> Result<(), LogError> {
        let class = json!({
            "metadata": {
                "name": "local-path",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "cais/local-path",
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        });
        self.ensure("storage.k8s.io", "storageclasses", class).map(drop)
    }

    /// Makes an object where there is none. A role that is there gets the rules that it lacks, unless
    /// somebody has said that it shall stay as it is.
    fn ensure_whole(
        &self,
        group: &'static str,
        plural: &'static str,
        wanted: &Value,
    ) -> Result<(), LogError> {
        if self.ensure(group, plural, wanted.clone())? || group != ROLES {
            return Ok(());
        }
        let text = |field: &str| wanted["metadata"][field].as_str().unwrap_or_default();
        let Some(mut own) = self.object(group, plural, text("namespace"), text("name")) else {
            return Ok(());
        };
        let is_fixed = own["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"]
            == "false";
        let field = if plural.ends_with("roles") { "rules" } else { "subjects" };
        let lacks = |own: &Value, part: &&Value| !super::items(&own[field]).contains(part);
        let missing: Vec<Value> =
            super::items(&wanted[field]).iter().filter(|part| lacks(&own, part)).cloned().collect();
        if is_fixed || missing.is_empty() {
            return Ok(());
        }
        own[field] = [super::items(&own[field]), &missing].concat().into();
        match self.overwrite(group, plural, &own) {
            Err(LogError::Conflict(_)) => Ok(()),
            done => done,
        }
    }
}

/// The classes of pods without which a cluster or a node is none.
fn priority_classes() -> impl Iterator<Item = Value> {
    let class = |name: &str, value: i64, whose: &str| {
        json!({
            "metadata": {"name": name, "generation": 1},
            "value": value,
            "description": format!(
                "Used for system critical pods that must {whose}"
            ),
            "preemptionPolicy": "PreemptLowerPriority",
        })
    };
    let cluster = "run in the cluster, but can be moved to another node if necessary.";
    let node = "not be moved from their current node.";
    [
        class("system-cluster-critical", 2_000_000_000, cluster),
        class("system-node-critical", 2_000_001_000, node),
    ]
    .into_iter()
}
