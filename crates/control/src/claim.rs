//! Which objects belong to whom: those that a selector selects and nobody controls are adopted, those
//! that it no longer selects are let go.

use client::{Cache, Object, kind};
use serde_json::{Value, json};

use crate::object::{
    controller, is_ending, items, namespace, owner_reference, selector, selects, uid,
};
use crate::plan::Plan;

/// The objects of a kind that are an owner's, and what is to be done to make them so.
pub(crate) fn claim(cache: &Cache, owner: &Object, of: &str, plan: &mut Plan) -> Vec<Object> {
    let (of, selector) = (kind(of), &selector(owner));
    let mut own = Vec::new();
    for object in cache.owned(of.kind, uid(owner)) {
        if selects(selector, &object) {
            own.push(object);
        } else if !is_ending(owner) && !is_ending(&object) {
            let others: Vec<&Value> = items(&object["metadata"]["ownerReferences"])
                .iter()
                .filter(|reference| reference["uid"] != uid(owner))
                .collect();
            let patch = json!({"metadata": {"uid": uid(&object), "ownerReferences": others}});
            plan.merge(of, &object, patch);
        }
    }
    if is_ending(owner) {
        return own;
    }
    let orphans = cache.owned(of.kind, "").into_iter().filter(|object| {
        namespace(object) == namespace(owner) && !is_ending(object) && selects(selector, object)
    });
    for object in orphans {
        let mut owners = items(&object["metadata"]["ownerReferences"]).to_vec();
        owners.push(owner_reference(owner));
        let patch = json!({"metadata": {"uid": uid(&object), "ownerReferences": owners}});
        plan.merge(of, &object, patch);
    }
    own
}

/// For whom of a kind a change of an object is news: for who controls it or did, and for those that
/// would adopt it.
pub(crate) fn concerned(
    cache: &Cache,
    owners: &'static str,
    change: &client::Change,
) -> Vec<client::Key> {
    let mut found = Vec::new();
    for object in [&change.before, &change.now].into_iter().flatten() {
        if let Some(owner) = controller(object).filter(|owner| owner["kind"] == owners) {
            let name = owner["name"].as_str().unwrap_or_default();
            found.push(client::Key::new(owners, namespace(object), name));
        }
    }
    if let Some(now) = change.now.as_ref().filter(|now| controller(now).is_none()) {
        let all = cache.list(owners, namespace(now));
        let adopting = all.iter().filter(|owner| selects(&selector(owner), now));
        found.extend(adopting.map(|owner| client::Key::of(owners, owner)));
    }
    found.dedup();
    found
}
