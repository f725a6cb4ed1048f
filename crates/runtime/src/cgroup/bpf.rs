//! The three uses of bpf(2): load a device program, attach it, replace it.

#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction of the machine in linux/bpf.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Insn {
    pub code: u8,
    /// The destination register, and in the upper half the source register.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;

/// `BPF_CGROUP_MAX_PROGS` of kernel/bpf/cgroup.c.
const PROGRAMS_MAX: usize = 64;

#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Makes `program`, if there is one, decide over devices in the group `dir`, instead of any attached
/// before. At no moment is none attached: all attached programs must agree, so the new one is added
/// first.
pub(super) fn attach_device_program(
    dir: BorrowedFd<'_>,
    program: Option<&[Insn]>,
) -> io::Result<()> {
    let before = attached(dir)?;
    if let Some(program) = program {
        change(PROG_ATTACH, dir, &load(program)?, ALLOW_MULTI)?;
    }
    for id in before {
        match change(PROG_DETACH, dir, &by_id(id)?, 0) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The ids of the device programs attached to `dir` itself.
pub(super) fn attached(dir: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; PROGRAMS_MAX];
    let mut query = Query {
        target_fd: dir.as_raw_fd() as u32,
        attach_type: CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: PROGRAMS_MAX as u32,
        ..Query::default()
    };
    // SAFETY: `prog_ids` points at `prog_cnt` numbers that live until the call returns, and
    // nothing else refers to them meanwhile.
    unsafe { bpf(PROG_QUERY, &mut query)? };
    Ok(ids[..(query.prog_cnt as usize).min(PROGRAMS_MAX)].to_vec())
}

fn load(program: &[Insn]) -> io::Result<OwnedFd> {
    let mut load = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: `insns` points at `insn_cnt` instructions and `license` at a C string; both outlive
    // the call, which only reads them.
    let fd = unsafe { bpf(PROG_LOAD, &mut load)? };
    // SAFETY: BPF_PROG_LOAD returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn by_id(id: u32) -> io::Result<OwnedFd> {
    let mut request = ById { prog_id: id, ..ById::default() };
    // SAFETY: the request holds no pointer.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut request)? };
    // SAFETY: BPF_PROG_GET_FD_BY_ID returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn change(
    command: libc::c_int,
    dir: BorrowedFd<'_>,
    program: &OwnedFd,
    flags: u32,
) -> io::Result<()> {
    let mut request = Attach {
        target_fd: dir.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: CGROUP_DEVICE,
        attach_flags: flags,
        ..Attach::default()
    };
    // SAFETY: the request holds no pointer.
    unsafe { bpf(command, &mut request) }.map(drop)
}

/// # Safety
///
/// `attributes` is the member of `union bpf_attr` that `command` reads, and pointers in it are
/// valid for what the kernel does with them.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    let attributes: *mut T = attributes;
    // SAFETY: `attributes` is valid for reading and writing its size; the rest the caller vouches.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
