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

/// Calls during which the server is killed: method and path, what is sent along, and whether an answer
/// begins that goes on.
const CALLS: &[(&str, &str, bool)] = &[
    ("POST /containers/web/wait", "", true),
    ("GET /containers/web/logs?follow=1&stdout=1", "", true),
    ("GET /containers/web/stats?stream=1", "", true),
    ("GET /events", "", true),
    ("POST /containers/web/attach?stream=1&stdout=1", "", true),
    ("POST /exec/{e}/start", "{\"Detach\":false}", true),
    ("GET /containers/web/export", "", true),
    ("GET /images/get?names=busybox", "", true),
    ("PUT /containers/web/archive?path=/tmp", "part", false),
    ("POST /images/load", "part", false),
    ("POST /build", "part", false),
    ("POST /images/create?fromImage=busybox&tag=latest", "", false),
    ("POST /commit?container=web&repo=mine", "{}", false),
    ("POST /containers/create?name=other", "{\"Image\":\"busybox\",\"Cmd\":[\"true\"]}", false),
    ("POST /containers/web/restart?t=1", "", false),
    ("POST /containers/web/kill", "", false),
];

#[test]
fn a_server_that_is_killed_during_any_call_loses_nothing() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let mut api = Api::start(&sandbox);
    let start = "$E run -d --name web --network none busybox sh -c 'echo begun; exec sleep 1000'";
    let _ = api.shell(start).ok();
    for (call, body, has_begun) in CALLS {
        let exec = "{\"Cmd\":[\"sleep\",\"1000\"],\"AttachStdout\":true}";
        let exec = Wire(&api).json("POST", "/containers/web/exec", exec)["Id"].clone();
        let call = call.replace("{e}", exec.as_str().unwrap_or_default());
        // Of a part, the rest never comes.
        let length = if *body == "part" { 1_000_000 } else { body.len() };
        let head = format!("{call} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
        let mut stream = Wire(&api).connect();
        stream.write_all(head.as_bytes()).expect("the server reads");
        if *has_begun {
            stream.read_exact(&mut [0; 12]).expect("the server answers");
        }
        api.kill_and_start();
        // Whether it was done before that or not: the next server knows, and goes on.
        let state = "until [ \"$($E inspect -f '{{.State.Running}}' web)\" = true ]; do \
                     $E start web >/dev/null; done; $E exec web echo inside";
        assert_eq!(api.shell(state).ok(), "inside", "after {call}");
    }
    let _ = api.shell("$E ps -aq | xargs $E rm -f; $E image prune -af").ok();
}
