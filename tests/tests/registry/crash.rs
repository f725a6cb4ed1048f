//! Whatever was acknowledged is there after the server was killed, and nothing else stays.

use std::io::Write as _;

use oci::Digest;
use testkit::{Answer, CaisRegistry};

use super::{CONFIG, Client, OCI_MANIFEST, image};

#[test]
fn what_was_acknowledged_survives_kills() {
    let mut registry = CaisRegistry::start(&[]);
    let mut pushed = Vec::new();
    for round in 0..8u32 {
        for n in 0..4u32 {
            let layer = format!("layer {round} {n}").repeat(1000);
            let tag = format!("v{round}-{n}");
            let digest = Client::new(&registry, "a/b").push_image(&tag, layer.as_bytes());
            pushed.push((tag, digest, layer));
        }
        // One more is in the middle of its push: nobody hears its answer.
        let mut stream = registry.connect();
        let text = image(&[], &format!(r#","round":{round}"#));
        let request = match round % 4 {
            0 => format!(
                "POST /v2/a/b/blobs/uploads/?digest={} HTTP/1.1\r\nHost: h\r\nContent-Length: 999999\r\n\r\npart",
                Digest::of(b"x")
            ),
            1 => format!(
                "PUT /v2/a/b/manifests/mid{round} HTTP/1.1\r\nHost: h\r\nContent-Type: {OCI_MANIFEST}\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            ),
            2 => "POST /v2/a/b/blobs/uploads/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
                .to_owned(),
            _ => format!("DELETE /v2/a/b/manifests/mid{} HTTP/1.1\r\nHost: h\r\n\r\n", round - 2),
        };
        stream.write_all(request.as_bytes()).unwrap();
        registry.kill_and_restart();
    }
    let client = Client::new(&registry, "a/b");
    for (tag, digest, layer) in &pushed {
        let got = client.get(&format!("manifests/{tag}"));
        assert_eq!(got.field("docker-content-digest"), Some(digest.to_string().as_str()), "{tag}");
        let layer = layer.as_bytes();
        assert_eq!(client.get(&format!("blobs/{}", Digest::of(layer))).body, layer, "{tag}");
    }
    let tags = client.get("tags/list").json()["tags"].clone();
    for tag in tags.as_array().expect("a list of tags") {
        let tag = tag.as_str().expect("a tag is text");
        assert_eq!(client.status("GET", &format!("manifests/{tag}")), 200, "{tag} is whole");
    }
}

#[test]
fn an_upload_goes_on_after_a_kill() {
    let mut registry = CaisRegistry::start(&[]);
    let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let at = Client::new(&registry, "a").start_upload();
    let half = content.len() / 2;
    let patched = Client::new(&registry, "a").ask("PATCH", &at, &[], &content[..half]);
    assert_eq!(patched.status, 202);
    registry.kill_and_restart();
    let client = Client::new(&registry, "a");
    assert_eq!(client.get(&at).field("range"), Some(format!("0-{}", half - 1).as_str()));
    let range = format!("{half}-{}", content.len() - 1);
    let path = format!("{at}?digest={}", Digest::of(&content));
    let answer = client.ask("PUT", &path, &[("Content-Range", &range)], &content[half..]);
    assert_eq!(answer.status, 201, "{}", answer.text());
}

#[test]
fn nothing_unreferenced_stays_after_a_kill_and_a_collection() {
    let mut registry = CaisRegistry::start(&[]);
    Client::new(&registry, "a").push_image("v1", b"layer");
    Client::new(&registry, "a").push_blob(b"nobody needs this");
    let mut stream = registry.connect();
    let post = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(post.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream, false).unwrap().status, 202);
    registry.kill_and_restart();
    let blobs = |registry: &CaisRegistry| {
        let mut names: Vec<_> = std::fs::read_dir(registry.root().join("blobs/sha256"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(blobs(&registry).len(), 4);
    let output = registry.cais(&["registry", "gc", "--min-age", "0s"]);
    assert!(output.status.success(), "{output:?}");
    let manifest = image(&[b"layer"], "");
    let mut expected = [manifest.as_bytes(), CONFIG, b"layer"].map(|bytes| Digest::of(bytes).hex());
    expected.sort();
    assert_eq!(blobs(&registry), expected);
}
