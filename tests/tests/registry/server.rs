//! How a registry is started, watched, protected and stopped.

use std::io::Write as _;
use std::process::Command;

use oci::Digest;
use rustix::process::Signal;
use testkit::{Answer, CaisRegistry};

use super::{CONFIG, Client, OCI_MANIFEST, image};

/// `secret`, by bcrypt at nearly its lowest cost.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

#[test]
fn a_read_only_registry_is_read() {
    let directory = CaisRegistry::start(&[]);
    Client::new(&directory, "a").push_image("v1", b"layer");
    let registry = CaisRegistry::start_at(directory.root(), &["--read-only"]);
    let client = Client::new(&registry, "a");
    assert_eq!(client.status("GET", "manifests/v1"), 200);
    let digest = Digest::of(b"layer");
    for (method, path) in [
        ("POST", "blobs/uploads/".to_owned()),
        ("PUT", "manifests/v2".to_owned()),
        ("DELETE", "manifests/v1".to_owned()),
        ("DELETE", format!("blobs/{digest}")),
    ] {
        let refused = client.ask(method, &path, &[], b"");
        assert_eq!((refused.status, refused.code().as_str()), (405, "UNSUPPORTED"), "{method}");
    }
}

#[test]
fn a_signal_lets_requests_finish_and_ends_the_rest() {
    let mut registry = CaisRegistry::start(&[]);
    let mut idle = registry.connect();
    idle.write_all(b"GET /v2/ HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut idle, false).unwrap().status, 200);
    let client = Client::new(&registry, "a");
    let at = client.start_upload();
    let mut busy = registry.connect();
    let digest = Digest::of(b"0123456789");
    let head = format!(
        "PUT /v2/a/{at}?digest={digest} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n01234"
    );
    busy.write_all(head.as_bytes()).unwrap();
    while client.get(&at).field("range") != Some("0-4") {
        std::thread::yield_now();
    }
    registry.signal(Signal::TERM);
    assert!(Answer::read(&mut idle, false).is_err(), "nobody waits for this one");
    busy.write_all(b"56789").unwrap();
    let answer = Answer::read(&mut busy, false).unwrap();
    assert_eq!((answer.status, answer.field("connection")), (201, Some("close")));
    assert_eq!(registry.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut registry = CaisRegistry::start(&[]);
    let mut busy = registry.connect();
    let head = "POST /v2/a/blobs/uploads/?digest=sha256:0 HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    busy.write_all(head.replace("sha256:0", &Digest::of(b"").to_string()).as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut busy, false).unwrap().status, 100);
    registry.signal(Signal::TERM);
    registry.signal(Signal::INT);
    assert_eq!(registry.wait().code(), Some(130));
}

#[test]
fn requests_are_logged_as_text_and_as_json() {
    let text = CaisRegistry::start(&[]);
    let fields = [("User-Agent", "me\u{9b}31m/1\": forged")];
    text.ask("GET", "/v2/a%0Ab/tags/list?x=%1b%0a1.2.3.4%20GET+/", &fields, b"");
    let log = text.log();
    let line = log.lines().find(|line| line.contains("/tags/list")).expect("a line");
    assert!(line.contains(" - GET /v2/a%0Ab/tags/list?x=%1b%0a1.2.3.4%20GET+/ 4"), "{line}");
    assert!(line.contains(r#" "me\u{9b}31m/1\": forged""#), "{line}");
    assert!(!log.contains('\u{1b}') && !log.contains('\u{9b}'), "{log:?}");

    let json = CaisRegistry::start(&["--log-format", "json"]);
    json.ask("GET", "/v2/?x=\"", &[], b"");
    let log = json.log();
    let line: serde_json::Value =
        serde_json::from_str(log.lines().next().expect("a line")).unwrap();
    assert_eq!((&line["method"], &line["status"]), (&"GET".into(), &200.into()));

    let quiet = CaisRegistry::start(&["--quiet"]);
    quiet.ask("GET", "/v2/", &[], b"");
    assert_eq!(quiet.log(), "");
}

#[test]
fn what_cannot_be_served_is_said_with_a_remedy() {
    let taken = CaisRegistry::start(&[]);
    let address = taken.address().to_string();
    let root = taken.root();
    let file = root.join("no.pem");
    std::fs::write(&file, "no certificate").unwrap();
    let users = root.join("users");
    std::fs::write(&users, "me:plain\n").unwrap();
    let (file, users) = (file.to_str().unwrap(), users.to_str().unwrap());
    for (arguments, said, hint) in [
        (vec!["--addr", &*address], "listen on", "--addr"),
        (vec!["--addr", "nowhere"], "listen on nowhere", "HOST:PORT"),
        (vec!["--tls-cert", file, "--tls-key", file], "no certificate in", "PEM"),
        (vec!["--tls-cert", "/none", "--tls-key", "/none"], "/none", "PEM"),
        (
            vec!["--htpasswd", users],
            "line 1: the password of me is not hashed by bcrypt",
            "htpasswd -B",
        ),
        (vec!["--mirror-of", "a/b"], "mirror a/b", "NAME=URL"),
        (vec!["--mirror-of", "x.org=ftp://y"], "mirror x.org", "NAME=URL"),
    ] {
        let output =
            taken.cais(&[&["registry", "serve", "--addr", "127.0.0.1:0"], &*arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
        assert!(stderr.contains("\nhint: ") && stderr.contains(hint), "{arguments:?}: {stderr}");
    }
    let output = taken.cais(&["registry", "serve", "--tls-cert", file]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn passwords_are_asked_for_everywhere() {
    let directory = CaisRegistry::start(&[]);
    let users = directory.root().join("users");
    std::fs::write(&users, HTPASSWD).unwrap();
    let registry = CaisRegistry::start(&["--htpasswd", users.to_str().unwrap()]);
    // me:secret, me:wrong, you:secret
    let (right, wrong, other) = ("bWU6c2VjcmV0", "bWU6d3Jvbmc=", "eW91OnNlY3JldA==");
    for path in ["/v2/", "/v2/_catalog", "/v2/a/tags/list", "/v2/a/blobs/uploads/", "/"] {
        for given in [None, Some(wrong), Some(other), Some("?")] {
            let given = given.map(|given| format!("Basic {given}"));
            let fields: Vec<_> =
                given.iter().map(|given| ("Authorization", given.as_str())).collect();
            let refused = registry.ask("POST", path, &fields, b"");
            assert_eq!((refused.status, refused.code().as_str()), (401, "UNAUTHORIZED"), "{path}");
            let asked = refused.field("www-authenticate").unwrap_or_default();
            assert!(asked.starts_with("Basic realm="), "{asked}");
        }
    }
    let right = format!("Basic {right}");
    assert_eq!(registry.ask("GET", "/v2/", &[("Authorization", &right)], b"").status, 200);
    assert!(registry.log().contains(" me GET /v2/ 200 "), "{}", registry.log());
    assert!(!registry.log().contains("secret"));
}

#[test]
fn a_plain_request_to_a_port_with_tls_is_told_so() {
    let directory = CaisRegistry::start(&[]);
    let (certificate, key) = certificate(directory.root());
    let registry = CaisRegistry::start(&["--tls-cert", &certificate, "--tls-key", &key]);
    let answer = registry.raw(b"GET /v2/ HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("speaks HTTPS"), "{answer}");
    // A large blob over TLS, by a client of its own.
    let url = format!("https://{}/v2/", registry.address());
    let content = vec![9; 3_000_000];
    let file = directory.root().join("content");
    std::fs::write(&file, &content).unwrap();
    let curl = |arguments: &[&str]| {
        let output =
            Command::new("curl").args(["-sS", "--cacert", &certificate]).args(arguments).output();
        let output = output.expect("curl can be started; hint: ./test installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let digest = Digest::of(&content);
    let post = format!("{url}a/blobs/uploads/?digest={digest}");
    let data = format!("@{}", file.display());
    let status = curl(&[
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-X",
        "POST",
        "--data-binary",
        &data,
        &post,
    ]);
    assert_eq!(status, b"201");
    assert!(curl(&[&format!("{url}a/blobs/{digest}")]) == content);
    assert_eq!(curl(&["-r", "1-3", &format!("{url}a/blobs/{digest}")]), [9, 9, 9]);
}

/// A certificate for 127.0.0.1 and its key, signed by itself.
pub(super) fn certificate(folder: &std::path::Path) -> (String, String) {
    let path = |name: &str| folder.join(name).to_str().expect("paths here are text").to_owned();
    let (certificate, key) = (path("site.crt"), path("site.key"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=registry"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", &key, "-out", &certificate])
        .output()
        .expect("openssl can be started; hint: ./test installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (certificate, key)
}

#[test]
fn two_servers_share_one_root() {
    let one = CaisRegistry::start(&[]);
    let two = CaisRegistry::start_at(one.root(), &[]);
    let (first, second) = (Client::new(&one, "a"), Client::new(&two, "a"));
    let digest = first.push_blob(b"layer");
    second.push_blob(CONFIG);
    let pushed = second.push_manifest("v1", OCI_MANIFEST, &image(&[b"layer"], ""));
    assert_eq!(pushed.status, 201, "{}", pushed.text());
    assert_eq!(first.status("GET", "manifests/v1"), 200);
    assert_eq!(second.get(&format!("blobs/{digest}")).body, b"layer");
}
