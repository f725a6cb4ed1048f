//! Many clients at once, slow ones, those that hang up, and a server that is killed under them.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use testkit::{Api, Sandbox};

use super::wire::Wire;

/// Clients at the same time.
const CLIENTS: usize = 500;

#[test]
fn five_hundred_clients_are_answered() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let api = Api::start(&sandbox);
    let wire = Wire(&api);
    let start = "$E run -d --name web --network none busybox sleep 1000 >/dev/null";
    let _ = api.shell(start).ok();
    // Those that say a part of what they want, and those that listen and read nothing.
    let slow: Vec<UnixStream> = (0..CLIENTS / 2)
        .map(|index| {
            let stream = wire.connect();
            let said = match index % 3 {
                0 => "GET /_ping HTTP/1.1\r\nHost: x\r\nX-Slow: ",
                1 => "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
                _ => "GET /containers/web/stats?stream=1 HTTP/1.1\r\nHost: x\r\n\r\n",
            };
            (&stream).write_all(said.as_bytes()).expect("the server reads");
            stream
        })
        .collect();
    // And as many that ask all at once, and read afterwards.
    let mut asking: Vec<UnixStream> = (0..CLIENTS / 2)
        .map(|index| {
            let stream = wire.connect();
            let path =
                ["/containers/json", "/info", "/containers/web/json", "/images/json"][index % 4];
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            (&stream).write_all(request.as_bytes()).expect("the server reads");
            stream
        })
        .collect();
    for stream in &mut asking {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer:.200}");
    }
    drop(slow);
    assert_eq!(wire.ask("GET", "/_ping", "").text(), "OK");
    let _ = api.shell("$E rm -f web").ok();
}

/// Calls during which the server is killed: what is under way, and what is asked for.
const CALLS: &[&str] = &[
    "$E wait web",
    "$E logs -f web",
    "$E stats web",
    "$E events",
    "$E exec web sleep 1000",
    "$E attach --no-stdin web",
    "$E cp - web:/tmp <big.tar",
    "$E export web -o out.tar",
    "$E run --rm --network none busybox sleep 3",
    "$E load -i saved.tar",
    "$E save -o saved-again.tar busybox",
    "$E commit web mine:1",
    "$E restart -t 1 web",
    "$E build -q ctx",
];

#[test]
fn a_server_that_is_killed_during_any_call_loses_nothing() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let _ = sandbox.cais(["save", "-o", "saved.tar", "busybox"]).ok();
    let mut api = Api::start(&sandbox);
    let made = "mkdir ctx && printf 'FROM busybox\\nRUN echo x >/f\\n' >ctx/Dockerfile && \
                head -c 20000000 /dev/zero >zero && tar -cf big.tar zero && \
                $E run -d --name web --network none busybox sleep 1000 >/dev/null";
    let _ = api.shell(made).ok();
    for call in CALLS {
        let script = format!("export DOCKER_BUILDKIT=0; echo begun; {call} >/dev/null 2>&1");
        let under_way = api.start_shell(&script);
        under_way.wait_for("begun");
        api.kill_and_start();
        // Whether it was done before that or not: the next server knows, and does it.
        let _ = under_way.finish();
        let state = "until [ \"$($E inspect -f '{{.State.Running}}' web)\" = true ]; do \
                     $E start web >/dev/null; done; $E exec web echo inside";
        assert_eq!(api.shell(state).ok(), "inside", "after {call}");
    }
    let _ = api.shell("$E ps -aq | xargs $E rm -f; $E image prune -af").ok();
}
