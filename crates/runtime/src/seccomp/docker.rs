//! The default profile, and Docker's format for profiles.

use std::collections::HashSet;

use oci::runtime::{
    Arch as OciArch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompFilterFlag, LinuxSeccompOperator as Operator, LinuxSyscall,
};
use serde::Deserialize;

use super::Error;

/// Calls every container may make, on whichever architectures have them.
const ALWAYS: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2
    dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
    epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
    fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
    fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64
    fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
    futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32
    geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp
    getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
    get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday
    getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64
    ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
    listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock
    mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget
    msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
    pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease
    process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2
    read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg
    remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall
    riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity
    sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop
    semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid
    setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid
    setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit
    set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 setxattr
    setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask
    sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink
    symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
    truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64
    utimes vfork vmsplice wait4 waitid waitpid write writev";

/// Calls allowed on some architectures only.
const BY_ARCHITECTURE: [(&[&str], &str); 4] = [
    (
        &["arm64", "arm"],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    (&["amd64"], "arch_prctl"),
    (&["amd64", "x86"], "modify_ldt"),
    (&["riscv64"], "riscv_flush_icache"),
];

/// Calls allowed to whoever holds a capability.
const BY_CAPABILITY: [(Capability, &str); 14] = [
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie
         lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog
         umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module init_module finit_module"),
    (Capability::SysPacct, "acct"),
    (
        Capability::SysPtrace,
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    (Capability::SysRawio, "iopl ioperm"),
    (Capability::SysTime, "settimeofday stime clock_settime clock_settime64"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and the query (linux/personality.h).
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The flags of clone(2) that make namespaces, time namespaces apart (which clone cannot make).
const CLONE_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;

/// The address families below 64 except `AF_ALG` (38) and `AF_VSOCK` (40), as (mask, value).
///
/// Docker's profile says `family < 38`, `= 39`, `> 40` instead. The kernel's `family` is an int,
/// a filter sees the whole register: with any upper bit set, 40 passes as "> 40" and still opens a
/// vsock. Comparing the lower half only closes this; families from 64 up do not exist.
const FAMILIES: [(u64, u64); 8] = [
    (0xffff_ffe0, 0),
    (0xffff_fffc, 32),
    (0xffff_fffe, 36),
    (0xffff_ffff, 39),
    (0xffff_ffff, 41),
    (0xffff_fffe, 42),
    (0xffff_fffc, 44),
    (0xffff_fff0, 48),
];

/// The profile of a container that asks for none: Docker's (moby/profiles, June 2026), on this
/// build's architecture, for a process with `capabilities`.
///
/// It differs in one respect, where Docker's can be evaded: see the note on address families in
/// the source.
#[must_use]
pub fn default_profile(capabilities: &HashSet<Capability>) -> LinuxSeccomp {
    let mut syscalls = vec![allow(ALWAYS)];
    for (mask, value) in FAMILIES {
        syscalls.push(allow_if("socket", Operator::ScmpCmpMaskedEq, mask, value));
    }
    for persona in PERSONALITIES {
        syscalls.push(allow_if("personality", Operator::ScmpCmpEq, persona, 0));
    }
    let here = |list: &&(&[&str], &str)| list.0.contains(&native_name());
    syscalls.extend(BY_ARCHITECTURE.iter().filter(here).map(|(_, names)| allow(names)));
    let held = |entry: &&(Capability, &str)| capabilities.contains(&entry.0);
    syscalls.extend(BY_CAPABILITY.iter().filter(held).map(|(_, names)| allow(names)));
    if !capabilities.contains(&Capability::SysAdmin) {
        syscalls.push(allow_if("clone", Operator::ScmpCmpMaskedEq, CLONE_NAMESPACES, 0));
        // Its flags lie behind a pointer; with ENOSYS the C library falls back to clone.
        let mut clone3 = rule("clone3", LinuxSeccompAction::ScmpActErrno);
        clone3.set_errno_ret(Some(libc::ENOSYS as u32));
        syscalls.push(clone3);
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(libc::EPERM as u32))
        .set_architectures(Some(native_architectures()))
        .set_syscalls(Some(syscalls));
    profile
}

fn rule(names: &str, action: LinuxSeccompAction) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.split_whitespace().map(str::to_owned).collect()).set_action(action);
    rule
}

fn allow(names: &str) -> LinuxSyscall {
    rule(names, LinuxSeccompAction::ScmpActAllow)
}

/// Allows `name` when its first argument compares so.
fn allow_if(name: &str, op: Operator, value: u64, value_two: u64) -> LinuxSyscall {
    let arg = LinuxSeccompArgBuilder::default().index(0_usize).op(op).value(value);
    let arg = arg.value_two(value_two).build().expect("every field has a value");
    let mut rule = allow(name);
    rule.set_args(Some(vec![arg]));
    rule
}

/// The name Docker's profiles have for this build's architecture.
fn native_name() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The architectures whose programs this build's kernel also runs.
fn native_architectures() -> Vec<OciArch> {
    match std::env::consts::ARCH {
        "x86_64" => vec![OciArch::ScmpArchX86_64, OciArch::ScmpArchX86, OciArch::ScmpArchX32],
        "aarch64" => vec![OciArch::ScmpArchAarch64, OciArch::ScmpArchArm],
        _ => vec![OciArch::ScmpArchNative],
    }
}

/// A profile as `--security-opt seccomp=FILE` takes it: the specification's, with conditions.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: Option<LinuxSeccompAction>,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<OciArch>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<std::path::PathBuf>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<ProfileRule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    // As text: profiles list architectures younger than this build.
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileRule {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<LinuxSeccompArg>>,
    includes: Option<Condition>,
    excludes: Option<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    // As text: a capability this build does not know is one that nobody holds.
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Reads a profile in Docker's format and keeps what applies to this architecture, the running
/// kernel, and a process with `capabilities`.
///
/// # Errors
///
/// [`Error::Json`] if it does not parse; [`Error::Invalid`] if it has no default action, both
/// `architectures` and `archMap`, a rule with both `name` and `names`, or an unreadable
/// `minKernel`.
pub fn docker_profile(
    json: &[u8],
    capabilities: &HashSet<Capability>,
) -> Result<LinuxSeccomp, Error> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let kernel = kernel_version(&release)
        .ok_or_else(|| Error::invalid(format!("kernel release {release:?} has no version")))?;
    let held = capabilities.iter().map(|cap| format!("CAP_{cap}")).collect();
    resolve(serde_json::from_slice(json)?, &Host { arch: native_name(), kernel, held })
}

/// What conditions are held against.
struct Host {
    arch: &'static str,
    kernel: (u64, u64),
    /// Names of the capabilities, with `CAP_`.
    held: HashSet<String>,
}

fn resolve(profile: Profile, host: &Host) -> Result<LinuxSeccomp, Error> {
    let default = profile.default_action.ok_or_else(|| {
        Error::invalid("no defaultAction (to run without a filter, ask for unconfined)")
    })?;
    let map = profile.arch_map.unwrap_or_default();
    let architectures = match profile.architectures.filter(|list| !list.is_empty()) {
        Some(_) if !map.is_empty() => {
            return Err(Error::invalid("both architectures and archMap are given"));
        }
        Some(list) => list,
        None => mapped(&map),
    };
    let mut syscalls = Vec::new();
    for entry in profile.syscalls.unwrap_or_default() {
        if entry.applies(host)? {
            syscalls.push(entry.into_rule()?);
        }
    }
    let mut resolved = LinuxSeccomp::default();
    resolved
        .set_default_action(default)
        .set_default_errno_ret(profile.default_errno_ret)
        .set_architectures(Some(architectures))
        .set_flags(profile.flags)
        .set_listener_path(profile.listener_path)
        .set_listener_metadata(profile.listener_metadata)
        .set_syscalls(Some(syscalls));
    Ok(resolved)
}

/// The map's entry for this build's architecture, with what it entails.
fn mapped(map: &[ArchMap]) -> Vec<OciArch> {
    let native = native_architectures()[0].to_string();
    let Some(entry) = map.iter().find(|entry| entry.architecture == native) else {
        return Vec::new();
    };
    let subordinate = entry.sub_architectures.iter().flatten();
    std::iter::once(&entry.architecture).chain(subordinate).filter_map(|n| n.parse().ok()).collect()
}

impl ProfileRule {
    fn applies(&self, host: &Host) -> Result<bool, Error> {
        if let Some(excludes) = &self.excludes
            && excludes.any(host)?
        {
            return Ok(false);
        }
        self.includes.as_ref().map_or(Ok(true), |includes| includes.all(host))
    }

    fn into_rule(self) -> Result<LinuxSyscall, Error> {
        let names = match (self.name.filter(|n| !n.is_empty()), self.names.unwrap_or_default()) {
            (Some(name), names) if names.is_empty() => vec![name],
            (Some(name), _) => {
                return Err(Error::invalid(format!("rule for {name} has both name and names")));
            }
            (None, names) => names,
        };
        let mut rule = LinuxSyscall::default();
        rule.set_names(names).set_action(self.action).set_errno_ret(self.errno_ret);
        rule.set_args(self.args);
        Ok(rule)
    }
}

impl Condition {
    /// Whether every part that is given holds.
    fn all(&self, host: &Host) -> Result<bool, Error> {
        let arch = given(&self.arches).is_none_or(|list| list.iter().any(|a| a == host.arch));
        let caps = self.caps.iter().flatten().all(|cap| host.held.contains(cap));
        Ok(arch && caps && self.kernel(host)?.unwrap_or(true))
    }

    /// Whether some part that is given holds; of the capabilities, one is enough.
    fn any(&self, host: &Host) -> Result<bool, Error> {
        let arch = given(&self.arches).is_some_and(|list| list.iter().any(|a| a == host.arch));
        let caps = self.caps.iter().flatten().any(|cap| host.held.contains(cap));
        Ok(arch || caps || self.kernel(host)?.unwrap_or(false))
    }

    fn kernel(&self, host: &Host) -> Result<Option<bool>, Error> {
        let Some(text) = self.min_kernel.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let minimum = text
            .split_once('.')
            .and_then(|(kernel, major)| Some((kernel.parse().ok()?, major.parse().ok()?)))
            .filter(|version| *version != (0, 0))
            .ok_or_else(|| Error::invalid(format!("minKernel {text:?} is not KERNEL.MAJOR")))?;
        Ok(Some(host.kernel >= minimum))
    }
}

fn given(list: &Option<Vec<String>>) -> Option<&[String]> {
    list.as_deref().filter(|list| !list.is_empty())
}

/// `(6, 18)` of `6.18.44-generic`.
fn kernel_version(release: &str) -> Option<(u64, u64)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
