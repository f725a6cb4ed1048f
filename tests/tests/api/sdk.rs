//! Libraries and programs that speak Docker's API in their own ways: each starts services, streams,
//! builds, copies, waits and cleans up, as the scripts in `sdk/` say.

use testkit::{Api, Sandbox, sdk};

/// Where the scripts lie.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/sdk");

/// A server that has images, and what a script says to it; nothing is left afterwards.
fn served(more: &[String], script: &str) -> String {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let api = Api::start(&sandbox);
    let said = api.shell_with(more, script).ok().to_owned();
    let left = "$E ps -a --format '{{.Names}} {{.Image}} {{.Status}}'; $E volume ls -q; \
                $E network ls -f type=custom --format '{{.Name}}'";
    let left = api.shell(left);
    assert_eq!(left.ok(), "", "something is left of {script}");
    said
}

#[test]
fn docker_for_python() {
    let said = served(&[sdk::python()], &format!("/usr/bin/env python3 {SCRIPTS}/docker_py.py"));
    assert_eq!(said, "system\nimages\nruns\nservice\nattached\nbuilds\nevents");
}

#[test]
fn dockerode() {
    let said = served(&[sdk::node()], &format!("node {SCRIPTS}/dockerode.js"));
    assert_eq!(said, "system\nimages\nruns\nservice\nattached\nbuilds\nevents");
}

#[test]
fn testcontainers_for_python() {
    let more = [sdk::python(), "TESTCONTAINERS_RYUK_DISABLED=true".to_owned()];
    let said = served(&more, &format!("python3 {SCRIPTS}/testcontainers_py.py"));
    assert_eq!(said, "service\nbuilds");
}

#[test]
fn testcontainers_for_node() {
    let more = [sdk::node(), "TESTCONTAINERS_RYUK_DISABLED=true".to_owned()];
    let said = served(&more, &format!("node {SCRIPTS}/testcontainers.js"));
    assert_eq!(said, "service\nbuilds");
}

/// Stands in for `testcontainers/ryuk`, which is on Docker Hub alone: it takes the words of clients
/// and acknowledges them, on the port and with the socket that they give it.
const REAPER: &str = r#"
    mkdir reaper && cd reaper && printf '%s\n' '#!/bin/sh' 'while read -r l; do echo ACK; done' >ack &&
    chmod 755 ack && printf '%s\n' 'FROM busybox' 'EXPOSE 8080' 'COPY ack /ack' \
        'CMD test -S /var/run/docker.sock && echo It is Started! && exec nc -ll -p 8080 -e /ack' \
        >Dockerfile && DOCKER_BUILDKIT=0 $E build -q -t mine/reaper:1 . >/dev/null && cd .. &&
"#;

#[test]
fn testcontainers_have_their_reaper() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let api = Api::start(&sandbox);
    let more = [
        sdk::python(),
        "RYUK_CONTAINER_IMAGE=mine/reaper:1".to_owned(),
        format!("TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE={}", api.socket().display()),
    ];
    let script = format!("{REAPER} python3 {SCRIPTS}/testcontainers_py.py");
    assert_eq!(api.shell_with(&more, &script).ok(), "service\nbuilds\nreaper");
    let more = [
        sdk::node(),
        "RYUK_CONTAINER_IMAGE=mine/reaper:1".to_owned(),
        format!("TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE={}", api.socket().display()),
    ];
    let script = format!("node {SCRIPTS}/testcontainers.js");
    assert_eq!(api.shell_with(&more, &script).ok(), "service\nbuilds");
}

/// Version 1 is what Debian 12 has, and version 2 what later ones have.
#[test]
fn docker_compose_of_debian() {
    let script = format!(
        "mkdir project && cd project && cp {SCRIPTS}/compose.yaml docker-compose.yml && \
         printf 'FROM busybox\nRUN echo built >/f\n' >Dockerfile && export DOCKER_BUILDKIT=0 && \
         docker-compose up -d >up 2>&1 || {{ cat up; exit 1; }}; \
         docker-compose exec -T web sh -c 'cat /f; echo $WHO'; \
         until docker-compose logs ask | grep -q page; do :; done; \
         docker-compose ps -q | wc -l; \
         docker-compose run --rm -T ask wget -q -O - http://web/ 2>/dev/null; \
         docker-compose up -d --scale ask=2 >up 2>&1 || {{ cat up; exit 1; }}; \
         docker-compose ps -q ask | wc -l; \
         docker-compose restart -t 1 ask >up 2>&1 || {{ cat up; exit 1; }}; \
         docker-compose top web >/dev/null && docker-compose stop -t 1 >up 2>&1 && \
         docker-compose down -v --rmi local >up 2>&1 || {{ cat up; exit 1; }}"
    );
    assert_eq!(served(&[], &script), "built\nme\n2\npage\n2");
}
