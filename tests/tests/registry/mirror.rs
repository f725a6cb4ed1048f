//! A pull-through cache of another registry, which is another registry in the box.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use oci::Digest;
use serde_json::json;
use testkit::CaisRegistry;

use super::{Client, OCI_MANIFEST};

/// A mirror of `upstream` under the name of Docker Hub.
fn mirror_of(upstream: &CaisRegistry, more: &[&str]) -> CaisRegistry {
    let mirror = format!("docker.io=http://{}", upstream.address());
    CaisRegistry::start(&[&["--mirror-of", &*mirror], more].concat())
}

/// Demands that `path` was asked for so often.
#[track_caller]
fn assert_asked(registry: &CaisRegistry, method: &str, path: &str, wanted: usize) {
    let text = format!(" {method} {path} ");
    // A line is written once its answer is.
    let count = |log: &str| log.lines().filter(|line| line.contains(&text)).count();
    let log = registry.wait_for_log(|log| count(log) >= wanted);
    assert_eq!(count(&log), wanted, "{method} {path}:\n{log}");
}

#[test]
fn what_is_missing_is_fetched_once_and_kept() {
    let upstream = CaisRegistry::start(&[]);
    let layer: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let digest = Client::new(&upstream, "library/box").push_image("v1", &layer);
    let mirror = mirror_of(&upstream, &[]);
    let blob = Digest::of(&layer);
    let head = mirror.ask("HEAD", &format!("/v2/library/box/blobs/{blob}"), &[], b"");
    assert_eq!((head.status, head.field("content-length")), (200, Some("800000")));
    // By all of its names, at the same time.
    std::thread::scope(|scope| {
        for name in ["library/box", "docker.io/library/box", "docker.io/box", "box"] {
            let (mirror, layer) = (&mirror, &layer);
            scope.spawn(move || {
                let got = mirror.ask("GET", &format!("/v2/{name}/manifests/v1"), &[], b"");
                assert_eq!(got.status, 200, "{name}: {}", got.text());
                assert_eq!(got.field("content-type"), Some(OCI_MANIFEST));
                assert_eq!(got.field("docker-content-digest"), Some(digest.to_string().as_str()));
                let got = mirror.ask("GET", &format!("/v2/{name}/blobs/{blob}"), &[], b"");
                assert_eq!(got.status, 200, "{name}: {}", got.text());
                assert!(got.body == *layer, "{name}");
                let part = [("Range", "bytes=4-7")];
                let got = mirror.ask("GET", &format!("/v2/{name}/blobs/{blob}"), &part, b"");
                assert_eq!((got.status, got.body), (206, 1u32.to_le_bytes().to_vec()), "{name}");
            });
        }
    });
    let by_namespace = mirror.ask("GET", "/v2/library/box/manifests/v1?ns=docker.io", &[], b"");
    assert_eq!(by_namespace.status, 200);
    assert_asked(&upstream, "GET", &format!("/v2/library/box/blobs/{blob}"), 1);
    let catalog = mirror.ask("GET", "/v2/_catalog", &[], b"").json();
    assert_eq!(catalog["repositories"], json!(["docker.io/library/box"]));
    let tags = mirror.ask("GET", "/v2/docker.io/box/tags/list", &[], b"").json();
    assert_eq!(tags["tags"], json!(["v1"]));

    // A collection keeps what the manifest needs.
    let output = mirror.cais(&["registry", "gc", "--min-age", "0s"]);
    assert!(output.status.success(), "{output:?}");
    let address = upstream.address();
    drop(upstream);
    for path in ["manifests/v1".to_owned(), format!("manifests/{digest}"), format!("blobs/{blob}")]
    {
        let got = mirror.ask("GET", &format!("/v2/library/box/{path}"), &[], b"");
        assert_eq!(got.status, 200, "without {address}: {path}: {}", got.text());
    }
    let missing = mirror.ask("GET", "/v2/library/box/manifests/v2", &[], b"");
    assert_eq!(missing.status, 502, "{}", missing.text());
}

#[test]
fn a_tag_is_looked_at_again_when_it_is_no_longer_fresh() {
    let upstream = CaisRegistry::start(&[]);
    let source = Client::new(&upstream, "library/box");
    let first = source.push_image("latest", b"one");
    let fresh = mirror_of(&upstream, &["--mirror-ttl", "1h"]);
    let stale = mirror_of(&upstream, &["--mirror-ttl", "0s"]);
    let digest = |mirror: &CaisRegistry| {
        let got = mirror.ask("GET", "/v2/box/manifests/latest", &[], b"");
        got.field("docker-content-digest").map(str::to_owned)
    };
    for mirror in [&fresh, &stale] {
        assert_eq!(digest(mirror), Some(first.to_string()));
    }
    let path = "/v2/library/box/manifests/latest";
    assert_asked(&upstream, "GET", path, 2);
    assert_eq!(digest(&stale), Some(first.to_string()));
    assert_asked(&upstream, "HEAD", path, 1);
    assert_asked(&upstream, "GET", path, 2);
    let second = source.push_image("latest", b"two");
    assert_eq!(digest(&fresh), Some(first.to_string()));
    assert_eq!(digest(&stale), Some(second.to_string()));
    assert_eq!(source.status("DELETE", "manifests/latest"), 202);
    assert_eq!(digest(&fresh), Some(first.to_string()));
    let gone = stale.ask("GET", "/v2/box/manifests/latest", &[], b"");
    assert_eq!((gone.status, gone.code().as_str()), (404, "MANIFEST_UNKNOWN"));
}

#[test]
fn a_mirror_has_repositories_of_its_own_too() {
    let upstream = CaisRegistry::start(&[]);
    Client::new(&upstream, "library/box").push_image("v1", b"theirs");
    let mirror = mirror_of(&upstream, &[]);
    let own = Client::new(&mirror, "localhost/team/app");
    let digest = own.push_image("v1", b"ours");
    let got = own.get("manifests/v1");
    assert_eq!(got.field("docker-content-digest"), Some(digest.to_string().as_str()));
    assert_asked(&upstream, "GET", "/v2/localhost/team/app/manifests/v1", 0);
    for name in ["docker.io/library/box", "docker.io/box"] {
        let refused = mirror.ask("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
        assert_eq!((refused.status, refused.code().as_str()), (405, "UNSUPPORTED"), "{name}");
    }
    let elsewhere = mirror.ask("GET", "/v2/library/box/manifests/v1?ns=quay.io", &[], b"");
    assert_eq!(elsewhere.status, 404);
    let none = mirror.ask("GET", &format!("/v2/box/blobs/{}", Digest::of(b"x")), &[], b"");
    assert_eq!((none.status, none.code().as_str()), (404, "BLOB_UNKNOWN"));
}

/// What a client gets as the image that is pushed below.
#[track_caller]
fn assert_theirs(mirror: &CaisRegistry, digest: &Digest) {
    for path in [
        "docker.io/library/box/manifests/v1",
        "docker.io/box/manifests/v1",
        "library/box/manifests/v1",
        "library/box/manifests/v1?ns=docker.io",
    ] {
        let got = mirror.ask("GET", &format!("/v2/{path}"), &[], b"");
        let said = got.field("docker-content-digest");
        assert_eq!(said, Some(digest.to_string().as_str()), "{path}: {}", got.text());
    }
}

#[test]
fn a_namespace_is_no_way_into_a_mirrored_repository() {
    let upstream = CaisRegistry::start(&[]);
    let digest = Client::new(&upstream, "library/box").push_image("v1", b"theirs");
    let mirror = mirror_of(&upstream, &["--mirror-ttl", "0s"]);
    assert_theirs(&mirror, &digest);
    let evil = super::image(&[], "");
    let kind = [("Content-Type", OCI_MANIFEST)];
    for namespace in ["bogus", "quay.io", "docker.io", ""] {
        for (method, path) in [
            ("POST", "blobs/uploads/".to_owned()),
            ("PUT", "manifests/v1".to_owned()),
            ("DELETE", "manifests/v1".to_owned()),
            ("DELETE", format!("blobs/{digest}")),
        ] {
            for name in ["docker.io/library/box", "library/box", "localhost/box"] {
                let path = format!("/v2/{name}/{path}?ns={namespace}");
                let refused = mirror.ask(method, &path, &kind, evil.as_bytes());
                assert_eq!(refused.status, 405, "{method} {path}: {}", refused.text());
            }
        }
    }
    for path in ["manifests/v1".to_owned(), format!("blobs/{digest}"), "tags/list".to_owned()] {
        let path = format!("/v2/docker.io/library/box/{path}?ns=bogus");
        let unknown = mirror.ask("GET", &path, &[], b"");
        assert_eq!((unknown.status, unknown.code().as_str()), (404, "NAME_UNKNOWN"), "{path}");
    }
    assert_theirs(&mirror, &digest);
}

#[test]
fn names_without_a_host_are_the_first_mirrors() {
    let upstream = CaisRegistry::start(&[]);
    let digest = Client::new(&upstream, "library/box").push_image("v1", b"theirs");
    // What was pushed before there was a mirror shadows nothing either.
    let before = CaisRegistry::start(&[]);
    for name in ["box", "library/box"] {
        Client::new(&before, name).push_image("v1", b"evil");
    }
    let address = format!("docker.io=http://{}", upstream.address());
    let mirror = CaisRegistry::start_at(before.root(), &["--mirror-of", &address]);
    for name in ["box", "library/box", "team/app", "no.host"] {
        let refused = mirror.ask("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
        assert_eq!((refused.status, refused.code().as_str()), (405, "UNSUPPORTED"), "{name}");
        assert!(refused.text().contains("localhost/"), "{}", refused.text());
    }
    assert_theirs(&mirror, &digest);
    for name in ["localhost/box", "registry.lan/library/box"] {
        let own = Client::new(&mirror, name);
        let ours = own.push_image("v1", b"ours").to_string();
        assert_eq!(own.get("manifests/v1").field("docker-content-digest"), Some(&*ours));
    }
    assert_theirs(&mirror, &digest);
}

#[test]
fn content_that_lies_is_not_kept() {
    let upstream = CaisRegistry::start(&[]);
    let layer = vec![5; 100_000];
    let source = Client::new(&upstream, "library/box");
    source.push_image("v1", &layer);
    let blob = Digest::of(&layer);
    let path = upstream.root().join("blobs/sha256").join(blob.hex());
    let mut bad = layer.clone();
    bad[99_999] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    let mirror = mirror_of(&upstream, &[]);
    // Its last byte is held back until the digest is known.
    let get = format!("GET /v2/box/blobs/{blob} HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = mirror.raw(get.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    assert!(head.contains("Content-Length: 100000"), "{head}");
    assert_eq!(body.len(), 99_999);
    std::fs::write(&path, &layer).unwrap();
    let got = mirror.ask("GET", &format!("/v2/box/blobs/{blob}"), &[], b"");
    assert!(got.body == layer);
    assert_asked(&upstream, "GET", &format!("/v2/library/box/blobs/{blob}"), 2);
}

#[test]
fn a_blob_that_would_fill_the_disk_is_not_fetched() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("docker.io=http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = asked(&listener);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\nx", 1u64 << 40);
        stream.write_all(head.as_bytes()).unwrap();
    });
    let mirror = CaisRegistry::start(&["--mirror-of", &name]);
    let got = mirror.ask("GET", &format!("/v2/box/blobs/{}", Digest::of(b"x")), &[], b"");
    assert_eq!(got.status, 502, "{}", got.text());
    assert!(got.text().contains("too long"), "{}", got.text());
    server.join().unwrap();
}

/// The next request that a server is sent: its connection and its head.
fn asked(listener: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    (stream, String::from_utf8(seen).unwrap().to_lowercase())
}

#[test]
fn a_mirror_that_was_killed_goes_on_where_it_was() {
    const HELD: usize = 200_000;
    let layer: Vec<u8> = (0..75_000u32).flat_map(u32::to_le_bytes).collect();
    let path = format!("/v2/box/blobs/{}", Digest::of(&layer));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("docker.io=http://{}", listener.local_addr().unwrap());
    let (content, size) = (layer.clone(), layer.len());
    let server = std::thread::spawn(move || {
        let (mut first, head) = asked(&listener);
        assert!(!head.contains("range:"), "{head}");
        write!(first, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").unwrap();
        first.write_all(&content[..HELD]).unwrap();
        let (mut second, head) = asked(&listener);
        assert!(head.contains(&format!("range: bytes={HELD}-\r\n")), "{head}");
        let (last, left) = (size - 1, size - HELD);
        write!(
            second,
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {left}\r\n\
             Content-Range: bytes {HELD}-{last}/{size}\r\n\r\n"
        )
        .unwrap();
        second.write_all(&content[HELD..]).unwrap();
    });
    let mut mirror = CaisRegistry::start(&["--mirror-of", &name]);
    let mut client = mirror.connect();
    write!(client, "GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut seen = Vec::new();
    let mut buffer = vec![0; HELD];
    let body = |seen: &[u8]| seen.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
    while body(&seen).is_none_or(|at| seen.len() - at < HELD) {
        let n = client.read(&mut buffer).unwrap();
        assert!(n > 0, "the mirror passes on what has arrived");
        seen.extend_from_slice(&buffer[..n]);
    }
    mirror.kill_and_restart();
    let got = mirror.ask("GET", &path, &[], b"");
    assert_eq!(got.status, 200, "{}", got.text());
    assert!(got.body == layer);
    server.join().unwrap();
    let kept = mirror.ask("GET", &path, &[("Range", "bytes=4-7")], b"");
    assert_eq!((kept.status, kept.body), (206, 1u32.to_le_bytes().to_vec()));
}
