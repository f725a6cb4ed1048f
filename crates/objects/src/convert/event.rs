//! Events: in `events.k8s.io` fields have other names, and what is deprecated says so.

use serde_json::Value;

use super::rename;

/// What fields are called in the core, and in `events.k8s.io`.
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

pub(super) fn to_core(object: &mut Value) {
    NAMES.iter().for_each(|(core, other)| rename(object, other, core));
}

pub(super) fn from_core(object: &mut Value) {
    NAMES.iter().for_each(|(core, other)| rename(object, core, other));
}
