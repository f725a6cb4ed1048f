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
        /// Newlines reach the master as they are, without a carriage return (`ONLCR` of
        /// termios(3)), from the first on.
        plain_newlines: bool,
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

/// A container to create; [`Launch::new`] gives every field but the first three a value that asks
/// for nothing.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What the container is. `root.path` is not used, and `process.terminal` neither: `rootfs`
    /// and `stdio` stand in their place. Hooks are the caller's to run, but for those that `oci`
    /// says.
    pub spec: &'a Spec,
    /// The files of the container, mounted in its own mount namespace only.
    pub rootfs: &'a Rootfs,
    /// Mounts that take the place of bind mounts, by where those are made: attached nowhere, and used
    /// up by this container.
    pub made: &'a [(PathBuf, OwnedFd)],
    /// A directory in which containers find each other's mounts of images, so that the kernel caches
    /// their files once; made when it is needed, and only for this user. The mounts stay until the
    /// [`Process`](crate::Process) is dropped.
    pub images: Option<&'a Path>,
    /// Input and output of the first process.
    pub stdio: Stdio,
    /// The name of the container: of its group in the resctrl file system.
    pub id: &'a str,
    /// The directory from which relative sources of bind mounts count.
    pub bundle: Option<&'a Path>,
    /// With a user namespace and privilege: what is of id 0 in `rootfs` is of the container's root,
    /// and the other way round. Otherwise the files keep the owners that they have on disk.
    pub map_rootfs: bool,
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
    /// What the specification cannot say of mounts.
    pub parts: &'a [Part],
    /// The container's state, for the agent of a filter that notifies one; `pid` and `status` are
    /// set here. Behind a gate, whoever starts the program tells the agent.
    pub state: Option<&'a oci::runtime::State>,
    /// Changes the root by chroot(2), for a host whose own root cannot be pivoted: an initramfs.
    /// Less safe: the host's files stay below, where only the lack of a name keeps the container
    /// from them.
    pub no_pivot: bool,
    /// Leaves the process in the session keyring of its creator (keyrings(7)), which may hold the
    /// host's keys.
    pub keep_keyring: bool,
    /// What only the OCI command line asks for.
    pub oci: Option<Oci<'a>>,
}

impl<'a> Launch<'a> {
    /// A container of these three, and nothing else.
    pub fn new(spec: &'a Spec, rootfs: &'a Rootfs, stdio: Stdio) -> Launch<'a> {
        Launch {
            spec,
            rootfs,
            made: &[],
            images: None,
            stdio,
            id: "",
            bundle: None,
            map_rootfs: false,
            cgroup: None,
            user: None,
            group_add: &[],
            init: false,
            copy_up: &[],
            parts: &[],
            state: None,
            no_pivot: false,
            keep_keyring: false,
            oci: None,
        }
    }
}

/// What the specification cannot say of a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The mount's destination, as it stands in the specification.
    pub destination: PathBuf,
    /// What of its source, or of the image, is mounted; all of it where empty. Links on the way
    /// are followed inside that.
    pub subpath: PathBuf,
    /// The layers that are mounted, read-only, in the place of its source.
    pub image: Option<Rootfs>,
}

/// What a container needs that outlives its creator.
#[derive(Debug)]
pub struct Oci<'a> {
    /// A listening socket (`SOCK_SEQPACKET`) through which another process starts the program;
    /// without one, [`Created::start`](crate::Created) does.
    pub gate: Option<BorrowedFd<'a>>,
    /// The state that hooks get on standard input, but for `pid` and `status`.
    pub state: &'a oci::runtime::State,
    /// Where the root file system is attached while the hooks run that must find it there with the
    /// host's files in sight; `None` when there are no such hooks.
    pub hooks_at: Option<&'a Path>,
    /// How many descriptors from 3 on the program inherits.
    pub inherited: u32,
}
