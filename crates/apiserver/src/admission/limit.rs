//! What containers, pods and claims of a namespace ask for at least and at most, and if they say
//! nothing (`LimitRanger`).

use objects::Quantity;
use serde_json::Value;

use super::Review;
use super::pod::{Amounts, amounts, quantity, total};
use crate::cluster::items;
use crate::failure::Failure;

/// What a pod says of what it was given.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn limits(review: &Review<'_>) -> Result<Vec<Value>, Failure> {
    let is_new = review.old.is_none();
    let is_resize = review.target.subresource == "resize";
    let is_limited = match review.target.resource.kind {
        "Pod" => (is_new && review.target.subresource.is_empty()) || is_resize,
        // A claim grows by an update.
        "PersistentVolumeClaim" => review.target.subresource.is_empty(),
        _ => false,
    };
    // What is to go need not fit any more.
    let is_going = !review.object["metadata"]["deletionTimestamp"].is_null();
    if !is_limited || is_going || !review.target.resource.group.is_empty() {
        return Ok(Vec::new());
    }
    let ranges = review.cluster.objects("", "limitranges", review.namespace(), "")?;
    Ok(ranges.iter().flat_map(|range| items(&range["spec"]["limits"]).to_vec()).collect())
}

/// Gives containers that say nothing what the namespace says.
pub(super) fn complete(review: &mut Review<'_>) -> Result<(), Failure> {
    if !review.is_new_pod() {
        return Ok(());
    }
    let limits = limits(review)?;
    let mut given = Vec::new();
    for limit in limits.iter().filter(|limit| limit["type"] == "Container") {
        for (kind, called) in [("containers", "container"), ("initContainers", "init container")] {
            let containers = review.object["spec"][kind].as_array_mut();
            for container in containers.into_iter().flatten() {
                give(container, limit, called, &mut given);
            }
        }
    }
    if !given.is_empty() {
        let told = format!("LimitRanger plugin set: {}", given.join("; "));
        review.object["metadata"]["annotations"][ANNOTATION] = told.into();
    }
    Ok(())
}

fn give(container: &mut Value, limit: &Value, called: &str, given: &mut Vec<String>) {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    for (what, default, word) in
        [("requests", "defaultRequest", "request"), ("limits", "default", "limit")]
    {
        let mut set = Vec::new();
        for (resource, amount) in limit[default].as_object().into_iter().flatten() {
            if container["resources"][what][resource].is_null() {
                container["resources"][what][resource] = amount.clone();
                set.push(resource.as_str());
            }
        }
        set.sort_unstable();
        if !set.is_empty() {
            given.push(format!("{} {word} for {called} {name}", set.join(", ")));
        }
    }
}

/// Refuses what asks for more or for less.
pub(super) fn check(review: &mut Review<'_>) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for limit in limits(review)? {
        let own = |container: &Value, what: &str| amounts(&container["resources"][what]);
        match (limit["type"].as_str().unwrap_or_default(), review.target.resource.kind) {
            ("Container", "Pod") => {
                for container in super::pod::containers(review.object) {
                    let asked = (own(container, "requests"), own(container, "limits"));
                    compare(&limit, "Container", &asked.0, &asked.1, &mut wrong);
                }
            }
            ("Pod", "Pod") => {
                let asked = (total(review.object, "requests"), total(review.object, "limits"));
                compare(&limit, "Pod", &asked.0, &asked.1, &mut wrong);
            }
            ("PersistentVolumeClaim", "PersistentVolumeClaim") => {
                let asked = amounts(&review.object["spec"]["resources"]["requests"]);
                compare_claim(&limit, &asked, &mut wrong);
            }
            _ => {}
        }
    }
    match &wrong[..] {
        [] => Ok(()),
        [one] => Err(review.forbidden(one)),
        all => Err(review.forbidden(&format!("[{}]", all.join(", ")))),
    }
}

fn bounds(limit: &Value, field: &str) -> Vec<(String, Quantity, String)> {
    let fields = limit[field].as_object().into_iter().flatten();
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    fields.map(|(name, value)| (name.clone(), quantity(value), shown(value))).collect()
}

/// Compares in upstream's words, two spaces included.
fn compare(
    limit: &Value,
    kind: &str,
    requests: &Amounts,
    limits: &Amounts,
    wrong: &mut Vec<String>,
) {
    for (name, least, shown) in bounds(limit, "min") {
        let rule = format!("minimum {name} usage per {kind} is {shown}");
        match (requests.get(&name), limits.get(&name)) {
            (None, _) => wrong.push(format!("{rule}.  No request is specified")),
            (Some(own), _) if *own < least => {
                wrong.push(format!("{rule}, but request is {own}"));
            }
            (_, Some(own)) if *own < least => wrong.push(format!("{rule}, but limit is {own}")),
            _ => {}
        }
    }
    for (name, most, shown) in bounds(limit, "max") {
        let rule = format!("maximum {name} usage per {kind} is {shown}");
        match (requests.get(&name), limits.get(&name)) {
            (_, None) => wrong.push(format!("{rule}.  No limit is specified")),
            (_, Some(own)) if *own > most => wrong.push(format!("{rule}, but limit is {own}")),
            (Some(own), _) if *own > most => wrong.push(format!("{rule}, but request is {own}")),
            _ => {}
        }
    }
    for (name, most, shown) in bounds(limit, "maxLimitRequestRatio") {
        let rule = format!("{name} max limit to request ratio per {kind} is {shown}");
        let is_some = |own: Option<&Quantity>| own.filter(|own| **own != Quantity::ZERO).copied();
        match (is_some(requests.get(&name)), is_some(limits.get(&name))) {
            (None, _) => {
                wrong.push(format!("{rule}, but no request is specified or request is 0"));
            }
            (_, None) => wrong.push(format!("{rule}, but no limit is specified or limit is 0")),
            (Some(request), Some(limit)) => {
                let ratio = limit.milli_value() as f64 / request.milli_value() as f64;
                if ratio > most.milli_value() as f64 / 1000.0 {
                    wrong.push(format!("{rule}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}

fn compare_claim(limit: &Value, asked: &Amounts, wrong: &mut Vec<String>) {
    const KIND: &str = "PersistentVolumeClaim";
    for (name, least, shown) in bounds(limit, "min") {
        let rule = format!("minimum {name} usage per {KIND} is {shown}");
        match asked.get(&name) {
            None => wrong.push(format!("{rule}.  No request is specified")),
            Some(own) if *own < least => wrong.push(format!("{rule}, but request is {own}")),
            Some(_) => {}
        }
    }
    for (name, most, shown) in bounds(limit, "max") {
        let rule = format!("maximum {name} usage per {KIND} is {shown}");
        match asked.get(&name) {
            None => wrong.push(format!("{rule}.  No request is specified")),
            Some(own) if *own > most => wrong.push(format!("{rule}, but request is {own}")),
            Some(_) => {}
        }
    }
}
