//! What a pod asks for altogether (`component-helpers`, `resource.PodRequests`).

use std::collections::BTreeMap;

use objects::Quantity;
use serde_json::Value;

use crate::cluster::items;

/// Amounts by the names of resources.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// The amounts in an object; what is no amount counts as nothing.
pub(super) fn amounts(of: &Value) -> Amounts {
    let fields = of.as_object().into_iter().flatten();
    fields.map(|(name, value)| (name.clone(), quantity(value))).collect()
}

/// An amount; what is none counts as nothing.
pub(super) fn quantity(value: &Value) -> Quantity {
    match value {
        Value::String(text) => text.parse().unwrap_or(Quantity::ZERO),
        Value::Number(number) => Quantity::units(number.as_i64().unwrap_or_default()),
        _ => Quantity::ZERO,
    }
}

pub(super) fn add(all: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = all.get(name).map_or(*amount, |own| *own + *amount);
        all.insert(name.clone(), sum);
    }
}

fn at_least(all: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        if all.get(name).is_none_or(|own| own < amount) {
            all.insert(name.clone(), *amount);
        }
    }
}

/// What a pod requests, or may use at most: `requests` or `limits`. Containers that begin it run one
/// after another before the others, except for those that go on.
pub(super) fn total(pod: &Value, what: &str) -> Amounts {
    let spec = &pod["spec"];
    let own = |container: &Value| amounts(&container["resources"][what]);
    let mut all = Amounts::new();
    items(&spec["containers"]).iter().for_each(|container| add(&mut all, &own(container)));
    let (mut lasting, mut highest) = (Amounts::new(), Amounts::new());
    for container in items(&spec["initContainers"]) {
        let mut now = own(container);
        match container["restartPolicy"] == "Always" {
            true => {
                add(&mut lasting, &now);
                now = lasting.clone();
            }
            false => add(&mut now, &lasting),
        }
        at_least(&mut highest, &now);
    }
    add(&mut all, &lasting);
    at_least(&mut all, &highest);
    at_least(&mut all, &amounts(&spec["resources"][what]));
    let overhead = amounts(&spec["overhead"]);
    match what {
        "requests" => add(&mut all, &overhead),
        // What is not limited is not limited by what running it costs.
        _ => overhead.iter().for_each(|(name, amount)| {
            all.entry(name.clone()).and_modify(|own| *own = *own + *amount);
        }),
    }
    all
}

/// All containers that a pod has from its beginning, those that begin it first.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let kinds = ["initContainers", "containers"];
    kinds.into_iter().flat_map(|kind| items(&pod["spec"][kind]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_asks_for_what_its_containers_need_at_a_time() {
        let with = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = with("100m");
        sidecar["restartPolicy"] = "Always".into();
        let cpu = |init: Vec<Value>, main: Vec<Value>| {
            let pod = json!({"spec": {
                "initContainers": init, "containers": main, "overhead": {"cpu": "10m"},
            }});
            total(&pod, "requests")["cpu"].to_string()
        };
        assert_eq!(cpu(vec![], vec![with("1"), with("500m")]), "1510m");
        assert_eq!(cpu(vec![with("2")], vec![with("1")]), "2010m");
        assert_eq!(cpu(vec![sidecar.clone(), with("2")], vec![with("1")]), "2110m");
        assert_eq!(cpu(vec![with("1"), sidecar], vec![with("1")]), "1110m");
    }
}
