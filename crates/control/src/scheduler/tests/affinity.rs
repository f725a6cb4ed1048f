//! Pods that want to be near others, or far.

use serde_json::{Value, json};

use super::{World, map, on, pod, with};

const ZONE: &str = "zone";

/// Two zones of two nodes.
fn world() -> World {
    World::of(&[("a1", "zone=a"), ("a2", "zone=a"), ("b1", "zone=b"), ("b2", "zone=b")])
}

fn term(labels: &str, topology: &str) -> Value {
    json!({"labelSelector": {"matchLabels": map(labels)}, "topologyKey": topology})
}

fn required(kind: &str, terms: &[Value]) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

fn near(labels: &str, topology: &str) -> Value {
    required("podAffinity", &[term(labels, topology)])
}

fn far(labels: &str, topology: &str) -> Value {
    required("podAntiAffinity", &[term(labels, topology)])
}

#[test]
fn near_means_the_same_value_of_the_topology() {
    let mut world = world();
    world.tell("Pod", &on(pod("db", "1", "app=db"), "b1"));
    let placed = world.place(&with(pod("x", "1", ""), &near("app=db", ZONE))).unwrap();
    assert!(placed.starts_with('b'));
    let placed = world.place(&with(pod("y", "1", ""), &near("app=db", "kubernetes.io/hostname")));
    assert_eq!(placed.unwrap(), "b1");
    let words = "0/4 nodes are available: 4 node(s) didn't match pod affinity rules.";
    assert_eq!(world.refuse(&with(pod("z", "1", ""), &near("app=gone", ZONE))), words);
    assert_eq!(world.remedy("z"), "the pods of its affinity by zone on a1");
    // A topology that no node has is nowhere.
    assert_eq!(world.refuse(&with(pod("w", "1", ""), &near("app=db", "rack"))), words);
    // Every term must be met, by pods that all terms mean.
    world.tell("Pod", &on(pod("web", "1", "app=web"), "b1"));
    let both = required("podAffinity", &[term("app=db", ZONE), term("app=web", ZONE)]);
    assert_eq!(world.refuse(&with(pod("v", "1", ""), &both)), words);
    world.tell("Pod", &on(pod("more", "1", "app=db,tier=x"), "a1"));
    let both = required("podAffinity", &[term("app=db", ZONE), term("tier=x", ZONE)]);
    assert!(world.place(&with(pod("u", "1", ""), &both)).unwrap().starts_with('a'));
}

#[test]
fn the_first_of_those_that_gather_may_begin_anywhere() {
    let mut world = world();
    let first = world.place(&with(pod("x", "1", "app=x"), &near("app=x", ZONE))).unwrap();
    for name in ["y", "z"] {
        let next = world.place(&with(pod(name, "1", "app=x"), &near("app=x", ZONE))).unwrap();
        assert_eq!(next[..1], first[..1]);
    }
}

#[test]
fn far_holds_both_ways() {
    let mut world = world();
    let words = "0/4 nodes are available: 4 node(s) didn't match pod anti-affinity rules.";
    let first = world.place(&with(pod("x", "1", "app=x"), &far("app=x", ZONE))).unwrap();
    let second = world.place(&with(pod("y", "1", "app=x"), &far("app=x", ZONE))).unwrap();
    assert_ne!(first[..1], second[..1]);
    // A pod that says nothing is kept away by those that do.
    let kept =
        "0/4 nodes are available: 4 node(s) didn't satisfy existing pods anti-affinity rules.";
    assert_eq!(world.refuse(&pod("z", "1", "app=x")), kept);
    assert_eq!(world.remedy("z"), "no pod with anti-affinity to it on a1");
    world.place(&pod("w", "1", "app=w")).unwrap();
    world.tell("Pod", &on(pod("v", "1", "app=v"), "a1"));
    world.tell("Pod", &on(pod("u", "1", "app=v"), "b1"));
    assert_eq!(world.refuse(&with(pod("t", "1", ""), &far("app=v", ZONE))), words);
    // When one leaves there is room again.
    world.remove("Pod", &pod("u", "1", "app=v"));
    assert_eq!(world.decide().len(), 1);
}

#[test]
fn namespaces_by_name_and_by_label() {
    let mut world = world();
    for name in ["dev", "prod"] {
        let object = json!({"metadata": {"name": name, "labels": {"stage": name}}});
        world.tell("Namespace", &object);
    }
    let mut other = on(pod("db", "1", "app=db"), "b1");
    other["metadata"]["namespace"] = "prod".into();
    world.tell("Pod", &other);
    let mut own = term("app=db", ZONE);
    let refused = with(pod("x", "1", ""), &required("podAffinity", std::slice::from_ref(&own)));
    assert!(world.refuse(&refused).contains("pod affinity rules"));
    own["namespaces"] = json!(["prod"]);
    let named = with(pod("y", "1", ""), &required("podAffinity", std::slice::from_ref(&own)));
    assert!(world.place(&named).unwrap().starts_with('b'));
    let mut own = term("app=db", ZONE);
    own["namespaceSelector"] = json!({"matchLabels": {"stage": "prod"}});
    let selected = with(pod("z", "1", ""), &required("podAffinity", std::slice::from_ref(&own)));
    assert!(world.place(&selected).unwrap().starts_with('b'));
    own["namespaceSelector"] = json!({});
    let all = with(pod("w", "1", ""), &required("podAffinity", std::slice::from_ref(&own)));
    assert!(world.place(&all).unwrap().starts_with('b'));
    // A namespace that changes its label is another one.
    own["namespaceSelector"] = json!({"matchLabels": {"stage": "dev"}});
    let later = with(pod("v", "1", ""), &required("podAffinity", &[own]));
    assert!(world.refuse(&later).contains("pod affinity rules"));
    world.tell("Namespace", &json!({"metadata": {"name": "prod", "labels": {"stage": "dev"}}}));
    world.tell("Pod", &later);
    assert_eq!(world.decide().len(), 2, "the first one is tried again, too");
    assert_eq!(world.scheduler.explain("a", "v"), None);
}

#[test]
fn keys_whose_values_are_the_pods_own() {
    let mut world = world();
    world.tell("Pod", &on(pod("old", "1", "app=x,v=1"), "a1"));
    let mut same = term("app=x", ZONE);
    same["matchLabelKeys"] = json!(["v"]);
    let object = with(pod("x", "1", "app=x,v=2"), &required("podAntiAffinity", &[same]));
    // Only pods of its own version keep it away.
    world.tell("Pod", &on(pod("new", "1", "app=x,v=2"), "b1"));
    assert!(world.place(&object).unwrap().starts_with('a'));
    let mut other = term("app=x", ZONE);
    other["mismatchLabelKeys"] = json!(["v"]);
    let object = with(pod("y", "1", "app=x,v=2"), &required("podAntiAffinity", &[other]));
    world.remove("Pod", &pod("x", "1", ""));
    assert!(world.place(&object).unwrap().starts_with('b'));
}

#[test]
fn a_term_without_a_selector_means_nobody() {
    let mut world = world();
    world.tell("Pod", &on(pod("p", "1", "app=x"), "a1"));
    let nobody = required("podAntiAffinity", &[json!({"topologyKey": ZONE})]);
    world.place(&with(pod("x", "1", ""), &nobody)).unwrap();
    let everybody = json!({"topologyKey": ZONE, "labelSelector": {}});
    let object = with(pod("y", "1", ""), &required("podAntiAffinity", &[everybody]));
    world.remove("Pod", &pod("x", "1", ""));
    assert!(world.place(&object).unwrap().starts_with('b'));
}

#[test]
fn what_is_preferred_decides_among_equals() {
    let preferred = |kind: &str, labels: &str| {
        json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "podAffinityTerm": term(labels, ZONE)}]}}})
    };
    let mut world = world();
    world.tell("Pod", &on(pod("db", "0", "app=db"), "b1"));
    let placed = world.place(&with(pod("x", "0", ""), &preferred("podAffinity", "app=db")));
    assert!(placed.unwrap().starts_with('b'));
    let placed = world.place(&with(pod("y", "0", ""), &preferred("podAntiAffinity", "app=db")));
    assert!(placed.unwrap().starts_with('a'));
    // Pods that are there have preferences about those that come.
    let fan = with(pod("fan", "0", "app=fan"), &preferred("podAffinity", "app=star"));
    world.tell("Pod", &on(fan, "a2"));
    assert!(world.place(&pod("star", "0", "app=star")).unwrap().starts_with('a'));
    let foe = with(pod("foe", "0", "app=foe"), &preferred("podAntiAffinity", "app=shy"));
    world.tell("Pod", &on(foe, "a2"));
    assert!(world.place(&pod("shy", "0", "app=shy")).unwrap().starts_with('b'));
}
