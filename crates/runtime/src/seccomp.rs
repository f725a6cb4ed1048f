//! System call filters: OCI profiles compiled to classic BPF.
//!
//! [`compile`] turns a runtime specification's `linux.seccomp` into a program for seccomp(2),
//! without libseccomp and in well under a millisecond. [`default_profile`] is the profile
//! containers run with when nobody asks for another; [`docker_profile`] reads the JSON given to
//! `--security-opt seccomp=FILE`.
//!
//! # Which rule decides
//!
//! The runtime specification leaves overlapping rules open; this is what runc makes of them with
//! libseccomp, tested against that library:
//!
//! 1. A rule whose action equals the default action says nothing and is ignored.
//! 2. A rule without arguments outweighs every rule with arguments for that call, wherever it
//!    stands. Among several without arguments the first one counts. A mask without bits is no
//!    argument.
//! 3. Among rules with arguments one whose conditions all hold decides. If they differ in their
//!    actions, it matters which is asked first: see `order.rs`.
//! 4. Conditions of one rule must all hold, unless two of them look at the same argument: then
//!    each condition is an alternative of its own (as runc and crun read such profiles).
//! 5. Otherwise the default action holds; but a call numbered above every call the profile
//!    mentions returns `ENOSYS` (unless the default lets calls through), so that programs fall
//!    back from calls younger than the profile instead of failing with `EPERM`. On s390 so does
//!    number 0, by which the kernel names what it does not know.
//!
//! Arguments are compared as unsigned 64-bit values, on 32-bit architectures, x32 and MIPS's n32
//! as 32-bit ones. A call through an architecture the profile does not list kills the thread. The
//! native architecture is always listed.
//!
//! # When it is loaded
//!
//! Right before execve(2), after user, capabilities and descriptors are final, so that a profile
//! may forbid everything that these took: see `Credentials::confine`. After it the runtime calls
//! `execve`, once for each directory of `PATH`, and `write` to tell why that failed. With
//! `SCMP_ACT_NOTIFY` it calls `write` and `read` before, see `agent.rs`; with a small init, or
//! hooks of the kind `startContainer`, what those do, and `capset` unless no-new-privileges is set.
//! runc asks for more (`capset`, `prctl`, `close_range`, `openat` and so on), so its profiles do.
//!
//! # Where it differs
//!
//! - Sockets and System V IPC can be reached through `socketcall` and `ipc` on some architectures,
//!   with arguments that no filter sees. libseccomp lets every such call through when a rule with
//!   arguments allows some of them, so that `socketcall` evades the arguments; here such a rule
//!   counts only if it is stricter than the default, and then for all of them. The version in the
//!   upper half of `ipc`'s first argument does not hide a call, as it does from libseccomp.
//! - A profile that names one of ARM's private calls, as Docker's does, has no younger calls for
//!   runc, because their numbers are so large. Here they do not count.
//! - Two rules with equal conditions and different actions: the first counts; libseccomp refuses
//!   the profile.
//! - An architecture in which no kernel on this machine can be called costs nothing and is allowed;
//!   libseccomp refuses those of the other endianness.

pub(crate) mod agent;
mod arch;
mod assembler;
mod docker;
mod install;
#[cfg(any(test, fuzzing))]
pub mod machine;
mod order;
mod rule;
mod syscall;
#[cfg(test)]
mod tests;
mod verdict;

use std::io;
use std::os::fd::OwnedFd;

use oci::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};

pub use docker::{default_profile, docker_profile};

/// Why a profile cannot become a filter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The profile contradicts itself or the specification.
    #[error("seccomp profile: {0}")]
    Invalid(String),
    /// The program would be longer than the kernel loads (`BPF_MAXINSNS`).
    #[error("seccomp profile compiles to {0} instructions, the kernel loads at most 4096")]
    TooLong(usize),
    /// The JSON of a profile does not parse.
    #[error("read seccomp profile")]
    Json(#[from] serde_json::Error),
}

impl Error {
    fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid(what.into())
    }
}

/// The most instructions seccomp(2) accepts: `BPF_MAXINSNS` of linux/bpf_common.h.
const INSTRUCTIONS_MAX: usize = 4096;

/// A compiled profile, ready to be loaded any number of times.
#[derive(Clone)]
pub struct Filter {
    code: Vec<libc::sock_filter>,
    flags: Flags,
    notifies: bool,
    unknown: Vec<String>,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter")
            .field("instructions", &self.code.len())
            .field("flags", &self.flags.bits)
            .field("notifies", &self.notifies)
            .finish_non_exhaustive()
    }
}

/// Compiles `profile` for the native architecture and those it lists.
///
/// Names that exist on none of an architecture's tables are left out, as they must be: profiles
/// name calls of every architecture and of kernels to come. [`Filter::unknown_names`] tells them.
///
/// # Errors
///
/// [`Error::Invalid`] for an argument index above 5, an errno beyond the kernel's range or on an
/// action that takes none, and `SCMP_ACT_NOTIFY` as default or on `write` (which would deadlock
/// handing over the listener); [`Error::TooLong`] for a profile beyond the kernel's limit.
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, Error> {
    let rules = rule::Rules::read(profile)?;
    let flags = Flags::read(profile, rules.notifies)?;
    let code = assembler::assemble(&rules, &arch::listed(profile));
    if code.len() > INSTRUCTIONS_MAX {
        return Err(Error::TooLong(code.len()));
    }
    Ok(Filter { code, flags, notifies: rules.notifies, unknown: rules.unknown })
}

/// What the profile asks of seccomp(2) beside its rules.
#[derive(Clone, Copy, Debug)]
struct Flags {
    /// `SECCOMP_FILTER_FLAG_*`.
    bits: libc::c_ulong,
    /// Whether the profile names them, so that one the kernel lacks is missed.
    named: bool,
}

impl Flags {
    /// Without a list of flags, speculation is left as it is: runc's and crun's default, since the
    /// mitigation costs much and every kernel since 5.16 leaves it out for filters anyway.
    fn read(profile: &LinuxSeccomp, notifies: bool) -> Result<Self, Error> {
        let Some(flags) = profile.flags() else {
            return Ok(Self { bits: libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW, named: false });
        };
        let bits = flags.iter().map(flag_bit).fold(0, |a, b| a | b);
        if bits & libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0 && !notifies {
            let flag = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";
            return Err(Error::invalid(format!("{flag} needs a rule with SCMP_ACT_NOTIFY")));
        }
        Ok(Self { bits, named: true })
    }
}

/// The flags of the specification and their bits.
const FLAGS: [(libc::c_ulong, &str); 4] = [
    (libc::SECCOMP_FILTER_FLAG_LOG, "SECCOMP_FILTER_FLAG_LOG"),
    (libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
    // Known, and without effect here.
    (0, "SECCOMP_FILTER_FLAG_TSYNC"),
    (libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
];

/// The names of all flags that are known, and whether this kernel has them.
pub(crate) fn known_flags() -> impl Iterator<Item = (&'static str, bool)> {
    FLAGS.into_iter().map(|(bit, name)| (name, install::knows(bit)))
}

fn flag_bit(flag: &LinuxSeccompFilterFlag) -> libc::c_ulong {
    match flag {
        // The thread that is confined is the only one of its process.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
            libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
        }
    }
}

impl Filter {
    /// The first flag the profile names and this kernel does not know.
    #[must_use]
    pub fn unknown_flag(&self) -> Option<&'static str> {
        if !self.flags.named || install::knows(self.flags()) {
            return None;
        }
        let mut asked = FLAGS.into_iter().filter(|(bit, _)| self.flags() & bit != 0);
        asked.find(|(bit, _)| !install::knows(*bit)).map(|(_, name)| name)
    }

    /// Confines the calling thread for good.
    ///
    /// The caller has set `PR_SET_NO_NEW_PRIVS` or holds `CAP_SYS_ADMIN`. Makes one system call
    /// and allocates nothing, so it may run between clone and exec. Without a listener, calls that
    /// should notify return `ENOSYS`.
    ///
    /// # Errors
    ///
    /// As seccomp(2): `EACCES` without the privilege above, `EINVAL` for a flag the kernel does not
    /// know.
    pub fn install(&self) -> io::Result<()> {
        // The kernel refuses WAIT_KILLABLE_RECV without a listener, where it means nothing.
        let flags = self.flags() & !libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        install::load(&self.code, flags)
    }

    /// Like [`install`](Self::install), and returns the descriptor on which the kernel reports
    /// calls with `SCMP_ACT_NOTIFY` (close-on-exec, as the kernel makes it).
    ///
    /// # Errors
    ///
    /// As seccomp(2): those of `install`, and `EBUSY` when a filter with a listener is already
    /// installed.
    pub fn install_with_listener(&self) -> io::Result<OwnedFd> {
        install::load_with_listener(&self.code, self.flags())
    }

    /// The program, as seccomp(2) takes it.
    #[must_use]
    pub fn instructions(&self) -> &[libc::sock_filter] {
        &self.code
    }

    /// The `SECCOMP_FILTER_FLAG_*` bits the profile asks for.
    #[must_use]
    pub fn flags(&self) -> libc::c_ulong {
        self.flags.bits
    }

    /// Whether some rule has the action `SCMP_ACT_NOTIFY`, so that a listener is needed.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.notifies
    }

    /// Names in the profile that no architecture known here has: younger than this build, or
    /// misspelt. They were left out.
    #[must_use]
    pub fn unknown_names(&self) -> &[String] {
        &self.unknown
    }
}
