//! The root file system itself, as a mount that is attached nowhere yet.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci::Rootfs;
use rustix::io::Errno;

use super::filesystem::{Description, copy_tree};
use super::option::Bind;
use crate::error::Error;

/// Makes the mount of `rootfs`; it appears nowhere on the host.
///
/// The kernel mounts a volatile overlay once: afterwards `work/work/incompat/volatile` stays, and
/// the next attempt fails with `EINVAL` until the work directory is emptied.
///
/// # Errors
/// When a directory is missing or the kernel refuses the overlay.
pub(crate) fn make(rootfs: &Rootfs) -> Result<OwnedFd, Error> {
    match rootfs {
        Rootfs::Dir(path) => copy_tree(path, Bind::Recursive),
        Rootfs::Overlay { lower, upper, work, volatile } => {
            let overlay = Description::new("overlay")?;
            overlay.set("source", Some("overlay"))?;
            set_lower(&overlay, lower)?;
            set_path(&overlay, "upperdir", upper)?;
            set_path(&overlay, "workdir", work)?;
            pin_features(&overlay);
            if *volatile {
                overlay.set("volatile", None)?;
            }
            overlay.mount(0)
        }
    }
}

/// Switches off what the host may have switched on by default: the upper directory must stay
/// readable as plain directories and whiteouts, whose meaning depends on nothing else.
/// A kernel built without a feature refuses its name, which is as good.
fn pin_features(overlay: &Description) {
    for feature in ["redirect_dir", "index", "metacopy", "xino"] {
        let _ = overlay.try_set(feature, Some("off"));
    }
}

fn set_path(overlay: &Description, key: &str, path: &Path) -> Result<(), Error> {
    overlay.try_set_path(key, path).map_err(|errno| {
        Error::kernel(format!("set `{key}` of the overlay to `{}`", path.display()), errno)
    })
}

/// Names the layers one by one (`lowerdir+`, Linux 6.5), or in one string, which is limited to a
/// page and gives `:` and `\` a meaning.
fn set_lower(overlay: &Description, lower: &[PathBuf]) -> Result<(), Error> {
    let Some((first, rest)) = lower.split_first() else {
        return Err(Error::Spec("an overlay needs at least one layer".into()));
    };
    match overlay.try_set_path("lowerdir+", first) {
        Ok(()) => rest.iter().try_for_each(|path| set_path(overlay, "lowerdir+", path)),
        Err(Errno::INVAL) => set_path(overlay, "lowerdir", &joined(lower)),
        Err(errno) => Err(Error::kernel(format!("use `{}` as a layer", first.display()), errno)),
    }
}

fn joined(lower: &[PathBuf]) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut bytes = Vec::new();
    for path in lower {
        if !bytes.is_empty() {
            bytes.push(b':');
        }
        for &byte in path.as_os_str().as_bytes() {
            if matches!(byte, b':' | b'\\') {
                bytes.push(b'\\');
            }
            bytes.push(byte);
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_layers_escape_what_has_a_meaning() {
        let lower = [PathBuf::from("/a:b"), PathBuf::from("/c\\d")];
        assert_eq!(joined(&lower), Path::new("/a\\:b:/c\\\\d"));
    }
}
