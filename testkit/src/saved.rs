//! Image archives as `docker save` writes them, which both engines load.

use std::fs;

use anyhow::{Context, Result};
use oci::{ContainerConfig, Digest};
use serde_json::json;
use tar::{Builder, Header};

use crate::archive::{Archive, EPOCH, Entry};
use crate::image;
use crate::layout::Layout;
use crate::pool::Pool;

/// An archive with one image: the pool's busybox and these layers on top of it.
pub(crate) fn saved(
    pool: &Pool,
    name: &str,
    layers: &[Vec<Entry>],
    configure: impl FnOnce(&mut ContainerConfig),
) -> Result<Vec<u8>> {
    let layout = Layout::open(&pool.layout())?;
    let base = image::layers_of(&layout, "busybox:plain")?;
    let mut archives = Vec::new();
    for layer in base {
        let digest = layer.descriptor.digest;
        archives.push(fs::read(layout.blob(&digest)).with_context(|| format!("read {digest}"))?);
    }
    for entries in layers {
        archives.push(archive(entries)?);
    }
    let steps: Vec<String> = (0..archives.len()).map(|number| format!("layer {number}")).collect();
    let mut config = image::config(&["sh"], &steps.iter().map(String::as_str).collect::<Vec<_>>());
    config.rootfs.diff_ids = archives.iter().map(|archive| Digest::of(archive)).collect();
    configure(&mut config.config);
    let config = serde_json::to_vec(&config)?;
    let config_name = format!("{}.json", Digest::of(&config).hex());

    let mut tar = Builder::new(Vec::new());
    let mut names = Vec::new();
    for (number, archive) in archives.iter().enumerate() {
        names.push(format!("{number}/layer.tar"));
        add(&mut tar, &format!("{number}/layer.tar"), archive)?;
    }
    add(&mut tar, &config_name, &config)?;
    let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": names }]);
    add(&mut tar, "manifest.json", &serde_json::to_vec(&manifest)?)?;
    tar.into_inner().context("end an image archive")
}

/// A layer's plain archive.
pub(crate) fn archive(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut archive = Archive::new(&mut bytes);
    entries.iter().try_for_each(|entry| archive.add(entry))?;
    archive.finish().context("end a layer")?;
    Ok(bytes)
}

fn add(tar: &mut Builder<Vec<u8>>, path: &str, content: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(EPOCH);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).with_context(|| format!("add {path}"))
}
