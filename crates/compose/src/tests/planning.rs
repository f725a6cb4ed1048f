use super::load;
use crate::Project;
use crate::plan::{Instance, Made, Observed, Options, PullPolicy, Recreate, Supply, plan, supply};

#[derive(Default)]
struct World {
    containers: Vec<Instance>,
    networks: Vec<&'static str>,
}

impl Observed for World {
    fn containers(&self) -> &[Instance] {
        &self.containers
    }
    fn network(&self, name: &str) -> Option<Made> {
        self.networks.contains(&name).then(|| Made { project: "p".into(), ..Made::default() })
    }
    fn volume(&self, name: &str) -> Option<Made> {
        (name == "p_old").then(|| Made { project: "p".into(), hash: "other".into() })
    }
    fn image(&self, name: &str) -> Option<String> {
        Some(format!("id of {name}"))
    }
}

/// Containers `service-number`, each as the project has it; with `!` behind it changed, with `-`
/// stopped.
fn world(project: &Project, containers: &str) -> World {
    let one = |word: &str| {
        let name = word.trim_end_matches(['!', '-']);
        let (service, number) = name.rsplit_once('-').unwrap();
        let known = project.services.get(service);
        let hash = known.map(|service| project.hash(service)).unwrap_or_default();
        Instance {
            id: name.to_owned(),
            name: name.to_owned(),
            service: service.to_owned(),
            number: number.parse().unwrap(),
            is_running: !word.ends_with('-'),
            was_started: true,
            hash: if word.contains('!') { "other".into() } else { hash },
            image: known.map(|service| format!("id of {}", service.image())).unwrap_or_default(),
        }
    };
    World {
        containers: containers.split_whitespace().map(one).collect(),
        networks: vec!["p_default"],
    }
}

#[track_caller]
fn check(project: &mut Project, containers: &str, change: impl Fn(&mut Options), expected: &str) {
    let services = project.select(&[], true).unwrap();
    let mut options = Options { services, starts: true, ..Options::default() };
    change(&mut options);
    let observed = world(project, containers);
    let plan = plan(project, &observed, &options).unwrap();
    let mut all: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    all.extend(plan.orphans.iter().map(|name| format!("orphan {name}")));
    assert_eq!(all.join(", "), expected, "{containers}");
}

const WEB: &str = "services:\n  web:\n    image: w\n    depends_on: {db: {condition: service_healthy, restart: true}}\n    scale: 2\n  db:\n    image: d\n    volumes: ['v:/v']\nvolumes: {v: }\n";

#[test]
fn what_is_missing_is_made() {
    let mut project = load(WEB);
    let mut observed = World::default();
    let services = project.select(&[], true).unwrap();
    let options = Options { services, starts: true, ..Options::default() };
    let steps = plan(&project, &observed, &options).unwrap().steps;
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps.join(", "),
        "network default, volume v, create db 1, start db 1, wait web for db Healthy, create web 1, start web 1, create web 2, start web 2"
    );
    observed.networks.push("p_default");
    let options = Options { starts: false, ..options };
    let steps = plan(&project, &observed, &options).unwrap().steps;
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    assert_eq!(steps.join(", "), "volume v, create db 1, create web 1, create web 2");
}

#[test]
fn what_is_there_stays_and_what_has_changed_is_replaced() {
    let project = &mut load(&WEB.replace("    volumes: ['v:/v']\nvolumes: {v: }\n", ""));
    let none = |_: &mut Options| {};
    check(project, "db-1 web-1 web-2", none, "wait web for db Healthy");
    check(project, "db-1- web-1 web-2-", none, "start db 1, wait web for db Healthy, start web 2");
    check(project, "db-1 web-1! web-2", none, "wait web for db Healthy, replace web-1 StartFirst");
    check(
        project,
        "db-1! web-1 web-2",
        none,
        "replace db-1 StartFirst, wait web for db Healthy, restart web-1, restart web-2",
    );
    check(
        project,
        "db-1 web-1 web-2 web-3 web-4-",
        none,
        "remove web-4, remove web-3, wait web for db Healthy",
    );
    check(project, "db-1 web-3", none, "wait web for db Healthy, create web 4, start web 4");
    check(
        project,
        "db-1!- web-1 web-2",
        none,
        "replace db-1 StopFirst, start db 1, wait web for db Healthy, restart web-1, restart web-2",
    );
    check(
        project,
        "db-1! web-1! web-2!",
        |o| o.recreate = Recreate::Never,
        "wait web for db Healthy",
    );
    check(project, "db-1 web-1 web-2 old-1", none, "wait web for db Healthy, orphan old-1");
    check(
        project,
        "db-1 web-1 web-2 old-1",
        |o| o.removes_orphans = true,
        "remove old-1, wait web for db Healthy",
    );
    let named = |o: &mut Options| (o.recreate, o.named) = (Recreate::Always, vec!["web".into()]);
    check(
        project,
        "db-1 web-1 web-2",
        named,
        "wait web for db Healthy, replace web-1 StartFirst, replace web-2 StartFirst",
    );
}

#[test]
fn what_shares_with_something_new_is_new_too() {
    let project =
        &mut load("services:\n  a: {image: i}\n  b: {image: i, network_mode: 'service:a'}\n");
    check(project, "a-1! b-1", |_| {}, "replace a-1 StartFirst, replace b-1 StopFirst, start b 1");
}

#[test]
fn the_order_of_replacing() {
    use crate::Order::{StartFirst, StopFirst};
    for (keys, expected) in [
        ("x-a: 1", StartFirst),
        ("ports: ['80']", StartFirst),
        ("ports: ['80:80']", StopFirst),
        ("ports: ['8000-8010:80']", StartFirst),
        ("container_name: x", StopFirst),
        ("volumes: ['v:/v']", StopFirst),
        ("volumes: ['v:/v:ro']", StartFirst),
        ("deploy: {update_config: {order: stop-first}}", StopFirst),
        ("volumes: ['v:/v']\n    deploy: {update_config: {order: start-first}}", StartFirst),
        ("ports: ['80:80']\n    deploy: {update_config: {order: start-first}}", StopFirst),
        ("networks: {default: {ipv4_address: 10.1.1.1}}", StopFirst),
    ] {
        let project =
            load(&format!("services:\n  a:\n    image: i\n    {keys}\nvolumes: {{v: }}\n"));
        assert_eq!(project.services["a"].order(), expected, "{keys}");
    }
}

#[test]
fn hashes_change_with_what_matters() {
    let hash = |keys: &str| {
        let rest = "configs: {c: {content: one}, d: {content: two}}\nvolumes: {v: {}, w: {}}";
        let text =
            format!("services:\n  a:\n    image: i\n    {keys}\n  z: {{image: i}}\n{rest}\n");
        let project = load(&text);
        project.hash(&project.services["a"])
    };
    let plain = hash("x-a: 1");
    assert_eq!(hash("x-a: 1\n    scale: 3"), plain);
    assert_eq!(hash("x-a: 1\n    depends_on: [z]"), plain);
    assert_ne!(hash("x-a: 1\n    hostname: h"), plain);
    assert_eq!(hash("hostname: h\n    user: u"), hash("user: u\n    hostname: h"));
    let content = |of: &str| hash(&format!("configs: [{{source: {of}, target: /x}}]"));
    assert_ne!(content("c"), content("d"));
}

#[test]
fn what_is_there_and_was_made_from_something_else_is_told() {
    let mut project = load(
        "services: {a: {image: i, volumes: ['v:/v', 'old:/o']}}\nvolumes: {v: , old: }\nnetworks: {default: {name: theirs}}\n",
    );
    let services = project.select(&[], true).unwrap();
    let options = Options { services, starts: true, ..Options::default() };
    let mut observed = World { networks: vec!["theirs"], ..World::default() };
    let warnings = plan(&project, &observed, &options).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("volume \"p_old\" exists but doesn't match"));
    observed.networks.clear();
    project.name = "q".into();
    let warnings = plan(&project, &observed, &options).unwrap().warnings;
    assert!(warnings[0].contains("was not created for project \"q\""), "{warnings:?}");
}

#[test]
fn what_belongs_to_others_must_be_there() {
    let mut project = load(
        "services: {a: {image: i, networks: [n]}}\nnetworks: {n: {external: true, name: out}}\n",
    );
    let services = project.select(&[], true).unwrap();
    let options = Options { services, starts: true, ..Options::default() };
    let error = plan(&project, &World::default(), &options).unwrap_err();
    assert!(
        error.to_string().ends_with("network out declared as external, but could not be found")
    );
}

#[test]
fn images_are_pulled_or_built() {
    for (keys, is_there, asked, builds, expected) in [
        ("image: i", true, None, None, Supply::None),
        ("image: i", false, None, None, Supply::Pull),
        ("image: i\n    pull_policy: always", true, None, None, Supply::Pull),
        ("image: i\n    pull_policy: never", false, None, None, Supply::None),
        ("image: i\n    pull_policy: daily", true, None, None, Supply::Pull),
        ("image: i", true, Some(PullPolicy::Always), None, Supply::Pull),
        ("build: .", false, None, None, Supply::Build),
        ("build: .", true, None, None, Supply::None),
        ("build: .", true, None, Some(true), Supply::Build),
        ("build: .", false, None, Some(false), Supply::None),
        ("build: .\n    pull_policy: build", true, None, None, Supply::Build),
        ("build: .\n    image: i\n    pull_policy: always", true, None, None, Supply::PullOrBuild),
    ] {
        let project = load(&format!("services:\n  a:\n    {keys}\n"));
        let supply = supply(&project.services["a"], is_there, 100_000, asked, builds).unwrap();
        assert_eq!(supply, expected, "{keys}");
    }
    let project = load("services: {a: {image: i, pull_policy: nonsense}}");
    assert!(supply(&project.services["a"], true, 0, None, None).is_err());
}
