//! Whole controllers over a log in memory.

#![expect(clippy::needless_pass_by_value, reason = "objects are written where they are used")]

use std::time::Duration;

use serde_json::{Value, json};

use crate::object::{controller, items, label, name, number};
use crate::testing::{Health, World, template};

#[test]
fn a_replication_controller_has_its_pods() {
    let mut world = World::new();
    world.create(
        "ReplicationController",
        json!({"metadata": {"name": "rc"}, "spec": {
        "replicas": 2, "selector": {"app": "rc"}, "template": template("rc", "one")}}),
    );
    world.settle();
    assert_eq!(world.list("Pod").len(), 2);
    world.patch("ReplicationController", "rc", json!({"spec": {"replicas": 0}}));
    world.settle();
    assert!(world.list("Pod").is_empty());
    assert_eq!(world.get("ReplicationController", "rc").unwrap()["status"]["replicas"], 0);
}

fn stateful_set(replicas: i64) -> Value {
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    json!({"metadata": {"name": "db"}, "spec": {
        "replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": on_node(template("db", "one")), "volumeClaimTemplates": [claim]}})
}

/// A pod that runs somewhere takes its time to end.
fn on_node(mut template: Value) -> Value {
    template["spec"]["nodeName"] = json!("n");
    template
}

fn names(world: &World, of: &str) -> Vec<String> {
    world.list(of).iter().map(|own| name(own).to_owned()).collect()
}

#[test]
fn a_stateful_set_comes_and_goes_one_by_one() {
    let mut world = World::new();
    world.node("n");
    world.create("StatefulSet", stateful_set(3));
    world.plan_only();
    assert_eq!(names(&world, "Pod"), ["db-0"]);
    world.settle();
    assert_eq!(names(&world, "Pod"), ["db-0", "db-1", "db-2"]);
    assert_eq!(names(&world, "PersistentVolumeClaim"), ["data-db-0", "data-db-1", "data-db-2"]);
    let pod = world.get("Pod", "db-1").unwrap();
    assert_eq!(pod["spec"]["hostname"], "db-1");
    assert_eq!(label(&pod, "apps.kubernetes.io/pod-index"), Some("1"));
    let volume = json!({"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}});
    assert!(items(&pod["spec"]["volumes"]).contains(&volume));
    world.patch("StatefulSet", "db", json!({"spec": {"replicas": 1}}));
    world.plan_only();
    assert!(world.get("Pod", "db-1").is_some_and(|pod| !crate::object::is_ending(&pod)));
    world.settle();
    assert_eq!(names(&world, "Pod"), ["db-0"]);
    // What it has written stays.
    assert_eq!(world.list("PersistentVolumeClaim").len(), 3);
}

#[test]
fn a_stateful_set_is_renewed_from_its_end_and_stops_at_what_is_sick() {
    let mut world = World::new();
    world.create("StatefulSet", stateful_set(3));
    world.settle();
    let before = world.get("StatefulSet", "db").unwrap();
    assert_eq!(before["status"]["currentRevision"], before["status"]["updateRevision"]);
    world.health = |pod| match pod["spec"]["containers"][0]["image"] == "two" {
        true => Health::NotReady,
        false => Health::Ready,
    };
    world.patch("StatefulSet", "db", json!({"spec": {"template": template("db", "two")}}));
    world.settle();
    let image = |world: &World, of: &str| {
        world.get("Pod", of).unwrap()["spec"]["containers"][0]["image"].clone()
    };
    let images = |world: &World| ["db-0", "db-1", "db-2"].map(|of| image(world, of));
    assert_eq!(images(&world), [json!("one"), json!("one"), json!("two")]);
    world.health = |_| Health::Ready;
    world.settle();
    assert_eq!(images(&world), [json!("two"), json!("two"), json!("two")]);
    let after = world.get("StatefulSet", "db").unwrap();
    assert_eq!(after["status"]["currentRevision"], after["status"]["updateRevision"]);
    assert_eq!(after["status"]["updatedReplicas"], 3);
    assert_eq!(world.list("ControllerRevision").len(), 2);
    // A part of it only.
    let part = json!({"spec": {"template": template("db", "three"),
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}});
    world.patch("StatefulSet", "db", part);
    world.settle();
    assert_eq!(images(&world), [json!("two"), json!("two"), json!("three")]);
    // One of the others that is lost comes back as it was.
    world.delete("Pod", "db-0");
    world.settle();
    assert_eq!(images(&world), [json!("two"), json!("two"), json!("three")]);
}

#[test]
fn a_parallel_set_waits_for_nobody() {
    let mut world = World::new();
    let mut set = stateful_set(3);
    set["spec"]["podManagementPolicy"] = json!("Parallel");
    world.create("StatefulSet", set);
    world.plan_only();
    assert_eq!(world.list("Pod").len(), 3);
}

fn daemon_set(spec: Value) -> Value {
    let mut set = json!({"metadata": {"name": "ds"}, "spec": {
        "selector": {"matchLabels": {"app": "ds"}}, "template": template("ds", "one")}});
    for (key, value) in spec.as_object().unwrap() {
        set["spec"][key] = value.clone();
    }
    set
}

#[test]
fn a_daemon_set_has_one_pod_on_each_node() {
    let mut world = World::new();
    ["a", "b", "c"].into_iter().for_each(|node| world.node(node));
    world.create("DaemonSet", daemon_set(json!({})));
    world.settle();
    let set = world.get("DaemonSet", "ds").unwrap();
    assert_eq!(set["status"]["desiredNumberScheduled"], 3);
    assert_eq!(set["status"]["numberAvailable"], 3);
    // A node that nobody may be on.
    let taint = json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}});
    let patch = |world: &World, patch: &Value| {
        let of = client::kind("Node");
        world.client.patch(of, ("", "b"), "", client::Patch::Merge, patch).unwrap();
    };
    patch(&world, &taint);
    world.settle();
    assert_eq!(world.list("Pod").len(), 2);
    patch(&world, &json!({"spec": {"taints": null}}));
    world.settle();
    assert_eq!(world.list("Pod").len(), 3);
    // One pod at a time is renewed.
    world.health = |pod| match pod["spec"]["containers"][0]["image"] == "two" {
        true => Health::NotReady,
        false => Health::Ready,
    };
    world.patch("DaemonSet", "ds", json!({"spec": {"template": template("ds", "two")}}));
    world.settle();
    assert_eq!(world.get("DaemonSet", "ds").unwrap()["status"]["updatedNumberScheduled"], 1);
    world.health = |_| Health::Ready;
    world.settle();
    assert_eq!(world.get("DaemonSet", "ds").unwrap()["status"]["updatedNumberScheduled"], 3);
}

#[test]
fn a_daemon_set_with_surge_is_never_without() {
    let mut world = World::new();
    world.node("a");
    let strategy =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    world.create("DaemonSet", daemon_set(json!({"updateStrategy": strategy})));
    world.settle();
    world.health = |pod| match pod["spec"]["containers"][0]["image"] == "two" {
        true => Health::NotReady,
        false => Health::Ready,
    };
    world.patch("DaemonSet", "ds", json!({"spec": {"template": template("ds", "two")}}));
    world.settle();
    assert_eq!(world.list("Pod").len(), 2);
    world.health = |_| Health::Ready;
    world.settle();
    assert_eq!(world.list("Pod").len(), 1);
    assert_eq!(world.list("Pod")[0]["spec"]["containers"][0]["image"], "two");
}

fn job(spec: Value) -> Value {
    let mut template = template("j", "one");
    template["spec"]["restartPolicy"] = json!("Never");
    let mut job = json!({"metadata": {"name": "job"}, "spec": {"template": template}});
    for (key, value) in spec.as_object().unwrap() {
        job["spec"][key] = value.clone();
    }
    job
}

fn condition_of(world: &World, kind: &str) -> Value {
    let job = world.get("Job", "job").unwrap();
    crate::object::condition(&job, kind).cloned().unwrap_or_default()
}

#[test]
fn a_job_ends_when_enough_of_its_pods_have() {
    let mut world = World::new();
    world.create("Job", job(json!({"completions": 5, "parallelism": 2})));
    world.plan_only();
    assert_eq!(world.list("Pod").len(), 2);
    world.health = |_| Health::Succeeds;
    world.settle();
    let job = world.get("Job", "job").unwrap();
    assert_eq!(job["status"]["succeeded"], 5, "{}", job["status"]);
    assert_eq!(condition_of(&world, "Complete")["status"], "True");
    assert!(!job["status"]["completionTime"].is_null());
    let kept = |pod: &client::Object| crate::object::has_finalizer(pod, crate::job::TRACKING);
    assert!(!world.list("Pod").iter().any(kept));
}

#[test]
fn a_job_tries_again_later_each_time_and_gives_up() {
    let mut world = World::new();
    world.health = |_| Health::Fails;
    world.create("Job", job(json!({"backoffLimit": 2})));
    world.settle();
    assert_eq!(world.list("Pod").len(), 1);
    world.pass(Duration::from_secs(9));
    world.settle();
    assert_eq!(world.list("Pod").len(), 1);
    world.pass(Duration::from_secs(2));
    world.settle();
    assert_eq!(world.list("Pod").len(), 2);
    world.pass(Duration::from_secs(21));
    world.settle();
    assert_eq!(world.list("Pod").len(), 3);
    assert_eq!(condition_of(&world, "Failed")["reason"], "BackoffLimitExceeded");
    assert_eq!(world.get("Job", "job").unwrap()["status"]["failed"], 3);
}

#[test]
fn every_index_succeeds_once() {
    let mut world = World::new();
    let spec = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 4,
        "backoffLimitPerIndex": 0});
    world.health = |pod| match pod["metadata"]["annotations"][crate::job::INDEX] == "2" {
        true => Health::Fails,
        false => Health::Succeeds,
    };
    world.create("Job", job(spec));
    world.settle();
    let status = world.get("Job", "job").unwrap()["status"].clone();
    assert_eq!(
        (&status["completedIndexes"], &status["failedIndexes"]),
        (&json!("0-1,3"), &json!("2"))
    );
    assert_eq!(condition_of(&world, "Failed")["reason"], "FailedIndexes");
}

#[test]
fn a_job_has_a_deadline_a_pause_and_an_end_of_its_record() {
    let mut world = World::new();
    let spec =
        json!({"suspend": true, "activeDeadlineSeconds": 60, "ttlSecondsAfterFinished": 100});
    world.create("Job", job(spec));
    world.settle();
    assert!(world.list("Pod").is_empty());
    assert_eq!(condition_of(&world, "Suspended")["status"], "True");
    world.patch("Job", "job", json!({"spec": {"suspend": false}}));
    world.settle();
    assert_eq!(world.list("Pod").len(), 1);
    world.pass(Duration::from_secs(61));
    world.settle();
    assert_eq!(condition_of(&world, "Failed")["reason"], "DeadlineExceeded");
    assert!(world.list("Pod").is_empty());
    world.pass(Duration::from_secs(101));
    world.settle();
    assert!(world.get("Job", "job").is_none());
}

#[test]
fn a_failure_policy_decides_what_a_failure_is() {
    let mut world = World::new();
    world.health = |_| Health::Fails;
    let rule = json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}});
    world.create("Job", job(json!({"podFailurePolicy": {"rules": [rule]}})));
    world.settle();
    let failed = condition_of(&world, "Failed");
    assert_eq!(failed["reason"], "PodFailurePolicy");
    let message = failed["message"].as_str().unwrap();
    assert!(
        message.starts_with("Container c failed with exit code 1 for pod default/job-"),
        "{message}"
    );
}

#[test]
fn a_cron_job_makes_jobs_at_its_times() {
    let mut world = World::new();
    world.health = |_| Health::Succeeds;
    let mut template = template("c", "one");
    template["spec"]["restartPolicy"] = json!("OnFailure");
    let cron = json!({"metadata": {"name": "cron"}, "spec": {
        "schedule": "* * * * *", "successfulJobsHistoryLimit": 2,
        "jobTemplate": {"spec": {"template": template}}}});
    world.create("CronJob", cron);
    world.settle();
    assert!(world.list("Job").is_empty());
    for minute in 1..=4 {
        world.pass(Duration::from_secs(60));
        world.settle();
        assert_eq!(world.list("Job").len(), minute.min(2), "after {minute} minutes");
    }
    let cron = world.get("CronJob", "cron").unwrap();
    assert!(!cron["status"]["lastSuccessfulTime"].is_null());
    world.patch("CronJob", "cron", json!({"spec": {"suspend": true}}));
    world.settle();
    let before = names(&world, "Job");
    world.pass(Duration::from_secs(300));
    world.settle();
    assert_eq!(names(&world, "Job"), before);
}

#[test]
fn a_service_answers_where_its_pods_are_ready() {
    let mut world = World::new();
    let mut template = template("web", "one");
    template["spec"]["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    world.create(
        "Deployment",
        json!({"metadata": {"name": "web"}, "spec": {"replicas": 3,
        "selector": {"matchLabels": {"app": "web"}}, "template": template}}),
    );
    world.create(
        "Service",
        json!({"metadata": {"name": "web"}, "spec": {
        "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}}),
    );
    world.settle();
    let slices = world.list("EndpointSlice");
    assert_eq!(slices.len(), 1);
    let endpoints = items(&slices[0]["endpoints"]);
    // All of them have one address here.
    assert_eq!(endpoints.len(), 1);
    assert_eq!(endpoints[0]["conditions"]["ready"], true);
    assert_eq!(slices[0]["ports"][0]["port"], 8080);
    assert!(controller(&slices[0]).is_some_and(|owner| owner["kind"] == "Service"));
    let legacy = world.get("Endpoints", "web").unwrap();
    assert_eq!(items(&legacy["subsets"][0]["addresses"]).len(), 3);
    world.health = |_| Health::NotReady;
    world.settle();
    let slice = &world.list("EndpointSlice")[0];
    assert_eq!(slice["endpoints"][0]["conditions"]["ready"], false);
    let legacy = world.get("Endpoints", "web").unwrap();
    assert!(legacy["subsets"][0]["addresses"].is_null());
    world.delete("Service", "web");
    world.settle();
    assert!(world.list("EndpointSlice").is_empty());
    assert!(world.list("Endpoints").is_empty());
}

#[test]
fn a_budget_tells_how_many_pods_may_go() {
    let mut world = World::new();
    world.create(
        "Deployment",
        json!({"metadata": {"name": "web"}, "spec": {"replicas": 4,
        "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "one")}}),
    );
    let budget = json!({"metadata": {"name": "b"}, "spec": {"maxUnavailable": "30%",
        "selector": {"matchLabels": {"app": "web"}}}});
    world.create("PodDisruptionBudget", budget);
    world.settle();
    let status = |world: &World| world.get("PodDisruptionBudget", "b").unwrap()["status"].clone();
    let found = status(&world);
    assert_eq!(
        (&found["disruptionsAllowed"], &found["expectedPods"]),
        (&json!(2), &json!(4)),
        "{found}"
    );
    world.health = |_| Health::NotReady;
    world.settle();
    assert_eq!(status(&world)["disruptionsAllowed"], 0);
}

#[test]
fn a_silent_node_loses_its_pods() {
    let mut world = World::new();
    world.node("a");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "a",
        "containers": [{"name": "c", "image": "i"}],
        "tolerations": [{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}]}});
    world.create("Pod", pod);
    world.settle();
    world.pass(Duration::from_secs(30));
    world.beat("a");
    world.settle();
    world.pass(Duration::from_secs(30));
    world.settle();
    assert!(world.get("Pod", "p").is_some());
    world.pass(Duration::from_secs(15));
    world.settle();
    let node = world.client.get(client::kind("Node"), "", "a").unwrap();
    assert!(items(&node["spec"]["taints"]).iter().any(|taint| taint["effect"] == "NoExecute"));
    world.pass(Duration::from_secs(31));
    world.settle();
    assert!(world.get("Pod", "p").is_none());
}

#[test]
fn a_claim_and_a_volume_find_each_other() {
    let mut world = World::new();
    let volume = |name: &str, size: &str| {
        json!({"metadata": {"name": name}, "spec": {"capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp"}, "storageClassName": "s"}})
    };
    for (name, size) in [("large", "5Gi"), ("small", "2Gi"), ("tiny", "1Mi")] {
        let of = client::kind("PersistentVolume");
        world.client.create(of, "", &volume(name, size)).unwrap();
    }
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "storageClassName": "s", "resources": {"requests": {"storage": "1Gi"}}}});
    world.create("PersistentVolumeClaim", claim);
    world.settle();
    let claim = world.get("PersistentVolumeClaim", "c").unwrap();
    assert_eq!(
        (&claim["status"]["phase"], &claim["spec"]["volumeName"]),
        (&json!("Bound"), &json!("small"))
    );
    assert_eq!(claim["status"]["capacity"]["storage"], "2Gi");
    world.delete("PersistentVolumeClaim", "c");
    world.settle();
    let volume = world.client.get(client::kind("PersistentVolume"), "", "small").unwrap();
    assert_eq!(volume["status"]["phase"], "Released");
}

#[test]
fn an_autoscaler_follows_the_load() {
    let mut world = World::new();
    let mut template = template("web", "one");
    template["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    world.create(
        "Deployment",
        json!({"metadata": {"name": "web"}, "spec": {"replicas": 2,
        "selector": {"matchLabels": {"app": "web"}}, "template": template}}),
    );
    world.settle();
    world.pass(Duration::from_secs(400));
    let metric = json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 50}}});
    world.create(
        "HorizontalPodAutoscaler",
        json!({"metadata": {"name": "web"}, "spec": {
        "minReplicas": 1, "maxReplicas": 10, "metrics": [metric],
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}}),
    );
    let measure = |world: &World, cpu: &str| {
        let pods = world.list("Pod");
        let item = |pod: &client::Object| {
            json!({"metadata": {"name": name(pod)}, "timestamp": crate::object::stamp(world.now),
                "window": "10s", "containers": [{"name": "c", "usage": {"cpu": cpu}}]})
        };
        let list: Vec<Value> = pods.iter().map(item).collect();
        *world.measurements.0.lock().unwrap() = json!({"items": list});
    };
    measure(&world, "100m");
    world.settle();
    let replicas =
        |world: &World| number(&world.get("Deployment", "web").unwrap(), "/spec/replicas", 0);
    assert_eq!(replicas(&world), 4);
    let own = world.get("HorizontalPodAutoscaler", "web").unwrap();
    let current = &own["status"]["currentMetrics"][0]["resource"]["current"];
    assert_eq!(
        (&current["averageUtilization"], &current["averageValue"]),
        (&json!(100), &json!("100m"))
    );
    // It shrinks after five minutes of less.
    world.pass(Duration::from_secs(400));
    measure(&world, "10m");
    world.settle();
    assert_eq!(replicas(&world), 1);
    let events = world.events();
    assert!(events.iter().any(|event| event.starts_with("SuccessfulRescale: New size: 4; reason: cpu resource utilization (percentage of request) above target")), "{events:?}");
}
