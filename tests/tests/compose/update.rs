//! What changes is replaced; what does not, stays.

use testkit::Sandbox;

use super::{down, write};

fn id(sandbox: &Sandbox, service: &str) -> String {
    let shown = sandbox.shell(&format!("$E compose ps -q {service}"));
    shown.ok().to_owned()
}

#[test]
fn the_new_container_is_healthy_before_the_old_one_goes() {
    let sandbox = Sandbox::new();
    let file = |greeting: &str, check: &str| {
        format!(
            "name: p\nservices:\n  web:\n    image: busybox\n    command: sleep 1000\n    init: true\n    environment: {{A: {greeting}}}\n    healthcheck: {{test: '{check}', interval: 50ms, retries: 3}}\n"
        )
    };
    write(&sandbox, &file("one", "true"));
    let _ = sandbox.line("cais compose up -d --wait").ok();
    let first = id(&sandbox, "web");
    write(&sandbox, &file("two", "true"));
    let _ = sandbox.line("cais compose up -d").ok();
    let second = id(&sandbox, "web");
    assert_ne!(first, second);
    let events = sandbox.shell(
        "$E events --since 0 --until $(($(date +%s)+1)) --filter type=container --format '{{.Actor.ID}} {{.Action}}'",
    );
    let order: Vec<&str> = events.ok().lines().collect();
    let at = |id: &str, action: &str| {
        let wanted = format!("{id} {action}");
        order
            .iter()
            .position(|line| *line == wanted)
            .unwrap_or_else(|| panic!("{wanted}: {events}"))
    };
    assert!(at(&second, "health_status: healthy") < at(&first, "die"), "{events}");
    sandbox.line("cais compose ps --format {{.Name}}:{{.State}}").out("p-web-1:running\n");
    sandbox.shell("$E compose exec -T web sh -c 'echo $A'").out("two\n");

    // One that does not come to be healthy replaces nothing.
    write(&sandbox, &file("three", "false"));
    sandbox
        .line("cais compose up -d")
        .code(1)
        .says("is unhealthy")
        .says("the old container goes on");
    assert_eq!(id(&sandbox, "web"), second);
    sandbox.line("cais ps -a --format {{.Names}}").out("p-web-1\n");
    down(&sandbox);
}

#[test]
fn what_cannot_run_twice_is_stopped_first() {
    let sandbox = Sandbox::new();
    let file = |value: &str| {
        format!(
            "name: p\nservices:\n  web: {{image: busybox, command: sleep 1000, init: true, ports: ['8080:80'], environment: {{A: {value}}}}}\n"
        )
    };
    write(&sandbox, &file("one"));
    let _ = sandbox.line("cais compose up -d").ok();
    let first = id(&sandbox, "web");
    write(&sandbox, &file("two"));
    let up = sandbox.line("cais compose up -d -t 0");
    up.code(0).says("Container p-web-1  Recreated");
    assert_ne!(id(&sandbox, "web"), first);
    let second = id(&sandbox, "web");
    let _ = sandbox.line("cais compose up -d").ok();
    assert_eq!(id(&sandbox, "web"), second);
    let _ = sandbox.line("cais compose up -d --no-recreate").ok();
    let _ = sandbox.line("cais compose up -d --force-recreate -t 0").ok();
    assert_ne!(id(&sandbox, "web"), second);
    down(&sandbox);
}

#[test]
fn anonymous_volumes_go_on_unless_they_are_renewed() {
    let sandbox = Sandbox::new();
    let file = |value: &str| {
        format!(
            "name: p\nservices:\n  a: {{image: busybox, command: sleep 1000, init: true, volumes: [/data], environment: {{A: {value}}}}}\n"
        )
    };
    write(&sandbox, &file("one"));
    let _ = sandbox.line("cais compose up -d").ok();
    let _ = sandbox.line("cais compose exec -T a touch /data/kept").ok();
    write(&sandbox, &file("two"));
    let _ = sandbox.line("cais compose up -d -t 0").ok();
    let _ = sandbox.line("cais compose exec -T a ls /data/kept").ok();
    write(&sandbox, &file("three"));
    let _ = sandbox.line("cais compose up -d -t 0 -V").ok();
    sandbox.line("cais compose exec -T a ls /data").out("");
    sandbox.shell("$E volume ls -q | wc -l").out("1\n");
    down(&sandbox);
}

#[test]
fn a_service_that_is_built_is_built_when_it_is_missing_or_asked_for() {
    let sandbox = Sandbox::new();
    let context = sandbox.work().join("app");
    std::fs::create_dir(&context).unwrap();
    let dockerfile = |text: &str| {
        std::fs::write(
            context.join("Dockerfile"),
            format!("FROM busybox\nARG WHO\nRUN echo {text} $WHO >/text\nCMD cat /text\n"),
        )
        .unwrap();
    };
    dockerfile("one");
    write(&sandbox, "name: p\nservices:\n  a: {build: {context: app, args: {WHO: you}}}\n");
    sandbox.line("cais compose run --rm -T a").out("one you\n");
    dockerfile("two");
    sandbox.line("cais compose run --rm -T a").out("one you\n");
    let _ = sandbox.line("cais compose build -q").ok();
    sandbox.line("cais compose run --rm -T a").out("two you\n");
    sandbox.line("cais images -q p-a").code(0);
    let _ = sandbox.line("cais compose down --rmi local").ok();
    sandbox.line("cais images -q p-a").out("");
    down(&sandbox);
}
