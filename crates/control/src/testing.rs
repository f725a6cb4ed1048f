//! A cluster in memory, with a virtual clock and nodes that only say that they run pods.

#![expect(clippy::needless_pass_by_value, reason = "objects are written where they are used")]

use std::sync::Arc;
use std::time::Duration;

use apiserver::{Cluster, InProcess, log::Memory};
use client::{Cache, Client, Key, Object, Reflector, kind};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::control::{Control, KINDS};
use crate::object::{is_ending, name, namespace, stamp, uid};
use crate::plan::Metrics;

/// More steps than this without rest are a mistake.
const STEPS_MAX: usize = 5_000;

#[derive(Debug, Clone, Default)]
pub(crate) struct Measurements(pub(crate) Arc<std::sync::Mutex<Value>>);

impl Metrics for Measurements {
    fn get(&self, _parts: &[&str], _query: &[(&str, &str)]) -> Result<Value, String> {
        match self.0.lock().unwrap().clone() {
            Value::Null => Err("nothing is measured".to_owned()),
            document => Ok(document),
        }
    }
}

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) now: Timestamp,
    pub(crate) measurements: Measurements,
    cache: Cache,
    control: Control<Measurements>,
    reflectors: Vec<Reflector>,
    /// What the nodes do with a new pod.
    pub(crate) health: fn(&Value) -> Health,
}

/// What becomes of a pod on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Ready,
    NotReady,
    Succeeds,
    Fails,
}

impl World {
    pub(crate) fn new() -> Self {
        let cluster = Cluster::new(Arc::new(Memory::default())).unwrap();
        let client = Client::new(Arc::new(InProcess::new(cluster, "system:masters")), "test");
        let (cache, measurements) = (Cache::default(), Measurements::default());
        let control = Control::new(cache.clone(), client.clone(), measurements.clone());
        let reflectors =
            KINDS.iter().map(|of| Reflector::new(client.clone(), kind(of), &[])).collect();
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        let health = |_: &Value| Health::Ready;
        Self { client, now, measurements, cache, control, reflectors, health }
    }

    pub(crate) fn create(&mut self, of: &str, object: Value) -> Value {
        self.client.create(kind(of), "default", &object).unwrap()
    }

    pub(crate) fn node(&mut self, name: &str) {
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        self.client.create(kind("Node"), "", &node).unwrap();
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let merge = client::Patch::Merge;
        self.client.patch(kind("Node"), ("", name), "status", merge, &status).unwrap();
        self.beat(name);
    }

    /// A node says that it is there.
    pub(crate) fn beat(&mut self, name: &str) {
        let lease = kind("Lease");
        let spec = json!({"renewTime": format!("{}.000000Z", self.now.strftime("%Y-%m-%dT%H:%M:%S")),
            "leaseDurationSeconds": 40});
        let made = json!({"metadata": {"name": name}, "spec": spec});
        if self.client.create(lease, "kube-node-lease", &made).is_err() {
            let place = ("kube-node-lease", name);
            let patch = json!({"spec": spec});
            self.client.patch(lease, place, "", client::Patch::Merge, &patch).unwrap();
        }
    }

    pub(crate) fn patch(&mut self, of: &str, name: &str, patch: Value) {
        self.client.patch(kind(of), ("default", name), "", client::Patch::Merge, &patch).unwrap();
    }

    pub(crate) fn delete(&mut self, of: &str, name: &str) {
        self.client.delete(kind(of), ("default", name), &client::Deletion::default()).unwrap();
    }

    pub(crate) fn get(&self, of: &'static str, name: &str) -> Option<Object> {
        self.cache.get(&Key::new(of, "default", name))
    }

    pub(crate) fn list(&self, of: &str) -> Vec<Object> {
        self.cache.list(of, "default")
    }

    pub(crate) fn events(&self) -> Vec<String> {
        let (events, _) = self.client.list(kind("Event"), "default", &[]).unwrap();
        let word = |event: &Value| {
            let text = |field: &str| event[field].as_str().unwrap_or_default();
            format!("{}: {}", text("reason"), text("message"))
        };
        events.iter().map(word).collect()
    }

    /// Lets controllers do what is due, and nodes what they are told, until nothing changes.
    pub(crate) fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            let mut is_busy = self.watch();
            is_busy |= self.control.step(self.now);
            if !is_busy && !self.run_pods() {
                return;
            }
        }
        panic!("it does not come to rest: {:#?}", self.list("Job"));
    }

    /// Lets controllers do what is due, and no pod get anywhere.
    pub(crate) fn plan_only(&mut self) {
        for _ in 0..STEPS_MAX {
            let is_busy = self.watch();
            if !self.control.step(self.now) && !is_busy {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += SignedDuration::try_from(time).unwrap();
    }

    fn watch(&mut self) -> bool {
        let mut changed = false;
        for reflector in &mut self.reflectors {
            for change in reflector.step(&self.cache, Duration::ZERO).unwrap() {
                self.control.observe(&change);
                changed = true;
            }
        }
        changed
    }

    /// Nodes run what is new, and end what is to end; one pod at a time.
    fn run_pods(&mut self) -> bool {
        let pods = self.cache.list("Pod", "default");
        for pod in &pods {
            let place = (namespace(pod), name(pod));
            if is_ending(pod) {
                let how = client::Deletion { grace: Some(0), ..client::Deletion::default() };
                if pod["metadata"]["deletionGracePeriodSeconds"] != 0 {
                    let _ = self.client.delete(kind("Pod"), place, &how);
                    return true;
                }
                continue;
            }
            let health = (self.health)(pod);
            let wanted = match health {
                Health::Ready | Health::NotReady => "Running",
                Health::Succeeds => "Succeeded",
                Health::Fails => "Failed",
            };
            let is_ready = health == Health::Ready;
            if pod["status"]["phase"] == wanted && crate::pod::is_ready(pod) == is_ready {
                continue;
            }
            let mut status = json!({
                "phase": wanted,
                "podIPs": [{"ip": "10.0.0.1"}],
                "podIP": "10.0.0.1",
                "startTime": stamp(self.now),
                "conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" },
                    "lastTransitionTime": stamp(self.now)}],
            });
            if matches!(health, Health::Succeeds | Health::Fails) {
                let code = i64::from(health == Health::Fails);
                status["containerStatuses"] = json!([{"name": "c", "image": "i", "imageID": "i",
                    "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": code, "finishedAt": stamp(self.now)}}}]);
            }
            let patch = json!({"metadata": {"uid": uid(pod)}, "status": status});
            self.client.patch(kind("Pod"), place, "status", client::Patch::Merge, &patch).unwrap();
            return true;
        }
        false
    }
}

/// A template of pods with a label.
pub(crate) fn template(app: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": image}]}})
}
