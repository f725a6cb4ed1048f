//! Pods on the server's own node, with real containers.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::Sandbox;

use super::Cluster;

/// A node, which must not end pods since the machine of the tests is full.
const NODE: &str = "--node-name n --eviction-hard=";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// How long anything may take.
const LONGEST: Duration = Duration::from_secs(120);

impl<'a> Cluster<'a> {
    /// A server that is a node, too, with the image that the tests' containers are of.
    pub(super) fn with_node(sandbox: &'a Sandbox) -> Self {
        let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
        Self::start_with(sandbox, NODE)
    }

    /// Kills the server as the kernel would, and starts another.
    fn kill_and_start(self) -> Self {
        self.running.signal(Signal::KILL);
        let sandbox = self.sandbox;
        drop(self);
        Self::start_with(sandbox, NODE)
    }

    /// Waits until an object is as wanted.
    #[track_caller]
    fn wait_until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let (_, found) = self.get(path);
            if is_so(&found) {
                return found;
            }
            let last = || {
                let (_, events) = self.get("/api/v1/namespaces/default/events");
                format!("{path} never became so: {found:#}\n{:#}", events["items"])
            };
            assert!(begun.elapsed() < LONGEST, "{}", last());
        }
    }

    /// Makes a pod on the node of the tests.
    #[track_caller]
    fn run(&self, name: &str, mut spec: Value) {
        spec["nodeName"] = "n".into();
        for list in ["containers", "initContainers"] {
            for one in spec[list].as_array_mut().into_iter().flatten() {
                one["image"] = "busybox".into();
                one["imagePullPolicy"] = "Never".into();
            }
        }
        let (status, made) = self.post(PODS, &json!({"metadata": {"name": name}, "spec": spec}));
        assert_eq!(status, 201, "{made}");
    }

    /// Deletes a pod, and waits until it is gone.
    #[track_caller]
    fn end(&self, name: &str) {
        let path = format!("{PODS}/{name}");
        let (status, _) = self.ask("DELETE", &path, "application/json", &Value::Null);
        assert!(status < 300 || status == 404);
        self.wait_until(&path, |found| found["reason"] == "NotFound");
    }

    fn log(&self, name: &str, query: &str) -> String {
        let script = format!(
            "curl -s --cacert cluster/ca.crt -H 'Authorization: Bearer {}' '{}{PODS}/{name}/log?{query}'",
            self.token, self.address
        );
        self.sandbox.shell(&script).ok().to_owned()
    }

    /// Waits until the node has nothing of any pod: they are gone from the API before that.
    #[track_caller]
    pub(super) fn gone(&self) {
        let begun = Instant::now();
        let pods = self.sandbox.work().join("cluster/pods");
        while std::fs::read_dir(&pods).is_ok_and(|mut left| left.next().is_some()) {
            assert!(begun.elapsed() < LONGEST, "something of a pod is left");
            std::thread::yield_now();
        }
    }

    /// Removes all pods, and stops the server, which leaves nothing.
    #[track_caller]
    pub(super) fn stop(self) {
        let all = format!("{PODS}?gracePeriodSeconds=0");
        let (status, answer) = self.ask("DELETE", &all, "application/json", &Value::Null);
        assert_eq!(status, 200, "{answer}");
        self.gone();
        self.running.signal(Signal::TERM);
        let _ = self.running.finish();
        // Not before: a server that serves makes its part of it anew when a service changes.
        let _ = self.sandbox.shell("$E network rm cais-pods");
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

/// Ends at once when it is asked to.
fn waits(name: &str) -> Value {
    json!({"name": name, "command": ["sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"]})
}

#[test]
fn a_node_registers_and_says_that_it_is_ready() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::with_node(&sandbox);
    let (_, node) = cluster.get("/api/v1/nodes/n");
    assert!(is_ready(&node), "{node}");
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/os"], "linux");
    let (_, lease) =
        cluster.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n");
    assert_eq!(lease["spec"]["holderIdentity"], "n");
    cluster.stop();
}

#[test]
fn containers_of_a_pod_share_what_pods_share_and_outlive_their_server() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::with_node(&sandbox);
    let see = "hostname; ip -4 addr show eth0 | grep -o 'inet [0-9.]*'; for n in net ipc uts; do readlink /proc/self/ns/$n; done; echo there > /dev/shm/$0; ls /dev/shm";
    cluster.run(
        "web",
        json!({
            "hostname": "the-web",
            "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["far"]}],
            "initContainers": [{"name": "see", "command": ["sh", "-c", see, "first"]}],
            "containers": [
                {"name": "a", "command": ["sh", "-c", format!("{see}; cat /etc/hosts; exec httpd -f -p 80"), "second"]},
                waits("b"),
            ],
        }),
    );
    let path = format!("{PODS}/web");
    let pod = cluster.wait_until(&path, is_ready);
    assert_eq!(pod["status"]["phase"], "Running");
    let address = pod["status"]["podIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10.42.0."), "{address}");
    let (first, second) = (cluster.log("web", "container=see"), cluster.log("web", "container=a"));
    let lines: Vec<&str> = first.lines().collect();
    assert_eq!(lines[..2], ["the-web", format!("inet {address}").as_str()], "{first}");
    assert_eq!(lines[2..5], second.lines().collect::<Vec<_>>()[2..5], "{first}{second}");
    // What the one has left in the pod's memory, the other finds.
    assert!(second.contains("first\nsecond"), "{second}");
    assert!(second.contains("192.0.2.7\tfar"), "{second}");
    let before = sandbox.cais(["ps", "--quiet", "--no-trunc"]).ok().to_owned();
    assert_eq!(before.lines().count(), 2, "the pod itself is none of its containers: {before}");
    let cluster = cluster.kill_and_start();
    let after = cluster.wait_until(&path, is_ready);
    assert_eq!(after["status"]["containerStatuses"], pod["status"]["containerStatuses"]);
    assert_eq!(sandbox.cais(["ps", "--quiet", "--no-trunc"]).ok(), before);
    cluster.end("web");
    cluster.stop();
}

#[test]
fn who_fails_is_started_again_at_once_and_then_waits() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::with_node(&sandbox);
    cluster.run(
        "crash",
        json!({"containers": [{
            "name": "c", "command": ["sh", "-c", "echo why > /dev/termination-log; echo run; exit 3"],
        }]}),
    );
    let pod = cluster.wait_until(&format!("{PODS}/crash"), |pod| {
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["restartCount"], 1, "{status}");
    let last = &status["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(3), &json!("Error")));
    assert_eq!(last["message"], "why\n");
    assert_eq!(cluster.log("crash", "previous=true"), "run");
    cluster.end("crash");
    cluster.run(
        "once",
        json!({"restartPolicy": "Never", "containers": [{"name": "c", "command": ["sh", "-c", "exit 4"]}]}),
    );
    let failed = |pod: &Value| pod["status"]["phase"] == "Failed";
    let pod = cluster.wait_until(&format!("{PODS}/once"), failed);
    let state = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(state["exitCode"], 4, "{pod}");
    cluster.end("once");
    cluster.stop();
}

#[test]
fn probes_say_who_is_ready_and_who_begins_anew() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::with_node(&sandbox);
    let probe = |command: &str| json!({"exec": {"command": ["sh", "-c", command]}, "periodSeconds": 1, "failureThreshold": 1});
    let mut container = waits("c");
    container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    // Alive as long as nobody has looked at it twice; ready only in its second run.
    container["livenessProbe"] = probe("test -e /v/again || { touch /v/again; false; }");
    container["readinessProbe"] = probe("test -e /v/again");
    cluster.run(
        "probed",
        json!({"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]}),
    );
    let pod = cluster.wait_until(&format!("{PODS}/probed"), |pod| {
        is_ready(pod) && pod["status"]["containerStatuses"][0]["restartCount"] == 1
    });
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 0);
    cluster.end("probed");
    cluster.stop();
}

#[test]
fn volumes_hold_what_objects_say() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::with_node(&sandbox);
    let map = json!({"metadata": {"name": "m"}, "data": {"a": "one", "b": "two"}});
    assert_eq!(cluster.post(super::MAPS, &map).0, 201);
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"p": "hidden"}});
    assert_eq!(cluster.post("/api/v1/namespaces/default/secrets", &secret).0, 201);
    let look = "cat /m/a /x/sub/b /s; stat -c %a /m/..data/a; df -P /mem | tail -1 | cut -d' ' -f1; \
                echo $A-$(cat /labels/name); until grep -q new /m/a; do sleep 0.05; done; cat /m/a";
    cluster.run(
        "v",
        json!({
            "restartPolicy": "Never",
            "containers": [{
                "name": "c", "command": ["sh", "-c", look],
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "b"}}}],
                "volumeMounts": [
                    {"name": "m", "mountPath": "/m"}, {"name": "x", "mountPath": "/x"},
                    {"name": "s", "mountPath": "/s", "subPath": "p"}, {"name": "mem", "mountPath": "/mem"},
                    {"name": "d", "mountPath": "/labels"},
                ],
            }],
            "volumes": [
                {"name": "m", "configMap": {"name": "m", "defaultMode": 0o440}},
                {"name": "x", "projected": {"sources": [{"configMap": {"name": "m", "items": [{"key": "b", "path": "sub/b"}]}}]}},
                {"name": "s", "secret": {"secretName": "s"}},
                {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                {"name": "d", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            ],
        }),
    );
    let path = format!("{PODS}/v");
    cluster.wait_until(&path, is_ready);
    let patch = json!({"data": {"a": "new"}});
    let merge = "application/merge-patch+json";
    assert_eq!(cluster.ask("PATCH", &format!("{}/m", super::MAPS), merge, &patch).0, 200);
    cluster.wait_until(&path, |pod| pod["status"]["phase"] == "Succeeded");
    assert_eq!(cluster.log("v", ""), "onetwohidden440\ntmpfs\ntwo-v\nnew");
    cluster.end("v");
    cluster.stop();
}

#[test]
fn a_container_comes_to_look_around_and_resources_change_while_others_run() {
    let sandbox = Sandbox::new();
    let cluster = Cluster::with_node(&sandbox);
    let mut container = waits("c");
    container["resources"] =
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m", "memory": "64Mi"}});
    container["resizePolicy"] =
        json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    cluster.run("looked-at", json!({"containers": [container]}));
    cluster.wait_until(&format!("{PODS}/looked-at"), is_ready);
    let outcome = cluster.shell(
        r#"
        kubectl debug looked-at --image=busybox --image-pull-policy=Never --target=c --container=look \
            --profile=general -- sh -c 'ps; hostname; sleep 1000'
        end=$(($(date +%s)+120))
        until kubectl logs looked-at -c look | grep -q looked-at; do [ "$(date +%s)" -lt $end ] || exit 9; done
        kubectl logs looked-at -c look
        kubectl get pod looked-at -o jsonpath='{.status.ephemeralContainerStatuses[0].state.running.startedAt}{"\n"}'
        kubectl patch pod looked-at --subresource ephemeralcontainers --type=json \
            -p '[{"op": "remove", "path": "/spec/ephemeralContainers/0"}]' 2>&1 || true
        kubectl patch pod looked-at --subresource resize \
            -p '{"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "400m"}}}]}}'
        kubectl wait --for=jsonpath='{.status.containerStatuses[0].resources.limits.cpu}'=400m \
            pod/looked-at --timeout=120s
        kubectl get pod looked-at -o jsonpath='restarts {.status.containerStatuses[0].restartCount}{"\n"}'
        "#,
    );
    let told = &outcome.code(0).stdout;
    assert!(
        told.contains("while :; do sleep 0.05"),
        "the target's processes are not seen: {outcome}"
    );
    assert!(told.contains("may not be removed"), "{outcome}");
    assert!(told.contains("restarts 0"), "{outcome}");
    let (_, pod) = cluster.get(&format!("{PODS}/looked-at"));
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let id = id.trim_start_matches("cais://");
    let inspect = sandbox.cais(["inspect", id]).ok().to_owned();
    let inspect: Value = serde_json::from_str(&inspect).unwrap();
    assert!(
        inspect.to_string().contains("40000"),
        "the quota is not what was asked for: {inspect}"
    );
    let outcome = cluster.shell(
        r#"
        kubectl patch pod looked-at --subresource resize \
            -p '{"spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "128Mi"}}}]}}'
        kubectl wait --for=jsonpath='{.status.containerStatuses[0].restartCount}'=1 \
            pod/looked-at --timeout=120s
        kubectl wait --for=jsonpath='{.status.containerStatuses[0].resources.limits.memory}'=128Mi \
            pod/looked-at --timeout=120s
        kubectl patch pod looked-at --subresource resize \
            -p '{"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1000"}, "limits": {"cpu": "1000"}}}]}}'
        kubectl wait --for=condition=PodResizePending pod/looked-at --timeout=120s
        kubectl get pod looked-at -o jsonpath='{.status.conditions[?(@.type=="PodResizePending")].reason}{"\n"}'
        "#,
    );
    assert!(outcome.code(0).stdout.contains("Infeasible"), "{outcome}");
    cluster.end("looked-at");
    cluster.stop();
}

#[test]
fn a_node_that_runs_out_of_memory_ends_pods_and_takes_no_more() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let cluster = Cluster::start_with(&sandbox, NODE);
    cluster.run(
        "kept",
        json!({"priorityClassName": "system-node-critical", "containers": [waits("c")]}),
    );
    cluster.run("victim", json!({"containers": [waits("c")]}));
    for pod in ["kept", "victim"] {
        cluster.wait_until(&format!("{PODS}/{pod}"), is_ready);
    }
    cluster.running.signal(Signal::TERM);
    let _ = cluster.running.finish();
    let all = "--node-name n --eviction-hard 'memory.available<100%'";
    let cluster = Cluster::start_with(&sandbox, all);
    let failed = |pod: &Value| pod["status"]["phase"] == "Failed";
    let pod = cluster.wait_until(&format!("{PODS}/victim"), failed);
    assert_eq!(pod["status"]["reason"], "Evicted");
    let message = pod["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("The node was low on resource: memory."), "{message}");
    let is_told = |node: &Value| {
        let taints = node["spec"]["taints"].to_string();
        let conditions = node["status"]["conditions"].as_array();
        conditions.is_some_and(|all| {
            all.iter().any(|c| c["type"] == "MemoryPressure" && c["status"] == "True")
        }) && taints.contains("node.kubernetes.io/memory-pressure")
    };
    cluster.wait_until("/api/v1/nodes/n", is_told);
    let (_, kept) = cluster.get(&format!("{PODS}/kept"));
    assert!(is_ready(&kept), "{kept}");
    cluster.end("kept");
    cluster.end("victim");
    cluster.stop();
}

#[test]
fn a_file_of_the_node_is_a_pod_for_as_long_as_it_is_there() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let manifests = sandbox.work().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    let mut container = waits("c");
    container["image"] = "busybox".into();
    container["imagePullPolicy"] = "Never".into();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "own"},
        "spec": {"containers": [container]}});
    std::fs::write(manifests.join("own.json"), pod.to_string()).unwrap();
    let cluster = Cluster::start_with(&sandbox, &format!("{NODE} --pod-manifest-path manifests"));
    let path = format!("{PODS}/own-n");
    let pod = cluster.wait_until(&path, is_ready);
    assert_eq!(pod["metadata"]["annotations"]["kubernetes.io/config.source"], "file");
    std::fs::remove_file(manifests.join("own.json")).unwrap();
    cluster.wait_until(&path, |found| found["reason"] == "NotFound");
    cluster.stop();
}
