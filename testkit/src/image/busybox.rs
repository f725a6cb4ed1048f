//! busybox, shaped like the official image: one program, a hard link for each of its names.

use std::path::Path;

use anyhow::{Context, Result};
use oci::{Compression, Descriptor, Platform};

use super::{config, layers_of};
use crate::archive::Entry;
use crate::host;
use crate::layout::{Layer, Layout, empty_index};

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
";

const GROUP: &str = "\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
wheel:x:10:root
mail:x:8:
utmp:x:43:
www-data:x:33:
staff:x:50:
users:x:100:
nogroup:x:65534:
";

/// `latest`, the same with its layer plain (`plain`) and zstd-compressed (`zstd`), and `multi`, an
/// index of two platforms and an attestation.
pub(super) fn make(layout: &Layout) -> Result<()> {
    let entries = entries()?;
    let image = |compression| -> Result<Descriptor> {
        layout.image(config(&["sh"], &["ADD busybox /"]), &[layer(layout, compression, &entries)?])
    };
    let latest = image(Compression::Gzip)?;
    layout.tag("busybox:plain", image(Compression::None)?)?;
    layout.tag("busybox:zstd", image(Compression::Zstd)?)?;
    layout.tag("busybox:multi", index(layout, &latest)?)?;
    layout.tag("busybox:latest", latest)
}

fn layer(layout: &Layout, compression: Compression, entries: &[Entry]) -> Result<Layer> {
    layout.layer(compression, |archive| entries.iter().try_for_each(|entry| archive.add(entry)))
}

fn entries() -> Result<Vec<Entry>> {
    let unpacked = tempfile::tempdir().context("make a directory for busybox")?;
    host::unpack_package("busybox-static", unpacked.path())?;
    let program = ["bin/busybox", "usr/bin/busybox"]
        .map(|path| unpacked.path().join(path))
        .into_iter()
        .find(|path| path.exists())
        .context("find busybox in the package busybox-static")?;
    let mut entries = directories();
    entries.push(Entry::file("bin/busybox", std::fs::read(&program)?).mode(0o755));
    entries.extend(
        applets(&program)?
            .map(|name| Entry::hardlink(&format!("bin/{name}"), "bin/busybox").mode(0o755)),
    );
    entries.push(Entry::symlink("usr/bin/env", "../../bin/env"));
    for (path, content) in [
        ("etc/group", GROUP),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"),
        ("etc/passwd", PASSWD),
    ] {
        entries.push(Entry::file(path, content));
    }
    let shadow: String = PASSWD
        .lines()
        .filter_map(|line| line.split(':').next())
        .map(|name| format!("{name}:*:::::::\n"))
        .collect();
    entries.push(Entry::file("etc/shadow", shadow).mode(0o600));
    Ok(entries)
}

fn directories() -> Vec<Entry> {
    let plain = [
        "bin",
        "dev",
        "etc",
        "etc/network",
        "home",
        "lib",
        "usr",
        "usr/bin",
        "usr/sbin",
        "var",
        "var/spool",
        "var/spool/mail",
        "var/www",
    ];
    let mut entries: Vec<Entry> = plain.map(Entry::directory).into();
    entries.push(Entry::directory("root").mode(0o700));
    entries.push(Entry::directory("tmp").mode(0o1777));
    entries
}

fn applets(program: &Path) -> Result<impl Iterator<Item = String>> {
    let program = program.to_str().context("name busybox")?;
    let mut names: Vec<String> =
        host::run(program, ["--list"])?.lines().map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names.retain(|name| name != "busybox");
    Ok(names.into_iter())
}

/// What build tools publish: an image for each of two platforms, and an attestation, which has the
/// platform `unknown/unknown` and is nothing to run.
fn index(layout: &Layout, host_image: &Descriptor) -> Result<Descriptor> {
    let host = Platform::host();
    let other = if host.architecture == "amd64" { "arm64" } else { "amd64" };
    let mut foreign = config(&["sh"], &["ADD foreign /"]);
    other.clone_into(&mut foreign.architecture);
    let entries = [Entry::file("foreign", other)];
    let foreign = layout.image(foreign, &[layer(layout, Compression::Gzip, &entries)?])?;
    let on = |image: &Descriptor, os: &str, architecture: &str| Descriptor {
        platform: Some(Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        }),
        ..image.clone()
    };
    let mut attestation = on(&attestation(layout)?, "unknown", "unknown");
    attestation.annotations.extend([
        ("vnd.docker.reference.digest".to_owned(), host_image.digest.to_string()),
        ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
    ]);
    let mut index = empty_index();
    index.manifests = vec![
        attestation,
        on(&foreign, "linux", other),
        on(host_image, "linux", &host.architecture),
    ];
    layout.put(oci::media_type::OCI_INDEX, &serde_json::to_vec(&index)?)
}

fn attestation(layout: &Layout) -> Result<Descriptor> {
    let mut config = config(&[], &[]);
    config.os = "unknown".to_owned();
    config.architecture = "unknown".to_owned();
    let statement = br#"{"_type":"https://in-toto.io/Statement/v0.1","predicate":{},"subject":[]}"#;
    let descriptor = layout.put("application/vnd.in-toto+json", statement)?;
    let diff_id = descriptor.digest;
    layout.image(config, &[Layer { descriptor, diff_id }])
}

/// The layers of `busybox:latest`.
pub(super) fn base(layout: &Layout) -> Result<Vec<Layer>> {
    layers_of(layout, "busybox:latest")
}
