//! Clients that lie, dawdle, or want what is not theirs.

use std::io::{Read as _, Write as _};
use std::thread;

use oci::Digest;
use testkit::{Answer, CaisRegistry};

use super::Client;

const CONTENT: &[u8] = b"0123456789";

#[test]
fn no_name_leads_out_of_the_registry() {
    let registry = CaisRegistry::start(&[]);
    std::fs::write(registry.root().join("secret"), "secret").unwrap();
    Client::new(&registry, "a").push_image("v1", b"layer");
    let digest = Digest::of(b"layer");
    for path in [
        "/v2/../../secret".to_owned(),
        "/v2/%2e%2e/%2e%2e/secret".to_owned(),
        "/v2/a/../../../secret/tags/list".to_owned(),
        "/v2/..%2F..%2Fsecret/manifests/v1".to_owned(),
        "/v2/a/manifests/..%2F..%2F..%2Fsecret".to_owned(),
        "/v2/a/manifests/../tags/v1".to_owned(),
        "/v2/a/manifests/v1%00".to_owned(),
        "/v2/a/blobs/sha256:..%2F..%2F..%2Fsecret".to_owned(),
        "/v2/a/blobs/..%2F..%2F..%2Fsecret".to_owned(),
        "/v2/a/blobs/uploads/..%2F..%2F..%2F..%2Fsecret".to_owned(),
        "/v2/a/referrers/sha256:..%2F..%2Fsecret".to_owned(),
        "/v2/a:b/tags/list".to_owned(),
        format!("/v2/{}/tags/list", "a".repeat(300)),
        format!("/v2/a/blobs/{digest}%2F..%2F..%2Fsecret"),
        format!("/v2/.a/blobs/{digest}"),
    ] {
        for method in ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"] {
            let answer = registry.ask(method, &path, &[], b"");
            assert!(matches!(answer.status, 400 | 404 | 405), "{method} {path}: {}", answer.status);
            assert!(!answer.text().contains("secret\n"), "{method} {path}");
        }
    }
    assert_eq!(std::fs::read_to_string(registry.root().join("secret")).unwrap(), "secret");
    assert_eq!(Client::new(&registry, "a").status("GET", "manifests/v1"), 200);
}

#[test]
fn an_upload_is_known_in_its_own_repository_alone() {
    let registry = CaisRegistry::start(&[]);
    let (mine, yours) = (Client::new(&registry, "mine"), Client::new(&registry, "yours"));
    let at = mine.start_upload();
    yours.push_blob(b"so that it exists");
    for method in ["GET", "PATCH", "PUT", "DELETE"] {
        let path = format!("{at}?digest={}", Digest::of(CONTENT));
        assert_eq!(yours.ask(method, &path, &[], CONTENT).status, 404, "{method}");
    }
    assert_eq!(mine.get(&at).field("range"), Some("0-0"));
    let other = mine.start_upload();
    assert_ne!(at, other);
    assert!(at.rsplit('/').next().is_some_and(|id| id.len() == 32));
}

#[test]
fn requests_that_could_be_read_in_two_ways_are_refused() {
    let registry = CaisRegistry::start(&[]);
    let smuggled = "GET /v2/_catalog HTTP/1.1\r\nHost: h\r\n\r\n";
    let length = smuggled.len();
    for fields in [
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n".to_owned(),
        "Content-Length: 0x10\r\n".to_owned(),
        format!("Content-Length: {length}, {length}\r\n"),
        "Content-Length: 0\r\n Content-Length: 5\r\n".to_owned(),
        "X: y\nContent-Length: 5\r\n".to_owned(),
        "Host: other\r\n".to_owned(),
    ] {
        let request =
            format!("POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: h\r\n{fields}\r\n{smuggled}");
        let answer = registry.raw(request.as_bytes());
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{fields:?}: {answer}");
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(matches!(status, "400" | "501"), "{fields:?}: {answer}");
    }
    for chunks in [
        "5\r\nabc\r\n0\r\n\r\n",
        "-1\r\n",
        "0x5\r\n",
        "5\nabcde\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "\r\n",
    ] {
        let request = format!(
            "POST /v2/a/blobs/uploads/?digest={} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{smuggled}",
            Digest::of(b"abc")
        );
        let answer = registry.raw(request.as_bytes());
        assert!(!answer.contains("repositories"), "{chunks:?}: {answer}");
        assert!(answer.starts_with("HTTP/1.1 4"), "{chunks:?}: {answer}");
    }
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let registry = CaisRegistry::start(&[]);
    let digest = Digest::of(CONTENT);
    let mut stream = registry.connect();
    let post = format!(
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(post.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream, false).unwrap().status, 100);
    stream.write_all(CONTENT).unwrap();
    assert_eq!(Answer::read(&mut stream, false).unwrap().status, 201);
    // Both at once: the second one waits for its turn.
    let get = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: h\r\n\r\n");
    stream.write_all(get.repeat(2).as_bytes()).unwrap();
    for _ in 0..2 {
        assert_eq!(Answer::read(&mut stream, false).unwrap().body, CONTENT);
    }
    // A body that nobody wants is skipped.
    let put = "PUT /v2/a/manifests/.bad HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
    stream.write_all(put.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream, false).unwrap().status, 400);
    // One that is too long to be skipped ends the connection, behind the answer.
    let put = "PUT /v2/a/manifests/.bad HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n";
    stream.write_all(put.as_bytes()).unwrap();
    let answer = Answer::read(&mut stream, false).unwrap();
    assert_eq!((answer.status, answer.field("connection")), (400, Some("close")));
}

#[test]
fn heads_are_bounded() {
    let registry = CaisRegistry::start(&[]);
    let long = "a".repeat(1 << 20);
    for (request, status) in [
        (format!("GET /v2/ HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n"), "431"),
        (format!("GET /v2/{} HTTP/1.1\r\nHost: h\r\n\r\n", &long[..20_000]), "414"),
        (format!("GET /v2/ HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(2000)), "431"),
        ("GET /v2/ HTTP/3.7\r\nHost: h\r\n\r\n".to_owned(), "505"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        ("GET /v2/ HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}".to_owned(), "400"),
    ] {
        let answer = registry.raw(request.as_bytes());
        let found = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(found, status, "{}: {answer}", &request[..request.len().min(60)]);
    }
    // Whoever says nothing is not answered either.
    assert_eq!(registry.raw(b""), "");
    assert_eq!(registry.ask("GET", "/v2/", &[], b"").status, 200);
}

#[test]
fn a_body_that_ends_early_is_kept_for_its_upload_alone() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    let at = client.start_upload();
    let head = format!("PATCH /v2/a/{at} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
    let answer = registry.raw(&[head.as_bytes(), CONTENT].concat());
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(client.get(&at).field("range"), Some("0-9"), "what came can be continued");
    let digest = Digest::of(CONTENT);
    assert_eq!(client.status("PUT", &format!("{at}?digest={digest}")), 201);

    let head = format!(
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n"
    );
    let answer = registry.raw(&[head.as_bytes(), CONTENT].concat());
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let left = std::fs::read_dir(registry.root().join("registry/a/uploads")).unwrap().count();
    assert_eq!(left, 0, "nobody can continue this one");
}

#[test]
fn slow_clients_hold_nobody_up() {
    let registry = CaisRegistry::start(&[]);
    let digest = Client::new(&registry, "a").push_blob(CONTENT);
    // More than there are places: those that have waited longest make room.
    let slow: Vec<_> = (0..560)
        .map(|n| {
            let mut stream = registry.connect();
            let part: &[u8] = if n % 2 == 0 { b"GET /v2/ HT" } else { b"" };
            stream.write_all(part).unwrap();
            stream
        })
        .collect();
    let got = Client::new(&registry, "a").get(&format!("blobs/{digest}"));
    assert_eq!(got.body, CONTENT);
    drop(slow);
}

#[test]
fn one_upload_has_one_writer() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    let at = client.start_upload();
    let mut slow = registry.connect();
    let head = format!("PATCH /v2/a/{at} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n");
    slow.write_all(head.as_bytes()).unwrap();
    slow.write_all(&CONTENT[..5]).unwrap();
    // It is at work once its first bytes are there.
    while client.get(&at).field("range") != Some("0-4") {
        thread::yield_now();
    }
    let refused = client.ask("PATCH", &at, &[], b"other");
    assert_eq!((refused.status, refused.code().as_str()), (409, "BLOB_UPLOAD_INVALID"));
    slow.write_all(&CONTENT[5..]).unwrap();
    assert_eq!(Answer::read(&mut slow, false).unwrap().status, 202);
    let path = format!("{at}?digest={}", Digest::of(CONTENT));
    assert_eq!(client.status("PUT", &path), 201);
}

#[test]
fn the_same_blob_is_pushed_by_many_at_once() {
    let registry = CaisRegistry::start(&[]);
    let content = vec![7; 300_000];
    thread::scope(|scope| {
        for n in 0..16 {
            let (registry, content) = (&registry, &content);
            scope.spawn(move || {
                let name = format!("repository{}", n % 4);
                let client = Client::new(registry, &name);
                let digest = client.push_blob(content);
                assert_eq!(client.get(&format!("blobs/{digest}")).body, *content);
                client.push_image(&format!("v{n}"), content);
            });
        }
    });
    let tags = Client::new(&registry, "repository1").get("tags/list").json()["tags"].clone();
    assert_eq!(tags, serde_json::json!(["v1", "v13", "v5", "v9"]));
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let directory = tempfile_in_memory();
    let registry = CaisRegistry::start_at(directory.path(), &[]);
    let client = Client::new(&registry, "a");
    client.push_image("v1", b"layer");
    let content: Vec<u8> = vec![1; 8 << 20];
    let digest = Digest::of(&content);
    let refused = client.ask("POST", &format!("blobs/uploads/?digest={digest}"), &[], &content);
    assert_eq!((refused.status, refused.code().as_str()), (507, "UNKNOWN"), "{}", refused.text());
    assert!(refused.text().contains("disk is full"), "{}", refused.text());
    let uploads = || std::fs::read_dir(registry.root().join("registry/a/uploads")).unwrap().count();
    assert_eq!(uploads(), 0);
    let at = client.start_upload();
    let refused = client.ask("PATCH", &at, &[], &content);
    assert_eq!(refused.status, 507);
    assert_eq!(client.status("DELETE", &at), 204);
    assert_eq!(uploads(), 0);
    // There is room again.
    assert_eq!(client.status("GET", "manifests/v1"), 200);
    client.push_image("v2", b"another layer");
    drop(registry);
}

/// A file system of four megabytes.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn tempfile_in_memory() -> SmallDisk {
    let path = std::env::temp_dir().join(format!("cais-registry-disk-{}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    let options = c"size=4m,mode=0700";
    rustix::mount::mount("cais", &path, "tmpfs", rustix::mount::MountFlags::empty(), Some(options))
        .expect("a tmpfs can be mounted; hint: run tests as root");
    SmallDisk(path)
}

#[test]
fn answers_hold_no_more_than_was_asked_for() {
    let registry = CaisRegistry::start(&[]);
    let digest = Client::new(&registry, "a").push_blob(CONTENT);
    let answer =
        registry.raw(format!("HEAD /v2/a/blobs/{digest} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
    assert!(answer.ends_with("\r\n\r\n"), "a HEAD has no content: {answer}");
    let old = registry.raw(format!("GET /v2/a/blobs/{digest} HTTP/1.0\r\n\r\n").as_bytes());
    assert!(old.contains("Connection: close") && old.ends_with("0123456789"), "{old}");
    let mut stream = registry.connect();
    stream.write_all(b"GET http://h/v2/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}
