//! Switches that take a defence away.
//!
//! An attack that fails proves a defence only if it works without it. So each defence against a
//! known attack asks [`weakened`] for its own name, and the package `weakened` compiles these
//! sources with `cfg(weaken)`, where the environment variable `WEAKEN` names the defences that are
//! off. Everywhere else the answer is the constant `false`, and nothing of this file is compiled
//! but that.

/// Whether the defence `_name` is off: never.
#[cfg(not(weaken))]
#[inline(always)]
pub(crate) const fn weakened(_name: &str) -> bool {
    false
}

#[cfg(weaken)]
pub(crate) use self::off::{place_by_path, weakened};

#[cfg(weaken)]
mod off {
    use std::fs;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;

    use oci::Rootfs;
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

    use crate::launch::{Launch, Stdio};

    /// Whether the environment switches the defence `name` off. It is asked once: later, nothing
    /// of it may be left.
    pub(crate) fn weakened(name: &str) -> bool {
        static NAMES: OnceLock<String> = OnceLock::new();
        let names = NAMES.get_or_init(|| std::env::var("WEAKEN").unwrap_or_default());
        names.split(',').any(|off| off == name)
    }

    /// What runtimes did before they had these defences: with the host in sight, the names of an
    /// image are appended to the path of its root, and walked.
    pub(crate) fn place_by_path(launch: &Launch<'_>) {
        let Rootfs::Dir(root) = launch.rootfs else { return };
        let inside = |path: &Path| -> PathBuf { root.join(path.strip_prefix("/").unwrap_or(path)) };
        for mount in launch.spec.mounts().iter().flatten() {
            let target = inside(mount.destination());
            if weakened("targets-by-path") {
                let _ = fs::create_dir_all(&target);
            }
            let volume = mount.source().as_deref().filter(|_| weakened("fill-by-path"));
            if let Some(volume) = volume.filter(|_| launch.copy_up.contains(mount.destination())) {
                let _ = fill_by_path(&target, volume);
            }
        }
        if weakened("devices-by-path") {
            let _ = fs::create_dir_all(inside(Path::new("/dev/shm")));
            let mode = Mode::from_raw_mode(0o666);
            let null = inside(Path::new("/dev/null"));
            let _ = mknodat(CWD, null, FileType::CharacterDevice, mode, makedev(1, 3));
        }
        if weakened("console-by-path") && matches!(launch.stdio, Stdio::Terminal { .. }) {
            let _ = fs::File::create(inside(Path::new("/dev/console")));
        }
    }

    fn fill_by_path(from: &Path, to: &Path) -> io::Result<()> {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    }
}
