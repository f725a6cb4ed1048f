//! What is said on the wire, byte by byte.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;
use testkit::{Answer, Api, Sandbox};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Wire<'a>(pub(super) &'a Api<'a>);

impl Wire<'_> {
    pub(super) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.0.socket()).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes timeouts");
        stream
    }

    fn raw(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("the server reads");
        let is_head = request.starts_with("HEAD");
        Answer::read(&mut stream, is_head).expect("the server answers")
    }

    pub(super) fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Says something, and hangs up.
    pub(super) fn leave(&self, beginning: &str) {
        let mut stream = self.connect();
        stream.write_all(beginning.as_bytes()).expect("the server reads");
    }

    pub(super) fn json(&self, method: &str, path: &str, body: &str) -> Value {
        self.ask(method, path, body).json()
    }
}

fn message(answer: &Answer) -> String {
    answer.json()["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn versions_are_negotiated_and_mistakes_told() {
    let sandbox = Sandbox::new();
    let api = Api::start(&sandbox);
    let wire = Wire(&api);
    let ping = wire.ask("HEAD", "/_ping", "");
    assert_eq!((ping.status, ping.field("api-version")), (200, Some("1.50")));
    assert_eq!(
        (ping.field("ostype"), ping.field("docker-experimental")),
        (Some("linux"), Some("false"))
    );
    assert_eq!(wire.ask("GET", "/v1.24/_ping", "").text(), "OK");
    for (method, path, status, part) in [
        ("GET", "/v1.23/info", 400, "client version 1.23 is too old"),
        ("GET", "/v1.99/info", 400, "client version 1.99 is too new"),
        ("GET", "/no/such", 404, "page not found"),
        ("PATCH", "/info", 404, "page not found"),
        ("GET", "/containers/none/json", 404, "No such container: none"),
        ("GET", "/containers/%2e%2e%2f/json", 404, ""),
        ("GET", "/images/none/json", 404, "No such image: none"),
        ("GET", "/volumes/none", 404, "no such volume"),
        ("GET", "/networks/nothing", 404, "network nothing not found"),
        ("GET", "/exec/none/json", 404, "No such exec instance"),
        ("GET", "/containers/json?filters=%7B", 400, "invalid filter"),
        ("GET", "/containers/json?filters=%7B%22x%22:[]%7D", 400, "invalid filter 'x'"),
        ("POST", "/containers/none/wait?condition=x", 400, "invalid condition"),
        ("GET", "/nodes", 503, "This node is not a swarm manager"),
        ("POST", "/swarm/leave", 503, "not part of a swarm"),
        ("POST", "/containers/create", 400, "no image specified"),
    ] {
        let answer = wire.ask(method, path, "");
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert!(message(&answer).contains(part), "{method} {path}: {}", answer.text());
    }
    let answer = wire.ask("POST", "/containers/create", "{");
    assert_eq!((answer.status, message(&answer).contains("invalid JSON")), (400, true));
}

#[test]
fn what_two_could_understand_in_two_ways_is_refused() {
    let sandbox = Sandbox::new();
    let api = Api::start(&sandbox);
    let wire = Wire(&api);
    for (request, status) in [
        ("GET /_ping HTTP/1.1\r\n\r\n", 400),
        ("GET /_ping HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        (
            "GET /_ping HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("GET _ping HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("\x16\x03\x01\x02 HTTP/1.1\r\n\r\n", 400),
    ] {
        assert_eq!(wire.raw(request).status, status, "{request:?}");
    }
    let long = format!("GET /_ping HTTP/1.1\r\nHost: x\r\nX: {}", "a".repeat(64 << 10));
    let mut stream = wire.connect();
    // It may hang up before it has read all.
    let _ = stream.write_all(long.as_bytes());
    let answer = Answer::read(&mut stream, false);
    assert_eq!(answer.map(|answer| answer.status).ok(), Some(431));
}

#[test]
fn an_attached_client_may_end_its_input_and_go_on_listening() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let api = Api::start(&sandbox);
    let wire = Wire(&api);
    let asked = r#"{"Image":"busybox","Cmd":["sh","-c","cat; echo over >&2"],"OpenStdin":true,
        "StdinOnce":true,"AttachStdin":true,"HostConfig":{"NetworkMode":"none"}}"#;
    let id = wire.json("POST", "/containers/create?name=fed", asked)["Id"].to_string();
    let id = id.trim_matches('"');
    let mut stream = wire.connect();
    let attach = format!(
        "POST /v1.43/containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\n\
         Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    );
    stream.write_all(attach.as_bytes()).expect("the server reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the server answers");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("a head is text");
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
    assert!(head.contains("application/vnd.docker.multiplexed-stream"), "{head}");
    assert_eq!(wire.ask("POST", &format!("/containers/{id}/start"), "").status, 204);
    assert_eq!(wire.ask("POST", &format!("/containers/{id}/start"), "").status, 304);
    stream.write_all(b"fed\n").expect("the server reads");
    stream.shutdown(Shutdown::Write).expect("one direction can be closed");
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("the other direction stays open");
    assert_eq!(said, b"\x01\0\0\0\0\0\0\x04fed\n\x02\0\0\0\0\0\0\x05over\n");
    let waited = wire.ask("POST", &format!("/containers/{id}/wait"), "").text();
    assert!(waited.contains(r#"{"StatusCode":0}"#), "{waited}");
    assert_eq!(wire.ask("DELETE", &format!("/containers/{id}"), "").status, 204);
}

/// Reads a message of a WebSocket: its kind, and what it says.
fn message_of(stream: &mut UnixStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("the server answers");
    assert!(head[1] < 126, "these are short and not masked");
    let mut said = vec![0; head[1].into()];
    stream.read_exact(&mut said).expect("the server answers");
    (head[0], said)
}

#[test]
fn a_web_socket_is_a_process_streams() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let api = Api::start(&sandbox);
    let wire = Wire(&api);
    let asked = r#"{"Image":"busybox","Cmd":["head","-n","2"],"OpenStdin":true,"StdinOnce":true,
        "HostConfig":{"NetworkMode":"none"}}"#;
    assert_eq!(wire.ask("POST", "/containers/create?name=web", asked).status, 201);
    let path = "/containers/web/attach/ws?stream=1&stdin=1&stdout=1";
    assert_eq!(wire.ask("GET", path, "").status, 400);
    let mut stream = wire.connect();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the server answers");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("a head is text");
    assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert_eq!(wire.ask("POST", "/containers/web/start", "").status, 204);
    // What a client sends is masked; this mask changes every second byte.
    let masked = |kind: u8, text: &[u8]| {
        let mask = [0, 1, 0, 1];
        let mut frame = vec![0x80 | kind, 0x80 | text.len() as u8];
        frame.extend(mask);
        frame.extend(text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    };
    stream.write_all(&masked(9, b"there?")).expect("the server reads");
    assert_eq!(message_of(&mut stream), (0x8a, b"there?".to_vec()));
    stream.write_all(&masked(1, b"one\n")).expect("the server reads");
    stream.write_all(&masked(2, b"two\n")).expect("the server reads");
    let mut said = Vec::new();
    loop {
        match message_of(&mut stream) {
            (0x82, more) => said.extend(more),
            (kind, _) => {
                assert_eq!(kind, 0x88, "it ends with a word");
                break;
            }
        }
    }
    assert_eq!(said, b"one\ntwo\n");
    assert_eq!(wire.ask("DELETE", "/containers/web?force=1", "").status, 204);
}

#[test]
fn what_is_not_supported_is_refused_and_never_ignored() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let api = Api::start(&sandbox);
    let wire = Wire(&api);
    for host_config in [
        r#"{"DeviceRequests":[{"Count":-1}]}"#,
        r#"{"capdrop":["ALL"]}"#,
        r#"{"NewInAPI9":true}"#,
        r#"{"Binds":["./x:/y"]}"#,
        r#"{"PortBindings":{"1-65535/tcp":[{},{},{}]}}"#,
        r#"{"Runtime":"other"}"#,
        r#"{"Isolation":"hyperv"}"#,
        r#"{"KernelMemory":1000000}"#,
        r#"{"CpuCount":1}"#,
        r#"{"MaskedPaths":["/proc/x"]}"#,
        r#"{"Mounts":[{"Type":"npipe","Source":"a","Target":"/b"}]}"#,
        r#"{"Mounts":[{"Type":"bind","Source":"relative","Target":"/b"}]}"#,
        r#"{"RestartPolicy":{"Name":"sometimes"}}"#,
        r#"{"VolumeDriver":"other"}"#,
        r#"{"Binds":["x:/y:fast"]}"#,
        r#"{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}"#,
    ] {
        let asked = format!(r#"{{"Image":"busybox","HostConfig":{host_config}}}"#);
        let answer = wire.ask("POST", "/containers/create", &asked);
        assert!((400..=501).contains(&answer.status), "{host_config}: {}", answer.text());
        assert!(!message(&answer).is_empty(), "{host_config}: {}", answer.text());
    }
    // A key of Volumes is a place in the container and nothing else.
    for volume in ["/:/h", "relative", "/"] {
        let asked = format!(r#"{{"Image":"busybox","Volumes":{{"{volume}":{{}}}}}}"#);
        let answer = wire.ask("POST", "/containers/create", &asked);
        assert_eq!(answer.status, 400, "{volume}: {}", answer.text());
    }
    assert_eq!(wire.json("GET", "/containers/json?all=1", ""), serde_json::json!([]));
    let asked = r#"{"Image":"busybox","HostConfig":{"NetworkMode":"none"}}"#;
    assert_eq!(wire.ask("POST", "/containers/create?name=kept", asked).status, 201);
    for change in [
        r#"{"BlkioWeightDevice":[{"Path":"/dev/vda","Weight":10}]}"#,
        r#"{"BlkioDeviceReadBps":[{"Path":"/dev/vda","Rate":10}]}"#,
        r#"{"Ulimits":[{"Name":"nofile","Soft":1,"Hard":1}]}"#,
        r#"{"OomKillDisable":true}"#,
        r#"{"MemorySwappiness":1}"#,
        r#"{"DeviceCgroupRules":["c 1:3 r"]}"#,
        r#"{"Devices":[{"PathOnHost":"/dev/null"}]}"#,
        r#"{"CgroupParent":"/x"}"#,
        r#"{"KernelMemory":1000000}"#,
        r#"{"CpuCount":1}"#,
        r#"{"NewInAPI9":true}"#,
    ] {
        let answer = wire.ask("POST", "/containers/kept/update", change);
        assert!((400..=501).contains(&answer.status), "{change}: {}", answer.text());
        assert!(!message(&answer).is_empty(), "{change}: {}", answer.text());
    }
    let change = r#"{"Ulimits":null,"Devices":[],"OomKillDisable":false,"CpuShares":512}"#;
    assert_eq!(wire.ask("POST", "/containers/kept/update", change).status, 200);
    let kept = wire.json("GET", "/containers/kept/json", "");
    assert_eq!(kept["HostConfig"]["CpuShares"], 512);
    assert_eq!(wire.ask("DELETE", "/containers/kept", "").status, 204);
    // No clock has this time; the server is there afterwards.
    let asked = r#"{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"none","Init":true}}"#;
    assert_eq!(wire.ask("POST", "/containers/create?name=late", asked).status, 201);
    assert_eq!(wire.ask("POST", "/containers/late/start", "").status, 204);
    let stopped = wire.ask("POST", "/containers/late/stop?t=9223372036854775807", "");
    assert_eq!(stopped.status, 204);
    assert_eq!(wire.ask("DELETE", "/containers/late", "").status, 204);
}
