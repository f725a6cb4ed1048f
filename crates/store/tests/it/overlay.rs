//! Overlays that are mounted nowhere: seen through an open descriptor, gone with it.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use oci::{Lower, Rootfs};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

pub(crate) struct Overlay {
    mount: OwnedFd,
}

impl Overlay {
    /// What the container sees.
    pub(crate) fn container(rootfs: &Rootfs) -> Self {
        let Rootfs::Overlay { lower, upper, work, .. } = rootfs else { panic!("not an overlay") };
        Self::mount(lower, Some((upper, work)))
    }

    /// What the image alone shows.
    pub(crate) fn image(rootfs: &Rootfs) -> Self {
        let Rootfs::Overlay { lower, .. } = rootfs else { panic!("not an overlay") };
        match &lower[..] {
            // An overlay without a writable layer needs two others.
            [only] => Self { mount: store::open_lower(only).unwrap() },
            _ => Self::mount(lower, None),
        }
    }

    fn mount(lower: &[Lower], writable: Option<(&PathBuf, &PathBuf)>) -> Self {
        let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        let layers: Vec<OwnedFd> = lower.iter().map(|l| store::open_lower(l).unwrap()).collect();
        for layer in &layers {
            let path = format!("/proc/self/fd/{}", layer.as_raw_fd());
            fsconfig_set_string(&overlay, "lowerdir+", path).unwrap();
        }
        if let Some((upper, work)) = writable {
            fsconfig_set_string(&overlay, "upperdir", upper).unwrap();
            fsconfig_set_string(&overlay, "workdir", work).unwrap();
            fsconfig_set_flag(&overlay, "volatile").unwrap();
        }
        fsconfig_create(&overlay).unwrap();
        let attributes = MountAttrFlags::empty();
        let mount = fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, attributes).unwrap();
        Self { mount }
    }

    /// A path into it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        Path::new(&format!("/proc/self/fd/{}", self.mount.as_raw_fd())).join(name)
    }
}
