//! What runc and crun are given: the image's files, and a specification that asks for no more
//! than the binary under test does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::world::{World, output};

/// The files of `busybox:latest`, unpacked once.
pub(crate) fn rootfs(world: &World) -> Result<PathBuf> {
    let rootfs = world.path("rootfs");
    if rootfs.exists() {
        return Ok(rootfs);
    }
    fs::create_dir(&rootfs)?;
    let index: Value = read(&world.layout.join("index.json"))?;
    let named = |image: &&Value| {
        image["annotations"]["org.opencontainers.image.ref.name"] == "busybox:latest"
    };
    let image = index["manifests"].as_array().and_then(|images| images.iter().find(named));
    let manifest: Value = read(&blob(world, image.context("find busybox in the pool")?)?)?;
    for layer in manifest["layers"].as_array().context("find the layers of busybox")? {
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(blob(world, layer)?).arg("-C").arg(&rootfs);
        output(&mut tar)?;
    }
    Ok(rootfs)
}

fn blob(world: &World, descriptor: &Value) -> Result<PathBuf> {
    let digest = descriptor["digest"].as_str().context("read a digest")?;
    Ok(world.layout.join("blobs").join(digest.replace(':', "/")))
}

/// Makes the bundle `name`: what `runc spec` says, with `true` as the command, without a terminal
/// and without limits on open files, which not every machine lets root set.
pub(crate) fn make(world: &World, name: &str) -> Result<PathBuf> {
    let bundle = world.path(name);
    if bundle.exists() {
        fs::remove_dir_all(&bundle)?;
    }
    fs::create_dir(&bundle)?;
    output(Command::new("runc").arg("spec").arg("--bundle").arg(&bundle))?;
    let rootfs = rootfs(world)?;
    change(&bundle, |spec| {
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["true"]);
        spec["root"]["path"] = json!(rootfs);
        spec["linux"]["cgroupsPath"] = json!(format!("/cais-bench-{name}"));
        remove(&mut spec["process"], "rlimits");
    })?;
    Ok(bundle)
}

/// Takes the device rules out of a specification: crun wants to lock more memory for them than a
/// machine may allow.
pub(crate) fn remove_resources(spec: &mut Value) {
    remove(&mut spec["linux"], "resources");
}

fn remove(object: &mut Value, key: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(key);
    }
}

/// Changes the specification of a bundle.
pub(crate) fn change(bundle: &Path, change: impl FnOnce(&mut Value)) -> Result<()> {
    let path = bundle.join("config.json");
    let mut spec: Value = read(&path)?;
    change(&mut spec);
    write(&path, &spec)
}

/// Docker's default seccomp profile, as Docker writes it into a bundle: found in the bundle of a
/// container that runs, below the daemon's `state`.
pub(crate) fn seccomp_of_docker(state: &Path, container: &str) -> Result<Value> {
    let tasks = state.join("containerd/daemon/io.containerd.runtime.v2.task/moby");
    let path = tasks.join(container).join("config.json");
    let path = if path.exists() {
        path
    } else {
        Path::new("/run/containerd/io.containerd.runtime.v2.task/moby").join(container)
    };
    let spec: Value = read(&path)?;
    let profile = spec["linux"]["seccomp"].clone();
    ensure!(profile.is_object(), "{} has no seccomp profile", path.display());
    Ok(profile)
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

fn write(path: &Path, value: &Value) -> Result<()> {
    fs::write(path, value.to_string()).with_context(|| format!("write {}", path.display()))
}
