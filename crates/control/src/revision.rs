//! ControllerRevisions: the templates that a set has had, to go back to.

use client::{Cache, Key, Object, kind};
use serde_json::{Value, json};

use crate::claim::claim;
use crate::object::{label, name, namespace, number, owner_reference, uid};
use crate::plan::Plan;
use crate::template;

/// The label of pods that tells which template they are of.
pub(crate) const HASH: &str = "controller-revision-hash";
/// The label of revisions that tells the hash in their name.
const OWN_HASH: &str = "controller.kubernetes.io/hash";

/// The templates of a set.
#[derive(Debug)]
pub(crate) struct Revisions {
    /// The oldest first.
    pub(crate) all: Vec<Object>,
}

/// What stands in the way of knowing a set's revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is being made; its coming is news.
    Made,
    /// Its name is taken: the number of collisions to note.
    Collision(i64),
}

impl Revisions {
    pub(crate) fn of(cache: &Cache, set: &Object, plan: &mut Plan) -> Self {
        let mut all = claim(cache, set, "ControllerRevision", plan);
        all.sort_by_key(|own| (number(own, "/revision", 0), name(own).to_owned()));
        Self { all }
    }

    /// The revision of the template that a set has now, which is made if it is not there, or made the
    /// latest if it is an earlier one.
    pub(crate) fn update(
        &self,
        cache: &Cache,
        set: &Object,
        plan: &mut Plan,
    ) -> Result<Object, Missing> {
        let wanted = data(set);
        let latest = self.all.last().map_or(0, |own| number(own, "/revision", 0));
        let same = self.all.iter().rev().find(|own| own["data"] == wanted);
        if let Some(same) = same {
            if number(same, "/revision", 0) < latest {
                let patch = json!({"metadata": {"uid": uid(same)}, "revision": latest + 1});
                plan.merge(kind("ControllerRevision"), same, patch);
            }
            return Ok(same.clone());
        }
        let collisions = number(set, "/status/collisionCount", 0);
        let hash = template::hash(&wanted, collisions);
        let own = format!("{}-{hash}", name(set));
        if cache.get(&Key::new("ControllerRevision", namespace(set), &own)).is_some() {
            return Err(Missing::Collision(collisions + 1));
        }
        let mut labels = set["spec"]["selector"]["matchLabels"].clone();
        labels[OWN_HASH] = hash.into();
        let revision = json!({
            "metadata": {
                "name": own,
                "namespace": namespace(set),
                "labels": labels,
                "annotations": set["metadata"]["annotations"],
                "ownerReferences": [owner_reference(set)],
            },
            "data": wanted,
            "revision": latest + 1,
        });
        plan.create(kind("ControllerRevision"), revision, set);
        Err(Missing::Made)
    }

    pub(crate) fn find(&self, name_of: &str) -> Option<&Object> {
        self.all.iter().find(|own| name(own) == name_of)
    }

    /// Removes the oldest ones that nobody needs, beyond those that are kept.
    pub(crate) fn clean_up(&self, set: &Value, pods: &[Object], live: &[&str], plan: &mut Plan) {
        let kept = usize::try_from(number(set, "/spec/revisionHistoryLimit", 10)).unwrap_or(0);
        let is_live =
            |own: &Object| live.contains(&name(own)) || pods.iter().any(|pod| is_of(pod, own));
        let over: Vec<&Object> = self.all.iter().filter(|own| !is_live(own)).collect();
        for own in &over[..over.len().saturating_sub(kept)] {
            plan.delete(kind("ControllerRevision"), own, None, None);
        }
    }
}

/// What the pods of a revision have as their label: the hash alone, or the whole name.
pub(crate) fn hash(revision: &Value) -> &str {
    label(revision, OWN_HASH).unwrap_or_default()
}

fn is_of(pod: &Value, revision: &Value) -> bool {
    let own = label(pod, HASH).unwrap_or_default();
    own == hash(revision) || own == name(revision)
}

/// What a revision keeps: a patch that puts the template back.
fn data(set: &Value) -> Value {
    let mut template = set["spec"]["template"].clone();
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// The template of a revision.
pub(crate) fn template(revision: &Value) -> Value {
    let mut template = revision["data"]["spec"]["template"].clone();
    if let Some(template) = template.as_object_mut() {
        template.shift_remove("$patch");
    }
    template
}
