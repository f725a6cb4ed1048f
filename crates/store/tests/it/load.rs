//! Loading archives: every layout, hostile ones too.

use std::fs;

use oci::{Descriptor, Digest, Platform, media_type};
use serde_json::json;
use store::{Error, Loaded};

use super::fixture::{Archive, Fixture, descriptor, gzip};

/// The parts of an image to be put into some layout.
struct Parts {
    layers: Vec<Vec<u8>>,
    config: Vec<u8>,
}

impl Parts {
    fn new() -> Self {
        let first = Archive::new().file("a", b"1").end();
        let second = Archive::new().file("b", b"2").end();
        let diff_ids = [Digest::of(&first), Digest::of(&second)];
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Self { layers: vec![first, second], config: config.to_string().into_bytes() }
    }

    fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    /// As an OCI layout with compressed layers; the top index has `annotations`.
    fn layout(&self, annotations: serde_json::Value, nested: bool) -> Vec<(String, Vec<u8>)> {
        let mut files = vec![("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
        let mut blob = |bytes: &[u8], media_type: &str| -> Descriptor {
            let digest = Digest::of(bytes);
            files.push((format!("blobs/sha256/{}", digest.hex()), bytes.to_vec()));
            descriptor(digest, bytes.len(), media_type)
        };
        let gz = format!("{}+gzip", media_type::OCI_LAYER);
        let layers: Vec<Descriptor> =
            self.layers.iter().map(|layer| blob(&gzip(layer), &gz)).collect();
        let config = blob(&self.config, media_type::OCI_CONFIG);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": config, "layers": layers,
        });
        let mut top = blob(manifest.to_string().as_bytes(), media_type::OCI_MANIFEST);
        if nested {
            top.platform = Some(Platform::host());
            let foreign = json!({"mediaType": media_type::OCI_MANIFEST, "size": 1,
                "digest": Digest::of(b"not here"), "platform": {"os": "plan9", "architecture": "mips"}});
            let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
                "manifests": [foreign, top]});
            top = blob(index.to_string().as_bytes(), media_type::OCI_INDEX);
        }
        let mut top = serde_json::to_value(&top).unwrap();
        top["annotations"] = annotations;
        let index = json!({"schemaVersion": 2, "manifests": [top]});
        files.push(("index.json".into(), index.to_string().into_bytes()));
        files
    }
}

fn archive(files: &[(String, Vec<u8>)]) -> Archive {
    files.iter().fold(Archive::new(), |archive, (name, bytes)| archive.file(name, bytes))
}

fn load(bytes: &[u8]) -> (Fixture, Result<Vec<Loaded>, Error>) {
    let fixture = Fixture::new();
    let loaded = fixture.store.load(&mut &bytes[..], None, &mut |_| {});
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
    (fixture, loaded)
}

#[track_caller]
fn check(fixture: &Fixture, loaded: &[Loaded], parts: &Parts, name: &str) {
    let [one] = loaded else { panic!("{} images", loaded.len()) };
    assert_eq!(one.image.id, parts.id());
    let image = fixture.store.resolve(name).unwrap();
    assert_eq!(image, one.image);
    assert_eq!(image.config(&fixture.store).unwrap().config.cmd, ["sh"]);
    assert_eq!(image.manifest(&fixture.store).unwrap().layers.len(), 2);
    for (layer, bytes) in image.layers.iter().zip(&parts.layers) {
        assert_eq!(layer.diff_id, Digest::of(bytes));
        assert!(fixture.store.has_layer(&layer.diff_id));
        assert!(fixture.store.has_blob(&layer.blob.digest));
    }
}

#[test]
fn the_old_layout_of_docker_save_with_its_links() {
    let parts = Parts::new();
    let manifest = json!([{"Config": "c.json", "RepoTags": ["old:1"],
        "Layers": ["x/layer.tar", "y/layer.tar"]}]);
    let plain = Archive::new()
        .dir("z")
        .file("z/layer.tar", &parts.layers[0])
        .symlink("x/layer.tar", "../z/layer.tar")
        .file("w.tar", &parts.layers[1])
        .hard_link("y/layer.tar", "w.tar")
        .file("c.json", &parts.config)
        .file("manifest.json", manifest.to_string().as_bytes())
        .end();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for bytes in [&plain, &gzip(&plain), &zstd] {
        let (fixture, loaded) = load(bytes);
        check(&fixture, &loaded.unwrap(), &parts, "old:1");
    }
}

#[test]
fn the_new_layout_of_docker_save_keeps_its_manifest() {
    let parts = Parts::new();
    let mut files = parts.layout(json!({}), false);
    let name = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let layers: Vec<String> = parts.layers.iter().map(|layer| name(&gzip(layer))).collect();
    let saved = json!([{"Config": name(&parts.config), "RepoTags": ["new:1"], "Layers": layers}]);
    files.push(("manifest.json".into(), saved.to_string().into_bytes()));
    let is_manifest = |bytes: &[u8]| {
        serde_json::from_slice(bytes).is_ok_and(|json: serde_json::Value| json["layers"].is_array())
    };
    let manifest = files.iter().find(|(_, b)| is_manifest(b)).map(|(_, b)| Digest::of(b));
    let (fixture, loaded) = load(&archive(&files).end());
    let loaded = loaded.unwrap();
    check(&fixture, &loaded, &parts, "new:1");
    assert_eq!(Some(loaded[0].image.manifest.digest), manifest);
}

#[test]
fn an_oci_layout_with_and_without_a_nested_index() {
    let parts = Parts::new();
    for (annotations, name) in [
        (json!({"io.containerd.image.name": "docker.io/library/oci:1"}), "oci:1"),
        (json!({"org.opencontainers.image.ref.name": "ghcr.io/a/b:2"}), "ghcr.io/a/b:2"),
        (json!({"org.opencontainers.image.ref.name": "1.0"}), &parts.id().to_string()),
    ] {
        for nested in [false, true] {
            let files = parts.layout(annotations.clone(), nested);
            let (fixture, loaded) = load(&archive(&files).end());
            let loaded = loaded.unwrap();
            check(&fixture, &loaded, &parts, name);
            assert_eq!(loaded[0].image.index.is_some(), nested);
        }
    }
}

#[test]
fn an_oci_layout_in_a_directory() {
    let parts = Parts::new();
    let fixture = Fixture::new();
    let directory = fixture.directory.path().join("layout");
    for (name, bytes) in parts.layout(json!({"io.containerd.image.name": "dir:1"}), true) {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let loaded = fixture.store.load_dir(&directory).unwrap();
    check(&fixture, &loaded, &parts, "dir:1");
    assert_eq!(fixture.leftovers(), Vec::<String>::new());
    // A link in the layout does not lead out of it.
    fs::remove_file(directory.join("index.json")).unwrap();
    fs::write(fixture.directory.path().join("outside"), "{}").unwrap();
    let target = fixture.directory.path().join("outside");
    std::os::unix::fs::symlink(target, directory.join("index.json")).unwrap();
    assert!(matches!(fixture.store.load_dir(&directory), Err(Error::Invalid(_))));
}

#[test]
fn archives_that_are_no_images_are_refused() {
    let parts = Parts::new();
    let refused = |files: &[(String, Vec<u8>)], text: &str| {
        let (fixture, loaded) = load(&archive(files).end());
        let why = loaded.unwrap_err().to_string();
        assert!(why.contains(text), "{why}");
        assert!(fixture.store.images().unwrap().is_empty());
    };
    refused(&[("x".into(), b"".to_vec())], "neither");
    refused(&[("manifest.json".into(), b"[]x".to_vec())], "malformed manifest.json");
    let saved = |config: &str, layers: &[&str]| {
        let text = json!([{"Config": config, "RepoTags": null, "Layers": layers}]).to_string();
        vec![("manifest.json".into(), text.into_bytes()), ("c".into(), parts.config.clone())]
    };
    refused(&saved("missing", &[]), "archive has no `missing`");
    refused(&saved("../../../etc/passwd", &[]), "outside its root");
    refused(&saved("c", &[]), "0 layers for an image of 2");
    refused(&saved("c", &["/etc/passwd", "/etc/shadow"]), "archive has no");
    let mut wrong_layer = saved("c", &["c", "c"]);
    wrong_layer.truncate(2);
    refused(&wrong_layer, "");

    let mut sizes = parts.layout(json!({}), false);
    let index = sizes.last_mut().unwrap();
    index.1 = String::from_utf8(index.1.clone()).unwrap().replace("\"size\":", "\"size\":1").into();
    refused(&sizes, "bytes long, not");

    let mut files = parts.layout(json!({}), false);
    let last = files.iter().position(|(name, _)| name.starts_with("blobs")).unwrap();
    files[last].1[20] ^= 1;
    refused(&files, "expected sha256:");
    let deep = json!({"schemaVersion": 2, "manifests": []});
    refused(&[("index.json".into(), deep.to_string().into_bytes())], "no image for linux/");
}

#[test]
fn an_index_that_nests_without_end_is_refused() {
    let mut files = Vec::new();
    let mut below =
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []});
    for _ in 0..8 {
        let bytes = below.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        let platform = serde_json::to_value(Platform::host()).unwrap();
        below = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [
            {"mediaType": media_type::OCI_INDEX, "digest": digest, "size": bytes.len(), "platform": platform}]});
        files.push((format!("blobs/sha256/{}", digest.hex()), bytes));
    }
    files.push(("index.json".into(), below.to_string().into_bytes()));
    let (_, loaded) = load(&archive(&files).end());
    assert!(loaded.unwrap_err().to_string().contains("nested too deeply"));
}
