//! The registry in the box, after the requirements of opencontainers/distribution-spec 1.1.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod attack;
mod blob;
mod client;
mod collect;
mod crash;
mod discovery;
mod manifest;
mod mirror;
mod server;

use oci::Digest;
use testkit::{Answer, CaisRegistry};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// One repository, as a client sees it.
struct Client<'a> {
    registry: &'a CaisRegistry,
    name: &'a str,
}

impl<'a> Client<'a> {
    fn new(registry: &'a CaisRegistry, name: &'a str) -> Self {
        Self { registry, name }
    }

    /// Asks for a path below the repository.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        self.registry.ask(method, &format!("/v2/{}/{path}", self.name), fields, body)
    }

    #[track_caller]
    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    #[track_caller]
    fn status(&self, method: &str, path: &str) -> u16 {
        self.ask(method, path, &[], b"").status
    }

    /// Starts an upload: the path below the repository where it goes on.
    #[track_caller]
    fn start_upload(&self) -> String {
        let answer = self.ask("POST", "blobs/uploads/", &[], b"");
        assert_eq!(answer.status, 202, "{}", answer.text());
        self.below(&answer)
    }

    /// Where an answer sends us, below the repository.
    #[track_caller]
    fn below(&self, answer: &Answer) -> String {
        let location = answer.field("location").expect("the answer has a location");
        let below = location.strip_prefix(&format!("/v2/{}/", self.name));
        below.expect("the location is in the repository").to_owned()
    }

    /// Pushes a blob: its digest.
    #[track_caller]
    fn push_blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("blobs/uploads/?digest={digest}");
        let answer = self.ask("POST", &path, &[], bytes);
        assert_eq!(answer.status, 201, "{}", answer.text());
        digest
    }

    /// Pushes a manifest as `target`, a tag or a digest.
    #[track_caller]
    fn push_manifest(&self, target: &str, kind: &str, text: &str) -> Answer {
        self.ask("PUT", &format!("manifests/{target}"), &[("Content-Type", kind)], text.as_bytes())
    }

    /// Pushes an image of one layer that holds `layer`: its digest.
    #[track_caller]
    fn push_image(&self, tag: &str, layer: &[u8]) -> Digest {
        let text = image(&[layer], "");
        self.push_blob(layer);
        self.push_blob(CONFIG);
        let answer = self.push_manifest(tag, OCI_MANIFEST, &text);
        assert_eq!(answer.status, 201, "{}", answer.text());
        Digest::of(text.as_bytes())
    }
}

/// The configuration of every image here.
const CONFIG: &[u8] = b"{}";

fn descriptor(kind: &str, bytes: &[u8]) -> String {
    let (digest, size) = (Digest::of(bytes), bytes.len());
    format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
}

/// A manifest of an image with these layers; `more` is put behind its fields.
fn image(layers: &[&[u8]], more: &str) -> String {
    let config = descriptor("application/vnd.oci.image.config.v1+json", CONFIG);
    let layer = |bytes: &&[u8]| descriptor("application/vnd.oci.image.layer.v1.tar", bytes);
    let layers: Vec<String> = layers.iter().map(layer).collect();
    let layers = layers.join(",");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{config},"layers":[{layers}]{more}}}"#
    )
}
