//! How much volumes and writable layers may take of the disk: project quotas of the file system that
//! they lie on.

use std::io;
use std::path::Path;

use crate::error::{Error, Kind, Result, disk_hint};

/// Limits what is in these directories, which are empty; `what` names them.
///
/// # Errors
/// [`Kind::Unsupported`] where the file system has no project quotas switched on.
pub(crate) fn limit(directories: &[&Path], bytes: u64, what: &str) -> Result<()> {
    runtime::limit_directories(directories, bytes).map_err(|error| {
        let place = directories.first().map(|path| path.display().to_string()).unwrap_or_default();
        // As quotactl(2) and ioctl(2) have them: ESRCH, ENOSYS, ENOTTY, EOPNOTSUPP, ENODEV.
        match error.raw_os_error() {
            Some(3 | 38 | 25 | 95 | 19) => Error::caused(
                Kind::Unsupported,
                format!("limit the size of {what}: the file system of {place} has no project quotas"),
                error,
            )
            .hint("mount it with the option prjquota; ext4 needs the features project and quota (tune2fs -O project,quota), xfs has them"),
            _ => failed(what, error),
        }
    })
}

fn failed(what: &str, error: io::Error) -> Error {
    let hint = disk_hint(&error);
    let failure = Error::caused(Kind::Internal, format!("limit the size of {what}"), error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Forgets the limit of a directory that is about to be removed.
pub(crate) fn forget(directory: &Path) {
    // What stays is a number that nothing is counted under.
    let _ = runtime::forget_limit(directory);
}
