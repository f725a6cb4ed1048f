//! Registries that lie: what does not match its digest never becomes an image.

use std::fs;
use std::path::{Path, PathBuf};

use testkit::{Pool, RegistryServer, Sandbox};

const PORT: u16 = 5001;
const IMAGE: &str = "127.0.0.1:5001/library/busybox:latest";

/// A registry with busybox whose files a test may damage, and the path of its largest blob.
fn registry_of_busybox(sandbox: &Sandbox) -> (RegistryServer, PathBuf) {
    let storage = sandbox.work().join("storage");
    let server = sandbox.registry(PORT, &storage);
    let layout = Pool::open().layout();
    let from = format!("oci:{}:busybox:latest", layout.display());
    let to = format!("docker://{IMAGE}");
    let copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", &from, &to];
    let _ = sandbox.host(copy).ok();
    let mut blobs = Vec::new();
    blobs_below(&storage, &mut blobs);
    let layer = blobs.into_iter().max_by_key(|path| path.metadata().map_or(0, |m| m.len()));
    (server, layer.expect("the registry has stored a layer"))
}

fn blobs_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => blobs_below(&path, found),
            path if entry.file_name() == "data" => found.push(path),
            _ => {}
        }
    }
}

/// Demands that the damaged image is refused as a whole, and that a repaired one is taken.
#[track_caller]
fn refused(damage: impl FnOnce(&mut Vec<u8>), part: &str) {
    let sandbox = Sandbox::new();
    let (_server, layer) = registry_of_busybox(&sandbox);
    let good = fs::read(&layer).expect("the layer can be read");
    let mut bytes = good.clone();
    damage(&mut bytes);
    fs::write(&layer, bytes).expect("the layer can be damaged");
    sandbox.cais(["pull", IMAGE]).code(1).says(part);
    sandbox.cais(["images", "-aq"]).code(0).out("");
    sandbox.cais(["run", "--rm", "--pull", "never", IMAGE, "true"]).code(125);

    fs::write(&layer, good).expect("the layer can be repaired");
    let _ = sandbox.cais(["pull", IMAGE]).ok();
    sandbox.cais(["run", "--rm", "--network", "none", IMAGE, "echo", "well"]).code(0).out("well\n");
}

#[test]
fn a_changed_byte_is_noticed() {
    refused(|bytes| *bytes.last_mut().expect("a layer has bytes") ^= 1, "sha256:");
}

#[test]
fn a_changed_start_is_noticed() {
    refused(|bytes| bytes[..64].fill(0), "sha256:");
}

#[test]
fn a_truncated_layer_is_noticed() {
    refused(|bytes| bytes.truncate(bytes.len() / 2), "");
}

#[test]
fn a_longer_layer_is_noticed() {
    refused(|bytes| bytes.extend_from_slice(&[0; 4096]), "");
}
