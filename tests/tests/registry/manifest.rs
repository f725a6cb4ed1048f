//! Pushing, pulling and deleting manifests and tags.

use oci::Digest;
use testkit::CaisRegistry;

use super::{CONFIG, Client, OCI_INDEX, OCI_MANIFEST, descriptor, image};

const LAYER: &[u8] = b"a layer";

#[test]
fn a_manifest_comes_back_byte_for_byte() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a/b");
    client.push_blob(LAYER);
    client.push_blob(CONFIG);
    // Blanks and unknown fields are part of it.
    let text = image(&[LAYER], ",\n  \"unknown\" : [1, 2]") + "\n";
    let digest = Digest::of(text.as_bytes()).to_string();
    let pushed = client.push_manifest("v1", OCI_MANIFEST, &text);
    assert_eq!(pushed.status, 201, "{}", pushed.text());
    assert_eq!(client.below(&pushed), format!("manifests/{digest}"));
    assert_eq!(pushed.field("docker-content-digest"), Some(digest.as_str()));
    for target in ["v1", &digest] {
        let got = client.get(&format!("manifests/{target}"));
        assert_eq!((got.status, got.text()), (200, text.clone()), "{target}");
        assert_eq!(got.field("content-type"), Some(OCI_MANIFEST));
        assert_eq!(got.field("docker-content-digest"), Some(digest.as_str()));
        let head = client.ask("HEAD", &format!("manifests/{target}"), &[], b"");
        assert_eq!(head.status, 200);
        assert_eq!(head.field("content-length"), Some(text.len().to_string().as_str()));
        let tag = format!("\"{digest}\"");
        let known =
            client.ask("GET", &format!("manifests/{target}"), &[("If-None-Match", &tag)], b"");
        assert_eq!(known.status, 304);
    }
    for target in ["v2", &Digest::of(b"").to_string()] {
        let got = client.get(&format!("manifests/{target}"));
        assert_eq!((got.status, got.code().as_str()), (404, "MANIFEST_UNKNOWN"), "{target}");
    }
    let elsewhere = Client::new(&registry, "a").get(&format!("manifests/{digest}"));
    assert_eq!(elsewhere.status, 404);
}

#[test]
fn a_tag_moves_and_what_it_named_stays() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    let first = client.push_image("latest", b"one");
    let second = client.push_image("latest", b"two");
    let now = client.get("manifests/latest");
    assert_eq!(now.field("docker-content-digest"), Some(second.to_string().as_str()));
    assert_eq!(client.status("GET", &format!("manifests/{first}")), 200);
}

#[test]
fn a_manifest_that_lacks_something_is_refused() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    let text = image(&[LAYER], "");
    let refused = client.push_manifest("v1", OCI_MANIFEST, &text);
    assert_eq!((refused.status, refused.code().as_str()), (400, "MANIFEST_BLOB_UNKNOWN"));
    assert_eq!(refused.json()["errors"].as_array().map(Vec::len), Some(2), "{}", refused.text());
    // What another repository has is not here.
    let other = Client::new(&registry, "b");
    other.push_blob(LAYER);
    other.push_blob(CONFIG);
    assert_eq!(client.push_manifest("v1", OCI_MANIFEST, &text).status, 400);
    assert_eq!(client.status("GET", "manifests/v1"), 404);

    let index = |entry: &str| {
        format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entry}]}}"#)
    };
    let entry = descriptor(OCI_MANIFEST, text.as_bytes());
    let refused = client.push_manifest("all", OCI_INDEX, &index(&entry));
    assert_eq!((refused.status, refused.code().as_str()), (400, "MANIFEST_BLOB_UNKNOWN"));
    client.push_image("v1", LAYER);
    assert_eq!(client.push_manifest("all", OCI_INDEX, &index(&entry)).status, 201);

    let lying = text.replace(&format!("\"size\":{}", LAYER.len()), "\"size\":8");
    let refused = client.push_manifest("v2", OCI_MANIFEST, &lying);
    assert_eq!((refused.status, refused.code().as_str()), (400, "SIZE_INVALID"));
}

#[test]
fn layers_that_are_elsewhere_need_not_be_here() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    client.push_blob(CONFIG);
    let away = image(&[LAYER], "").replace("layer.v1", "layer.nondistributable.v1");
    assert_eq!(client.push_manifest("v1", OCI_MANIFEST, &away).status, 201);
}

#[test]
fn what_is_no_manifest_is_refused() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    client.push_blob(LAYER);
    client.push_blob(CONFIG);
    let good = image(&[LAYER], "");
    let twice = image(&[LAYER], &format!(r#","mediaType":"{OCI_MANIFEST}""#));
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    for (name, kind, text) in [
        ("empty", OCI_MANIFEST, String::new()),
        ("no JSON", OCI_MANIFEST, "{".to_owned()),
        ("more than JSON", OCI_MANIFEST, good.clone() + "{}"),
        ("schema 1", OCI_MANIFEST, good.replace("\"schemaVersion\":2", "\"schemaVersion\":1")),
        ("a type said twice", OCI_MANIFEST, twice),
        ("another type than it says", docker, good.clone()),
        ("an index that is none", OCI_INDEX, good.replace(OCI_MANIFEST, OCI_INDEX)),
        ("both", OCI_MANIFEST, image(&[LAYER], r#","manifests":[]"#)),
        ("a page", "text/html", good.replace(OCI_MANIFEST, "text/html")),
        (
            "no config",
            OCI_MANIFEST,
            format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","layers":[]}}"#),
        ),
        ("a bad digest", OCI_MANIFEST, good.replace("sha256:", "sha256:x")),
    ] {
        let refused = client.push_manifest("v1", kind, &text);
        let told = (refused.status, refused.code());
        assert_eq!(told, (400, "MANIFEST_INVALID".to_owned()), "{name}: {}", refused.text());
    }
    let other = Digest::of(b"").to_string();
    let refused = client.push_manifest(&other, OCI_MANIFEST, &good);
    assert_eq!((refused.status, refused.code().as_str()), (400, "DIGEST_INVALID"));
    for tag in [".x", "-x", "x%2Fy", &"x".repeat(129)] {
        assert_eq!(client.push_manifest(tag, OCI_MANIFEST, &good).status, 400, "{tag}");
    }
    assert_eq!(client.status("GET", "tags/list"), 200);
    assert_eq!(client.get("tags/list").json()["tags"], serde_json::json!([]));
}

#[test]
fn a_manifest_has_four_megabytes_at_most() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    client.push_blob(LAYER);
    client.push_blob(CONFIG);
    let sized = |bytes: usize| {
        let bare = image(&[LAYER], r#","x":"""#).len();
        image(&[LAYER], &format!(r#","x":"{}""#, "x".repeat(bytes - bare)))
    };
    let largest = sized(4 << 20);
    assert_eq!(client.push_manifest("v1", OCI_MANIFEST, &largest).status, 201);
    assert_eq!(client.get("manifests/v1").body.len(), 4 << 20);
    let refused = client.push_manifest("v2", OCI_MANIFEST, &sized((4 << 20) + 1));
    assert_eq!((refused.status, refused.code().as_str()), (413, "MANIFEST_INVALID"));
}

#[test]
fn the_client_says_what_it_can_read() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    client.push_image("v1", LAYER);
    let both = format!("{OCI_INDEX}, {OCI_MANIFEST};q=0.5");
    for (accept, status) in [
        ("*/*", 200),
        ("application/*", 200),
        (OCI_MANIFEST, 200),
        (&*both, 200),
        (OCI_INDEX, 404),
        ("text/html", 404),
        (&format!("{OCI_MANIFEST};q=0"), 404),
    ] {
        let got = client.ask("GET", "manifests/v1", &[("Accept", accept)], b"");
        assert_eq!(got.status, status, "{accept}");
    }
    let split = [("Accept", OCI_INDEX), ("Accept", OCI_MANIFEST)];
    assert_eq!(client.ask("GET", "manifests/v1", &split, b"").status, 200);
}

#[test]
fn several_tags_are_pushed_at_once() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    let digest = client.push_image("v1", LAYER);
    let text = image(&[LAYER], "");
    let pushed = client.push_manifest(&format!("{digest}?tag=x&tag=y"), OCI_MANIFEST, &text);
    assert_eq!((pushed.status, pushed.field("oci-tag")), (201, Some("x, y")));
    assert_eq!(client.get("tags/list").json()["tags"], serde_json::json!(["v1", "x", "y"]));
    let many: String = (0..100).map(|n| format!("&tag=t{n}")).collect();
    assert_eq!(client.push_manifest(&format!("{digest}?{many}"), OCI_MANIFEST, &text).status, 414);
    assert_eq!(client.push_manifest(&format!("{digest}?tag=.."), OCI_MANIFEST, &text).status, 400);
}

#[test]
fn tags_and_manifests_are_deleted() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    let digest = client.push_image("v1", LAYER);
    client.push_image("v2", LAYER);
    assert_eq!(client.status("DELETE", "manifests/v1"), 202);
    assert_eq!(client.status("DELETE", "manifests/v1"), 404);
    assert_eq!(client.status("GET", "manifests/v2"), 200);
    assert_eq!(client.status("DELETE", &format!("manifests/{digest}")), 202);
    for target in ["v2", &digest.to_string()] {
        assert_eq!(client.status("GET", &format!("manifests/{target}")), 404, "{target}");
    }
    let nowhere = Client::new(&registry, "b").ask("DELETE", "manifests/v1", &[], b"");
    assert_eq!((nowhere.status, nowhere.code().as_str()), (404, "NAME_UNKNOWN"));
}
