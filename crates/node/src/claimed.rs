//! Volumes that are directories of this node, which the local provisioner promises claims
//! (`control`, `volume::local`): they are removed here when their objects are to go.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::{Cache, Object, Patch, Reflector, kind};
use serde_json::{Value, json};

use crate::field::{items, text};
use crate::host::Host;

/// The finalizer of such a volume, and the annotation by which a node says where they lie.
pub(crate) const LOCAL: &str = "cais/local-path";
/// How long a watch waits at once.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// After the API could not be asked, or a directory could not be removed.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl Host {
    /// Where such volumes lie.
    pub(crate) fn local_place(&self) -> PathBuf {
        self.config.directory.join("local")
    }

    /// Whether a directory is one of those: nothing else is made or removed, whatever objects say.
    fn is_in_local_place(&self, path: &Path) -> bool {
        path.parent() == Some(&self.local_place()) && path.file_name().is_some()
    }

    /// Makes the directory of such a volume; nothing for another.
    pub(crate) fn make_claimed(&self, volume: &Value, path: &Path) -> Result<(), String> {
        use std::os::unix::fs::PermissionsExt as _;
        if !is_local(volume) || !self.is_in_local_place(path) || path.exists() {
            return Ok(());
        }
        let make = || {
            std::fs::create_dir_all(path)?;
            // Whoever the pod's processes are: only they are led here.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))
        };
        make().map_err(|error: std::io::Error| format!("make {}: {error}", path.display()))
    }

    pub(crate) fn watch_claimed(self: &Arc<Self>) {
        let cache = Cache::default();
        let mut reflector = Reflector::new(self.client.clone(), kind("PersistentVolume"), &[]);
        let mut is_left = false;
        loop {
            let longest = if is_left { RETRY_AFTER } else { LOOK_EVERY };
            if reflector.step(&cache, longest).is_err() {
                std::thread::sleep(RETRY_AFTER);
                continue;
            }
            let ending = cache.list("PersistentVolume", "").into_iter().filter(|volume| {
                is_local(volume) && !text(volume, &["metadata", "deletionTimestamp"]).is_empty()
            });
            is_left = ending.filter(|volume| !self.let_go(volume)).count() > 0;
        }
    }

    /// Removes the directory of a volume if it is here, then says so; whether that is done.
    fn let_go(&self, volume: &Object) -> bool {
        let path = PathBuf::from(text(volume, &["spec", "local", "path"]));
        if !self.is_in_local_place(&path) {
            return true;
        }
        if text(volume, &["spec", "persistentVolumeReclaimPolicy"]) == "Delete" {
            let removed = std::fs::remove_dir_all(&path);
            let removed = removed.or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            });
            if let Err(error) = removed {
                let message = format!("remove {}: {error}", path.display());
                self.recorder.warn(volume, "", "VolumeFailedDelete", message);
                return false;
            }
        }
        let own = items(&volume["metadata"], "finalizers").iter();
        let left: Vec<&Value> = own.filter(|finalizer| **finalizer != LOCAL).collect();
        let metadata = &volume["metadata"];
        let patch = json!({"metadata": {
            "resourceVersion": metadata["resourceVersion"], "finalizers": left,
        }});
        let place = ("", text(volume, &["metadata", "name"]));
        match self.client.patch(kind("PersistentVolume"), place, "", Patch::Merge, &patch) {
            Err(failure) => failure.is_not_found(),
            Ok(_) => true,
        }
    }
}

fn is_local(volume: &Value) -> bool {
    items(&volume["metadata"], "finalizers").iter().any(|finalizer| finalizer == LOCAL)
}
