//! Volumes: directories that outlive containers.
//!
//! `<root>/volumes/<name>/_data` holds the content; an anonymous volume has beside it a file
//! `owner` with the id of the container that it was made for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error, Result};

/// Accepts what Docker accepts as a volume's name.
pub(crate) fn validate(name: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && (2..=255).contains(&name.len()) && name.bytes().all(good) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
    ))
    .hint("If you intended to pass a host directory, use absolute path"))
}

/// Makes the content directory; whoever may enter it is decided by the container's own users.
pub(crate) fn make(dir: &Path, anonymous_for: Option<&str>) -> Result<()> {
    if let Some(id) = anonymous_for {
        crate::file::write_file(dir, "owner", id.as_bytes())?;
    }
    let data = dir.join("_data");
    let make = || -> std::io::Result<()> {
        match fs::create_dir(&data) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755))
    };
    make().doing(|| format!("create volume {}", dir.display()))
}

/// Where a volume is while it is made for container `id`: under a name that no volume can have.
pub(crate) fn unfinished(volumes: &Path, id: &str) -> PathBuf {
    volumes.join(format!(".{id}"))
}

/// Those of the volumes that were made for container `id` alone.
pub(crate) fn made_for(volumes: &Path, names: &[&str], id: &str) -> Vec<PathBuf> {
    let is_its =
        |dir: &PathBuf| fs::read_to_string(dir.join("owner")).is_ok_and(|owner| owner == id);
    names.iter().map(|name| volumes.join(name)).filter(is_its).collect()
}
