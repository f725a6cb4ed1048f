//! What each score says of a node. The numbers are upstream's formulas, worked out by hand.

use serde_json::{Value, json};

use super::super::cycle::Cycle;
use super::super::score::{Candidate, totals};
use super::{World, node, on, pod, with};

/// A pod of one processor on an empty node of 4 processors and 8 GiB: no taint is disliked (3 × 100),
/// 86 for what stays free (75 of processors, 97 of memory, where nothing asked for is 200 MiB), 87 for
/// balance (a quarter against nothing).
const PLAIN: i64 = 300 + 86 + 87;

/// The scores of a pod on all nodes, in their order.
fn check(what: &str, world: &mut World, object: &Value, expected: &[i64]) {
    world.tell("Pod", object);
    let state = &mut world.scheduler.state;
    let placed = state.pod("a", "x").unwrap().placed.clone();
    let cycle = Cycle::new(state, &placed).unwrap();
    let mut candidates: Vec<Candidate> =
        state.order().iter().map(|slot| Candidate::new(*slot)).collect();
    assert_eq!(totals(state, &cycle, &mut candidates), expected, "{what}");
}

#[test]
fn an_empty_node_is_better_than_a_used_one() {
    let mut world = World::of(&[("n", ""), ("m", "")]);
    check("two of a kind", &mut world, &pod("x", "1", ""), &[PLAIN, PLAIN]);
    world.tell("Pod", &on(pod("p", "2", ""), "m"));
    // On m: 25 of processors, 95 of memory, together 60; three quarters against nothing is 62.
    check("one is used", &mut world, &pod("x", "1", ""), &[PLAIN, 300 + 60 + 62]);
    let bare = with(pod("x", "0", ""), &json!({"containers": [{"name": "c"}]}));
    // It counts as a tenth of a processor, and balance is no matter: 97 and 97, 47 and 95.
    check("it asks for nothing", &mut world, &bare, &[300 + 97, 300 + 71]);
}

#[test]
fn balance_is_a_matter_of_what_is_asked_for() {
    let mut world = World::of(&[("n", "")]);
    let both = |memory: &str| {
        let requests = json!({"cpu": "1", "memory": memory});
        with(pod("x", "1", ""), &json!({"containers": [{"resources": {"requests": requests}}]}))
    };
    check("a quarter of both", &mut world, &both("2Gi"), &[300 + 75 + 100]);
    check("all of the memory", &mut world, &both("8Gi"), &[300 + 37 + 62]);
}

#[test]
fn taints_that_are_only_disliked() {
    let mut world = World::of(&[("n", ""), ("m", ""), ("o", "")]);
    let taint = |key: &str| json!({"key": key, "effect": "PreferNoSchedule"});
    let mut own = node("m", "");
    own["spec"]["taints"] = json!([taint("x")]);
    world.tell("Node", &own);
    let mut own = node("o", "");
    own["spec"]["taints"] = json!([taint("x"), taint("y")]);
    world.tell("Node", &own);
    check("", &mut world, &pod("x", "1", ""), &[PLAIN, PLAIN - 150, PLAIN - 300]);
    let tolerates = json!({"tolerations": [{"key": "y", "operator": "Exists"}]});
    let object = with(pod("x", "1", ""), &tolerates);
    check("tolerated", &mut world, &object, &[PLAIN, PLAIN - 300, PLAIN - 300]);
}

#[test]
fn preferred_nodes() {
    let mut world = World::of(&[("n", "disk=ssd,new=y"), ("m", "disk=ssd"), ("o", "")]);
    let prefer = |weight: i64, key: &str| {
        json!({"weight": weight, "preference": {"matchExpressions": [
            {"key": key, "operator": "Exists"}]}})
    };
    let affinity = json!({"affinity": {"nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [prefer(30, "disk"), prefer(10, "new")]}}});
    let object = with(pod("x", "1", ""), &affinity);
    check("40, 30 and 0", &mut world, &object, &[PLAIN + 200, PLAIN + 150, PLAIN]);
}

#[test]
fn images_that_are_there() {
    let mut world = World::of(&[("n", ""), ("m", "")]);
    let has = |name: &str, image: &str, size: i64| {
        let mut own = node(name, "");
        own["status"]["images"] = json!([{"names": [image, "other"], "sizeBytes": size}]);
        own
    };
    // One of two nodes has it, so that it counts half: (500 - 23) / (1000 - 23).
    world.tell("Node", &has("n", "x:latest", 1000 << 20));
    check("a large one", &mut world, &pod("x", "1", ""), &[PLAIN + 48, PLAIN]);
    world.tell("Node", &has("m", "x:latest", 1000 << 20));
    check("everywhere", &mut world, &pod("x", "1", ""), &[PLAIN + 100, PLAIN + 100]);
    world.tell("Node", &has("n", "x:latest", 20 << 20));
    world.tell("Node", &has("m", "y:latest", 1000 << 20));
    check("a small one", &mut world, &pod("x", "1", ""), &[PLAIN, PLAIN]);
}

#[test]
fn pods_that_are_liked_near() {
    let mut world = World::of(&[("n", "zone=a"), ("m", "zone=b"), ("o", "zone=c")]);
    world.tell("Pod", &on(pod("p", "0", "app=p"), "n"));
    world.tell("Pod", &on(pod("q", "0", "app=q"), "m"));
    let like = |weight: i64, app: &str| {
        json!({"weight": weight, "podAffinityTerm": {
            "topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}}})
    };
    let affinity = json!({"affinity": {
        "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [like(30, "p")]},
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [like(10, "q")]}}});
    // 30, -10 and 0 lie between the extremes; each of p and q counts as a small pod.
    let object = with(pod("x", "1", ""), &affinity);
    let used = 300 + 85 + 87;
    check("", &mut world, &object, &[used + 200, used, PLAIN + 50]);
}

#[test]
fn soft_spreading_by_zone() {
    let mut world = World::of(&[("n", "zone=a"), ("m", "zone=b")]);
    world.tell("Pod", &on(pod("p", "0", "app=x"), "n"));
    let own = json!({"topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "x"}}}]});
    // One pod times ln(2 + 2) is 1, against 0: the better zone has 100 and the other nothing.
    let object = with(pod("x", "1", "app=x"), &own);
    check("", &mut world, &object, &[300 + 85 + 87, PLAIN + 200]);
}
