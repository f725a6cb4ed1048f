//! Amounts of resources as whole numbers, and what a pod asks for.

use objects::Quantity;
use serde_json::Value;

/// What a container without a request counts as when nodes are compared: a tenth of a processor.
const CPU_MILLI_ASSUMED: i64 = 100;
/// The same of memory, in bytes.
const MEMORY_ASSUMED: i64 = 200 << 20;

/// Amounts of resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of processors.
    pub cpu_milli: i64,
    /// Bytes of memory.
    pub memory_bytes: i64,
    /// Bytes of disk that live as long as a pod.
    pub ephemeral_bytes: i64,
    /// Everything else, by name and in the order of names: huge pages, devices.
    pub scalars: Vec<(Box<str>, i64)>,
}

/// The number of a quantity, which JSON may hold as a number, too; what is no quantity is nothing.
fn quantity(value: &Value) -> Quantity {
    match value {
        Value::String(text) => text.parse().unwrap_or(Quantity::ZERO),
        Value::Number(number) => number.to_string().parse().unwrap_or(Quantity::ZERO),
        _ => Quantity::ZERO,
    }
}

/// How many pods a node may have.
pub(super) fn pods_max(allocatable: &Value) -> i64 {
    quantity(&allocatable["pods"]).value()
}

impl Resources {
    /// Reads a `ResourceList`, without the number of pods.
    #[must_use]
    pub fn parse(list: &Value) -> Self {
        let mut all = Self::default();
        for (name, value) in list.as_object().into_iter().flatten() {
            if name != "pods" {
                let amount = quantity(value);
                *all.amount(name) =
                    if name == "cpu" { amount.milli_value() } else { amount.value() };
            }
        }
        all
    }

    /// The place of a resource, made if there is none.
    fn amount(&mut self, name: &str) -> &mut i64 {
        match name {
            "cpu" => &mut self.cpu_milli,
            "memory" => &mut self.memory_bytes,
            "ephemeral-storage" => &mut self.ephemeral_bytes,
            _ => {
                let found = self.scalars.binary_search_by(|(own, _)| (**own).cmp(name));
                let at = found.unwrap_or_else(|at| {
                    self.scalars.insert(at, (name.into(), 0));
                    at
                });
                &mut self.scalars[at].1
            }
        }
    }

    /// The amount of a resource: thousandths of processors, or whole units.
    #[must_use]
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu_milli,
            "memory" => self.memory_bytes,
            "ephemeral-storage" => self.ephemeral_bytes,
            _ => {
                let found = self.scalars.binary_search_by(|(own, _)| (**own).cmp(name));
                found.map_or(0, |at| self.scalars[at].1)
            }
        }
    }

    /// Every resource that is not zero, by name.
    pub fn each(&self) -> impl Iterator<Item = (&str, i64)> {
        let plain = [
            ("cpu", self.cpu_milli),
            ("memory", self.memory_bytes),
            ("ephemeral-storage", self.ephemeral_bytes),
        ];
        let scalars = self.scalars.iter().map(|(name, amount)| (&**name, *amount));
        plain.into_iter().chain(scalars).filter(|(_, amount)| *amount != 0)
    }

    /// Adds others `times` times.
    pub(super) fn add(&mut self, other: &Self, times: i64) {
        self.cpu_milli = self.cpu_milli.saturating_add(other.cpu_milli.saturating_mul(times));
        self.memory_bytes =
            self.memory_bytes.saturating_add(other.memory_bytes.saturating_mul(times));
        self.ephemeral_bytes =
            self.ephemeral_bytes.saturating_add(other.ephemeral_bytes.saturating_mul(times));
        for (name, amount) in &other.scalars {
            let own = self.amount(name);
            *own = own.saturating_add(amount.saturating_mul(times));
        }
    }

    /// Takes the larger of each.
    fn rise_to(&mut self, other: &Self) {
        for (name, amount) in other.each() {
            let own = self.amount(name);
            *own = (*own).max(amount);
        }
    }
}

/// What a pod asks for, as upstream's `PodRequests` counts it: the larger of what its containers ask
/// for together and of what any moment of its initialization needs; what is asked for the pod as a
/// whole goes first, and its overhead comes on top.
pub(super) fn of_pod(pod: &Value) -> Resources {
    sum(pod, false)
}

/// The same where a container without a request counts as one that asks for a little.
pub(super) fn of_pod_assumed(pod: &Value) -> (i64, i64) {
    let all = sum(pod, true);
    (all.cpu_milli, all.memory_bytes)
}

fn sum(pod: &Value, assumes: bool) -> Resources {
    let spec = &pod["spec"];
    let list = |field: &str| spec[field].as_array().into_iter().flatten();
    let status = |field: &str| pod["status"][field].as_array().map_or(&[][..], Vec::as_slice);
    let mut all = Resources::default();
    for container in list("containers") {
        all.add(&of_container(container, status("containerStatuses"), assumes), 1);
    }
    let mut sidecars = Resources::default();
    let mut highest = Resources::default();
    for container in list("initContainers") {
        let mut own = of_container(container, status("initContainerStatuses"), assumes);
        if container["restartPolicy"] == "Always" {
            all.add(&own, 1);
            sidecars.add(&own, 1);
            own = sidecars.clone();
        } else {
            own.add(&sidecars, 1);
        }
        highest.rise_to(&own);
    }
    all.rise_to(&highest);
    let whole = Resources::parse(&spec["resources"]["requests"]);
    for (name, amount) in whole.each() {
        *all.amount(name) = amount;
    }
    all.add(&Resources::parse(&spec["overhead"]), 1);
    all
}

/// While a container is resized it counts as the larger of what it asks for and what it has.
fn of_container(container: &Value, statuses: &[Value], assumes: bool) -> Resources {
    let requests = &container["resources"]["requests"];
    let mut own = Resources::parse(requests);
    if let Some(status) = statuses.iter().find(|status| status["name"] == container["name"]) {
        own.rise_to(&Resources::parse(&status["resources"]["requests"]));
        own.rise_to(&Resources::parse(&status["allocatedResources"]));
    }
    if assumes && requests["cpu"].is_null() {
        own.cpu_milli = own.cpu_milli.max(CPU_MILLI_ASSUMED);
    }
    if assumes && requests["memory"].is_null() {
        own.memory_bytes = own.memory_bytes.max(MEMORY_ASSUMED);
    }
    own
}

/// An amount as people write it.
pub(super) fn show(name: &str, amount: i64) -> String {
    match name {
        "cpu" => Quantity::milli(amount).to_string(),
        "memory" | "ephemeral-storage" => binary(amount),
        _ if name.starts_with("hugepages-") => binary(amount),
        _ => Quantity::units(amount).to_string(),
    }
}

/// Bytes in the largest unit of 1024 that needs no fraction.
fn binary(amount: i64) -> String {
    let units = ["Ki", "Mi", "Gi", "Ti", "Pi"];
    let power = (amount.trailing_zeros() / 10).min(5) as usize;
    match power {
        _ if amount == 0 => "0".to_owned(),
        0 => amount.to_string(),
        power => format!("{}{}", amount >> (10 * power), units[power - 1]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(cpu: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn a_pod_asks_for_the_worst_moment_of_its_life() {
        let sidecar = json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}});
        for (what, spec, cpu) in [
            ("a sum", json!({"containers": [container("1"), container("500m")]}), 1500),
            (
                "a larger start",
                json!({"containers": [container("1")], "initContainers": [container("3")]}),
                3000,
            ),
            (
                "a sidecar beside what starts after it",
                json!({"containers": [container("1")],
                    "initContainers": [sidecar.clone(), container("3")]}),
                4000,
            ),
            (
                "a sidecar that starts last",
                json!({"containers": [container("2")],
                    "initContainers": [container("2"), sidecar.clone()]}),
                3000,
            ),
            (
                "overhead",
                json!({"containers": [container("1")], "overhead": {"cpu": "250m"}}),
                1250,
            ),
            (
                "the pod as a whole",
                json!({"containers": [container("1")], "overhead": {"cpu": "250m"},
                    "resources": {"requests": {"cpu": "4"}}}),
                4250,
            ),
        ] {
            assert_eq!(of_pod(&json!({"spec": spec})).cpu_milli, cpu, "{what}");
        }
    }

    #[test]
    fn a_container_that_shrinks_counts_as_large_as_it_still_is() {
        let pod = json!({"spec": {"containers": [container("1")]}, "status": {
            "containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}});
        assert_eq!(of_pod(&pod).cpu_milli, 2000);
        let bare = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(of_pod_assumed(&bare), (200, 400 << 20));
        assert_eq!(of_pod(&bare), Resources::default());
    }

    #[test]
    fn amounts_are_shown_as_they_are_written() {
        let shown = [show("cpu", 1500), show("cpu", 2000), show("memory", 3 << 29)];
        assert_eq!(shown, ["1500m", "2", "1536Mi"]);
        assert_eq!([show("memory", 1000), show("example.com/gpu", 2)], ["1000", "2"]);
    }
}
