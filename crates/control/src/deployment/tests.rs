use std::time::Duration;

use serde_json::{Value, json};

use crate::object::{annotation, condition, name, number};
use crate::testing::{Health, World, template};

fn deployment(replicas: i64) -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template("web", "one"),
        },
    })
}

fn sizes(world: &World) -> Vec<(String, i64)> {
    let image = |set: &Value| set["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    let mut sizes: Vec<(String, i64)> = world
        .list("ReplicaSet")
        .iter()
        .map(|set| (image(set).as_str().unwrap().to_owned(), number(set, "/spec/replicas", 0)))
        .collect();
    sizes.sort();
    sizes
}

fn owned(sizes: &[(&str, i64)]) -> Vec<(String, i64)> {
    sizes.iter().map(|(image, size)| ((*image).to_owned(), *size)).collect()
}

#[test]
fn a_deployment_has_pods_and_says_so() {
    let mut world = World::new();
    world.create("Deployment", deployment(3));
    world.settle();
    assert_eq!(world.list("Pod").len(), 3);
    let web = world.get("Deployment", "web").unwrap();
    let status = &web["status"];
    assert_eq!((&status["replicas"], &status["availableReplicas"]), (&json!(3), &json!(3)));
    let progressing = condition(&web, "Progressing").unwrap();
    assert_eq!(progressing["reason"], "NewReplicaSetAvailable");
    assert_eq!(condition(&web, "Available").unwrap()["status"], "True");
    assert_eq!(annotation(&web, "deployment.kubernetes.io/revision"), Some("1"));
    let events = world.events();
    let told = |word: &str| events.iter().any(|event| event.starts_with(word));
    assert!(told("ScalingReplicaSet: Scaled up replica set web-"), "{events:?}");
    assert!(told("SuccessfulCreate: Created pod: web-"), "{events:?}");
}

#[test]
fn a_new_template_replaces_the_old_one_a_few_pods_at_a_time() {
    let mut world = World::new();
    world.create("Deployment", deployment(4));
    world.settle();
    let new = json!({"spec": {"template": template("web", "two")}});
    world.patch("Deployment", "web", new);
    // New pods that never get ready stop it where it is.
    world.health = |pod| match pod["spec"]["containers"][0]["image"] == "two" {
        true => Health::NotReady,
        false => Health::Ready,
    };
    world.settle();
    assert_eq!(sizes(&world), owned(&[("one", 3), ("two", 2)]));
    world.pass(Duration::from_secs(601));
    world.settle();
    let web = world.get("Deployment", "web").unwrap();
    assert_eq!(condition(&web, "Progressing").unwrap()["reason"], "ProgressDeadlineExceeded");
    world.health = |_| Health::Ready;
    world.settle();
    assert_eq!(sizes(&world), owned(&[("one", 0), ("two", 4)]));
    let web = world.get("Deployment", "web").unwrap();
    assert_eq!(web["status"]["updatedReplicas"], 4);
    assert_eq!(annotation(&web, "deployment.kubernetes.io/revision"), Some("2"));
    // Back again: the old set is the new one, and has a new number.
    world.patch("Deployment", "web", json!({"spec": {"template": template("web", "one")}}));
    world.settle();
    assert_eq!(sizes(&world), owned(&[("one", 4), ("two", 0)]));
    let web = world.get("Deployment", "web").unwrap();
    assert_eq!(annotation(&web, "deployment.kubernetes.io/revision"), Some("3"));
}

#[test]
fn one_that_recreates_never_has_pods_of_two_templates() {
    let mut world = World::new();
    let mut web = deployment(3);
    web["spec"]["strategy"] = json!({"type": "Recreate"});
    // A pod that runs somewhere takes its time to end.
    web["spec"]["template"]["spec"]["nodeName"] = json!("n");
    world.node("n");
    world.create("Deployment", web);
    world.settle();
    world.patch("Deployment", "web", json!({"spec": {"template": template("web", "two")}}));
    world.plan_only();
    assert!(sizes(&world).contains(&("one".to_owned(), 0)));
    assert_eq!(sizes(&world).len(), 1);
    world.settle();
    assert_eq!(sizes(&world), owned(&[("one", 0), ("two", 3)]));
}

#[test]
fn a_paused_one_is_scaled_and_not_replaced() {
    let mut world = World::new();
    world.create("Deployment", deployment(2));
    world.settle();
    let pause =
        json!({"spec": {"paused": true, "template": template("web", "two"), "replicas": 5}});
    world.patch("Deployment", "web", pause);
    world.settle();
    assert_eq!(sizes(&world), owned(&[("one", 5)]));
    let web = world.get("Deployment", "web").unwrap();
    assert_eq!(condition(&web, "Progressing").unwrap()["reason"], "DeploymentPaused");
    world.patch("Deployment", "web", json!({"spec": {"paused": false}}));
    world.settle();
    assert_eq!(sizes(&world), owned(&[("one", 0), ("two", 5)]));
}

#[test]
fn a_size_is_shared_among_sets_in_the_middle_of_an_update() {
    let mut world = World::new();
    world.create("Deployment", deployment(8));
    world.settle();
    world.patch("Deployment", "web", json!({"spec": {"template": template("web", "two")}}));
    world.health = |pod| match pod["spec"]["containers"][0]["image"] == "two" {
        true => Health::NotReady,
        false => Health::Ready,
    };
    world.settle();
    assert_eq!(sizes(&world), owned(&[("one", 6), ("two", 4)]));
    world.patch("Deployment", "web", json!({"spec": {"replicas": 16}}));
    world.plan_only();
    let sizes = sizes(&world);
    let all: i64 = sizes.iter().map(|(_, size)| size).sum();
    assert_eq!((all, sizes[0].1), (20, 12), "{sizes:?}");
}

#[test]
fn old_sets_are_kept_as_many_as_are_wanted() {
    let mut world = World::new();
    let mut web = deployment(1);
    web["spec"]["revisionHistoryLimit"] = json!(2);
    world.create("Deployment", web);
    for image in ["two", "three", "four", "five"] {
        world.settle();
        world.patch("Deployment", "web", json!({"spec": {"template": template("web", image)}}));
    }
    world.settle();
    let kept: Vec<String> = sizes(&world).into_iter().map(|(image, _)| image).collect();
    assert_eq!(kept, ["five", "four", "three"]);
}

#[test]
fn pods_that_match_are_adopted_and_those_that_do_not_are_let_go() {
    let mut world = World::new();
    world.create("Deployment", deployment(2));
    world.settle();
    let pods = world.list("Pod");
    let freed = name(&pods[0]).to_owned();
    world.patch("Pod", &freed, json!({"metadata": {"labels": {"app": "other"}}}));
    world.settle();
    assert_eq!(world.list("Pod").len(), 3);
    assert!(crate::object::controller(&world.get("Pod", &freed).unwrap()).is_none());
    world.patch("Pod", &freed, json!({"metadata": {"labels": {"app": "web"}}}));
    world.settle();
    assert_eq!(world.list("Pod").len(), 2);
}
