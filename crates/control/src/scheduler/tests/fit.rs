//! Filters that look at a node and what is on it.

use serde_json::{Value, json};

use super::{World, node, on, pod, with};

/// One node that differs from the usual by `node`, and a pod that differs by `spec`: what is said, and
/// what would help. Nothing is said if it fits.
fn check(what: &str, change: impl Fn(&mut Value), spec: &Value, message: &str, remedy: &str) {
    let mut world = World::new();
    let mut own = node("n", "disk=ssd,cores=8");
    change(&mut own);
    world.tell("Node", &own);
    let object = with(pod("x", "1", ""), spec);
    if message.is_empty() {
        assert_eq!(world.place(&object).map_err(|why| why.message), Ok("n".to_owned()), "{what}");
        return;
    }
    assert_eq!(world.refuse(&object), format!("0/1 nodes are available: 1 {message}."), "{what}");
    assert_eq!(world.remedy("x"), remedy, "{what}");
}

fn same(_: &mut Value) {}

#[test]
fn cordoned_nodes_and_taints() {
    let cordon = |own: &mut Value| own["spec"]["unschedulable"] = true.into();
    let words = "node(s) were unschedulable";
    check("cordoned", cordon, &json!({}), words, "uncordoned on n");
    let key = "node.kubernetes.io/unschedulable";
    let tolerates = json!({"tolerations": [{"key": key, "operator": "Exists"}]});
    check("a pod that does not mind", cordon, &tolerates, "", "");
    let taint = |effect: &'static str| {
        move |own: &mut Value| {
            own["spec"]["taints"] = json!([{"key": "for", "value": "db", "effect": effect}]);
        }
    };
    let words = "node(s) had untolerated taint(s)";
    for (toleration, tolerates) in [
        (json!([]), false),
        (json!([{"key": "for", "operator": "Equal", "value": "db"}]), true),
        (json!([{"key": "for", "value": "db", "effect": "NoSchedule"}]), true),
        (json!([{"key": "for", "value": "web"}]), false),
        (json!([{"key": "for", "operator": "Exists"}]), true),
        (json!([{"operator": "Exists"}]), true),
        (json!([{"operator": "Exists", "effect": "NoExecute"}]), false),
    ] {
        let spec = json!({"tolerations": toleration});
        let (message, remedy) = match tolerates {
            true => ("", ""),
            false => (words, "toleration for for=db:NoSchedule on n"),
        };
        check(&toleration.to_string(), taint("NoSchedule"), &spec, message, remedy);
    }
    check(
        "running is forbidden, too",
        taint("NoExecute"),
        &json!({}),
        words,
        "toleration for for=db:NoExecute on n",
    );
    check("it is only not liked", taint("PreferNoSchedule"), &json!({}), "", "");
}

#[test]
fn selectors_of_nodes() {
    let words = "node(s) didn't match Pod's node affinity/selector";
    let required = |terms: Value| {
        json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    };
    let term = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    check("a selector", same, &json!({"nodeSelector": {"disk": "ssd"}}), "", "");
    check("another", same, &json!({"nodeSelector": {"disk": "hdd"}}), words, "label disk=hdd on n");
    for (own, remedy) in [
        (term("disk", "In", &["hdd", "ssd"]), ""),
        (term("disk", "In", &["hdd"]), "label disk=hdd on n"),
        (term("disk", "NotIn", &["ssd"]), "label disk notin (ssd) on n"),
        (term("gpu", "NotIn", &["a"]), ""),
        (term("disk", "Exists", &[]), ""),
        (term("disk", "DoesNotExist", &[]), "label !disk on n"),
        (term("cores", "Gt", &["7"]), ""),
        (term("cores", "Gt", &["8"]), "label cores>8 on n"),
        (term("cores", "Lt", &["9"]), ""),
        (term("disk", "Lt", &["9"]), "label disk<9 on n"),
        (json!({}), "label of a term that matches no node on n"),
    ] {
        let message = if remedy.is_empty() { "" } else { words };
        check(&own.to_string(), same, &required(json!([own])), message, remedy);
    }
    let either = json!([term("disk", "In", &["hdd"]), term("cores", "Exists", &[])]);
    check("any term will do", same, &required(either), "", "");
}

#[test]
fn a_node_by_its_name() {
    let fields = |name: &str| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": [name]}]}]}}}})
    };
    let mut world = World::of(&[("n", ""), ("m", ""), ("o", "")]);
    assert_eq!(world.place(&with(pod("x", "1", ""), &fields("m"))).unwrap(), "m");
    let message = world.refuse(&with(pod("y", "4", ""), &fields("m")));
    assert_eq!(
        message,
        "0/3 nodes are available: 1 Insufficient cpu, \
         2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    );
    let message = world.refuse(&with(pod("z", "1", ""), &fields("gone")));
    assert_eq!(
        message,
        "0/3 nodes are available: 3 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    );
}

#[test]
fn resources() {
    let ask = |cpu: &str, more: &Value| {
        let mut requests = json!({"cpu": cpu});
        for (name, amount) in more.as_object().into_iter().flatten() {
            requests[name] = amount.clone();
        }
        json!({"containers": [{"name": "c", "resources": {"requests": requests}}]})
    };
    let none = json!({});
    check("all of it", same, &ask("4", &none), "", "");
    check("more", same, &ask("5", &none), "Insufficient cpu", "cpu request 5 → 4 on n");
    check(
        "a little more",
        same,
        &ask("4500m", &none),
        "Insufficient cpu",
        "cpu request 4500m → 4 on n",
    );
    let memory = json!({"memory": "10Gi"});
    check(
        "memory",
        same,
        &ask("1", &memory),
        "Insufficient memory",
        "memory request 10Gi → 8Gi on n",
    );
    check(
        "both",
        same,
        &ask("8", &memory),
        "Insufficient cpu, 1 Insufficient memory",
        "cpu request 8 → 4, memory request 10Gi → 8Gi on n",
    );
    let gpu = json!({"example.com/gpu": "1"});
    check(
        "a device",
        same,
        &ask("1", &gpu),
        "Insufficient example.com/gpu",
        "1 more example.com/gpu on n",
    );
    let has_gpu = |own: &mut Value| own["status"]["allocatable"]["example.com/gpu"] = "1".into();
    check("a device that is there", has_gpu, &ask("1", &gpu), "", "");
    let disk = json!({"ephemeral-storage": "1Gi"});
    check(
        "disk",
        same,
        &ask("1", &disk),
        "Insufficient ephemeral-storage",
        "1Gi more ephemeral-storage on n",
    );
    let full = |own: &mut Value| own["status"]["allocatable"]["pods"] = "0".into();
    check("places", full, &ask("0", &none), "Too many pods", "1 more pods on n");
}

#[test]
fn what_pods_use_is_gone_until_they_are() {
    let mut world = World::of(&[("n", "")]);
    assert_eq!(world.place(&pod("x", "3", "")).unwrap(), "n");
    assert_eq!(world.refuse(&pod("y", "2", "")), "0/1 nodes are available: 1 Insufficient cpu.");
    assert_eq!(world.remedy("y"), "cpu request 2 → 1 on n");
    // Its end frees it, even if the object stays.
    let mut done = on(pod("x", "3", ""), "n");
    done["status"]["phase"] = "Succeeded".into();
    world.tell("Pod", &done);
    assert_eq!(world.decide().len(), 1);
    assert_eq!(world.scheduler.explain("a", "y"), None);
}

#[test]
fn ports_of_the_host() {
    let port = |port: u16, protocol: &str, address: &str| {
        json!({"containers": [{"name": "c", "ports": [
            {"containerPort": 1, "hostPort": port, "protocol": protocol, "hostIP": address}]}]})
    };
    let mut world = World::of(&[("n", "")]);
    world.tell("Pod", &on(with(pod("web", "0", ""), &port(80, "TCP", "127.0.0.1")), "n"));
    let words = "0/1 nodes are available: \
                 1 node(s) didn't have free ports for the requested pod ports.";
    for (name, own, fits) in [
        ("same", port(80, "TCP", "127.0.0.1"), false),
        ("all", port(80, "TCP", ""), false),
        ("everywhere", port(80, "TCP", "0.0.0.0"), false),
        ("elsewhere", port(80, "TCP", "127.0.0.2"), true),
        ("protocol", port(80, "UDP", "127.0.0.1"), true),
        ("other", port(81, "TCP", "127.0.0.1"), true),
    ] {
        let object = with(pod(name, "0", ""), &own);
        match fits {
            true => assert_eq!(world.place(&object).unwrap(), "n", "{name}"),
            false => {
                assert_eq!(world.refuse(&object), words, "{name}");
                let remedy = world.remedy(name);
                assert_eq!(remedy, "host port 80/TCP, which a/web has, on n", "{name}");
            }
        }
        world.remove("Pod", &object);
    }
}

#[test]
fn every_node_is_in_the_words_and_the_nearest_in_the_remedy() {
    let mut world = World::of(&[("a", ""), ("b", ""), ("c", "")]);
    let mut tainted = node("b", "");
    tainted["spec"]["taints"] = json!([{"key": "x", "effect": "NoSchedule"}]);
    world.tell("Node", &tainted);
    let mut small = node("c", "");
    small["status"]["allocatable"]["cpu"] = "1500m".into();
    world.tell("Node", &small);
    world.tell("Pod", &on(pod("p", "3", ""), "a"));
    let why = world.place(&pod("x", "2", "")).unwrap_err();
    assert_eq!(
        why.message,
        "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
         preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, \
         2 Preemption is not helpful for scheduling."
    );
    let report = world.scheduler.explain("a", "x").unwrap();
    assert_eq!(
        report.to_string(),
        "a/x: 0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu.\n  \
         a: NodeResourcesFit: cpu 2 wanted, 1 free of 4\n  \
         b: TaintToleration: no taint wanted, x:NoSchedule\n  \
         c: NodeResourcesFit: cpu 2 wanted, 1500m free of 1500m\n\
         it would fit with toleration for x:NoSchedule on b\n"
    );
}

#[test]
fn without_nodes_there_is_nothing_to_choose() {
    let mut world = World::new();
    let why = world.place(&pod("x", "1", "")).unwrap_err();
    assert_eq!(why.message, "no nodes available to schedule pods");
    world.tell("Node", &node("n", ""));
    assert_eq!(world.decide().len(), 1);
}

#[test]
fn a_pod_on_a_node_that_is_not_known_yet_counts_when_it_is() {
    let mut world = World::of(&[]);
    world.tell("Pod", &on(pod("x", "3", ""), "n"));
    world.tell("Node", &node("n", ""));
    assert_eq!(world.refuse(&pod("y", "2", "")), "0/1 nodes are available: 1 Insufficient cpu.");
    world.remove("Node", &node("n", ""));
    assert_eq!(world.refuse(&pod("z", "2", "")), "no nodes available to schedule pods");
    world.tell("Node", &node("n", ""));
    world.remove("Pod", &on(pod("x", "3", ""), "n"));
    assert_eq!(world.decide().len(), 2);
}

#[test]
fn what_is_said_to_help_helps() {
    let mut world = World::of(&[("a", ""), ("b", ""), ("c", "")]);
    for (name, cpu, node) in [("p", "3", "a"), ("q", "2500m", "b"), ("r", "4", "c")] {
        world.tell("Pod", &on(pod(name, cpu, ""), node));
    }
    assert!(world.place(&pod("x", "2", "")).is_err());
    let report = world.scheduler.explain("a", "x").unwrap();
    let remedy = report.remedy.unwrap();
    assert_eq!(remedy.to_string(), "cpu request 2 → 1500m on b");
    assert_eq!(world.place(&pod("x", "1500m", "")).unwrap(), remedy.node);
    // A little more is too much.
    world.remove("Pod", &pod("x", "1500m", ""));
    assert!(world.place(&pod("y", "1501m", "")).is_err());
}
