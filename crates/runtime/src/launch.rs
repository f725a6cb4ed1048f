//! What the caller asks for.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci::Rootfs;
use oci::runtime::Spec;
use rustix::fs::{FileType, Gid, Uid, fchown};

use crate::cgroup::Cgroup;
use crate::inroot::file_type;

/// The input and output of a process.
#[derive(Debug)]
pub enum Stdio {
    /// These descriptors; where there is none, the null device. The caller's copies stay open until
    /// it drops this value: only then does a pipe end when the container does.
    Fds {
        /// Descriptor 0.
        stdin: Option<OwnedFd>,
        /// Descriptor 1.
        stdout: Option<OwnedFd>,
        /// Descriptor 2.
        stderr: Option<OwnedFd>,
    },
    /// A terminal of the container's own devpts, whose master the caller gets.
    Terminal {
        /// Height in characters.
        rows: u16,
        /// Width in characters.
        cols: u16,
    },
}

impl Stdio {
    /// Gives pipes to root of a user namespace, which can open `/dev/stdout` again and give them to
    /// another user of its own then.
    pub(crate) fn give_pipes(&self, (uid, gid): (Uid, Gid)) {
        let Stdio::Fds { stdin, stdout, stderr } = self else { return };
        for file in [stdin, stdout, stderr].into_iter().flatten() {
            if file_type(file).is_ok_and(|kind| kind == FileType::Fifo) {
                // Without it everything works but opening them again.
                let _ = fchown(file, Some(uid), Some(gid));
            }
        }
    }
}

/// A container to create.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What the container is. `root.path` is not used, and `process.terminal` neither: `rootfs`
    /// and `stdio` stand in their place. Hooks are the caller's to run, but for those that `oci`
    /// says.
    pub spec: &'a Spec,
    /// The files of the container, mounted in its own mount namespace only. With a user namespace
    /// and privilege, what is of id 0 there is of the container's root, and the other way round.
    pub rootfs: &'a Rootfs,
    /// Input and output of the first process.
    pub stdio: Stdio,
    /// The cgroup to start in; without one, the caller's.
    pub cgroup: Option<&'a Cgroup>,
    /// `user[:group]` by name or number, resolved in the root file system; in the place of
    /// `process.user`.
    pub user: Option<&'a str>,
    /// Further groups by name or number.
    pub group_add: &'a [String],
    /// Let process 1 be a small init: it starts the program, forwards signals to it, reaps
    /// orphans, and exits as the program did.
    pub init: bool,
    /// Destinations of mounts which, while they are empty, are first filled with the image's
    /// content at that place.
    pub copy_up: &'a [PathBuf],
    /// What only the OCI command line asks for; without it, [`Created::start`](crate::Created)
    /// starts the program.
    pub oci: Option<Oci<'a>>,
}

/// What a container needs that outlives its creator.
#[derive(Debug)]
pub struct Oci<'a> {
    /// A listening socket (`SOCK_SEQPACKET`) through which another process starts the program.
    pub gate: BorrowedFd<'a>,
    /// The state that hooks get on standard input, but for `pid` and `status`.
    pub state: &'a oci::runtime::State,
    /// Where the root file system is attached while the hooks run that must find it there with the
    /// host's files in sight; `None` when there are no such hooks.
    pub hooks_at: Option<&'a Path>,
    /// How many descriptors from 3 on the program inherits.
    pub inherited: u32,
    /// Changes the root by chroot(2), for a host whose own root cannot be pivoted: an initramfs.
    pub no_pivot: bool,
    /// Leaves the process in the session keyring of its creator.
    pub keep_keyring: bool,
}
