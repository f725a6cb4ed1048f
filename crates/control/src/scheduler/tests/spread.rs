//! Pods that lie evenly over the values of a label.

use serde_json::{Value, json};

use super::{World, map, node, on, pod, with};

fn constraint(skew: i64, topology: &str, how: &str) -> Value {
    json!({
        "maxSkew": skew, "topologyKey": topology, "whenUnsatisfiable": how,
        "labelSelector": {"matchLabels": map("app=x")},
    })
}

fn spread(own: &Value) -> Value {
    json!({"topologySpreadConstraints": [own]})
}

fn hard(skew: i64, topology: &str) -> Value {
    constraint(skew, topology, "DoNotSchedule")
}

/// Three zones, the last of which has no pod.
fn world() -> World {
    let mut world = World::of(&[("a1", "zone=a"), ("b1", "zone=b"), ("c1", "zone=c"), ("d1", "")]);
    for (name, on_node) in [("p1", "a1"), ("p2", "a1"), ("p3", "b1")] {
        world.tell("Pod", &on(pod(name, "0", "app=x"), on_node));
    }
    world
}

#[test]
fn the_skew_is_at_most_what_is_allowed() {
    let mut world = world();
    let object = with(pod("x", "0", "app=x"), &spread(&hard(1, "zone")));
    assert_eq!(world.place(&object).unwrap(), "c1");
    let object = with(pod("y", "0", "app=x"), &spread(&hard(1, "zone")));
    assert!(["b1", "c1"].contains(&world.place(&object).unwrap().as_str()));
    // One that does not count itself may go where it breaks nothing.
    let other = with(pod("z", "0", "app=z"), &spread(&hard(1, "zone")));
    assert_ne!(world.place(&other).unwrap(), "d1");
}

#[test]
fn what_does_not_count_and_what_is_said() {
    let mut world = world();
    world.remove("Node", &node("c1", "zone=c"));
    // The zone is gone, and with it the minimum of nothing.
    let object = with(pod("x", "0", "app=x"), &spread(&hard(1, "zone")));
    assert_eq!(world.place(&object).unwrap(), "b1");
    // Pods that are ending do not count, nor do those of other namespaces.
    let mut ending = on(pod("p1", "0", "app=x"), "a1");
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    world.tell("Pod", &ending);
    let object = with(pod("y", "0", "app=x"), &spread(&hard(1, "zone")));
    assert_eq!(world.place(&object).unwrap(), "a1");
    let mut more = hard(1, "zone");
    more["minDomains"] = 3.into();
    let words = world.refuse(&with(pod("z", "0", "app=x"), &spread(&more)));
    assert_eq!(
        words,
        "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints \
         (missing required label), 2 node(s) didn't match pod topology spread constraints."
    );
    assert_eq!(world.remedy("z"), "label zone on d1");
}

#[test]
fn which_nodes_count_is_the_pods_choice() {
    // The only node of zone c is one that the pod does not select, and tainted.
    let mut world = world();
    let mut own = node("c1", "zone=c,old=yes");
    own["spec"]["taints"] = json!([{"key": "x", "effect": "NoSchedule"}]);
    world.tell("Node", &own);
    let selects = json!([{"matchExpressions": [{"key": "old", "operator": "DoesNotExist"}]}]);
    let affinity = json!({"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": selects}}});
    let ask = |name: &str, affinity: &Value, policies: &Value| {
        let mut own = hard(1, "zone");
        for (key, value) in policies.as_object().into_iter().flatten() {
            own[key] = value.clone();
        }
        let object = with(pod(name, "0", "app=x"), &spread(&own));
        with(object, &json!({"affinity": affinity}))
    };
    assert_eq!(world.place(&ask("x", &affinity, &json!({}))).unwrap(), "b1");
    world.remove("Pod", &pod("x", "0", ""));
    let ignored = json!({"nodeAffinityPolicy": "Ignore"});
    assert!(world.refuse(&ask("y", &affinity, &ignored)).contains("spread constraints"));
    // Taints do not make a node uncounted, unless that is asked for.
    assert!(world.refuse(&ask("z", &json!({}), &json!({}))).contains("spread constraints"));
    let honored = json!({"nodeTaintsPolicy": "Honor"});
    assert_eq!(world.place(&ask("w", &json!({}), &honored)).unwrap(), "b1");
}

#[test]
fn versions_are_spread_apart() {
    let mut world = world();
    let mut own = hard(1, "zone");
    own["matchLabelKeys"] = json!(["v"]);
    for name in ["x", "y", "z"] {
        // Pods of other versions do not count: each zone gets one.
        world.place(&with(pod(name, "0", "app=x,v=2"), &spread(&own))).unwrap();
    }
    let held = |world: &World, node: &str| {
        let slot = world.scheduler.state.known(node).unwrap();
        world.scheduler.state.slot(slot).pods.len()
    };
    assert_eq!([held(&world, "a1"), held(&world, "b1"), held(&world, "c1")], [3, 2, 1]);
}

#[test]
fn soft_constraints_choose() {
    let mut world = world();
    let own = spread(&constraint(1, "zone", "ScheduleAnyway"));
    assert_eq!(world.place(&with(pod("x", "0", "app=x"), &own)).unwrap(), "c1");
    let own = spread(&constraint(1, "kubernetes.io/hostname", "ScheduleAnyway"));
    let placed = world.place(&with(pod("y", "0", "app=x"), &own)).unwrap();
    assert_eq!(placed, "d1");
}

#[test]
fn pods_of_a_controller_or_a_service_are_spread_without_asking() {
    for owned in [true, false] {
        let mut world = World::of(&[("n", ""), ("m", ""), ("o", "")]);
        let replicas = json!({
            "metadata": {"name": "rs", "namespace": "a"},
            "spec": {"selector": {"matchLabels": {"app": "x"}}},
        });
        let service = json!({
            "metadata": {"name": "s", "namespace": "a"}, "spec": {"selector": {"app": "x"}},
        });
        match owned {
            true => world.tell("ReplicaSet", &replicas),
            false => world.tell("Service", &service),
        }
        let mut nodes = Vec::new();
        for name in ["x", "y", "z"] {
            let mut object = pod(name, "0", "app=x");
            if owned {
                object["metadata"]["ownerReferences"] =
                    json!([{"kind": "ReplicaSet", "name": "rs", "controller": true}]);
            }
            nodes.push(world.place(&object).unwrap());
        }
        nodes.sort();
        assert_eq!(nodes, ["m", "n", "o"]);
    }
}

#[test]
fn what_was_forgotten_is_counted_again() {
    let mut world = World::new();
    for name in ["a1", "b1"] {
        let mut own = node(name, &format!("zone={name}"));
        own["status"]["allocatable"]["pods"] = "5000".into();
        world.tell("Node", &own);
    }
    // More questions than are remembered, of pods of more shapes than are remembered.
    for app in 0..2100 {
        let mut own = hard(1, "zone");
        own["labelSelector"] = json!({"matchLabels": {"app": app.to_string()}});
        let labels = format!("app={app}");
        let mut object = with(pod(&format!("p{app}"), "0", &labels), &spread(&own));
        object["spec"]["tolerations"] = json!([{"key": (app % 300).to_string()}]);
        let first = world.place(&object).unwrap();
        if !(3..=2096).contains(&app) {
            object["metadata"]["name"] = format!("q{app}").into();
            object["metadata"]["uid"] = format!("q{app}").into();
            assert_ne!(world.place(&object).unwrap(), first);
        }
    }
    for app in 0..3 {
        let mut own = hard(1, "zone");
        own["labelSelector"] = json!({"matchLabels": {"app": app.to_string()}});
        // One lies in each zone: the third may go anywhere, and the fourth where it did not.
        let place = |world: &mut World, name: String| {
            world.place(&with(pod(&name, "0", &format!("app={app}")), &spread(&own))).unwrap()
        };
        let third = place(&mut world, format!("r{app}"));
        assert_ne!(place(&mut world, format!("s{app}")), third);
    }
    assert!(world.scheduler.state.index.is_consistent());
}
