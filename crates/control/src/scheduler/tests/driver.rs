//! The scheduler as a whole: what comes in, what comes out, and when.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::{Decision, Scheduler};
use super::{World, id, node, on, pod, with};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn gates_are_told_once_and_hold_a_pod_until_they_open() {
    let mut world = World::of(&[("n", "")]);
    let gated = with(pod("x", "1", ""), &json!({"schedulingGates": [{"name": "g"}]}));
    world.tell("Pod", &gated);
    assert_eq!(world.decide(), [Decision::Gated { pod: id("x") }]);
    let patch = Decision::Gated { pod: id("x") }.status_patch("t").unwrap();
    let condition = &patch["status"]["conditions"][0];
    assert_eq!(condition["reason"], "SchedulingGated");
    assert_eq!(condition["message"], "Scheduling is blocked due to non-empty scheduling gates");
    let mut told = gated.clone();
    told["status"]["conditions"] = json!([{
        "type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]);
    world.tell("Pod", &told);
    assert_eq!(world.decide(), []);
    assert_eq!(world.scheduler.next_time(world.now), None);
    world.tell("Pod", &pod("x", "1", ""));
    assert_eq!(world.decide(), [Decision::Bind { pod: id("x"), node: "n".to_owned() }]);
}

#[test]
fn a_pod_is_decided_about_once() {
    let mut world = World::of(&[("n", "")]);
    assert_eq!(world.place(&pod("x", "1", "")).unwrap(), "n");
    // Older news and its own condition do not start it again.
    world.tell("Pod", &pod("x", "1", "late=yes"));
    assert_eq!(world.decide(), []);
    world.tell("Pod", &on(pod("x", "1", "late=yes"), "n"));
    assert_eq!(world.decide(), []);
    assert_eq!(world.scheduler.next_time(world.now), None);
}

#[test]
fn another_pod_of_its_name_takes_nothing_over() {
    let mut world = World::of(&[("n", "")]);
    world.tell("Pod", &on(pod("x", "4", ""), "n"));
    assert!(world.place(&pod("y", "3", "")).is_err());
    // The news of its end was lost: the next of its name is told at once.
    let mut next = pod("x", "1", "");
    next["metadata"]["uid"] = "new".into();
    world.tell("Pod", &next);
    let decided = world.decide();
    assert!(
        decided.contains(&Decision::Bind { pod: id("y"), node: "n".to_owned() }),
        "{decided:?}"
    );
}

#[test]
fn pods_of_others_are_not_touched() {
    let mut world = World::of(&[("n", "")]);
    world.tell("Pod", &with(pod("x", "1", ""), &json!({"schedulerName": "other"})));
    let mut ending = pod("y", "1", "");
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    world.tell("Pod", &ending);
    assert_eq!(world.decide(), []);
}

#[test]
fn what_the_api_refuses_is_undone_and_tried_again() {
    let mut world = World::of(&[("n", "")]);
    assert!(world.place(&pod("x", "4", "")).is_ok());
    assert!(world.place(&pod("y", "4", "")).is_err());
    world.scheduler.refused(&id("x"), world.now);
    // The room is free again: the other one has it, as this one waits.
    assert_eq!(world.decide(), [Decision::Bind { pod: id("y"), node: "n".to_owned() }]);
    world.now += seconds(1);
    assert!(matches!(world.decide().as_slice(), [Decision::Unschedulable(_)]));
    world.remove("Pod", &pod("y", "4", ""));
    assert_eq!(world.decide(), [Decision::Bind { pod: id("x"), node: "n".to_owned() }]);
    // What was removed meanwhile is nobody's business.
    world.remove("Pod", &pod("x", "4", ""));
    world.scheduler.refused(&id("x"), world.now);
    assert_eq!(world.decide(), []);
}

/// What an event makes of a pod that was refused: whether it is tried again.
fn check(what: &str, world: &mut World, refused: &Value, event: (&str, Value), is_tried: bool) {
    assert!(world.place(refused).is_err(), "{what}");
    let (kind, object) = event;
    match object["gone"] == true {
        true => world.remove(kind, &object),
        false => world.tell(kind, &object),
    }
    assert_eq!(!world.decide().is_empty(), is_tried, "{what}");
}

#[test]
fn only_events_that_may_help_wake_a_pod() {
    let gone = |mut object: Value| {
        object["gone"] = true.into();
        object
    };
    let full = || {
        let mut world = World::of(&[("n", "disk=hdd")]);
        world.tell("Pod", &on(pod("p", "4", ""), "n"));
        world
    };
    let large = pod("x", "2", "");
    let selects = with(pod("x", "1", ""), &json!({"nodeSelector": {"disk": "ssd"}}));
    let leaving = gone(pod("p", "4", ""));
    check("a pod leaves", &mut full(), &large, ("Pod", leaving.clone()), true);
    check("one leaves a node that is not meant", &mut full(), &selects, ("Pod", leaving), false);
    check("a node comes", &mut full(), &large, ("Node", node("m", "")), true);
    check("one without the label comes", &mut full(), &selects, ("Node", node("m", "")), false);
    check("one with it comes", &mut full(), &selects, ("Node", node("m", "disk=ssd")), true);
    check("the label comes", &mut full(), &selects, ("Node", node("n", "disk=ssd")), true);
    let mut small = node("m", "");
    small["status"]["allocatable"]["cpu"] = "1".into();
    check("a small node comes", &mut full(), &large, ("Node", small), false);
    let mut grown = node("n", "disk=hdd");
    grown["status"]["allocatable"]["cpu"] = "8".into();
    check("a node grows", &mut full(), &large, ("Node", grown), true);
    let mut news = node("n", "disk=hdd");
    news["status"]["images"] = json!([{"names": ["a"], "sizeBytes": 1}]);
    check("a node has an image", &mut full(), &large, ("Node", news), false);
    check("a pod comes", &mut full(), &large, ("Pod", on(pod("q", "0", ""), "n")), false);
    check("its own status", &mut full(), &large, ("Pod", large.clone()), false);
    check("its own labels", &mut full(), &large, ("Pod", pod("x", "2", "new=yes")), true);
    let service = json!({"metadata": {"name": "s", "namespace": "a"}, "spec": {}});
    check("a service", &mut full(), &large, ("Service", service), false);
}

#[test]
fn the_condition_is_written_when_it_says_something_new() {
    let mut world = World::of(&[]);
    let why = world.place(&pod("x", "1", "")).unwrap_err();
    assert!(why.is_first && !why.is_told);
    let decision = Decision::Unschedulable(*why);
    assert_eq!(
        decision.status_patch("2026-01-01T00:00:00Z").unwrap(),
        json!({"status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "no nodes available to schedule pods",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}], "nominatedNodeName": null}})
    );
    let mut told = pod("x", "1", "new=yes");
    told["status"]["conditions"] = json!([{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "no nodes available to schedule pods"}]);
    let why = world.place(&told).unwrap_err();
    assert!(!why.is_first && why.is_told);
    assert_eq!(Decision::Unschedulable(*why).status_patch("t"), None);
}

/// The decisions about many pods that come in bursts.
fn history(seed: u64) -> Vec<Decision> {
    let mut world = World::of(&[]);
    world.scheduler = Scheduler::new("default-scheduler", seed);
    for at in 0..120 {
        world.tell("Node", &node(&format!("n{at}"), if at % 3 == 0 { "zone=a" } else { "zone=b" }));
    }
    let mut all = Vec::new();
    for at in 0..200 {
        let priority = json!({"priority": at % 5});
        let cpu = if at % 7 == 0 { "3" } else { "1" };
        world.tell("Pod", &with(pod(&format!("p{at}"), cpu, "app=x"), &priority));
        if at % 10 == 9 {
            all.extend(world.decide());
        }
    }
    all
}

#[test]
fn the_same_seed_decides_the_same() {
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
    assert_eq!(history(7).len(), 200);
}
