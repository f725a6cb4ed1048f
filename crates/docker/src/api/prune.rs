//! Removal of what nobody uses.

use serde_json::{Value, json};
use store::Removed;

use super::call::{Answer, Call, json};
use crate::filter::{Filters, prune_filter, switch};

/// What all kinds are filtered by.
const FILTERS: &[&str] = &["label", "label!", "until"];

/// `POST /containers/prune`
pub(super) fn containers(call: &mut Call<'_, '_>) -> Answer {
    let filter = prune_filter(&call.filters(FILTERS)?)?;
    let pruned = call.engine().prune_containers(&filter)?;
    json(200, &told("ContainersDeleted", pruned.removed.into(), Some(pruned.bytes)))
}

/// `POST /images/prune`
pub(super) fn images(call: &mut Call<'_, '_>) -> Answer {
    let filters = call.filters(&["dangling", "label", "label!", "until"])?;
    let all = !switch(&filters, "dangling", true)?;
    let pruned = call.engine().prune_images(all, &prune_filter(&filters)?)?;
    let removed: Vec<Value> = pruned.removed.iter().map(removed).collect();
    json(200, &told("ImagesDeleted", removed.into(), Some(pruned.bytes)))
}

/// One step of an image's removal.
pub(super) fn removed(removed: &Removed) -> Value {
    match removed {
        Removed::Untagged(name) => json!({ "Untagged": name }),
        Removed::Deleted(digest) => json!({ "Deleted": digest.to_string() }),
    }
}

/// `POST /volumes/prune`
pub(super) fn volumes(call: &mut Call<'_, '_>) -> Answer {
    let filters = call.filters(&["all", "label", "label!"])?;
    // Before version 1.42, those with names were removed, too.
    let all = switch(&filters, "all", call.version < 42)?;
    let pruned = call.engine().prune_volumes(all, &prune_filter(&filters)?)?;
    json(200, &told("VolumesDeleted", pruned.removed.into(), Some(pruned.bytes)))
}

/// `POST /networks/prune`
pub(super) fn networks(call: &mut Call<'_, '_>) -> Answer {
    let filter = prune_filter(&call.filters(FILTERS)?)?;
    let removed = call.engine().prune_networks(&filter)?;
    json(200, &told("NetworksDeleted", removed.into(), None))
}

/// `POST /build/prune`: what builds remember has no labels and no names.
pub(super) fn builds(call: &mut Call<'_, '_>) -> Answer {
    let filters: Filters = call.filters(&["all"])?;
    let all = call.flag("all") || switch(&filters, "all", false)?;
    let pruned = call.engine().prune_builds(all)?;
    json(200, &told("CachesDeleted", pruned.removed.into(), Some(pruned.bytes)))
}

/// Go's clients show null for what is empty.
fn told(name: &str, removed: Value, bytes: Option<u64>) -> Value {
    let is_empty = removed.as_array().is_some_and(Vec::is_empty);
    let mut told = json!({ name: if is_empty { Value::Null } else { removed } });
    if let Some(bytes) = bytes {
        told["SpaceReclaimed"] = bytes.into();
    }
    told
}
