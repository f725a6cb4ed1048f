//! Project quotas: how much the files below a directory may take (quotactl(2), Linux,
//! include/uapi/linux/fs.h and quota.h).

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::ptr;

use super::check;

/// `FS_IOC_FSGETXATTR`, `_IOR('X', 31, struct fsxattr)`.
const GET_ATTRIBUTES: u64 = 0x801c_581f;
/// `FS_IOC_FSSETXATTR`, `_IOW('X', 32, struct fsxattr)`.
const SET_ATTRIBUTES: u64 = 0x401c_5820;
/// `FS_XFLAG_PROJINHERIT`: what is made in the directory is of its project.
const INHERIT: u32 = 0x200;
/// `QCMD(Q_GETQUOTA, PRJQUOTA)` and `QCMD(Q_SETQUOTA, PRJQUOTA)`.
const GET_QUOTA: u32 = 0x80_0007 << 8 | 2;
const SET_QUOTA: u32 = 0x80_0008 << 8 | 2;
/// `QIF_BLIMITS`: the limits of blocks are set.
const BLOCK_LIMITS: u32 = 1;
/// Limits are in units of this many bytes (`QIF_DQBLKSIZE`).
const BLOCK_BYTES: u64 = 1024;
/// The first number that is tried as a project's: people use small ones.
const FIRST_PROJECT: u32 = 1 << 20;
/// How many numbers are tried.
const PROJECTS_TRIED: u32 = 1000;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `struct if_dqblk`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Quota {
    hard_blocks: u64,
    soft_blocks: u64,
    bytes: u64,
    hard_inodes: u64,
    soft_inodes: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

fn attributes(directory: &File) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    let pointer = ptr::from_mut(&mut attributes);
    // SAFETY: the kernel fills the structure, which lives across the call.
    let answer = unsafe { libc::ioctl(directory.as_raw_fd(), GET_ATTRIBUTES as _, pointer) };
    check(answer.into())?;
    Ok(attributes)
}

fn set_attributes(directory: &File, attributes: Attributes) -> io::Result<()> {
    let pointer = ptr::from_ref(&attributes);
    // SAFETY: the kernel reads the structure, which lives across the call.
    let answer = unsafe { libc::ioctl(directory.as_raw_fd(), SET_ATTRIBUTES as _, pointer) };
    check(answer.into()).map(drop)
}

fn quotactl(file: &File, command: u32, project: u32, quota: &mut Quota) -> io::Result<()> {
    debug_assert_eq!(mem::size_of::<Quota>(), 72, "the size of struct if_dqblk");
    // SAFETY: the kernel reads or fills the structure, which lives across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            file.as_raw_fd(),
            command,
            project,
            ptr::from_mut(quota),
        )
    })
    .map(drop)
}

/// Limits what the files in these directories, which are empty and on one file system, take
/// together, in bytes.
///
/// # Errors
/// Those of quotactl(2) and of the ioctl: `ENOTTY`, `EOPNOTSUPP`, `ESRCH` or `ENOSYS` where the file
/// system has no project quotas, or not switched on.
pub fn limit_directories(directories: &[&Path], bytes: u64) -> io::Result<()> {
    let opened = directories.iter().map(File::open).collect::<io::Result<Vec<File>>>()?;
    let Some(first) = opened.first() else { return Ok(()) };
    let project = free_project(first)?;
    for directory in &opened {
        let mut attributes = attributes(directory)?;
        attributes.project = project;
        attributes.flags |= INHERIT;
        set_attributes(directory, attributes)?;
    }
    let blocks = bytes.div_ceil(BLOCK_BYTES);
    let mut quota =
        Quota { hard_blocks: blocks, soft_blocks: blocks, valid: BLOCK_LIMITS, ..Quota::default() };
    quotactl(first, SET_QUOTA, project, &mut quota)
}

/// Forgets the limit of a directory that is about to be removed.
///
/// # Errors
/// As [`limit_directories`].
pub fn forget_limit(directory: &Path) -> io::Result<()> {
    let directory = File::open(directory)?;
    let project = attributes(&directory)?.project;
    if project < FIRST_PROJECT {
        return Ok(());
    }
    let mut quota = Quota { valid: BLOCK_LIMITS, ..Quota::default() };
    quotactl(&directory, SET_QUOTA, project, &mut quota)
}

/// A number that no project has files or limits of.
fn free_project(file: &File) -> io::Result<u32> {
    let mut random = [0; 4];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let start = u32::from_ne_bytes(random) >> 2;
    for step in 0..PROJECTS_TRIED {
        let project = FIRST_PROJECT + start.wrapping_add(step) % (1 << 30);
        let mut quota = Quota::default();
        match quotactl(file, GET_QUOTA, project, &mut quota) {
            // XFS has no record of a project that was never used.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(project),
            found => found?,
        }
        if quota.hard_blocks == 0 && quota.bytes == 0 && quota.inodes == 0 {
            return Ok(project);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
