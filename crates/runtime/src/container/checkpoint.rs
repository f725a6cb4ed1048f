//! Saving a container to files, through CRIU.

use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use oci::Rootfs;
use oci::runtime::{LinuxNamespaceType, LinuxSeccompAction, Spec};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::criu::{Criu, Feature, Message, Notice, Request, option};
use super::images::{self, Images, Open, Switch};
use super::record::Access;
use super::{Container, Error, Status, delete};
use crate::error::{Doing, Error as RuntimeError};
use crate::launch::{Launch, Stdio};
use crate::mount::external;
use crate::sys;

/// The name of CRIU's log.
const LOG: &str = "dump.log";

/// A container to save.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    /// The state root.
    pub root: &'a Path,
    /// Which container.
    pub id: &'a str,
    /// Where to.
    pub images: Images<'a>,
    /// An earlier checkpoint, relative to the directory of this one, which holds the pages that
    /// were not written to since.
    pub parent: Option<&'a Path>,
    /// Save only memory, for a later checkpoint, and let the container go on.
    pub pre_dump: bool,
    /// Let the container go on.
    pub leave_running: bool,
    /// Address and port of who takes the memory pages.
    pub page_server: Option<(&'a str, u16)>,
    /// A descriptor from the caller that is told, by a zero byte, when pages can be asked for.
    pub status_fd: Option<i32>,
}

impl Checkpoint<'_> {
    /// Saves it, and deletes it unless it is to go on. Returns what failed of its `poststop` hooks.
    ///
    /// # Errors
    /// [`Error::NoCriu`]; [`Error::Criu`] for what cannot be saved, and then the container goes on;
    /// [`Error::Refused`] names what is wrong with the request.
    pub fn run(&self) -> Result<Vec<RuntimeError>, Error> {
        let container = Container::open_locked(self.root, self.id, Access::Change)?;
        match container.status()? {
            Status::Running | Status::Paused => {}
            other => {
                let text = format!("Container cannot be checkpointed in {} state", other.word());
                return Err(Error::Refused(text));
            }
        }
        let spec = container.spec()?;
        check(spec)?;
        let criu = Criu::find(self.images.criu)?;
        check_version(&criu, spec)?;
        self.check_features(&criu)?;
        images::make(self.images.directory, true)?;
        let open = self.images.open(LOG)?;
        let mut status = self.status()?;
        let options = self.options((&criu, &container, spec), &open, status.as_ref())?;
        if !self.pre_dump {
            write_descriptors(&open, &container)?;
        }
        let request = if self.pre_dump { Request::PreDump } else { Request::Dump };
        let mut told = |notice: Notice| {
            // What its name says: pages can be asked for.
            if let Some(status) = status.take_if(|_| notice.name == "status-ready") {
                rustix::io::write(status, &[0]).doing(|| "write to --status-fd")?;
            }
            Ok(())
        };
        let service = criu.start(false, &[])?;
        service.serve((request, &options), &mut told).map_err(|failed| open.explain(failed))?;
        if self.pre_dump || self.leave_running {
            return Ok(Vec::new());
        }
        let cgroup = container.cgroup()?;
        delete::destroy(&container, Some(spec), cgroup)
    }

    fn check_features(&self, criu: &Criu) -> Result<(), Error> {
        if self.pre_dump {
            criu.require_feature(Feature::MemTrack, "--pre-dump")?;
        }
        if self.images.is_on(Switch::LazyPages) {
            criu.require_feature(Feature::LazyPages, "--lazy-pages")?;
        } else if self.status_fd.is_some() {
            return Err(Error::Refused("--status-fd needs --lazy-pages".into()));
        }
        Ok(())
    }

    /// The caller's descriptor; it is closed when it has been told.
    fn status(&self) -> Result<Option<OwnedFd>, Error> {
        let Some(number) = self.status_fd else { return Ok(None) };
        let wrong =
            |why: String| Error::Refused(format!("invalid --status-fd argument {number}: {why}"));
        let fd = sys::take_inherited(number).map_err(|error| wrong(error.to_string()))?;
        let flags = rustix::fs::fcntl_getfl(&fd).map_err(|errno| wrong(errno.to_string()))?;
        if !flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
            return Err(wrong("not writable".into()));
        }
        Ok(Some(fd))
    }

    fn options(
        &self,
        (criu, container, spec): (&Criu, &Container, &Spec),
        open: &Open,
        status: Option<&OwnedFd>,
    ) -> Result<Message, Error> {
        let record = container.record();
        let mut options = self.images.options(open);
        options
            .number(option::PID, record.pid.into())
            .text(option::ROOT, record.rootfs.as_os_str().as_encoded_bytes())
            .flag(option::LEAVE_RUNNING, self.leave_running);
        images::add_config(&mut options, &record.annotations);
        if let Some(parent) = self.parent {
            let parent = parent.as_os_str().as_encoded_bytes();
            options.text(option::PARENT_IMG, parent).flag(option::TRACK_MEM, true);
        }
        if let Some((address, port)) = self.page_server {
            let mut server = Message::default();
            server.text(1, address).number(2, port.into());
            options.message(option::PAGE_SERVER, &server);
        }
        // Later ones tell by a notice.
        if let Some(status) = status.filter(|_| !criu.is_at_least(31_500)) {
            options.number(option::STATUS_FD, status.as_raw_fd().into());
        }
        if let Some(cgroup) = container.cgroup()?
            && let Some(freezer) = cgroup.freezer_directory(criu.is_at_least(31_400))
        {
            options.text(option::FREEZE_CGROUP, freezer.as_os_str().as_encoded_bytes());
        }
        for (kind, path) in joined(spec) {
            if let Some(text) = external_namespace(criu, kind, path)? {
                options.text(option::EXTERNAL, text);
            }
        }
        if !self.pre_dump {
            let rootfs = Rootfs::Dir(record.rootfs.clone());
            let launch = Launch {
                bundle: Some(&record.bundle),
                ..Launch::new(spec, &rootfs, Stdio::Fds { stdin: None, stdout: None, stderr: None })
            };
            let mounts = external::of_running(&launch, record.pid)?;
            images::add_mounts(&mut options, mounts.iter().map(images::pair));
        }
        Ok(options)
    }
}

/// Refuses what CRIU would not restore as it was.
pub(super) fn check(spec: &Spec) -> Result<(), Error> {
    external::check(spec)?;
    let linux = spec.linux().as_ref();
    let Some(profile) = linux.and_then(|linux| linux.seccomp().as_ref()) else { return Ok(()) };
    let asks = |action: LinuxSeccompAction| action == LinuxSeccompAction::ScmpActNotify;
    let mut rules = profile.syscalls().iter().flatten();
    if asks(profile.default_action()) || rules.any(|rule| asks(rule.action())) {
        let text = "a checkpoint of a container whose system calls an agent answers \
                    (SCMP_ACT_NOTIFY)";
        return Err(RuntimeError::Unsupported(text.into()).into());
    }
    Ok(())
}

/// Refuses what this version would restore with more rights than it had.
pub(super) fn check_version(criu: &Criu, spec: &Spec) -> Result<(), Error> {
    let process = spec.process().as_ref();
    if process.is_some_and(|process| process.no_new_privileges() == Some(true)) {
        criu.require(31_900, "a checkpoint of a container with process.noNewPrivileges")?;
    }
    Ok(())
}

/// The namespaces that the specification joins.
pub(super) fn joined(spec: &Spec) -> impl Iterator<Item = (LinuxNamespaceType, &Path)> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
    namespaces.unwrap_or_default().iter().filter_map(|namespace| {
        let path = namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty());
        path.map(|path| (namespace.typ(), path))
    })
}

/// The kinds that CRIU leaves alone when it is told so: their name among the kernel's, the key for
/// the one that is to be given when the container is restored, which is runc's, and the version that
/// can.
pub(super) fn left_alone(kind: LinuxNamespaceType) -> Option<(&'static str, &'static str, u32)> {
    match kind {
        LinuxNamespaceType::Network => Some(("net", "extRootNetNS", 31_100)),
        LinuxNamespaceType::Pid => Some(("pid", "extRootPidNS", 31_500)),
        _ => None,
    }
}

fn external_namespace(
    criu: &Criu,
    kind: LinuxNamespaceType,
    path: &Path,
) -> Result<Option<String>, Error> {
    let Some((name, key, version)) = left_alone(kind) else { return Ok(None) };
    criu.require(version, &format!("an external {name} namespace"))?;
    let found =
        std::fs::metadata(path).doing(|| format!("look at the namespace `{}`", path.display()))?;
    Ok(Some(format!("{name}[{}]:{key}", found.ino())))
}

/// Writes what the first process had as its input and output when it was made.
fn write_descriptors(open: &Open, container: &Container) -> Result<(), Error> {
    let doing = || format!("write `{}`", images::DESCRIPTORS);
    let record = container.record();
    let names = if record.stdio.is_empty() { stdio_of(record.pid) } else { record.stdio.clone() };
    let text = serde_json::to_vec(&names).map_err(std::io::Error::from).doing(doing)?;
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(open.directory(), images::DESCRIPTORS, flags, Mode::RUSR | Mode::WUSR);
    std::fs::File::from(file.doing(doing)?).write_all(&text).doing(doing)?;
    Ok(())
}

/// What the descriptors 0, 1 and 2 of a process are of, as procfs names them.
pub(super) fn stdio_of(pid: i32) -> Vec<String> {
    let name = |number: i32| {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{number}"));
        link.unwrap_or_default().to_string_lossy().into_owned()
    };
    (0..3).map(name).collect()
}

/// As [`stdio_of`], of descriptors of this process: only pipes are told apart later.
pub(super) fn pipe_names(stdio: &Stdio) -> Vec<String> {
    let Stdio::Fds { stdin, stdout, stderr } = stdio else { return Vec::new() };
    let name =
        |fd: &Option<OwnedFd>| fd.as_ref().and_then(|fd| pipe_name(fd.as_fd()).ok().flatten());
    [stdin, stdout, stderr].map(|fd| name(fd).unwrap_or_default()).to_vec()
}

fn pipe_name(fd: BorrowedFd<'_>) -> Result<Option<String>, Errno> {
    let found = rustix::fs::fstat(fd)?;
    let pipe = rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::Fifo;
    Ok(pipe.then(|| format!("pipe:[{}]", found.st_ino)))
}

/// Where the runtime looks for a checkpoint that nobody named: `checkpoint` in the directory that
/// it is called in; runc's.
#[must_use]
pub fn default_images() -> PathBuf {
    PathBuf::from("checkpoint")
}
