//! What services have: secrets, configs, hooks, other services' namespaces; and single commands.

use testkit::Sandbox;

use super::{down, write};

#[test]
fn secrets_and_configs_are_files_in_the_container() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work().join("key.txt"), "from a file\n").unwrap();
    write(
        &sandbox,
        r#"
name: p
services:
  a:
    image: busybox
    command: sleep 1000
    init: true
    secrets:
      - key
      - {source: token, target: /etc/token, uid: "5", gid: "6", mode: 0400}
    configs:
      - source: motd
        target: /etc/motd
secrets:
  key: {file: ./key.txt}
  token: {environment: TOKEN}
configs:
  motd:
    content: |
      hello ${WHO:-you}
"#,
    );
    let _ = sandbox.shell("TOKEN=s3cret $E compose up -d").ok();
    sandbox
        .line("cais compose exec -T a cat /run/secrets/key /etc/motd /etc/token")
        .out("from a file\nhello you\ns3cret");
    sandbox.shell("$E compose exec -T a stat -c '%u:%g %a' /etc/token").out("5:6 400\n");
    down(&sandbox);
    sandbox
        .line("cais compose up -d")
        .code(1)
        .says("environment variable \"TOKEN\" required by \"token\" is not set");
    down(&sandbox);
}

#[test]
fn hooks_are_done_when_a_container_has_started_and_before_it_stops() {
    let sandbox = Sandbox::new();
    write(
        &sandbox,
        "name: p\nservices:\n  a:\n    image: busybox\n    command: sleep 1000\n    init: true\n    volumes: ['.:/work']\n    post_start:\n      - {command: [sh, -c, 'echo $$A >>/work/done'], environment: [A=started]}\n    pre_stop:\n      - {command: [sh, -c, 'echo stopping >>/work/done']}\n",
    );
    let _ = sandbox.line("cais compose up -d").ok();
    let _ = sandbox.line("cais compose stop -t 0").ok();
    assert_eq!(
        std::fs::read_to_string(sandbox.work().join("done")).unwrap(),
        "started\nstopping\n"
    );
    down(&sandbox);
}

#[test]
fn services_share_namespaces_and_volumes() {
    let sandbox = Sandbox::new();
    write(
        &sandbox,
        "name: p\nservices:\n  a: {image: busybox, command: sleep 1000, init: true, hostname: shared, volumes: [/data], ipc: shareable}\n  b: {image: busybox, command: sleep 1000, init: true, network_mode: 'service:a', pid: 'service:a', ipc: 'service:a', volumes_from: [a]}\n",
    );
    let _ = sandbox.line("cais compose up -d").ok();
    let _ = sandbox.line("cais compose exec -T a touch /data/x").ok();
    let _ = sandbox.line("cais compose exec -T b ls /data/x").ok();
    let address = |service: &str| {
        sandbox.shell(&format!("$E compose exec -T {service} ip -4 addr show eth0")).ok().to_owned()
    };
    assert_eq!(address("a"), address("b"));
    down(&sandbox);
}

#[test]
fn one_off_commands_are_run() {
    let sandbox = Sandbox::new();
    write(
        &sandbox,
        "name: p\nservices:\n  web: {image: busybox, command: sleep 1000, init: true, environment: {A: file}, restart: always, ports: ['8080:80'], depends_on: [db], container_name: fixed}\n  db: {image: busybox, command: sleep 1000, init: true}\n",
    );
    let run = sandbox.shell("$E compose run --rm -T -e B=line -u 5 -w /tmp web sh -c 'echo $A $B $(id -u) $PWD; exit 4'");
    run.code(4).out("file line 5 /tmp\n");
    sandbox.line("cais compose ps --services").out("db\n");
    sandbox.shell("echo typed | $E compose run --rm -T --no-deps web cat").out("typed\n");
    sandbox.shell("$E compose run --rm -T --entrypoint 'echo a' web b").out("a b\n");
    let name = sandbox.line("cais compose run -d --name once web sleep 1000");
    name.out("once\n");
    sandbox.line("cais compose ps --format {{.Name}}").out("p-db-1\n");
    sandbox.line("cais compose ps -a --format {{.Name}}").out("once\np-db-1\n");
    down(&sandbox);
}

#[test]
fn files_are_copied_and_images_and_volumes_listed() {
    let sandbox = Sandbox::new();
    write(
        &sandbox,
        "name: p\nservices:\n  a: {image: busybox, command: sleep 1000, init: true, volumes: ['v:/v']}\nvolumes: {v: {labels: {x: y}}}\n",
    );
    let _ = sandbox.line("cais compose up -d").ok();
    std::fs::write(sandbox.work().join("in"), "text\n").unwrap();
    let _ = sandbox.line("cais compose cp in a:/v/file").ok();
    let _ = sandbox.line("cais compose cp a:/v/file out").ok();
    assert_eq!(std::fs::read_to_string(sandbox.work().join("out")).unwrap(), "text\n");
    sandbox.line("cais compose volumes -q").out("p_v\n");
    let images = sandbox.line("cais compose images");
    assert!(
        images.ok().lines().nth(1).unwrap().starts_with("p-a-1       busybox      latest"),
        "{images}"
    );
    let _ = sandbox.line("cais compose stats --no-stream").ok();
    let events = sandbox.shell("$E compose events --json --since 0 --until $(($(date +%s)+1))");
    assert!(
        events.ok().contains("\"action\":\"start\",\"attributes\":{\"image\":\"busybox\""),
        "{events}"
    );
    sandbox.shell("($E compose wait a >waited; echo $? >>waited) & $E compose kill 2>/dev/null; wait; cat waited")
        .out("container \"p-a-1\" of service a exited with status code 137\n137\n");
    sandbox.line("cais compose version --short").code(0);
    down(&sandbox);
}

#[test]
fn changed_files_are_put_into_the_container() {
    let sandbox = Sandbox::new();
    let source = sandbox.work().join("src");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("a.txt"), "one\n").unwrap();
    write(
        &sandbox,
        "name: p\nservices:\n  a:\n    image: busybox\n    command: sleep 1000\n    init: true\n    develop:\n      watch:\n        - {action: sync, path: ./src, target: /app, ignore: ['*.log'], initial_sync: true}\n",
    );
    let watch = sandbox.start(["compose", "watch"]);
    watch.wait_for("Watch enabled");
    sandbox.line("cais compose exec -T a cat /app/a.txt").out("one\n");
    std::fs::create_dir(source.join("sub")).unwrap();
    std::fs::write(source.join("skip.log"), "").unwrap();
    std::fs::write(source.join("sub/b.txt"), "two\n").unwrap();
    std::fs::remove_file(source.join("a.txt")).unwrap();
    let synced = "! test -e /app/a.txt && cat /app/sub/b.txt";
    let look = format!(
        "end=$(($(date +%s)+120)); until $E compose exec -T a sh -c '{synced}' 2>/dev/null || \
         [ $(date +%s) -ge $end ]; do :; done"
    );
    sandbox.shell(&look).out("two\n");
    sandbox.line("cais compose exec -T a ls /app").out("sub\n");
    drop(watch);
    down(&sandbox);
}
