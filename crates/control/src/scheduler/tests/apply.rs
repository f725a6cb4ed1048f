//! What the API is asked to do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Call, Client, Events, Failure, Transport};
use serde_json::{Value, json};

use super::super::Applier;
use super::{World, on, pod, with};

/// Writes down what it is asked, and refuses some.
#[derive(Debug, Default)]
struct Script {
    asked: Mutex<Vec<String>>,
    refused: Option<(&'static str, u16)>,
}

impl Transport for Script {
    fn send(&self, call: &Call) -> Result<Value, Failure> {
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let path = call.parts[2..].join("/");
        let line = match path.ends_with("/events") {
            true => format!("{} {path} {}: {}", call.method, body["reason"], body["message"]),
            false => format!("{} {path} {body}", call.method),
        };
        self.asked.lock().unwrap().push(line);
        match self.refused {
            Some((end, code)) if path.ends_with(end) => {
                Err(Failure { code, reason: String::new(), message: "no".to_owned() })
            }
            _ => Ok(json!({"metadata": {"uid": "u"}})),
        }
    }

    fn watch(&self, _call: &Call) -> Result<Box<dyn Events>, Failure> {
        Err(Failure::unreachable("nothing to watch"))
    }
}

/// Applies everything; gives the calls, and how many pods were refused.
fn drain(world: &mut World, script: Script) -> (Vec<String>, usize) {
    let script = Arc::new(script);
    let client = Client::new(script.clone(), "scheduler");
    let mut applier = Applier::new(client, "default-scheduler");
    let failures = applier.drain(&mut world.scheduler, world.now, Duration::ZERO);
    let asked = script.asked.lock().unwrap().clone();
    (asked, failures.len())
}

#[test]
fn a_pod_is_bound_and_that_is_told() {
    let mut world = World::of(&[("n", "")]);
    world.tell("Pod", &pod("x", "1", ""));
    let (asked, refused) = drain(&mut world, Script::default());
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": "x", "namespace": "a", "uid": "x"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "n"},
    });
    assert_eq!(
        asked,
        [
            format!("POST namespaces/a/pods/x/binding {binding}"),
            "POST namespaces/a/events \"Scheduled\": \"Successfully assigned a/x to n\"".to_owned(),
        ]
    );
    assert_eq!(refused, 0);
}

#[test]
fn what_is_refused_is_tried_again_unless_the_pod_is_gone() {
    for (code, reported) in [(500, 1), (404, 0)] {
        let mut world = World::of(&[("n", "")]);
        world.tell("Pod", &pod("x", "1", ""));
        let script = Script { refused: Some(("binding", code)), ..Script::default() };
        let (asked, refused) = drain(&mut world, script);
        assert_eq!((asked.len(), refused), (1, reported));
        assert_eq!(world.decide(), []);
        world.now += Duration::from_secs(1);
        assert_eq!(drain(&mut world, Script::default()).0.len(), 2);
    }
}

#[test]
fn who_makes_room_is_marked_before_it_is_removed() {
    let mut world = World::of(&[("n", "")]);
    world.tell("Pod", &on(pod("old", "4", ""), "n"));
    world.tell("Pod", &with(pod("x", "4", ""), &json!({"priority": 9})));
    let (asked, refused) = drain(&mut world, Script::default());
    let status = json!({"status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
        "lastTransitionTime": "1970-01-01T00:00:00Z"}], "nominatedNodeName": "n"},
        "metadata": {"uid": "x"}});
    let mark = json!({"status": {"conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": "default-scheduler: preempting to accommodate a higher priority pod",
        "lastTransitionTime": "1970-01-01T00:00:00Z"}]}, "metadata": {"uid": "old"}});
    let delete =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "old"}});
    assert_eq!(
        asked,
        [
            "POST namespaces/a/events \"FailedScheduling\": \
             \"0/1 nodes are available: 1 Insufficient cpu.\""
                .to_owned(),
            format!("PATCH namespaces/a/pods/x/status {status}"),
            format!("PATCH namespaces/a/pods/old/status {mark}"),
            format!("DELETE namespaces/a/pods/old {delete}"),
            "POST namespaces/a/events \"Preempted\": \"Preempted by pod x on node n\"".to_owned(),
        ]
    );
    assert_eq!(refused, 0);
}

#[test]
fn claims_are_given_a_node_or_a_volume() {
    let mut world = World::of(&[("n", "")]);
    for (name, provisioner) in [("made", "x.example/y"), ("taken", "kubernetes.io/no-provisioner")]
    {
        world.tell(
            "StorageClass",
            &json!({"metadata": {"name": name}, "provisioner": provisioner,
                "volumeBindingMode": "WaitForFirstConsumer"}),
        );
        let claim = json!({"metadata": {"name": name, "namespace": "a"},
            "spec": {"storageClassName": name}, "status": {"phase": "Pending"}});
        world.tell("PersistentVolumeClaim", &claim);
    }
    let volume = json!({"metadata": {"name": "v"}, "spec": {"storageClassName": "taken"}});
    world.tell("PersistentVolume", &volume);
    let volumes = json!([
        {"name": "a", "persistentVolumeClaim": {"claimName": "made"}},
        {"name": "b", "persistentVolumeClaim": {"claimName": "taken"}}]);
    world.tell("Pod", &with(pod("x", "1", ""), &json!({"volumes": volumes})));
    let (asked, _) = drain(&mut world, Script::default());
    assert_eq!(
        asked,
        [
            "PATCH namespaces/a/persistentvolumeclaims/made \
             {\"metadata\":{\"annotations\":{\"volume.kubernetes.io/selected-node\":\"n\"}}}",
            "GET namespaces/a/persistentvolumeclaims/taken null",
            "PATCH persistentvolumes/v {\"spec\":{\"claimRef\":{\"apiVersion\":\"v1\",\"kind\":\
             \"PersistentVolumeClaim\",\"namespace\":\"a\",\"name\":\"taken\",\"uid\":\"u\"}}}",
        ]
    );
}

#[test]
fn the_same_event_is_counted() {
    let mut world = World::of(&[("n", "")]);
    let script = Arc::new(Script::default());
    let mut applier = Applier::new(Client::new(script.clone(), "s"), "default-scheduler");
    for labels in ["v=1", "v=2"] {
        world.tell("Pod", &pod("x", "5", labels));
        applier.drain(&mut world.scheduler, world.now, Duration::ZERO);
        world.now += Duration::from_secs(20);
    }
    let asked = script.asked.lock().unwrap().clone();
    let told: Vec<&String> = asked.iter().filter(|line| line.contains("/events")).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("POST") && told[1].starts_with("PATCH"));
    assert!(told[1].contains("\"count\":2"), "{}", told[1]);
}
