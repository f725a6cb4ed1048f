//! Claims, and where their volumes can be.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::{ClaimStep, Decision};
use super::{World, id, on, pod, with};

fn claim(name: &str, class: &str, status: &Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "a", "uid": name},
        "spec": {
            "storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "volumeName": status["volume"],
        },
        "status": {"phase": status["phase"].as_str().unwrap_or("Pending")},
    })
}

fn volume(name: &str, class: &str, size: &str, node: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "storageClassName": class, "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"],
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}},
        },
    })
}

fn class(name: &str, waits: bool, provisioner: &str) -> Value {
    let mode = if waits { "WaitForFirstConsumer" } else { "Immediate" };
    json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode})
}

fn using(name: &str, claim: &str) -> Value {
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]);
    with(pod(name, "1", ""), &json!({"volumes": volumes}))
}

fn world() -> World {
    let mut world = World::of(&[("n", ""), ("m", "")]);
    world.tell("StorageClass", &class("local", true, "cais.example/local"));
    world.tell("StorageClass", &class("static", true, "kubernetes.io/no-provisioner"));
    world.tell("StorageClass", &class("now", false, "cais.example/local"));
    world
}

#[test]
fn claims_that_are_not_ready_refuse_every_node() {
    let helpless = "preemption: 0/2 nodes are available: \
                    2 Preemption is not helpful for scheduling.";
    for (what, object, words) in [
        ("absent", None, "persistentvolumeclaim \"c\" not found"),
        (
            "immediate",
            Some(claim("c", "now", &json!({}))),
            "pod has unbound immediate PersistentVolumeClaims",
        ),
        (
            "lost",
            Some(claim("c", "now", &json!({"phase": "Lost", "volume": "v"}))),
            "persistentvolumeclaim \"c\" bound to non-existent persistentvolume \"v\"",
        ),
    ] {
        let mut world = world();
        object.iter().for_each(|object| world.tell("PersistentVolumeClaim", object));
        let why = world.place(&using("x", "c")).unwrap_err();
        assert_eq!(why.message, format!("0/2 nodes are available: {words}. {helpless}"), "{what}");
        // When it is bound the pod is tried again.
        world.tell("PersistentVolume", &volume("v", "now", "1Gi", "m"));
        let bound = claim("c", "now", &json!({"phase": "Bound", "volume": "v"}));
        world.tell("PersistentVolumeClaim", &bound);
        let bound = Decision::Bind { pod: id("x"), node: "m".to_owned() };
        assert_eq!(world.decide().last(), Some(&bound), "{what}");
    }
    let mut world = world();
    let ephemeral = json!({"volumes": [{"name": "v", "ephemeral": {}}]});
    let words = world.refuse(&with(pod("x", "1", ""), &ephemeral));
    let waits = "waiting for ephemeral volume controller to create the persistentvolumeclaim";
    assert!(words.contains(&format!("{waits} \"x-v\"")), "{words}");
}

#[test]
fn a_bound_volume_says_where() {
    let mut world = world();
    let bound = claim("c", "local", &json!({"phase": "Bound", "volume": "v"}));
    world.tell("PersistentVolumeClaim", &bound);
    let words = world.refuse(&using("x", "c"));
    assert!(
        words.contains("2 node(s) unavailable due to one or more pvc(s) bound to non-existent")
    );
    world.tell("PersistentVolume", &volume("v", "local", "1Gi", "m"));
    assert_eq!(world.decide(), [Decision::Bind { pod: id("x"), node: "m".to_owned() }]);
    world.tell("Pod", &on(pod("p", "3", ""), "m"));
    assert_eq!(
        world.refuse(&using("y", "c")),
        "0/2 nodes are available: 1 Insufficient cpu, \
         1 node(s) didn't match PersistentVolume's node affinity."
    );
    let mut zoned = volume("v", "local", "1Gi", "n");
    zoned["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "z__y"});
    zoned["spec"]["nodeAffinity"] = json!(null);
    world.tell("PersistentVolume", &zoned);
    let mut elsewhere = super::node("n", "topology.kubernetes.io/zone=x");
    world.tell("Node", &elsewhere);
    world.decide();
    assert!(world.refuse(&using("z", "c")).contains("1 node(s) had no available volume zone"));
    elsewhere["metadata"]["labels"]["topology.kubernetes.io/zone"] = "y".into();
    world.tell("Node", &elsewhere);
    assert!(world.scheduler.next(world.now).is_some());
}

#[test]
fn a_claim_that_waits_gets_its_volume_with_its_pod() {
    let mut world = world();
    world.tell("PersistentVolumeClaim", &claim("c", "local", &json!({})));
    world.tell("Pod", &using("x", "c"));
    let decided = world.decide();
    let [Decision::Provide { node, steps, .. }] = decided.as_slice() else { panic!("{decided:?}") };
    assert_eq!(*steps, [ClaimStep::Make { claim: "c".to_owned() }]);
    let made = claim("c", "local", &json!({"phase": "Bound", "volume": "v"}));
    world.tell("PersistentVolumeClaim", &made);
    assert_eq!(world.decide(), [Decision::Bind { pod: id("x"), node: node.clone() }]);
    // One that gets none is tried again after ten minutes.
    world.tell("PersistentVolumeClaim", &claim("d", "local", &json!({})));
    world.tell("Pod", &using("y", "d"));
    assert!(matches!(world.decide().as_slice(), [Decision::Provide { .. }]));
    world.now += Duration::from_secs(599);
    assert_eq!(world.decide(), []);
    assert_eq!(world.scheduler.next_time(world.now), Some(world.now + Duration::from_secs(1)));
    world.now += Duration::from_secs(1);
    assert_eq!(world.decide(), []);
    world.now += Duration::from_secs(1);
    assert!(matches!(world.decide().as_slice(), [Decision::Provide { .. }]));
}

#[test]
fn volumes_that_are_there_are_taken_smallest_first_and_once() {
    let mut world = world();
    world.tell("PersistentVolume", &volume("large", "static", "9Gi", "m"));
    world.tell("PersistentVolume", &volume("small", "static", "1Gi", "m"));
    world.tell("PersistentVolume", &volume("tiny", "static", "1Mi", "n"));
    for (pod, name, taken) in [("x", "c", "small"), ("y", "d", "large")] {
        world.tell("PersistentVolumeClaim", &claim(name, "static", &json!({})));
        world.tell("Pod", &using(pod, name));
        let step = ClaimStep::Take { claim: name.to_owned(), volume: taken.to_owned() };
        let steps = vec![step];
        let wanted = Decision::Provide { pod: id(pod), node: "m".to_owned(), steps };
        assert_eq!(world.decide(), [wanted]);
    }
    world.tell("PersistentVolumeClaim", &claim("e", "static", &json!({})));
    assert_eq!(
        world.refuse(&using("z", "e")),
        "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."
    );
    // A pod that goes gives its volume back.
    world.remove("Pod", &using("y", "d"));
    world.tell("PersistentVolume", &volume("more", "static", "9Gi", "n"));
    assert!(matches!(world.decide().as_slice(), [Decision::Provide { .. }]));
}

#[test]
fn a_claim_for_one_pod() {
    let mut world = world();
    let mut own = claim("c", "local", &json!({"phase": "Bound", "volume": "v"}));
    own["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
    world.tell("PersistentVolumeClaim", &own);
    world.tell("PersistentVolume", &volume("v", "local", "1Gi", "m"));
    assert_eq!(world.place(&using("x", "c")).unwrap(), "m");
    let words = world.refuse(&using("y", "c"));
    assert_eq!(
        words,
        "0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name and \
         ReadWriteOncePod access mode."
    );
    world.remove("Pod", &using("x", "c"));
    assert_eq!(world.decide(), [Decision::Bind { pod: id("y"), node: "m".to_owned() }]);
}
