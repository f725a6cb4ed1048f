//! What a process may do: user, groups, capabilities, no-new-privileges, seccomp
//! (capabilities(7), runtime-spec config.md "POSIX process" and "Linux Process").

use std::collections::HashSet;
use std::mem::ManuallyDrop;
use std::os::fd::AsFd as _;

use oci::runtime::{Capability, LinuxCapabilities, Process};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::error::{Doing, Error};
use crate::seccomp::Filter;
use crate::sync::Sync;
use crate::user::Identity;
use crate::weak::weakened;

/// Makes files of this thread's belong to another user and group from now on, with all rights that
/// it has: on a mount with mapped ids, nobody else can make any (mount_setattr(2)). There is no way
/// back that matters: the thread is to end.
///
/// # Errors
/// When the kernel refuses.
pub fn own_files_as(uid: u32, gid: u32) -> std::io::Result<()> {
    crate::sys::set_fs_ids(uid, gid)?;
    // Another user than root loses those that concern files (capabilities(7)).
    let mut sets = capabilities(None)?;
    sets.effective = sets.permitted;
    Ok(set_capabilities(None, sets)?)
}

/// The rights that a process is going to have.
#[derive(Debug)]
pub(crate) struct Credentials<'a> {
    bounding: CapabilitySet,
    sets: CapabilitySets,
    ambient: CapabilitySet,
    no_new_privileges: bool,
    seccomp: Option<&'a Filter>,
}

impl<'a> Credentials<'a> {
    /// Reads the specification. Without `capabilities` there are none. What the caller does not
    /// hold itself cannot be given and is withheld, as the specification allows.
    ///
    /// # Errors
    /// When the kernel does not tell the caller's capabilities.
    pub(crate) fn new(process: &Process, seccomp: Option<&'a Filter>) -> Result<Self, Error> {
        let held = capabilities(None).doing(|| "read the capabilities")?.permitted;
        let given = process.capabilities().as_ref();
        let set = |choose: fn(&LinuxCapabilities) -> &Option<HashSet<Capability>>| {
            given.and_then(|given| choose(given).as_ref()).map_or(CapabilitySet::empty(), bits)
                & held
        };
        let permitted = set(LinuxCapabilities::permitted);
        let inheritable = set(LinuxCapabilities::inheritable);
        Ok(Credentials {
            bounding: set(LinuxCapabilities::bounding),
            sets: CapabilitySets {
                effective: set(LinuxCapabilities::effective) & permitted,
                permitted,
                inheritable: if weakened("caps-inheritable") { permitted } else { inheritable },
            },
            ambient: set(LinuxCapabilities::ambient) & permitted & inheritable,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            seccomp,
        })
    }

    /// Becomes the user, keeping the capabilities that are still needed until [`Self::confine`].
    ///
    /// # Errors
    /// Names the step that the kernel refused.
    pub(crate) fn become_user(&self, identity: &Identity) -> Result<(), Error> {
        self.limit_bounding_set()?;
        set_keep_capabilities(true).doing(|| "keep the capabilities")?;
        if !weakened("groups-kept") {
            set_groups(&identity.groups)?;
        }
        let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        set_thread_res_gid(gid, gid, gid).doing(|| format!("become group {}", identity.gid))?;
        set_thread_res_uid(uid, uid, uid).doing(|| format!("become user {}", identity.uid))?;
        set_keep_capabilities(false).doing(|| "stop keeping the capabilities")?;
        if identity.uid == 0 {
            return Ok(());
        }
        // The kernel shows the memory of who becomes another as `fs.suid_dumpable` says.
        hide_memory()?;
        // Another user than root loses the effective set; the filter may need it.
        let mut sets = capabilities(None).doing(|| "read the capabilities")?;
        sets.effective = sets.permitted;
        set_capabilities(None, sets).doing(|| "raise the capabilities")
    }

    fn limit_bounding_set(&self) -> Result<(), Error> {
        if weakened("caps-bounding") {
            return Ok(());
        }
        for number in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            if self.bounding.contains(capability) {
                continue;
            }
            match remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // The kernel's capabilities end here.
                Err(Errno::INVAL) => return Ok(()),
                Err(errno) => {
                    let doing = format!("drop capability {number} from the bounding set");
                    return Err(Error::kernel(doing, errno));
                }
            }
        }
        Ok(())
    }

    /// Takes the final rights: the last step before execve(2).
    ///
    /// The filter comes last, so that a profile need allow nothing but `execve` for the runtime's
    /// sake (and `write` and `read` where it notifies).
    ///
    /// # Errors
    /// Names the step that the kernel refused.
    pub(crate) fn confine(&self, stays: bool, sync: &Sync) -> Result<(), Error> {
        self.limit()?;
        self.load_filter(stays, sync)
    }

    /// Takes the final rights but for the filter.
    ///
    /// Without no-new-privileges a filter needs `CAP_SYS_ADMIN`: then that capability is kept and
    /// goes with execve(2), which computes the effective and the permitted set anew from those that
    /// are final here (capabilities(7)).
    ///
    /// # Errors
    /// Names the step that the kernel refused.
    pub(crate) fn limit(&self) -> Result<(), Error> {
        let mut sets = self.sets;
        if self.load_with_privilege() {
            let held = capabilities(None).doing(|| "read the capabilities")?;
            sets.permitted |= held.permitted & CapabilitySet::SYS_ADMIN;
            sets.effective |= held.effective & CapabilitySet::SYS_ADMIN;
        }
        set_capabilities(None, sets).doing(|| "set the capabilities")?;
        clear_ambient_capability_set().doing(|| "clear the ambient capabilities")?;
        for capability in self.ambient.iter() {
            configure_capability_in_ambient_set(capability, true)
                .doing(|| "set the ambient capabilities")?;
        }
        if self.no_new_privileges && !weakened("new-privileges") {
            set_no_new_privs(true).doing(|| "set no-new-privileges")?;
        }
        Ok(())
    }

    /// Loads the filter. Who `stays`, to run something else before the program or instead, drops
    /// the capability that loading needed right after; the profile has to allow `capset` then.
    ///
    /// # Errors
    /// Names the step that the kernel refused.
    pub(crate) fn load_filter(&self, stays: bool, sync: &Sync) -> Result<(), Error> {
        self.install_filter(sync)?;
        let is_own = self.sets.effective.contains(CapabilitySet::SYS_ADMIN);
        if stays && self.load_with_privilege() && !is_own {
            set_capabilities(None, self.sets).doing(|| "drop CAP_SYS_ADMIN")?;
        }
        Ok(())
    }

    /// Whether there is a filter that needs `CAP_SYS_ADMIN` to be loaded.
    pub(crate) fn load_with_privilege(&self) -> bool {
        self.seccomp.is_some() && !self.no_new_privileges
    }

    fn install_filter(&self, sync: &Sync) -> Result<(), Error> {
        let Some(filter) = self.seccomp.filter(|_| !weakened("calls-unfiltered")) else {
            return Ok(());
        };
        let doing = || "install the seccomp filter";
        if !filter.notifies() {
            return filter.install().doing(doing);
        }
        let listener = filter.install_with_listener().doing(doing)?;
        // close(2) may be among the calls that wait for an agent; execve(2) closes it.
        let listener = ManuallyDrop::new(listener);
        sync.tell_listener(listener.as_fd())
    }
}

/// Keeps others without `CAP_SYS_PTRACE` from looking into the memory of this process
/// (`PR_SET_DUMPABLE`), until it executes a program.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn hide_memory() -> Result<(), Error> {
    if weakened("memory-readable") {
        return Ok(());
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "hide the memory")
}

/// An unprivileged user namespace refuses to drop groups; there is none to drop either.
fn set_groups(groups: &[u32]) -> Result<(), Error> {
    let groups: Vec<Gid> = groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    match set_thread_groups(&groups) {
        Err(Errno::PERM) if groups.is_empty() && !groups_can_be_set() => Ok(()),
        other => other.doing(|| "set the supplementary groups"),
    }
}

/// With the right to set groups, only the user namespace (user_namespaces(7), "setgroups") forbids
/// it. Asked without procfs, whose `self` is nobody for a process outside its namespace.
fn groups_can_be_set() -> bool {
    capabilities(None).is_ok_and(|sets| !sets.effective.contains(CapabilitySet::SETGID))
}

fn bits(capabilities: &HashSet<Capability>) -> CapabilitySet {
    capabilities.iter().map(|&capability| bit(capability)).collect()
}

/// A capability as the kernel's.
pub(crate) fn bit(capability: Capability) -> CapabilitySet {
    match capability {
        Capability::AuditControl => CapabilitySet::AUDIT_CONTROL,
        Capability::AuditRead => CapabilitySet::AUDIT_READ,
        Capability::AuditWrite => CapabilitySet::AUDIT_WRITE,
        Capability::BlockSuspend => CapabilitySet::BLOCK_SUSPEND,
        Capability::Bpf => CapabilitySet::BPF,
        Capability::CheckpointRestore => CapabilitySet::CHECKPOINT_RESTORE,
        Capability::Chown => CapabilitySet::CHOWN,
        Capability::DacOverride => CapabilitySet::DAC_OVERRIDE,
        Capability::DacReadSearch => CapabilitySet::DAC_READ_SEARCH,
        Capability::Fowner => CapabilitySet::FOWNER,
        Capability::Fsetid => CapabilitySet::FSETID,
        Capability::IpcLock => CapabilitySet::IPC_LOCK,
        Capability::IpcOwner => CapabilitySet::IPC_OWNER,
        Capability::Kill => CapabilitySet::KILL,
        Capability::Lease => CapabilitySet::LEASE,
        Capability::LinuxImmutable => CapabilitySet::LINUX_IMMUTABLE,
        Capability::MacAdmin => CapabilitySet::MAC_ADMIN,
        Capability::MacOverride => CapabilitySet::MAC_OVERRIDE,
        Capability::Mknod => CapabilitySet::MKNOD,
        Capability::NetAdmin => CapabilitySet::NET_ADMIN,
        Capability::NetBindService => CapabilitySet::NET_BIND_SERVICE,
        Capability::NetBroadcast => CapabilitySet::NET_BROADCAST,
        Capability::NetRaw => CapabilitySet::NET_RAW,
        Capability::Perfmon => CapabilitySet::PERFMON,
        Capability::Setgid => CapabilitySet::SETGID,
        Capability::Setfcap => CapabilitySet::SETFCAP,
        Capability::Setpcap => CapabilitySet::SETPCAP,
        Capability::Setuid => CapabilitySet::SETUID,
        Capability::SysAdmin => CapabilitySet::SYS_ADMIN,
        Capability::SysBoot => CapabilitySet::SYS_BOOT,
        Capability::SysChroot => CapabilitySet::SYS_CHROOT,
        Capability::SysModule => CapabilitySet::SYS_MODULE,
        Capability::SysNice => CapabilitySet::SYS_NICE,
        Capability::SysPacct => CapabilitySet::SYS_PACCT,
        Capability::SysPtrace => CapabilitySet::SYS_PTRACE,
        Capability::SysRawio => CapabilitySet::SYS_RAWIO,
        Capability::SysResource => CapabilitySet::SYS_RESOURCE,
        Capability::SysTime => CapabilitySet::SYS_TIME,
        Capability::SysTtyConfig => CapabilitySet::SYS_TTY_CONFIG,
        Capability::Syslog => CapabilitySet::SYSLOG,
        Capability::WakeAlarm => CapabilitySet::WAKE_ALARM,
    }
}
