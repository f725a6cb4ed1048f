//! Clusters of several hosts: they join, their pods reach each other, and one that is lost is made up
//! for.

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Running, Sandbox};

use super::Cluster;

/// What waits for something to be so, each with a deadline.
const WAIT: &str = r#"
until_so() { end=$(($(date +%s)+120)); until eval "$1"; do
  [ "$(date +%s)" -lt $end ] || { echo "never: $1" >&2; kubectl get pods,nodes -A -o wide >&2; exit 9; }; done; }
"#;

fn server(hosts: &[Sandbox]) -> Cluster<'_> {
    server_with(hosts, "")
}

fn server_with<'a>(hosts: &'a [Sandbox], options: &str) -> Cluster<'a> {
    let address = hosts[0].address();
    let options = format!(
        "--node-name a --node-ip {address} --listen {address}:6443 --eviction-hard= {options}"
    );
    let cluster = Cluster::start_at(&hosts[0], &options);
    cluster.running.wait_for("Join with");
    cluster
}

/// An agent that has joined; it waits for its server.
fn agent(hosts: &[Sandbox], number: usize, name: &str, token: &str) -> Running {
    let (server, own) = (hosts[0].address(), &hosts[number]);
    let running = own.start_script(&format!(
        "exec $E agent --server https://{server}:6443 {token} --data-dir agent --node-name {name} \
         --node-ip {} --eviction-hard=",
        own.address()
    ));
    running.wait_for("Joined");
    running
}

/// What lets a host join.
fn token(hosts: &[Sandbox]) -> String {
    let path = hosts[0].work().join("cluster/node-token");
    format!("--token {}", std::fs::read_to_string(path).unwrap().trim())
}

/// A pod that answers at port 8080 with its name, on a node.
fn web(name: &str, node: &str) -> Value {
    let serve = "mkdir /w; hostname > /w/index.html; echo began; exec httpd -f -p 8080 -h /w";
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "c", "image": "busybox", "imagePullPolicy": "Never",
                "command": ["sh", "-c", serve],
            }],
        },
    })
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "NodePort", "selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

fn with_images(hosts: Vec<Sandbox>) -> Vec<Sandbox> {
    for host in &hosts {
        let _ = host.cais(["pull", "--quiet", "busybox"]).ok();
    }
    hosts
}

/// Ends everything, so that nothing is left.
fn end(cluster: Cluster<'_>, agents: Vec<Running>, hosts: &[Sandbox]) {
    let all = "kubectl delete deploy,pod --all --wait=false >/dev/null
        until_so '[ -z \"$(kubectl get pods -o name)\" ]'";
    let _ = cluster.shell(&format!("{WAIT}\n{all}")).ok();
    // Their nodes clean up once the API has forgotten them.
    for host in hosts {
        let left = "find cluster/pods agent/pods -mindepth 1 -maxdepth 1 2>/dev/null";
        let gone = format!("{WAIT}\nuntil_so '[ -z \"$({left})\" ]'");
        let _ = host.shell(&gone).ok();
    }
    for agent in agents {
        agent.signal(Signal::TERM);
        let _ = agent.finish();
    }
    cluster.running.signal(Signal::TERM);
    let _ = cluster.running.finish();
    for host in hosts {
        let left = "$E network rm cais-pods >/dev/null; nft list tables; ip -o link | grep -c vx-";
        assert_eq!(host.shell(left).stdout.trim(), "0");
    }
}

/// Pods of two hosts, asked by each other in every way there is.
const REACH: &str = r#"
kubectl apply -f pods.json
kubectl wait --for=condition=Ready pod/x pod/y --timeout=120s
x=$(kubectl get pod x -o jsonpath={.status.podIP}); y=$(kubectl get pod y -o jsonpath={.status.podIP})
s=$(kubectl get svc y -o jsonpath={.spec.clusterIP}); t=$(kubectl get svc x -o jsonpath={.spec.clusterIP})
from() { kubectl exec "$1" -- timeout 5 wget -q -O - "http://$2/"; }
until_so '[ "$(from x $y:8080)" = y ]'
until_so '[ "$(from y $x:8080)" = x ]'
until_so '[ "$(from x $s)" = y ]'
until_so '[ "$(from y $t)" = x ]'
until_so '[ "$(from x y.default.svc.cluster.local)" = y ]'
until_so '[ "$(from y x.default.svc.cluster.local)" = x ]'
port=$(kubectl get svc y -o jsonpath={.spec.ports[0].nodePort})
until_so '[ "$(curl -s -m 5 http://$A:$port/)" = y ]'
until_so '[ "$(curl -s -m 5 http://$s/)" = y ]'
echo "sources $(kubectl exec y -- netstat -tn | grep -c "$x")"
"#;

fn reach(cluster: &Cluster<'_>, hosts: &[Sandbox]) {
    let all = [web("x", "a"), web("y", "b"), service("x"), service("y")];
    cluster.file("pods.json", &all.map(|object| object.to_string()).join("\n"));
    let script = format!("A={}\n{WAIT}\n{REACH}", hosts[0].address());
    let _ = cluster.shell(&script).ok();
}

/// A port of a pod on another host, and what it uses.
fn reach_in(cluster: &Cluster<'_>) {
    let kubectl = testkit::kubectl();
    let outcome = cluster.shell(&format!(
        r#"{WAIT}
        {} port-forward pod/y :8080 >ports 2>&1 & forward=$!
        until_so 'grep -q "^Forwarding from 127" ports'
        port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' ports)
        curl -s -m 60 "http://127.0.0.1:$port/"
        kill $forward
        until_so 'kubectl top pod y --no-headers >used 2>&1'
        until_so 'kubectl top node b --no-headers >used 2>&1'
        kubectl get --raw /api/v1/nodes/b/proxy/stats/summary | grep -o '"nodeName": *"b"'
        "#,
        kubectl.display()
    ));
    outcome.code(0);
    assert!(outcome.stdout.starts_with("y\n\"nodeName\""), "{outcome}");
}

#[test]
fn pods_of_two_hosts_reach_each_other_and_are_reached_through_the_server() {
    let hosts = with_images(Sandbox::on_one_link(2));
    let cluster = server(&hosts);
    let joined = agent(&hosts, 1, "b", &token(&hosts));
    reach(&cluster, &hosts);
    let outcome = cluster.shell(
        r#"
        kubectl get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.spec.podCIDR}{"\n"}{end}'
        kubectl logs y
        echo typed | kubectl exec -i y -- sh -c 'cat; echo wrong >&2; exit 3' || echo "ended $?"
        head -c 3000000 /dev/zero | tr '\0' x > large
        kubectl cp large y:/large && kubectl cp y:/large back >/dev/null && cmp large back && echo same
        kubectl logs nobody 2>&1 || true
        kubectl exec y -- nothing 2>&1 || true
        "#,
    );
    outcome.code(0);
    for line in ["a 10.42.0.0/24", "b 10.42.1.0/24", "began", "typed", "ended 3", "same"] {
        assert!(outcome.stdout.lines().any(|own| own == line), "no line {line:?}:\n{outcome}");
    }

    reach_in(&cluster);

    // Whoever is not the server is told nothing.
    let asked = hosts[0].shell(&format!(
        "curl -s -k -o answer -w '%{{http_code}}' https://{}:10250/containerLogs/default/y/c",
        hosts[1].address()
    ));
    assert_ne!(asked.stdout.trim(), "200", "{asked}");

    // An agent that is killed joins again without a token, and no pod has noticed.
    let began = "kubectl get pod y -o jsonpath='{.status.containerStatuses[0].containerID}'";
    let before = cluster.shell(began).ok().to_owned();
    joined.signal(Signal::KILL);
    let _ = joined.finish();
    assert_eq!(cluster.shell("kubectl exec x -- timeout 5 wget -q -O - http://y/").ok(), "y");
    let joined = agent(&hosts, 1, "b", "");
    assert_eq!(cluster.shell(began).ok(), before);
    let _ = cluster.shell("kubectl logs y && kubectl exec y -- true").ok();

    // So does one whose server is started again.
    cluster.running.signal(Signal::KILL);
    let _ = cluster.running.finish();
    let cluster = server(&hosts);
    let ready = "kubectl wait --for=condition=Ready node/b --timeout=120s; kubectl exec y -- true";
    let _ = cluster.shell(&format!("{WAIT}\nuntil_so 'kubectl get node b'\n{ready}")).ok();
    end(cluster, vec![joined], &hosts);
}

#[test]
fn certificates_are_renewed_before_they_end() {
    let hosts = with_images(Sandbox::on_one_link(2));
    let cluster = server_with(&hosts, "--cluster-signing-duration 20s");
    let joined = agent(&hosts, 1, "b", &token(&hosts));
    cluster.file("y.json", &web("y", "b").to_string());
    let files = ["client.crt", "serving.crt"].map(|name| hosts[1].work().join("agent").join(name));
    let first = files.clone().map(|path| std::fs::read(path).unwrap());
    let begun = std::time::Instant::now();
    while files
        .clone()
        .map(|path| std::fs::read(path).unwrap())
        .iter()
        .zip(&first)
        .any(|(a, b)| a == b)
    {
        assert!(begun.elapsed().as_secs() < 120, "a certificate was not renewed");
        std::thread::yield_now();
    }
    let script = "kubectl apply -f y.json
        kubectl wait --for=condition=Ready pod/y --timeout=120s
        until_so '[ \"$(kubectl logs y)\" = began ]'";
    let _ = cluster.shell(&format!("{WAIT}\n{script}")).ok();
    end(cluster, vec![joined], &hosts);
}

#[test]
fn pods_of_hosts_with_a_router_between_reach_each_other() {
    let hosts = with_images(Sandbox::behind_a_router(2));
    let cluster = server(&hosts);
    let joined = agent(&hosts, 1, "b", &token(&hosts));
    reach(&cluster, &hosts);
    assert!(hosts[1].shell("ip -o link | grep vx-").ok().contains("mtu 1450"));
    end(cluster, vec![joined], &hosts);
}

#[test]
fn a_host_that_is_drained_or_lost_has_its_pods_replaced() {
    let hosts = with_images(Sandbox::on_one_link(3));
    let cluster = server(&hosts);
    let token = token(&hosts);
    let b = agent(&hosts, 1, "b", &token);
    let c = agent(&hosts, 2, "c", &token);
    let mut template = web("w", "");
    template["spec"].as_object_mut().unwrap().remove("nodeName");
    // One that ends at once would be forgotten with its host.
    template["spec"]["terminationGracePeriodSeconds"] = json!(1);
    // Nothing is waited for once a host is known to be lost.
    let key = "node.kubernetes.io/unreachable";
    template["spec"]["tolerations"] = json!([
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0},
    ]);
    template["spec"]["topologySpreadConstraints"] = json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "w"}},
    }]);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "w"},
        "spec": {"replicas": 6, "selector": {"matchLabels": {"app": "w"}}, "template": {
            "metadata": {"labels": {"app": "w"}}, "spec": template["spec"],
        }},
    });
    cluster.file("w.json", &deployment.to_string());
    let nodes = r#"nodes() { kubectl get pods -l app=w --field-selector=status.phase=Running \
        -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u | tr -d '\n'; }"#;
    let begun = format!("{WAIT}\n{nodes}");
    let outcome = cluster.shell(&format!(
        r#"{begun}
        until_so 'kubectl wait --for=condition=Ready node/b node/c --timeout=120s'
        until_so '[ -z "$(kubectl get nodes -o jsonpath={{.items[*].spec.taints}})" ]'
        kubectl apply -f w.json
        kubectl rollout status deploy/w --timeout=120s
        until_so '[ "$(nodes)" = abc ]'
        kubectl drain b --timeout=120s
        until_so '[ "$(nodes)" = ac ]'
        kubectl get node b
        kubectl uncordon b
        until_so '[ "$(kubectl get deploy w -o jsonpath={{.status.readyReplicas}})" = 6 ]'
        "#
    ));
    assert!(outcome.code(0).stdout.contains("SchedulingDisabled"), "{outcome}");

    c.signal(Signal::STOP);
    let outcome = cluster.shell(&format!(
        r#"{begun}
        kubectl wait --for=condition=Ready=Unknown node/c --timeout=120s
        until_so '[ "$(kubectl get deploy w -o jsonpath={{.status.readyReplicas}})" = 6 ]'
        kubectl get pods -l app=w -o jsonpath='{{range .items[*]}}{{.spec.nodeName}} {{.metadata.deletionTimestamp}}{{"\n"}}{{end}}'
        "#
    ));
    assert!(outcome.code(0).stdout.lines().any(|line| line.starts_with("c 2")), "{outcome}");
    c.signal(Signal::CONT);
    let _ = cluster
        .shell(&format!(
            r#"{begun}
        kubectl wait --for=condition=Ready node/c --timeout=120s
        until_so '[ "$(kubectl get pods -l app=w -o name | wc -l)" = 6 ]'
        "#
        ))
        .ok();
    end(cluster, vec![b, c], &hosts);
}
