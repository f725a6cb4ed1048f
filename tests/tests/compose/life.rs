//! From `up` to `down`.

use testkit::Sandbox;

use super::{down, write};

/// A store whose health is checked, an application that answers with what is in it, and a web
/// server before that.
const SHOP: &str = r#"
name: shop
services:
  web:
    image: busybox
    command:
      - sh
      - -c
      - |
        ip=$$(nslookup -type=A app 127.0.0.11 | awk '/^Address/ {a = $$NF} END {print a}')
        wget -qO /tmp/index.html http://$$ip:8000/
        exec httpd -f -p 80 -h /tmp
    init: true
    ports: ["8080:80"]
    networks: [front]
    depends_on:
      app: {condition: service_healthy}
  app:
    image: busybox
    command: httpd -f -p 8000 -h /data
    init: true
    networks:
      front:
      back: {aliases: [application]}
    volumes: ["data:/data"]
    healthcheck:
      test: [CMD, wget, -qO-, "http://127.0.0.1:8000/"]
      interval: 100ms
      retries: 50
    depends_on:
      seed: {condition: service_completed_successfully}
      store: {condition: service_healthy, restart: true}
  seed:
    image: busybox
    command: [sh, -c, "echo $$GREETING > /data/index.html"]
    environment: {GREETING: "hello ${WHO:-world}"}
    networks: [back]
    volumes: ["data:/data"]
  store:
    image: busybox
    command: sh -c 'touch /tmp/ready; exec sleep 1000'
    init: true
    networks: [back]
    healthcheck: {test: "test -e /tmp/ready", interval: 100ms, retries: 50}
networks:
  front: {}
  back: {internal: true}
volumes:
  data:
"#;

#[test]
fn a_project_comes_up_in_order_and_goes_without_a_trace() {
    let sandbox = Sandbox::new();
    write(&sandbox, SHOP);
    let up = sandbox.line("cais compose up -d --wait app web");
    up.code(0);
    for line in [
        " Network shop_back  Created",
        " Volume shop_data  Created",
        " Container shop-store-1  Healthy",
        " Container shop-seed-1  Exited",
        " Container shop-app-1  Healthy",
        " Container shop-web-1  Started",
    ] {
        assert!(up.stderr.contains(line), "{line}:\n{up}");
    }
    let ask = "end=$(($(date +%s)+120)); until got=$(curl -s http://127.0.0.1:8080/) || \
               [ $(date +%s) -ge $end ]; do :; done; echo \"$got\"";
    sandbox.shell(ask).out("hello world\n");

    let ps = sandbox.line("cais compose ps --format {{.Name}}:{{.Service}}:{{.State}}:{{.Health}}");
    ps.out("shop-app-1:app:running:healthy\nshop-store-1:store:running:healthy\nshop-web-1:web:running:\n");
    let table = sandbox.line("cais compose ps -a");
    let header: Vec<&str> = table.ok().lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]);
    assert_eq!(table.ok().lines().count(), 5);
    sandbox.line("cais compose ps --services").out("app\nstore\nweb\n");
    sandbox.line("cais compose ps -a --status exited --format {{.Name}}").out("shop-seed-1\n");
    sandbox.line("cais compose port web 80").out("0.0.0.0:8080\n");
    sandbox.line("cais compose exec -T store cat /etc/hostname").code(0);
    sandbox.shell("$E compose exec -T store sh -c 'exit 3'").code(3);
    // Names are those of services, and what they are called besides.
    let _ = sandbox.shell("$E compose exec -T store nslookup -type=A application 127.0.0.11").ok();
    let ls = sandbox.line("cais compose ls");
    assert!(ls.ok().contains("exited(1), running(3)"), "{ls}");

    // Nothing has changed, so nothing is done.
    let again = sandbox.line("cais compose up -d");
    assert!(!again.stderr.contains("Recreate") && !again.stderr.contains("Creating"), "{again}");
    let labels = "$E inspect -f '{{index .Config.Labels \"com.docker.compose.depends_on\"}} {{index .Config.Labels \"com.docker.compose.oneoff\"}}' shop-web-1";
    sandbox.shell(labels).out("app:service_healthy:false False\n");

    let stopped = sandbox.line("cais compose stop -t 1");
    stopped.code(0);
    let web = stopped.stderr.find("shop-web-1  Stopped").unwrap();
    assert!(web < stopped.stderr.find("shop-store-1  Stopping").unwrap(), "{stopped}");
    sandbox.line("cais compose ps -q").out("");
    let _ = sandbox.line("cais compose start web").ok();
    sandbox.line("cais compose ps --services").out("app\nstore\nweb\n");
    let _ = sandbox.line("cais compose down -t 1").ok();
    sandbox.line("cais volume ls -q").out("shop_data\n");
    down(&sandbox);
}

#[test]
fn services_have_as_many_containers_as_they_are_asked_to() {
    let sandbox = Sandbox::new();
    write(
        &sandbox,
        "name: p\nservices:\n  a: {image: busybox, command: sleep 1000, init: true, deploy: {replicas: 2}}\n",
    );
    let names = "cais compose ps --format {{.Name}}";
    let _ = sandbox.line("cais compose up -d").ok();
    sandbox.line(names).out("p-a-1\np-a-2\n");
    let _ = sandbox.line("cais compose up -d --scale a=4").ok();
    sandbox.line(names).out("p-a-1\np-a-2\np-a-3\np-a-4\n");
    let _ = sandbox.line("cais compose scale a=1").ok();
    sandbox.line(names).out("p-a-1\n");
    sandbox.line("cais compose up -d --scale a").code(1).says("Should be SERVICE=NUM");
    sandbox.line("cais compose up -d --scale b=1").code(1).says("no such service: b");
    let _ = sandbox.line("cais compose pause").ok();
    sandbox.line("cais compose ps --format {{.State}}").out("paused\n");
    let _ = sandbox.line("cais compose unpause").ok();
    let _ = sandbox.line("cais compose restart -t 0").ok();
    let _ = sandbox.line("cais compose kill").ok();
    sandbox.line("cais compose ps -a --format {{.State}}:{{.ExitCode}}").out("exited:137\n");
    let _ = sandbox.line("cais compose rm -f").ok();
    sandbox.line("cais compose ps -aq").out("");
    down(&sandbox);
}

#[test]
fn what_a_service_needs_and_cannot_have_stops_it() {
    let sandbox = Sandbox::new();
    write(
        &sandbox,
        "name: p\nservices:\n  web: {image: busybox, command: sleep 9, init: true, depends_on: {job: {condition: service_completed_successfully}}}\n  job: {image: busybox, command: sh -c 'exit 3'}\n",
    );
    let up = sandbox.line("cais compose up -d");
    up.code(1).says("service \"job\" didn't complete successfully: exit 3");
    sandbox.line("cais compose ps --services").out("");
    let _ = sandbox.line("cais compose down").ok();
    write(
        &sandbox,
        "name: p\nservices:\n  web: {image: busybox, command: sleep 9, init: true, depends_on: {sick: {condition: service_healthy}}}\n  sick: {image: busybox, command: sleep 9, init: true, healthcheck: {test: 'false', interval: 50ms, retries: 1}}\n",
    );
    sandbox
        .line("cais compose up -d")
        .code(1)
        .says("dependency failed to start: container p-sick-1 is unhealthy");
    let _ = sandbox.line("cais compose down -t 0").ok();
    write(
        &sandbox,
        "name: p\nservices: {a: {image: busybox, networks: [n]}}\nnetworks: {n: {external: true}}\n",
    );
    sandbox
        .line("cais compose up -d")
        .code(1)
        .says("network n declared as external, but could not be found");
    down(&sandbox);
}

#[test]
fn a_project_is_known_by_its_name_alone() {
    let sandbox = Sandbox::new();
    write(&sandbox, "services: {a: {image: busybox, command: sleep 1000, init: true}}");
    let _ = sandbox.line("cais compose -p far up -d").ok();
    sandbox.shell("cd / && $E compose -p far ps --format '{{.Name}}'").out("far-a-1\n");
    let _ = sandbox.shell("cd / && $E compose -p far logs && $E compose -p far stop -t 0 && $E compose -p far down").ok();
    down(&sandbox);
}

#[test]
fn orphans_are_told_and_removed_when_asked() {
    let sandbox = Sandbox::new();
    let both = "name: p\nservices:\n  a: {image: busybox, command: sleep 1000, init: true}\n  b: {image: busybox, command: sleep 1000, init: true}\n";
    write(&sandbox, both);
    let _ = sandbox.line("cais compose up -d").ok();
    write(&sandbox, "name: p\nservices:\n  a: {image: busybox, command: sleep 1000, init: true}\n");
    sandbox
        .line("cais compose up -d")
        .code(0)
        .says("Found orphan containers ([p-b-1]) for this project");
    let _ = sandbox.line("cais compose up -d --remove-orphans -t 0").ok();
    sandbox.line("cais compose ps --services").out("a\n");
    down(&sandbox);
}
