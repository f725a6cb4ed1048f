//! The sets of a deployment: the one of its template, and those of earlier ones.

use client::{Cache, Key, Object, kind};
use serde_json::{Map, Value, json};

use super::{HASH, Slack, replicas, rolling, scale};
use crate::object::{annotation, created, name, namespace, number, owner_reference, uid};
use crate::plan::Plan;
use crate::template;

/// Which template a set is of, counted from 1.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// How many pods the deployment had when the set was last given its size.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// How many it might have had.
pub(super) const MOST: &str = "deployment.kubernetes.io/max-replicas";

/// What a set does not take over from its deployment.
const OWN_ANNOTATIONS: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MOST,
    "deprecated.deployment.rollback.to",
];

/// The sets of a deployment.
#[derive(Debug)]
pub(super) struct Sets {
    pub(super) new: Option<Object>,
    /// The oldest first.
    pub(super) old: Vec<Object>,
}

impl Sets {
    pub(super) fn new(deployment: &Value, mut all: Vec<Object>) -> Self {
        all.sort_by(|a, b| created(a).cmp(&created(b)).then_with(|| name(a).cmp(name(b))));
        let wanted = &deployment["spec"]["template"];
        let is_new = |set: &Object| template::is_same(&set["spec"]["template"], wanted, HASH);
        // Of several, the oldest: upstream never changes its mind either.
        let new = all.iter().position(is_new).map(|index| all.remove(index));
        Self { new, old: all }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Object> {
        self.old.iter().chain(&self.new)
    }

    /// The revision that the template has, or will have.
    pub(super) fn revision(&self) -> i64 {
        let before = self.old.iter().map(|set| revision(set)).max().unwrap_or(0);
        let own = self.new.as_ref().map_or(0, |set| revision(set));
        if own > before { own } else { before + 1 }
    }

    /// Makes the set of the template. Fails with another number of collisions if its name is taken.
    pub(super) fn make_new(
        &self,
        cache: &Cache,
        deployment: &Object,
        plan: &mut Plan,
    ) -> Result<(), i64> {
        let collisions = number(deployment, "/status/collisionCount", 0);
        let mut template = deployment["spec"]["template"].clone();
        let hash = template::hash(&template, collisions);
        let own = format!("{}-{hash}", name(deployment));
        if cache.get(&Key::new("ReplicaSet", namespace(deployment), &own)).is_some() {
            return Err(collisions + 1);
        }
        template["metadata"]["labels"][HASH] = hash.as_str().into();
        let mut selector = deployment["spec"]["selector"].clone();
        selector["matchLabels"][HASH] = hash.as_str().into();
        let size = rolling::first_size(deployment, self);
        let mut annotations = inherited(deployment);
        annotations.insert(REVISION.to_owned(), self.revision().to_string().into());
        annotations.extend(sizes(deployment));
        let set = json!({
            "metadata": {
                "name": own,
                "namespace": namespace(deployment),
                "labels": template["metadata"]["labels"],
                "annotations": annotations,
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {
                "replicas": size,
                "minReadySeconds": number(deployment, "/spec/minReadySeconds", 0),
                "selector": selector,
                "template": template,
            },
        });
        plan.create(kind("ReplicaSet"), set, deployment);
        if size > 0 {
            plan.tell(deployment, "ScalingReplicaSet", scale::told(&own, 0, size));
        }
        Ok(())
    }

    /// Brings what the new set says of its deployment up to date.
    pub(super) fn annotate_new(&self, deployment: &Value, plan: &mut Plan) {
        let Some(new) = &self.new else { return };
        let mut wanted = inherited(deployment);
        let revision = self.revision().to_string();
        let known = annotation(new, REVISION);
        if known != Some(&revision) {
            wanted.insert(REVISION.to_owned(), revision.into());
            if let Some(known) = known {
                let history = match annotation(new, REVISION_HISTORY) {
                    Some(history) => format!("{history},{known}"),
                    None => known.to_owned(),
                };
                wanted.insert(REVISION_HISTORY.to_owned(), history.into());
            }
        }
        let annotations = &new["metadata"]["annotations"];
        wanted.retain(|key, value| annotations[key.as_str()] != *value);
        let mut patch = json!({"metadata": {"uid": uid(new)}});
        let min_ready = number(deployment, "/spec/minReadySeconds", 0);
        let is_other = number(new, "/spec/minReadySeconds", 0) != min_ready;
        if is_other {
            patch["spec"]["minReadySeconds"] = min_ready.into();
        }
        if !wanted.is_empty() || is_other {
            patch["metadata"]["annotations"] = wanted.into();
            plan.merge(kind("ReplicaSet"), new, patch);
        }
    }
}

/// Which template a set is of.
pub(super) fn revision(set: &Value) -> i64 {
    annotation(set, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The sizes that a set notes of its deployment.
pub(super) fn sizes(deployment: &Value) -> [(String, Value); 2] {
    let wanted = replicas(deployment);
    [
        (DESIRED.to_owned(), wanted.to_string().into()),
        (MOST.to_owned(), (wanted + Slack::of(deployment).surge).to_string().into()),
    ]
}

fn inherited(deployment: &Value) -> Map<String, Value> {
    let all = deployment["metadata"]["annotations"].as_object().into_iter().flatten();
    all.filter(|(key, _)| !OWN_ANNOTATIONS.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
