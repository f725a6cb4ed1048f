//! How long pods stay on nodes that are not well (`DefaultTolerationSeconds`).

use serde_json::json;

use super::Review;
use crate::cluster::items;
use crate::failure::Failure;

/// How long a pod stays, in seconds.
const SECONDS: i64 = 300;

pub(super) fn complete(review: &mut Review<'_>) -> Result<(), Failure> {
    if !review.is_new_pod() {
        return Ok(());
    }
    let spec = &mut review.object["spec"];
    let mut tolerations = items(&spec["tolerations"]).to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerates = tolerations.iter().any(|own| {
            let of_all = own["key"].as_str().unwrap_or_default().is_empty();
            let effect = own["effect"].as_str().unwrap_or_default();
            (own["key"] == key || of_all) && matches!(effect, "" | "NoExecute")
        });
        if !tolerates {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": SECONDS,
            }));
        }
    }
    spec["tolerations"] = tolerations.into();
    Ok(())
}
