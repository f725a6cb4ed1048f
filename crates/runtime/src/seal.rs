//! A view of this program's own file that nobody can write through.
//!
//! A process of the runtime is visible inside a container for a moment before execve, and for as
//! long as the container lives when it is its init. Through `/proc/<pid>/exe` a privileged
//! container could then open the program of the host and replace it (CVE-2019-5736). The link
//! leads to the mount that the program was executed from; so it is executed from a read-only
//! overlay that is attached nowhere and shows the same file.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatfs, fstatvfs};

use crate::error::{Doing, Error};
use crate::mount::filesystem::Description;
use crate::sys;
use crate::weak::weakened;

/// `OVERLAYFS_SUPER_MAGIC` of statfs(2).
const OVERLAY_MAGIC: i64 = 0x794c_7630;

/// Executes this program again, with the same arguments, from a sealed view of its file; returns
/// at once when that has happened already. About half a millisecond, once.
///
/// To be called first in `main`, before anything is opened that is not close-on-exec and before
/// any thread. Afterwards `/proc/self/exe` still executes this program, while its path
/// ([`std::env::current_exe`]) has no meaning any more.
///
/// # Errors
/// When the kernel refuses, for example without `CAP_SYS_ADMIN`: then the program goes on unsealed.
pub fn seal_executable() -> Result<(), Error> {
    let doing = || "look at the program's own file";
    let exe =
        rustix::fs::openat(CWD, "/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .doing(doing)?;
    let overlay = fstatfs(&exe).doing(doing)?.f_type == OVERLAY_MAGIC;
    let read_only = fstatvfs(&exe).doing(doing)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    if overlay && read_only || weakened("exe-unsealed") {
        return Ok(());
    }
    let path = std::fs::read_link("/proc/self/exe").doing(doing)?;
    let sealed = sealed_view(&path)?;
    let args = std::env::args_os().map(std::ffi::OsString::into_vec);
    let env =
        std::env::vars_os().map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat());
    // What the kernel has handed over as arguments holds no null character.
    let args: Vec<CString> = args.filter_map(|text| CString::new(text).ok()).collect();
    let env: Vec<CString> = env.filter_map(|text| CString::new(text).ok()).collect();
    Err(Error::kernel("execute the sealed program", sys::fexecve(&sealed, &args, &env)))
}

/// The file at `path` through a read-only overlay. An overlay without a writable layer needs two
/// others, so the second is an empty tmpfs.
fn sealed_view(path: &Path) -> Result<OwnedFd, Error> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::Spec(format!("the program `{}` has no directory", path.display())));
    };
    let empty = Description::new("tmpfs")?.mount(libc::MOUNT_ATTR_RDONLY)?;
    let empty_path = format!("/proc/self/fd/{}", empty.as_raw_fd());
    let mount = read_only_overlay(&[directory, Path::new(&empty_path)]);
    let mount = mount.or_else(|error| older_overlay(directory).ok_or(error))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&mount, name, flags, Mode::empty())
        .doing(|| format!("open `{}` in its sealed view", path.display()))
}

const ATTRIBUTES: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

fn read_only_overlay(layers: &[&Path]) -> Result<OwnedFd, Error> {
    let overlay = Description::new("overlay")?;
    for layer in layers {
        overlay
            .try_set_path("lowerdir+", layer)
            .doing(|| format!("use `{}` as a layer", layer.display()))?;
    }
    overlay.mount(ATTRIBUTES)
}

/// Before Linux 6.15 layers must be attached somewhere, and before 6.7 they stand in one text. What
/// else the second one shows does not matter: the first is asked before.
fn older_overlay(directory: &Path) -> Option<OwnedFd> {
    /// Where every host has a file system that is not the program's.
    const SECOND: [&str; 3] = ["/dev", "/run", "/sys"];
    SECOND.iter().find_map(|second| {
        if let Ok(mount) = read_only_overlay(&[directory, Path::new(second)]) {
            return Some(mount);
        }
        let overlay = Description::new("overlay").ok()?;
        let mut both = directory.as_os_str().to_owned();
        // A colon in a name would end it; then there is no view, as without privilege.
        both.push(":");
        both.push(second);
        overlay.try_set_path("lowerdir", Path::new(&both)).ok()?;
        overlay.mount(ATTRIBUTES).ok()
    })
}
