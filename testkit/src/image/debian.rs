//! Userlands of the distribution that this machine runs, from its own package mirror.
//!
//! `ubuntu:latest` is the name that people type in the classic demonstrations; here it is a small
//! userland of this machine's distribution, made from its packages.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::Result;
use oci::{Compression, ImageConfig};

use super::{config, layers_of, made_by};
use crate::archive::{EPOCH, Entry, paths_below};
use crate::host;
use crate::layout::Layout;

/// `debian:latest`, `debian:<release>-slim` and `ubuntu:latest`, which share their one layer.
pub(super) fn make(layout: &Layout) -> Result<()> {
    let work = host::work_directory()?;
    let begun = SystemTime::now();
    let tree = userland(work.path(), &[])?;
    let paths = kept(&tree)?;
    let layer =
        layout.layer(Compression::Gzip, |archive| archive.add_tree(&tree, &paths, begun))?;
    let layers = [layer];
    let debian = layout.image(config(&["bash"], &["ADD rootfs.tar /"]), &layers)?;
    layout.tag("debian:latest", debian.clone())?;
    layout.tag(&format!("debian:{}-slim", host::release()?), debian)?;
    let mut ubuntu = config(&["bash"], &["ADD rootfs.tar /"]);
    ubuntu.config.labels.insert(
        "org.opencontainers.image.description".to_owned(),
        "made from the packages of the machine's distribution".to_owned(),
    );
    layout.tag("ubuntu:latest", layout.image(ubuntu, &layers)?)
}

/// `python:3` and `python:latest`: the userland and one layer.
pub(super) fn make_python(layout: &Layout) -> Result<()> {
    let mut python = config(&["python3"], &["ADD rootfs.tar /"]);
    python.history.push(made_by("RUN apt-get install python3"));
    let link = Entry::symlink("usr/local/bin/python", "../../bin/python3");
    derived(layout, &["python3"], python, &[link], &["python:3", "python:latest"])
}

/// `nginx:latest`: the userland and one layer; logs go to the standard streams.
pub(super) fn make_nginx(layout: &Layout) -> Result<()> {
    let mut nginx = config(&["nginx", "-g", "daemon off;"], &["ADD rootfs.tar /"]);
    nginx.history.push(made_by("RUN apt-get install nginx"));
    nginx.config.exposed_ports.insert("80/tcp".to_owned(), serde_json::json!({}));
    nginx.config.stop_signal = "SIGQUIT".to_owned();
    let logs = [
        Entry::symlink("var/log/nginx/access.log", "/dev/stdout"),
        Entry::symlink("var/log/nginx/error.log", "/dev/stderr"),
    ];
    derived(layout, &["nginx"], nginx, &logs, &["nginx:latest"])
}

/// `services:latest`: Redis, PostgreSQL, and Python with their clients.
pub(super) fn make_services(layout: &Layout) -> Result<()> {
    let mut services = config(&["bash"], &["ADD rootfs.tar /"]);
    services.history.push(made_by("RUN apt-get install redis-server postgresql"));
    let packages = ["redis-server", "postgresql", "python3", "python3-redis", "python3-pg8000"];
    derived(layout, &packages, services, &[], &["services:latest"])
}

/// An image of the base layer and one more, which holds what `packages` add.
fn derived(
    layout: &Layout,
    packages: &[&str],
    config: ImageConfig,
    extra: &[Entry],
    names: &[&str],
) -> Result<()> {
    let work = host::work_directory()?;
    let begun = SystemTime::now();
    let tree = userland(work.path(), packages)?;
    let mut layers = layers_of(layout, "debian:latest")?;
    let base = work.path().join("base");
    fs::create_dir(&base)?;
    for layer in &layers {
        let blob = layout.blob(&layer.descriptor.digest);
        host::run("tar", ["-xzpf".as_ref(), blob.as_os_str(), "-C".as_ref(), base.as_os_str()])?;
    }
    let (mut changed, gone) = changes(&base, &tree)?;
    // A path stands in a layer once; Docker refuses an archive that has one twice.
    changed.retain(|path| extra.iter().all(|entry| path != Path::new(&entry.path)));
    layers.push(layout.layer(Compression::Gzip, |archive| {
        gone.iter().try_for_each(|path| archive.add(&whiteout(path)))?;
        archive.add_tree(&tree, &changed, begun)?;
        extra.iter().try_for_each(|entry| archive.add(entry))
    })?);
    let image = layout.image(config, &layers)?;
    names.iter().try_for_each(|name| layout.tag(name, image.clone()))
}

/// Makes a minimal userland with `packages` in a directory below `work`.
pub(crate) fn userland(work: &Path, packages: &[&str]) -> Result<PathBuf> {
    let tree = work.join("tree");
    let sources = work.join("sources.list");
    fs::write(&sources, host::package_sources()?)?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--mode=root", "--variant=minbase", "--format=directory"]);
    command.arg("--dpkgopt=force-unsafe-io");
    command.args([
        "--aptopt=Acquire::Languages \"none\"",
        "--aptopt=Acquire::Retries \"3\"",
        "--aptopt=APT::Install-Recommends \"false\"",
    ]);
    if !packages.is_empty() {
        command.arg(format!("--include={}", packages.join(",")));
    }
    command.arg(host::release()?).arg(&tree).arg(&sources);
    command.env("SOURCE_DATE_EPOCH", EPOCH.to_string());
    host::finish(&mut command)?;
    Ok(tree)
}

/// The paths of a userland that belong into an image.
fn kept(tree: &Path) -> Result<BTreeSet<PathBuf>> {
    paths_below(tree, belongs)
}

/// Mount points stay empty, and what a run leaves behind, manuals and translations stay out, as in
/// the distribution's own slim images.
fn belongs(path: &Path) -> bool {
    const EMPTY: &[&str] = &[
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "var/tmp",
        "var/cache/apt",
        "var/lib/apt/lists",
        "usr/share/man",
        "usr/share/info",
        "usr/share/locale",
    ];
    const ABSENT: &[&str] = &[
        "etc/hostname",
        "etc/machine-id",
        "etc/resolv.conf",
        "var/cache/ldconfig/aux-cache",
        "var/log/alternatives.log",
        "var/log/apt",
        "var/log/bootstrap.log",
        "var/log/dpkg.log",
        "var/lib/dpkg/lock",
        "var/lib/dpkg/lock-frontend",
        "var/lib/dpkg/triggers/Lock",
    ];
    if ABSENT.iter().any(|absent| path == Path::new(absent)) {
        return false;
    }
    if path.starts_with("usr/share/doc") && path.components().count() > 4 {
        return path.file_name().is_some_and(|name| name == "copyright");
    }
    !path.parent().is_some_and(|parent| EMPTY.iter().any(|empty| parent == Path::new(empty)))
}

/// What `tree` adds to or changes in `base`, with the directories above; and what it lacks.
fn changes(base: &Path, tree: &Path) -> Result<(BTreeSet<PathBuf>, BTreeSet<PathBuf>)> {
    let before = kept(base)?;
    let after = kept(tree)?;
    let mut changed = BTreeSet::new();
    for path in &after {
        if !before.contains(path) || differ(&base.join(path), &tree.join(path))? {
            changed
                .extend(path.ancestors().filter(|p| !p.as_os_str().is_empty()).map(Path::to_owned));
        }
    }
    let gone = before
        .into_iter()
        .filter(|path| !after.contains(path))
        .filter(|path| path.parent().is_none_or(|p| p.as_os_str().is_empty() || after.contains(p)))
        .collect();
    Ok((changed, gone))
}

/// Whether two paths hold different things, times aside.
fn differ(one: &Path, other: &Path) -> Result<bool> {
    let (a, b) = (one.symlink_metadata()?, other.symlink_metadata()?);
    if (a.mode(), a.uid(), a.gid()) != (b.mode(), b.uid(), b.gid()) {
        return Ok(true);
    }
    if a.is_symlink() {
        return Ok(fs::read_link(one)? != fs::read_link(other)?);
    }
    Ok(a.is_file() && (a.len() != b.len() || fs::read(one)? != fs::read(other)?))
}

fn whiteout(path: &Path) -> Entry {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Entry::file(&path.with_file_name(format!(".wh.{name}")).to_string_lossy(), "")
}
