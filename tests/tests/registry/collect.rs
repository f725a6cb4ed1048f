//! `cais registry gc`, while the registry serves.

use std::process::Output;

use oci::Digest;
use testkit::CaisRegistry;

use super::{CONFIG, Client, OCI_INDEX, OCI_MANIFEST, descriptor, image};

#[track_caller]
fn collect(registry: &CaisRegistry, arguments: &[&str]) -> String {
    let output: Output = registry.cais(&[&["registry", "gc"], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn in_store(registry: &CaisRegistry, digest: &Digest) -> bool {
    registry.root().join("blobs/sha256").join(digest.hex()).exists()
}

#[test]
fn what_no_manifest_needs_goes_once_it_is_old() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    client.push_image("v1", b"layer");
    let unneeded = client.push_blob(b"unneeded");
    let said = collect(&registry, &[]);
    assert!(said.starts_with("Released: 0 manifests, 0 blobs\n"), "{said}");
    assert!(in_store(&registry, &unneeded), "somebody may be about to push its manifest");
    let said = collect(&registry, &["--min-age", "0s"]);
    assert!(said.starts_with("Released: 0 manifests, 1 blobs\nRemoved: 1 blobs"), "{said}");
    assert!(!in_store(&registry, &unneeded));
    assert_eq!(client.status("GET", &format!("blobs/{unneeded}")), 404);
    assert_eq!(client.get(&format!("blobs/{}", Digest::of(b"layer"))).body, b"layer");
    // What was deleted is released by its repository, and removed when nobody else has it.
    Client::new(&registry, "b").push_image("v1", b"layer");
    let manifest = Digest::of(image(&[b"layer"], "").as_bytes());
    assert_eq!(client.status("DELETE", &format!("manifests/{manifest}")), 202);
    collect(&registry, &["--min-age", "0s"]);
    assert!(!registry.root().join("registry/a").exists(), "an empty repository is none");
    assert!(in_store(&registry, &manifest));
    let other = Client::new(&registry, "b");
    assert_eq!(other.status("DELETE", &format!("manifests/{manifest}")), 202);
    collect(&registry, &["--min-age", "0s"]);
    assert!(!in_store(&registry, &manifest) && !in_store(&registry, &Digest::of(b"layer")));
    assert_eq!(
        registry.ask("GET", "/v2/_catalog", &[], b"").json()["repositories"],
        serde_json::json!([])
    );
}

#[test]
fn untagged_manifests_go_if_asked_and_those_that_tags_lead_to_stay() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    let old = client.push_image("latest", b"old");
    let new = client.push_image("latest", b"new");
    // One platform of an index has no tag of its own, nor has a signature.
    let platform = client.push_image("x", b"platform");
    let entry = descriptor(OCI_MANIFEST, image(&[b"platform"], "").as_bytes());
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entry}]}}"#);
    assert_eq!(client.push_manifest("all", OCI_INDEX, &index).status, 201);
    assert_eq!(client.status("DELETE", "manifests/x"), 202);
    client.push_blob(CONFIG);
    let subject = descriptor(OCI_INDEX, index.as_bytes());
    let signature = image(&[], &format!(r#","subject":{subject}"#));
    let signature_digest = Digest::of(signature.as_bytes());
    let pushed = client.push_manifest(&signature_digest.to_string(), OCI_MANIFEST, &signature);
    assert_eq!(pushed.status, 201, "{}", pushed.text());

    let said = collect(&registry, &["--min-age", "0s"]);
    assert!(said.starts_with("Released: 0 manifests"), "{said}");
    let said = collect(&registry, &["--untagged"]);
    assert!(said.starts_with("Released: 0 manifests"), "all are new: {said}");
    let said = collect(&registry, &["--untagged", "--min-age", "0s"]);
    assert!(said.starts_with("Released: 1 manifests, 1 blobs"), "{said}");
    for (digest, status) in [(old, 404), (new, 200), (platform, 200), (signature_digest, 200)] {
        assert_eq!(client.status("GET", &format!("manifests/{digest}")), status);
    }
}

#[test]
fn other_collections_spare_what_repositories_hold() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a");
    let manifest = client.push_image("v1", b"layer");
    let blob = client.push_blob(b"not needed yet");
    // An image of the store's own that is removed makes it collect.
    let archive = registry.root().join("empty.tar");
    std::fs::write(&archive, [0; 1024]).unwrap();
    let path = archive.to_str().unwrap();
    assert!(registry.cais(&["import", path, "mine:1"]).status.success());
    assert!(registry.cais(&["rmi", "mine:1"]).status.success());
    for digest in [manifest, blob, Digest::of(b"layer")] {
        assert!(in_store(&registry, &digest));
    }
    assert_eq!(client.status("GET", "manifests/v1"), 200);
}

#[test]
fn what_repositories_lack_is_told_of() {
    let registry = CaisRegistry::start(&[]);
    let client = Client::new(&registry, "a/b");
    let manifest = client.push_image("v1", b"layer");
    let blob = |digest: &Digest| registry.root().join("blobs/sha256").join(digest.hex());
    let layer = Digest::of(b"layer");
    let check = |wanted: Option<&str>| {
        let output =
            registry.cais(&["system", "fsck", "--format", "{{.Type}} {{.Name}} {{.Problem}}"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.success(), wanted.is_none(), "{said}");
        assert!(wanted.is_none_or(|wanted| said.contains(wanted)), "{said}");
    };
    check(None);
    std::fs::remove_file(blob(&layer)).unwrap();
    check(Some(&format!("manifest a/b@{manifest} it lacks {layer}; push it again")));
    let gc = registry.cais(&["registry", "gc"]);
    let warned = String::from_utf8_lossy(&gc.stderr).into_owned();
    assert!(warned.contains(&format!("a/b@{manifest} lacks {layer}")), "{warned}");
    assert_eq!(client.status("GET", &format!("blobs/{layer}")), 404);
    std::fs::remove_file(blob(&manifest)).unwrap();
    check(Some(&format!("manifest a/b@{manifest} it is not here; push it again")));
    assert_eq!(client.status("GET", "manifests/v1"), 404);
    client.push_image("v1", b"layer");
    check(None);
}

#[test]
fn a_mistyped_storage_is_not_made() {
    let registry = CaisRegistry::start(&[]);
    let storage = registry.root().join("nope");
    let gc = registry.cais(&["registry", "gc", "--storage", storage.to_str().unwrap()]);
    assert!(!gc.status.success());
    let said = String::from_utf8_lossy(&gc.stderr).into_owned();
    assert!(said.contains("No such directory"), "{said}");
    assert!(!storage.exists());
}
