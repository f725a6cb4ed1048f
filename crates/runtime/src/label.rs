//! What a security module is told about a process and its files: AppArmor's profile, SELinux's
//! labels (runtime-spec, config.md, "Linux Process"; config-linux.md, "Mount Label").

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use oci::runtime::{Process, Spec};
use rustix::fs::{
    CWD, Mode, OFlags, ResolveFlags, XattrFlags, fsetxattr, fstatfs, openat, openat2, statfs,
};

use crate::error::{Doing, Error};

/// `PROC_SUPER_MAGIC` of statfs(2).
const PROC_MAGIC: i64 = 0x9fa0;
/// `SELINUX_MAGIC` of <linux/magic.h>.
const SELINUX_MAGIC: i64 = 0xf97c_ff8c;

/// Where the kernel tells whether it has AppArmor.
const APPARMOR_ENABLED: &str = "/sys/module/apparmor/parameters/enabled";

/// The SELinux label of the container's mounts, if they get one.
pub(crate) fn of_mounts(spec: &Spec) -> Option<&str> {
    spec.linux().as_ref()?.mount_label().as_deref().filter(|label| !label.is_empty())
}

/// Refuses a label for mounts where the kernel has none.
///
/// # Errors
/// [`Error::Unsupported`].
pub(crate) fn check_mounts(spec: &Spec) -> Result<(), Error> {
    match of_mounts(spec) {
        Some(_) if !has_selinux() => {
            Err(Error::Unsupported("linux.mountLabel, without SELinux in this kernel,".into()))
        }
        _ => Ok(()),
    }
}

/// Labels the root of a mount by an extended attribute, where no mount option does.
///
/// # Errors
/// Those of fsetxattr(2).
pub(crate) fn set_on_root(mount: &OwnedFd, label: &str) -> Result<(), Error> {
    let doing = || format!("give a mount the label `{label}`");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(mount, ".", flags, Mode::empty()).doing(doing)?;
    let value = [label.as_bytes(), b"\0"].concat();
    fsetxattr(&root, "security.selinux", &value, XattrFlags::empty()).doing(doing)
}

fn has_selinux() -> bool {
    statfs("/sys/fs/selinux").is_ok_and(|files| files.f_type == SELINUX_MAGIC)
}

fn has_apparmor() -> bool {
    std::fs::read(APPARMOR_ENABLED).is_ok_and(|text| text.first() == Some(&b'Y'))
}

/// What a process becomes by executing its program.
#[derive(Debug)]
pub(crate) struct Labels {
    /// The host's procfs, opened while nothing of a container is in sight: inside, another file
    /// could be in the place of the one that is to be written (CVE-2025-52881).
    proc: OwnedFd,
    apparmor: Option<String>,
    selinux: Option<String>,
}

impl Labels {
    /// Reads the specification; `None` if it asks for no label.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the kernel lacks the security module.
    pub(crate) fn of(process: &Process) -> Result<Option<Labels>, Error> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let selinux = given(process.selinux_label());
        let apparmor = given(process.apparmor_profile());
        if selinux.is_some() && !has_selinux() {
            let text = "process.selinuxLabel, without SELinux in this kernel,";
            return Err(Error::Unsupported(text.into()));
        }
        let enabled = has_apparmor;
        let apparmor = match apparmor {
            // Which every process is already.
            Some(profile) if profile == "unconfined" && !enabled() => None,
            Some(profile) if !enabled() => {
                return Err(Error::Unsupported(format!(
                    "process.apparmorProfile `{profile}`, without AppArmor in this kernel,"
                )));
            }
            profile => profile,
        };
        if apparmor.is_none() && selinux.is_none() {
            return Ok(None);
        }
        Ok(Some(Labels { proc: open_proc()?, apparmor, selinux }))
    }

    /// Sets, or with `false` resets, the label of the keyrings that are made from now on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn label_keyrings(&self, on: bool) -> Result<(), Error> {
        match &self.selinux {
            Some(label) => self.write(&["attr/keycreate"], if on { label } else { "" }),
            None => Ok(()),
        }
    }

    /// Makes the next execve(2) of this process change its labels.
    ///
    /// # Errors
    /// When the kernel refuses, for example a profile that is not loaded.
    pub(crate) fn apply(&self) -> Result<(), Error> {
        if let Some(label) = &self.selinux {
            self.write(&["attr/exec"], label)?;
        }
        match &self.apparmor {
            // The second is what kernels with a single security module have.
            Some(profile) => {
                self.write(&["attr/apparmor/exec", "attr/exec"], &format!("exec {profile}"))
            }
            None => Ok(()),
        }
    }

    /// Writes to the first of `files` that exists.
    fn write(&self, files: &[&str], text: &str) -> Result<(), Error> {
        let doing = || format!("write `{text}` to `/proc/thread-self/{}`", files[0]);
        let mut refused = rustix::io::Errno::NOENT;
        for file in files {
            match openat2(
                &self.proc,
                Path::new("thread-self").join(file),
                OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS,
            ) {
                Ok(open) => {
                    return std::fs::File::from(open).write_all(text.as_bytes()).doing(doing);
                }
                Err(errno) => refused = errno,
            }
        }
        Err(Error::kernel(doing(), refused))
    }
}

fn open_proc() -> Result<OwnedFd, Error> {
    let doing = || "open `/proc`";
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let proc = openat(CWD, "/proc", flags, Mode::empty()).doing(doing)?;
    if fstatfs(&proc).doing(doing)?.f_type == PROC_MAGIC {
        return Ok(proc);
    }
    Err(Error::Spec("`/proc` is not procfs".into()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Labels that are written into a directory in the place of procfs.
    fn labels(directory: &Path, apparmor: Option<&str>, selinux: Option<&str>) -> Labels {
        let proc = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        let own = |text: Option<&str>| text.map(String::from);
        Labels { proc: proc.unwrap(), apparmor: own(apparmor), selinux: own(selinux) }
    }

    #[test]
    fn each_module_is_told_in_its_own_file() {
        let directory = tempfile::tempdir().unwrap();
        let attr = directory.path().join("thread-self/attr");
        fs::create_dir_all(attr.join("apparmor")).unwrap();
        for file in ["exec", "keycreate", "apparmor/exec"] {
            fs::write(attr.join(file), "").unwrap();
        }
        let read = |file: &str| fs::read_to_string(attr.join(file)).unwrap();
        let both = labels(directory.path(), Some("cais"), Some("system_u:x"));
        both.apply().unwrap();
        assert_eq!(
            (read("exec"), read("apparmor/exec")),
            ("system_u:x".into(), "exec cais".into())
        );
        both.label_keyrings(true).unwrap();
        assert_eq!(read("keycreate"), "system_u:x");

        fs::remove_file(attr.join("apparmor/exec")).unwrap();
        fs::write(attr.join("exec"), "").unwrap();
        labels(directory.path(), Some("cais"), None).apply().unwrap();
        assert_eq!(read("exec"), "exec cais");
    }

    #[test]
    fn what_leads_elsewhere_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let attr = directory.path().join("thread-self/attr");
        fs::create_dir_all(&attr).unwrap();
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), attr.join("exec")).unwrap();
        labels(directory.path(), None, Some("x")).apply().unwrap_err();
        assert_eq!(fs::read_to_string(elsewhere.path()).unwrap(), "");
    }
}
