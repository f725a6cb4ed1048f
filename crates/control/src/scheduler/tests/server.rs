//! The scheduler with the API server itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apiserver::{Cluster, InProcess, log::Memory};
use client::{Cache, Client, Reflector, kind};
use serde_json::{Value, json};

use super::super::{Applier, KINDS, Scheduler};

/// A server and everything that is needed to schedule its pods.
struct Control {
    client: Client,
    cache: Cache,
    reflectors: Vec<Reflector>,
    scheduler: Scheduler,
    applier: Applier,
    now: Duration,
}

impl Control {
    fn new() -> Self {
        let cluster = Cluster::new(Arc::new(Memory::default())).unwrap();
        let client = Client::new(Arc::new(InProcess::new(cluster, "test")), "test");
        let reflector = |of: &&str| Reflector::new(client.clone(), kind(of), &[]);
        Self {
            reflectors: KINDS.iter().map(reflector).collect(),
            cache: Cache::default(),
            scheduler: Scheduler::new("default-scheduler", 1),
            applier: Applier::new(client.clone(), "default-scheduler"),
            now: Duration::from_secs(1_800_000_000),
            client,
        }
    }

    fn create(&self, of: &str, object: &Value) {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        self.client.create(kind(of), namespace, object).unwrap();
    }

    /// Makes everybody know everything, and decides.
    fn step(&mut self) {
        self.now += Duration::from_secs(20);
        for reflector in &mut self.reflectors {
            loop {
                let changes = reflector.step(&self.cache, Duration::ZERO).unwrap();
                changes.iter().for_each(|change| self.scheduler.observe(change, self.now));
                if changes.is_empty() {
                    break;
                }
            }
        }
        let refused = self.applier.drain(&mut self.scheduler, self.now, self.now);
        assert_eq!(refused, []);
    }

    fn pod(&self, name: &str) -> Value {
        self.client.get(kind("Pod"), "default", name).unwrap()
    }

    /// Reasons of events, and how often they were told.
    fn events(&self, about: &str) -> BTreeMap<String, u64> {
        let (events, _) = self.client.list(kind("Event"), "default", &[]).unwrap();
        let own = events.iter().filter(|event| event["involvedObject"]["name"] == about);
        let told = |event: &Value| {
            let reason = event["reason"].as_str().unwrap().to_owned();
            (reason, event["count"].as_u64().unwrap())
        };
        own.map(told).collect()
    }
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}}]},
    })
}

fn node(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
    })
}

#[test]
fn pods_are_bound_and_refused_and_make_room() {
    let mut control = Control::new();
    control.create("Pod", &pod("x", "3"));
    control.step();
    let condition = control.pod("x")["status"]["conditions"][0].clone();
    assert_eq!(condition["message"], "no nodes available to schedule pods");
    assert_eq!(condition["reason"], "Unschedulable");
    control.create("Node", &node("n"));
    let status = node("n");
    control.client.patch(kind("Node"), ("", "n"), "status", client::Patch::Merge, &status).unwrap();
    control.step();
    let bound = control.pod("x");
    assert_eq!(bound["spec"]["nodeName"], "n");
    let conditions = bound["status"]["conditions"].as_array().unwrap();
    let scheduled: Vec<&Value> =
        conditions.iter().filter(|own| own["type"] == "PodScheduled").collect();
    assert_eq!(scheduled.len(), 1, "{conditions:?}");
    assert_eq!(control.events("x"), map(&[("FailedScheduling", 1), ("Scheduled", 1)]));
    // What is more important takes its place.
    let class = json!({"metadata": {"name": "high"}, "value": 1000});
    control.create("PriorityClass", &class);
    let mut high = pod("y", "3");
    high["spec"]["priority"] = 1000.into();
    high["spec"]["priorityClassName"] = "high".into();
    control.create("Pod", &high);
    control.step();
    assert_eq!(control.pod("y")["status"]["nominatedNodeName"], "n");
    let victim = control.client.get(kind("Pod"), "default", "x");
    if let Ok(victim) = victim {
        assert!(!victim["metadata"]["deletionTimestamp"].is_null());
        let conditions = victim["status"]["conditions"].as_array().unwrap();
        assert!(conditions.iter().any(|own| own["reason"] == "PreemptionByScheduler"));
        let now = client::Deletion { grace: Some(0), ..client::Deletion::default() };
        control.client.delete(kind("Pod"), ("default", "x"), &now).unwrap();
    }
    control.step();
    assert_eq!(control.pod("y")["spec"]["nodeName"], "n");
    assert!(control.events("x").contains_key("Preempted"));
}

fn map(told: &[(&str, u64)]) -> BTreeMap<String, u64> {
    told.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect()
}
