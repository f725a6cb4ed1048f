//! A view of this program's own file that nobody can write through.
//!
//! A process of the runtime is visible inside a container for a moment before execve, and for as
//! long as the container lives when it is its init. Through `/proc/<pid>/exe` a privileged
//! container could then open the program of the host and replace it (CVE-2019-5736). The link
//! leads to the mount that the program was executed from; so it is executed from a mount of its
//! file alone that is read-only and attached nowhere.
//!
//! Such a mount stays what it is: the descriptor that made it is closed by execve(2), which takes
//! it out of every mount namespace, before the program's first instruction. From then on the
//! kernel refuses to change it (mount_setattr(2), `MS_REMOUNT`) and to copy it (`MS_BIND`,
//! open_tree(2)), which is possible only with mounts of a mount namespace. Until then nothing of a
//! container runs (docs/decisions/0010-own-entry-point.md).

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs};

use crate::error::{Doing, Error};
use crate::mount::filesystem::copy_tree;
use crate::mount::option::Bind;
use crate::sys::{self, MountAttr, mount_setattr};
use crate::weak::weakened;

/// The program's own file.
const OWN: &str = "/proc/self/exe";

/// What the view is: not to be written through, and as powerless as a view can be.
pub(crate) const ATTRIBUTES: u64 =
    libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// Executes this program again, with the same arguments, from a sealed view of its file; returns
/// at once when that has happened already, as it has where `cais_entry` is the program's entry point.
/// About half a millisecond, once.
///
/// To be called first in `main`, before anything is opened that is not close-on-exec and before
/// any thread. Afterwards `/proc/self/exe` still executes this program, while its path
/// ([`std::env::current_exe`]) has no meaning any more.
///
/// # Errors
/// When the kernel refuses, for example without `CAP_SYS_ADMIN`: then the program goes on unsealed.
pub fn seal_executable() -> Result<(), Error> {
    if is_sealed()? || weakened("exe-unsealed") {
        return Ok(());
    }
    let sealed = sealed_view()?;
    let args = std::env::args_os().map(std::ffi::OsString::into_vec);
    let env =
        std::env::vars_os().map(|(key, value)| [key.as_bytes(), b"=", value.as_bytes()].concat());
    // What the kernel has handed over as arguments holds no null character.
    let args: Vec<CString> = args.filter_map(|text| CString::new(text).ok()).collect();
    let env: Vec<CString> = env.filter_map(|text| CString::new(text).ok()).collect();
    Err(Error::kernel("execute the sealed program", sys::fexecve(&sealed, &args, &env)))
}

/// A file that is the root of its mount, which is attached nowhere, has no path but `/`.
fn is_sealed() -> Result<bool, Error> {
    let doing = || "look at the program's own file";
    if std::fs::read_link(OWN).doing(doing)? != Path::new("/") {
        return Ok(false);
    }
    let exe = rustix::fs::openat(CWD, OWN, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let flags = fstatvfs(exe.doing(doing)?).doing(doing)?.f_flag;
    Ok(flags.contains(StatVfsMountFlags::RDONLY))
}

fn sealed_view() -> Result<OwnedFd, Error> {
    let view = copy_tree(Path::new(OWN), Bind::Single)?;
    let attr = MountAttr { set: ATTRIBUTES, ..MountAttr::default() };
    mount_setattr(view.as_fd(), attr, false).doing(|| "seal the program's own file")?;
    if weakened("exe-mount-kept") {
        // Its mount namespace, an anonymous one, stays then.
        rustix::io::fcntl_setfd(&view, rustix::io::FdFlags::empty()).doing(|| "keep the view")?;
    }
    Ok(view)
}
