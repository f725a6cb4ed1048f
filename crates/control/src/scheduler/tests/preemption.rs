//! More important pods, and who leaves for them.

use serde_json::{Value, json};

use super::super::{Decision, Unschedulable};
use super::{World, id, on, pod, with};

fn important(name: &str, cpu: &str, priority: i32) -> Value {
    with(pod(name, cpu, ""), &json!({"priority": priority}))
}

fn victims(why: &Unschedulable) -> Vec<&str> {
    why.victims.iter().map(|victim| victim.name.as_str()).collect()
}

#[test]
fn the_least_important_leave_and_no_more_than_needed() {
    let mut world = World::of(&[("n", "")]);
    for (name, cpu, priority) in [("a", "1", 1), ("b", "1", 2), ("c", "1", 3), ("d", "1", 9)] {
        world.tell("Pod", &on(important(name, cpu, priority), "n"));
    }
    let why = world.place(&important("x", "2", 5)).unwrap_err();
    assert_eq!((victims(&why), why.nominated.as_deref()), (vec!["b", "a"], Some("n")));
    assert_eq!(why.message, "0/1 nodes are available: 1 Insufficient cpu.");
    // While they leave nobody else is evicted for it, and less important pods do not take the room.
    for name in ["a", "b"] {
        let mut leaving = on(important(name, "1", 1), "n");
        leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        leaving["status"]["conditions"] = json!([{
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]);
        world.tell("Pod", &leaving);
    }
    world.remove("Pod", &important("a", "1", 1));
    let decided = world.decide();
    let [Decision::Unschedulable(why)] = decided.as_slice() else { panic!("{decided:?}") };
    assert!(why.victims.is_empty());
    let words = "not eligible due to a terminating pod on the nominated node.";
    assert!(why.message.ends_with(words), "{}", why.message);
    assert!(world.refuse(&important("late", "1", 0)).contains("Insufficient cpu"));
    world.remove("Pod", &important("b", "1", 2));
    let bound = world.decide();
    let wanted = Decision::Bind { pod: id("x"), node: "n".to_owned() };
    assert!(bound.contains(&wanted), "{bound:?}");
}

#[test]
fn nobody_leaves_for_equals_nor_for_those_that_never_preempt() {
    let mut world = World::of(&[("n", "")]);
    world.tell("Pod", &on(important("a", "4", 5), "n"));
    let why = world.place(&important("x", "2", 5)).unwrap_err();
    assert_eq!(
        why.message,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
         1 No preemption victims found for incoming pod."
    );
    let never = with(important("y", "2", 9), &json!({"preemptionPolicy": "Never"}));
    let why = world.place(&never).unwrap_err();
    assert_eq!(
        why.message,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to \
         preemptionPolicy=Never."
    );
    // More than the node has is not made by anybody's leaving.
    let why = world.place(&important("z", "5", 9)).unwrap_err();
    assert_eq!(
        why.message,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
         1 Preemption is not helpful for scheduling."
    );
    assert!(why.victims.is_empty() && why.nominated.is_none());
    // It would not be enough if the less important ones left.
    world.tell("Pod", &on(important("b", "0", 1), "n"));
    let why = world.place(&important("w", "2", 4)).unwrap_err();
    assert!(why.message.ends_with("0/1 nodes are available: 1 Insufficient cpu."));
}

#[test]
fn the_node_is_where_the_least_harm_is_done() {
    for (what, pods, chosen) in [
        ("lower priorities", [("n", "4", 3), ("m", "4", 2)].as_slice(), "m"),
        ("the most important victim", &[("n", "2", 1), ("n", "2", 3), ("m", "4", 2)], "m"),
        ("a smaller sum", &[("n", "2", 2), ("n", "2", 2), ("m", "2", 2), ("m", "2", 1)], "m"),
        ("fewer", &[("n", "2", 1), ("n", "2", 1), ("m", "4", 1)], "m"),
    ] {
        let mut world = World::of(&[("n", ""), ("m", "")]);
        for (at, (node, cpu, priority)) in pods.iter().enumerate() {
            world.tell("Pod", &on(important(&format!("p{at}"), cpu, *priority), node));
        }
        let why = world.place(&important("x", "4", 5)).unwrap_err();
        assert_eq!(why.nominated.as_deref(), Some(chosen), "{what}");
    }
}

#[test]
fn the_one_that_ran_for_less_leaves() {
    let mut world = World::of(&[("n", ""), ("m", "")]);
    for (name, node, started) in
        [("a", "n", "2026-01-01T00:00:00Z"), ("b", "m", "2026-01-02T00:00:00Z")]
    {
        let mut object = on(important(name, "4", 1), node);
        object["status"]["startTime"] = started.into();
        world.tell("Pod", &object);
    }
    assert_eq!(victims(&world.place(&important("x", "4", 5)).unwrap_err()), ["b"]);
}

#[test]
fn budgets_are_kept_where_that_is_possible() {
    let labelled = |name: &str, labels: &str, node: &str| {
        on(with(pod(name, "2", labels), &json!({"priority": 1})), node)
    };
    let budget = |allowed: i64| {
        json!({
            "metadata": {"name": "b", "namespace": "a"},
            "spec": {"selector": {"matchLabels": {"app": "db"}}},
            "status": {"disruptionsAllowed": allowed},
        })
    };
    let mut world = World::of(&[("n", "")]);
    world.tell("Pod", &labelled("db", "app=db", "n"));
    world.tell("Pod", &labelled("web", "app=web", "n"));
    world.tell("PodDisruptionBudget", &budget(0));
    assert_eq!(victims(&world.place(&important("x", "2", 5)).unwrap_err()), ["web"]);
    // If it is not, the budget gives way.
    let mut world = World::of(&[("n", "")]);
    world.tell("Pod", &labelled("db", "app=db", "n"));
    world.tell("Pod", &labelled("web", "app=db", "n"));
    world.tell("PodDisruptionBudget", &budget(0));
    assert_eq!(victims(&world.place(&important("x", "4", 5)).unwrap_err()).len(), 2);
    // A node where it is kept goes before one where it is not.
    let mut world = World::of(&[("n", ""), ("m", "")]);
    world.tell("Pod", &on(with(pod("db", "4", "app=db"), &json!({"priority": 1})), "n"));
    world.tell("Pod", &on(with(pod("web", "4", "app=web"), &json!({"priority": 2})), "m"));
    world.tell("PodDisruptionBudget", &budget(0));
    assert_eq!(victims(&world.place(&important("x", "4", 5)).unwrap_err()), ["web"]);
}

#[test]
fn pods_leave_for_ports_and_anti_affinity_too() {
    let port = json!({"containers": [{"name": "c", "ports": [{"hostPort": 80}]}], "priority": 1});
    let mut world = World::of(&[("n", "")]);
    world.tell("Pod", &on(with(pod("old", "0", ""), &port), "n"));
    let more = json!({"containers": [{"name": "c", "ports": [{"hostPort": 80}]}], "priority": 2});
    assert_eq!(victims(&world.place(&with(pod("x", "0", ""), &more)).unwrap_err()), ["old"]);
    let far = json!({"priority": 2, "affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"app": "y"}}}]}}});
    let mut world = World::of(&[("n", "")]);
    world.tell("Pod", &on(pod("old", "0", "app=y"), "n"));
    assert_eq!(victims(&world.place(&with(pod("y", "0", "app=y"), &far)).unwrap_err()), ["old"]);
}

#[test]
fn the_more_important_take_the_room_of_those_that_wait() {
    let mut world = World::of(&[("n", "")]);
    world.tell("Pod", &on(important("old", "4", 1), "n"));
    let first = world.place(&important("x", "4", 5)).unwrap_err();
    assert_eq!(victims(&first), ["old"]);
    let second = world.place(&important("y", "4", 6)).unwrap_err();
    assert_eq!(second.nominated.as_deref(), Some("n"));
    assert_eq!(second.outranked, [id("x")]);
}
