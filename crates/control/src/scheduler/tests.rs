//! Placements of small clusters that are written down, and of random ones.

mod affinity;
mod apply;
mod driver;
mod fit;
mod preemption;
mod property;
mod score;
mod server;
mod spread;
mod volume;

use std::sync::Arc;
use std::time::Duration;

use client::{Change, Key, kind};
use serde_json::{Value, json};

use super::{Decision, PodId, Scheduler, Unschedulable};

/// A scheduler, and the objects it has been told of.
pub(super) struct World {
    pub(super) scheduler: Scheduler,
    pub(super) now: Duration,
}

/// `{"a": "b"}` of `a=b,c=d`.
pub(super) fn map(text: &str) -> Value {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A node of 4 processors, 8 GiB and 10 pods with some labels, among them its name.
pub(super) fn node(name: &str, labels: &str) -> Value {
    let mut labels = map(labels);
    labels["kubernetes.io/hostname"] = name.into();
    json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
    })
}

/// A pod that asks for some processors, with labels.
pub(super) fn pod(name: &str, cpu: &str, labels: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "a", "uid": name, "labels": map(labels)},
        "spec": {
            "schedulerName": "default-scheduler",
            "containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}}],
        },
        "status": {"phase": "Pending"},
    })
}

/// The same with more in its specification.
pub(super) fn with(mut object: Value, spec: &Value) -> Value {
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

/// The same on a node.
pub(super) fn on(object: Value, node: &str) -> Value {
    let mut object = with(object, &json!({"nodeName": node}));
    object["status"]["phase"] = "Running".into();
    object
}

impl World {
    pub(super) fn new() -> Self {
        Self { scheduler: Scheduler::new("default-scheduler", 1), now: Duration::from_secs(1000) }
    }

    /// With some nodes of four processors, in zones of their own if they have labels.
    pub(super) fn of(nodes: &[(&str, &str)]) -> Self {
        let mut world = Self::new();
        nodes.iter().for_each(|(name, labels)| world.tell("Node", &node(name, labels)));
        world
    }

    pub(super) fn tell(&mut self, of: &str, object: &Value) {
        self.observe(of, object, true);
    }

    pub(super) fn remove(&mut self, of: &str, object: &Value) {
        self.observe(of, object, false);
    }

    fn observe(&mut self, of: &str, object: &Value, is_there: bool) {
        let object = Arc::new(object.clone());
        let change = Change {
            key: Key::of(kind(of).kind, &object),
            before: None,
            now: is_there.then_some(object),
        };
        self.scheduler.observe(&change, self.now);
    }

    /// All decisions that are to be made now; those for nodes are told back as the API would.
    pub(super) fn decide(&mut self) -> Vec<Decision> {
        std::iter::from_fn(|| self.scheduler.next(self.now)).collect()
    }

    /// Where a new pod goes, or what is said of it.
    pub(super) fn place(&mut self, object: &Value) -> Result<String, Box<Unschedulable>> {
        self.tell("Pod", object);
        match self.scheduler.next(self.now) {
            Some(Decision::Bind { node, .. }) => Ok(node),
            Some(Decision::Unschedulable(why)) => Err(Box::new(why)),
            other => panic!("{other:?}"),
        }
    }

    /// The words of why a new pod goes nowhere, without those about preemption.
    pub(super) fn refuse(&mut self, object: &Value) -> String {
        let why = self.place(object).unwrap_err().message;
        why.split(" preemption: ").next().unwrap_or_default().to_owned()
    }

    /// What is the least that must change for a pod.
    pub(super) fn remedy(&mut self, name: &str) -> String {
        let report = self.scheduler.explain("a", name).unwrap();
        report.remedy.map_or_else(String::new, |remedy| remedy.to_string())
    }
}

pub(super) fn id(name: &str) -> PodId {
    PodId { namespace: "a".to_owned(), name: name.to_owned(), uid: name.to_owned() }
}
