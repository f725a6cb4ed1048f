//! Filters loaded into the running kernel.

#![expect(unsafe_code, reason = "raw system calls, and a fork to see a process killed")]

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use oci::runtime::{Capability, LinuxSeccomp};
use runtime::seccomp::{Filter, compile, default_profile, docker_profile};

const EPERM: Option<i32> = Some(libc::EPERM);
const ENOSYS: Option<i32> = Some(libc::ENOSYS);

/// Runs `body` in a thread of its own that is confined first and ends with its filter.
fn confined<T: Send>(profile: &LinuxSeccomp, body: impl FnOnce() -> T + Send) -> T {
    let filter = compile(profile).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            filter.install().unwrap();
            body()
        });
        thread.join().unwrap()
    })
}

/// The errno of a raw system call, `None` if it succeeds.
fn errno(number: libc::c_long, args: [u64; 3]) -> Option<i32> {
    // SAFETY: the callers pass numbers, null pointers, or pointers to what outlives the call.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2]) };
    if result >= 0 {
        if number == libc::SYS_socket {
            // SAFETY: socket(2) returned a descriptor that nothing else owns.
            unsafe { libc::close(result as i32) };
        }
        return None;
    }
    io::Error::last_os_error().raw_os_error()
}

fn profile(json: &str) -> LinuxSeccomp {
    docker_profile(json.as_bytes(), &HashSet::new()).unwrap()
}

#[test]
fn the_default_profile_holds() {
    confined(&default_profile(&HashSet::new()), || {
        assert_eq!(errno(libc::SYS_getpid, [0; 3]), None);
        assert_eq!(errno(libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0]), EPERM);
        assert_eq!(errno(libc::SYS_mount, [0; 3]), EPERM);
        assert_eq!(errno(libc::SYS_keyctl, [0; 3]), EPERM);
        assert_eq!(errno(libc::SYS_io_uring_setup, [1, 0, 0]), EPERM);
        assert_eq!(errno(libc::SYS_clone, [libc::CLONE_NEWUSER as u64, 0, 0]), EPERM);
        assert_eq!(errno(libc::SYS_clone3, [0; 3]), ENOSYS);
        assert_eq!(errno(469, [0; 3]), ENOSYS, "file_setattr is younger than the profile");
        assert_eq!(errno(100_000, [0; 3]), ENOSYS);
        assert_eq!(errno(libc::SYS_personality, [0xffff_ffff, 0, 0]), None);
        assert_eq!(errno(libc::SYS_personality, [0x4_0000, 0, 0]), EPERM);
        let stream = libc::SOCK_STREAM as u64;
        for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_NETLINK] {
            let kind = if family == libc::AF_NETLINK { libc::SOCK_RAW as u64 } else { stream };
            assert_eq!(errno(libc::SYS_socket, [family as u64, kind, 0]), None, "{family}");
        }
        assert_eq!(errno(libc::SYS_socket, [libc::AF_VSOCK as u64, stream, 0]), EPERM);
        assert_eq!(errno(libc::SYS_socket, [libc::AF_ALG as u64, stream, 0]), EPERM);
    });
}

#[test]
fn upper_bits_of_an_address_family_do_not_evade_the_profile() {
    let hidden = 1 << 32 | libc::AF_UNIX as u64;
    assert_eq!(errno(libc::SYS_socket, [hidden, 1, 0]), None, "the kernel drops upper bits");
    confined(&default_profile(&HashSet::new()), || {
        assert_eq!(errno(libc::SYS_socket, [hidden, 1, 0]), None);
        for family in [libc::AF_VSOCK, libc::AF_ALG] {
            let hidden = 1 << 32 | family as u64;
            assert_eq!(errno(libc::SYS_socket, [hidden, 1, 0]), EPERM);
        }
    });
}

#[test]
fn a_capability_opens_its_calls() {
    confined(&default_profile(&HashSet::from([Capability::SysChroot])), || {
        assert_eq!(errno(libc::SYS_chroot, [0; 3]), Some(libc::EFAULT));
        assert_eq!(errno(libc::SYS_mount, [0; 3]), EPERM);
    });
}

#[test]
fn actions_and_operators_reach_the_kernel() {
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77},
        {"names": ["getuid"], "action": "SCMP_ACT_LOG"},
        {"names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
         "args": [{"index": 0, "value": 4294967296, "op": "SCMP_CMP_GE"}]},
        {"names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 6,
         "args": [{"index": 0, "value": 61440, "valueTwo": 4096, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#;
    confined(&profile(json), || {
        assert_eq!(errno(libc::SYS_getppid, [0; 3]), Some(77));
        assert_eq!(errno(libc::SYS_getuid, [0; 3]), None);
        assert_eq!(errno(libc::SYS_umask, [0x1_0000_0012, 0, 0]), Some(5));
        assert_eq!(errno(libc::SYS_umask, [0x1012, 0, 0]), Some(6));
        assert_eq!(errno(libc::SYS_umask, [0o022, 0, 0]), None);
    });
}

/// Forks; the child loads `filter` and calls `body`, which must not allocate. Returns the signal
/// that ended it, or what it exited with.
fn fate(filter: &Filter, body: fn() -> i32) -> Result<i32, i32> {
    // SAFETY: the child only makes system calls and exits.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: prctl with numbers, and an exit without destructors.
            unsafe {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                let code = if filter.install().is_ok() { body() } else { 99 };
                libc::_exit(code)
            }
        }
        pid => {
            let mut status = 0;
            // SAFETY: `pid` is a child of this process and `status` is writable.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            if libc::WIFSIGNALED(status) {
                return Err(libc::WTERMSIG(status));
            }
            Ok(libc::WEXITSTATUS(status))
        }
    }
}

#[test]
fn killing_and_trapping_end_the_process() {
    let getppid = || i32::from(errno(libc::SYS_getppid, [0; 3]).is_some());
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL", "SCMP_ACT_TRAP"] {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{{"names": ["getppid"], "action": "{action}"}}]}}"#
        );
        let filter = compile(&profile(&json)).unwrap();
        assert_eq!(fate(&filter, getppid), Err(libc::SIGSYS), "{action}");
        assert_eq!(fate(&filter, || 7), Ok(7), "{action}");
    }
}

/// A call through i386's gate, by a 64-bit process.
#[cfg(target_arch = "x86_64")]
fn i386(number: u32) -> i32 {
    let result: i32;
    // SAFETY: the numbers used take no arguments, and the gate changes nothing but eax.
    unsafe { std::arch::asm!("int 0x80", inlateout("eax") number as i32 => result) };
    result
}

#[cfg(target_arch = "x86_64")]
#[test]
fn foreign_architectures_are_judged_or_killed() {
    const GETPID: u32 = 20;
    const GETPPID: u32 = 64;
    // Without CONFIG_IA32_EMULATION the gate itself faults.
    let open = compile(&profile(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#)).unwrap();
    let listed = compile(&profile(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 33}]}"#,
    ))
    .unwrap();
    match fate(&listed, || i32::from(i386(GETPID) <= 0)) {
        Err(libc::SIGSEGV) => {
            println!("skipped: this kernel runs no 32-bit programs");
            return;
        }
        other => assert_eq!(other, Ok(0)),
    }
    assert_eq!(fate(&listed, || -i386(GETPPID)), Ok(33));
    assert_eq!(fate(&open, || i386(GETPID)), Err(libc::SIGSYS));
    // x32's bit, on a call that would be allowed.
    let x32 = || errno(0x4000_0000 | libc::SYS_getpid, [0; 3]).unwrap_or(0);
    assert_eq!(fate(&open, x32), Err(libc::SIGSYS));
    // What a tracer leaves to skip a call is no x32 call.
    assert_eq!(fate(&open, || errno(-1, [0; 3]).unwrap_or(0)), Ok(libc::ENOSYS));
}

/// The next call that a listener is told of.
pub(crate) fn receive(listener: &OwnedFd) -> io::Result<libc::seccomp_notif> {
    const SECCOMP_IOCTL_NOTIF_RECV: u64 = 0xc050_2100;
    // SAFETY: zeros are a valid request.
    let mut request: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes no more than one `seccomp_notif`.
    let got =
        unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_RECV, &raw mut request) };
    if got == 0 { Ok(request) } else { Err(io::Error::last_os_error()) }
}

/// Answers a call.
pub(crate) fn respond(
    listener: &OwnedFd,
    mut response: libc::seccomp_notif_resp,
) -> io::Result<()> {
    const SECCOMP_IOCTL_NOTIF_SEND: u64 = 0xc018_2101;
    // SAFETY: the kernel reads one `seccomp_notif_resp`.
    let sent =
        unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn a_listener_is_asked() {
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                  "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}]}"#;
    let filter = compile(&profile(json)).unwrap();
    assert!(filter.notifies());
    std::thread::scope(|scope| {
        let (give, take) = std::sync::mpsc::channel();
        let filter = &filter;
        let asking = scope.spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            give.send(filter.install_with_listener().unwrap()).unwrap();
            errno(libc::SYS_getppid, [0; 3])
        });
        let listener = take.recv().unwrap();
        let request = receive(&listener).unwrap();
        assert_eq!(i64::from(request.data.nr), libc::SYS_getppid);
        let answer =
            libc::seccomp_notif_resp { id: request.id, val: 0, error: -libc::EXDEV, flags: 0 };
        respond(&listener, answer).unwrap();
        assert_eq!(asking.join().unwrap(), Some(libc::EXDEV));
    });
    // Without a listener the same filter loads, and the call is refused.
    confined(&profile(json), || assert_eq!(errno(libc::SYS_getppid, [0; 3]), ENOSYS));
}
