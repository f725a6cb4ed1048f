//! How much pods matter (`Priority`).

use serde_json::{Value, json};

use super::Review;
use crate::failure::Failure;

const GROUP: &str = "scheduling.k8s.io";

/// Gives a pod the number that its class stands for.
pub(super) fn complete(review: &mut Review<'_>) -> Result<(), Failure> {
    if !review.is_new_pod() {
        return Ok(());
    }
    let name = review.object["spec"]["priorityClassName"].as_str().unwrap_or_default().to_owned();
    let class = match name.as_str() {
        "" => default_class(review)?,
        name => {
            let class = review.cluster.object(GROUP, "priorityclasses", "", name);
            let missing =
                || review.forbidden(&format!("no PriorityClass with name {name} was found"));
            Some(class.ok_or_else(missing)?)
        }
    };
    let nothing = json!({"value": 0});
    let class = class.as_ref().unwrap_or(&nothing);
    let priority = class["value"].as_i64().unwrap_or_default();
    let preemption = class["preemptionPolicy"].as_str().unwrap_or("PreemptLowerPriority");
    let spec = &review.object["spec"];
    if let Some(own) = spec["priority"].as_i64().filter(|own| *own != priority) {
        return Err(review.forbidden(&format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority \
             admission controller computed {priority} from the given PriorityClass name"
        )));
    }
    if let Some(own) = spec["preemptionPolicy"].as_str().filter(|own| *own != preemption) {
        return Err(review.forbidden(&format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority \
             admission controller computed {preemption} from the given PriorityClass name"
        )));
    }
    let spec = &mut review.object["spec"];
    spec["priority"] = priority.into();
    spec["preemptionPolicy"] = preemption.into();
    if let (true, Some(name)) = (name.is_empty(), class["metadata"]["name"].as_str()) {
        spec["priorityClassName"] = name.into();
    }
    Ok(())
}

/// The class of pods that name none: of several, the one that matters least.
fn default_class(review: &Review<'_>) -> Result<Option<Value>, Failure> {
    let classes = review.cluster.objects(GROUP, "priorityclasses", "", "globalDefault")?;
    let defaults = classes.into_iter().filter(|class| class["globalDefault"] == true);
    Ok(defaults.min_by_key(|class| class["value"].as_i64()))
}

/// There is one class for pods that name none.
pub(super) fn check(review: &mut Review<'_>) -> Result<(), Failure> {
    if !review.is(GROUP, "PriorityClass") || review.object["globalDefault"] != true {
        return Ok(());
    }
    let Some(known) = default_class(review)? else { return Ok(()) };
    let other = known["metadata"]["name"].as_str().unwrap_or_default();
    match other == review.name() {
        true => Ok(()),
        false => Err(review.forbidden(&format!(
            "PriorityClass {other} is already marked as default. Only one default can exist"
        ))),
    }
}
