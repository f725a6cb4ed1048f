//! Events about pods, in upstream's words. They are written by a thread of their own: what happens to
//! a pod does not wait for its history.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};

use client::{Client, Patch, kind};
use serde_json::{Value, json};

use crate::field::text;

/// Events that are remembered so that they are counted instead of written again.
const KNOWN_MAX: usize = 4096;
/// The longest message that is written.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Something that has happened.
#[derive(Debug)]
struct Told {
    about: Value,
    is_warning: bool,
    reason: &'static str,
    message: String,
}

/// Takes events.
#[derive(Debug, Clone)]
pub(crate) struct Recorder(Sender<Told>);

impl Recorder {
    /// Begins to write events.
    ///
    /// # Errors
    /// If there can be no thread.
    pub(crate) fn start(client: Client, host: String) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let work = move || write_all(&client, &host, &receiver);
        std::thread::Builder::new().name("events".to_owned()).spawn(work)?;
        Ok(Self(sender))
    }

    /// Something normal has happened to a pod, or to a container of it.
    pub(crate) fn normal(
        &self,
        pod: &Value,
        container: &str,
        reason: &'static str,
        message: String,
    ) {
        self.tell(pod, container, false, reason, message);
    }

    /// Something went wrong.
    pub(crate) fn warn(&self, pod: &Value, container: &str, reason: &'static str, message: String) {
        self.tell(pod, container, true, reason, message);
    }

    fn tell(
        &self,
        pod: &Value,
        container: &str,
        is_warning: bool,
        reason: &'static str,
        mut message: String,
    ) {
        let metadata = &pod["metadata"];
        // What is left of a pod says no more what it is.
        let kind = pod["kind"].as_str().unwrap_or("Pod");
        let mut about = json!({
            "kind": kind, "apiVersion": "v1", "namespace": metadata["namespace"],
            "name": metadata["name"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        });
        if !container.is_empty() {
            about["fieldPath"] = place(pod, container).into();
        }
        while message.len() > MESSAGE_BYTES_MAX {
            message.pop();
        }
        // At the end of the process nobody takes them any more.
        let _ = self.0.send(Told { about, is_warning, reason, message });
    }
}

/// The path of a container in its pod.
fn place(pod: &Value, container: &str) -> String {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let has = |list: &&&str| {
        crate::field::items(&pod["spec"], list).iter().any(|one| text(one, &["name"]) == container)
    };
    let list = lists.iter().find(has).unwrap_or(&"containers");
    format!("spec.{list}{{{container}}}")
}

fn write_all(client: &Client, host: &str, events: &Receiver<Told>) {
    // The names and counts of those that were written.
    let mut known: HashMap<String, (String, u64)> = HashMap::new();
    while let Ok(told) = events.recv() {
        let Told { about, is_warning, reason, message } = &told;
        let key = format!("{about}{is_warning}{reason}{message}");
        let namespace = match text(about, &["namespace"]) {
            // What is in none is told of there.
            "" => "default".to_owned(),
            own => own.to_owned(),
        };
        let now = now();
        if let Some((name, count)) = known.get_mut(&key) {
            *count += 1;
            let patch = json!({"count": count, "lastTimestamp": now});
            let place = (namespace.as_str(), name.as_str());
            if client.patch(kind("Event"), place, "", Patch::Merge, &patch).is_ok() {
                continue;
            }
        }
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let pod = text(about, &["name"]);
        let stamp = jiff::Timestamp::now().as_nanosecond();
        let name = format!("{pod}.{stamp:x}");
        let event = json!({
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": about,
            "reason": reason,
            "message": message,
            "type": if *is_warning { "Warning" } else { "Normal" },
            "source": {"component": "kubelet", "host": host},
            "reportingComponent": "kubelet",
            "reportingInstance": host,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        });
        // What cannot be written down has happened all the same.
        if client.create(kind("Event"), &namespace, &event).is_ok() {
            known.insert(key, (name, 1));
        }
    }
}

fn now() -> String {
    objects::time::seconds(jiff::Timestamp::now().as_second())
}
