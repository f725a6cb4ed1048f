//! Services of a cluster, reached from the host and from pods, and the cluster's names.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::Sandbox;

use super::Cluster;

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
/// How long anything may take.
const LONGEST: Duration = Duration::from_secs(120);

#[track_caller]
fn wait(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONGEST, "{what}");
    }
}

/// A pod of one container that runs a script.
fn pod(name: &str, script: &str) -> Value {
    let container = json!({
        "name": "c", "image": "busybox", "imagePullPolicy": "Never", "command": ["sh", "-c", script],
    });
    json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": "n", "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    })
}

#[track_caller]
fn post(cluster: &Cluster<'_>, path: &str, body: &Value) -> Value {
    let (status, made) = cluster.post(path, body);
    assert_eq!(status, 201, "{made}");
    made
}

#[track_caller]
fn end(cluster: &Cluster<'_>, name: &str) {
    let path = format!("{PODS}/{name}");
    let _ = cluster.ask("DELETE", &path, "application/json", &Value::Null);
    wait("the pod is gone", || cluster.get(&path).0 == 404);
}

/// How `curl` ends that asks an address.
fn curl(sandbox: &Sandbox, at: &str) -> i32 {
    let outcome = sandbox.shell(&format!("curl -s -o answer -m 60 http://{at}/ ; echo $?"));
    outcome.ok().trim().parse().unwrap()
}

#[test]
fn a_service_is_reached_by_address_port_and_name_until_nobody_answers() {
    /// `curl` could not connect.
    const REFUSED: i32 = 7;
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let cluster = Cluster::start_with(&sandbox, "--node-name n --eviction-hard=");
    let service = json!({"metadata": {"name": "web"}, "spec": {
        "type": "NodePort", "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
    }});
    let made = post(&cluster, SERVICES, &service);
    let address = made["spec"]["clusterIP"].as_str().unwrap();
    let by_host = format!("127.0.0.1:{}", made["spec"]["ports"][0]["nodePort"]);
    wait("it is refused", || curl(&sandbox, address) == REFUSED);
    let serve = "mkdir /w; echo ahoy > /w/index.html; exec httpd -f -p 8080 -h /w";
    post(&cluster, PODS, &pod("web", serve));
    wait("it is answered", || curl(&sandbox, address) == 0);
    wait("it is answered by the node", || curl(&sandbox, &by_host) == 0);
    assert_eq!(std::fs::read_to_string(sandbox.work().join("answer")).unwrap(), "ahoy\n");

    let asks = format!(
        "grep -qx 'nameserver 10.96.0.10' /etc/resolv.conf || exit 2
         nslookup web.default.svc.cluster.local | grep -q ' {address}$' || exit 3
         nslookup no.default.svc.cluster.local && exit 4
         wget -q -O - http://{address}/ | grep -qx ahoy || exit 5"
    );
    post(&cluster, PODS, &pod("asking", &asks));
    let is_over = |found: &Value| {
        ["Succeeded", "Failed"].contains(&found["status"]["phase"].as_str().unwrap_or_default())
    };
    wait("it has asked", || is_over(&cluster.get(&format!("{PODS}/asking")).1));
    let (_, asked) = cluster.get(&format!("{PODS}/asking"));
    assert_eq!(asked["status"]["phase"], "Succeeded", "{:#}", asked["status"]);

    // Who has no server keeps its services.
    cluster.running.signal(Signal::KILL);
    drop(cluster);
    assert_eq!(curl(&sandbox, address), 0);
    let cluster = Cluster::start_with(&sandbox, "--node-name n --eviction-hard=");
    assert_eq!(curl(&sandbox, address), 0);
    end(&cluster, "asking");
    end(&cluster, "web");
    wait("it is refused again", || curl(&sandbox, address) == REFUSED);
    wait("so is the node's port", || curl(&sandbox, &by_host) == REFUSED);
    cluster.stop();
    assert_eq!(sandbox.shell("nft list tables").ok(), "");
}

#[test]
fn a_program_in_a_pod_finds_a_service_by_its_short_name() {
    let sandbox = Sandbox::new();
    for image in ["busybox", "python"] {
        let _ = sandbox.cais(["pull", "--quiet", image]).ok();
    }
    let cluster = Cluster::start_with(&sandbox, "--node-name n --eviction-hard=");
    let service = json!({"metadata": {"name": "web"}, "spec": {
        "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}],
    }});
    let made = post(&cluster, SERVICES, &service);
    let serve = "mkdir /w; echo ahoy > /w/index.html; exec httpd -f -p 8080 -h /w";
    post(&cluster, PODS, &pod("web", serve));
    let address = made["spec"]["clusterIP"].as_str().unwrap();
    wait("it is answered", || curl(&sandbox, address) == 0);
    let mut asker = pod("asker", "");
    let ask =
        "import urllib.request as r; print(r.urlopen('http://web/', timeout=60).read().decode())";
    asker["spec"]["containers"][0]["image"] = "python".into();
    asker["spec"]["containers"][0]["command"] = json!(["python3", "-c", ask]);
    post(&cluster, PODS, &asker);
    let path = format!("{PODS}/asker");
    let phase = || cluster.get(&path).1["status"]["phase"].clone();
    wait("the asker has ended", || phase() == "Succeeded" || phase() == "Failed");
    let outcome = cluster.shell("kubectl logs asker");
    assert!(outcome.code(0).stdout.contains("ahoy"), "{outcome}");
    end(&cluster, "asker");
    end(&cluster, "web");
    cluster.stop();
}
