//! A further process in a container on disk.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use oci::runtime::{ContainerState, Process as Description};
use rustix::fs::OFlags;

use super::record::Access;
use super::{Console, Container, Error, Status, bundle, create, stdio};
use crate::error::Error as RuntimeError;
use crate::execution::{Exec, exec};
use crate::inroot::Root;
use crate::process::Process;
use crate::procfs;

pub use crate::cgroup::Subgroup;

/// A process to execute.
#[derive(Debug)]
pub struct Execute<'a> {
    /// What to execute.
    pub process: &'a Description,
    /// Who gets the terminal.
    pub console: Console,
    /// Where the number of the process is written; absent until it is whole.
    pub pid_file: Option<&'a Path>,
    /// A socket that is sent a descriptor of the process.
    pub pidfd_socket: Option<&'a Path>,
    /// How many descriptors from 3 on the program inherits; see
    /// [`check_inherited`](super::check_inherited).
    pub preserved: u32,
    /// Groups inside the container's cgroup, in its place.
    pub subgroups: &'a [Subgroup],
}

impl Container {
    /// Finds a container to execute something in, and keeps others from deleting it meanwhile.
    ///
    /// # Errors
    /// [`Error::Refused`] for a stopped one, and for a paused one unless `paused` allows it.
    pub fn open_running(root: &Path, id: &str, paused: bool) -> Result<Container, Error> {
        let container = Container::open_locked(root, id, Access::Use)?;
        match container.status()? {
            Status::Stopped => Err(Error::Refused("cannot exec in a stopped container".into())),
            Status::Paused if !paused => Err(Error::Refused(
                "cannot exec in a paused container (use --ignore-paused to override)".into(),
            )),
            _ => Ok(container),
        }
    }

    /// The process that the bundle describes, or described where it is gone.
    ///
    /// # Errors
    /// When neither can be read.
    pub fn process(&self) -> Result<Description, Error> {
        let changed = |text: &Vec<u8>| !self.directory.has_spec(text);
        let now = bundle::config_at(&self.record.bundle).ok().filter(changed);
        let described = match now.and_then(|text| bundle::parse(&text).ok()) {
            Some(now) => now.value.process().clone(),
            None => self.spec()?.process().clone(),
        };
        described.ok_or_else(|| Error::Bundle("process property must not be empty".into()))
    }

    /// Executes a process in the container; the terminal's master is returned where it is the
    /// caller's.
    ///
    /// # Errors
    /// [`Error::Program`] for the program itself; whatever else prevents it.
    pub fn execute(&self, execute: &Execute<'_>) -> Result<(Process, Option<OwnedFd>), Error> {
        bundle::check_process(Some(execute.process))?;
        let spec = self.spec()?;
        let linux = spec.linux().as_ref();
        let init = self.init()?;
        let state = self.state(ContainerState::Running);
        let attempt = |subgroups: &[Subgroup]| -> Result<Process, Error> {
            let cgroup = self.cgroup()?.map(|cgroup| cgroup.inside(subgroups)).transpose()?;
            let target = (self.record.pid, init.as_fd());
            exec(&Exec {
                linux,
                id: &self.record.id,
                seccomp: linux.and_then(|linux| linux.seccomp().as_ref()),
                state: Some(&state),
                cgroup: cgroup.as_ref(),
                inherited: execute.preserved,
                keep_keyring: self.record.keep_keyring,
                ..Exec::new(target, execute.process, stdio::of(execute.process, &execute.console))
            })
            .map_err(|error| self.explain(error, execute.process))
        };
        let mut process = match attempt(execute.subgroups) {
            Err(error) if execute.subgroups.is_empty() && is_busy(&error) => {
                attempt(self.subgroup_of_init().as_slice())?
            }
            other => other?,
        };
        let told = execute.console.deliver(process.take_master()).and_then(|master| {
            create::tell(&process, execute.pid_file, execute.pidfd_socket).map(|()| master)
        });
        match told {
            Ok(master) => Ok((process, master)),
            Err(error) => {
                let _ = process.signal(libc::SIGKILL);
                let _ = process.wait();
                Err(error)
            }
        }
    }

    /// A program that is missing is told apart from one whose interpreter is: execve(2) says the
    /// same of both.
    fn explain(&self, error: RuntimeError, process: &Description) -> Error {
        if let RuntimeError::NotFound { program, source } = &error
            && program.contains('/')
            && let Ok(root) = Root::of(self.record.pid)
            && root.open(&process.cwd().join(program), OFlags::PATH).is_ok()
        {
            let answer = io::Error::from(source.kind());
            let answer = source.raw_os_error().map_or(answer, io::Error::from_raw_os_error);
            return Error::Execve { program: program.clone(), answer };
        }
        Error::of_init(error)
    }

    /// Lets others at the container.
    pub fn unlock(&self) {
        self.directory.unlock();
    }

    /// Where the first process has moved inside the container's cgroup, as systemd does: version 2
    /// takes no process into a group that hands controllers down.
    fn subgroup_of_init(&self) -> Option<Subgroup> {
        let text = procfs::read(&format!("/proc/{}/cgroup", self.record.pid)).ok()?;
        let path = below_own(&text, self.record.cgroup.as_deref()?)?;
        Some(Subgroup { controller: None, path })
    }
}

fn is_busy(error: &Error) -> bool {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    let mut errnos =
        causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>()?.raw_os_error());
    errnos.any(|errno| errno == libc::EBUSY)
}

/// The path in version 2 that `/proc/<pid>/cgroup` tells (cgroups(7)), below `own`.
fn below_own(text: &str, own: &Path) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(Path::new(path).strip_prefix(own).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_the_first_process_is_found_below_the_containers() {
        let below = |text| below_own(text, Path::new("/cais/a"));
        assert_eq!(below("1:cpu:/x\n0::/cais/a/init.scope\n"), Some("init.scope".into()));
        assert_eq!(below("0::/cais/a\n"), Some("".into()));
        assert_eq!(below("0::/elsewhere\n"), None);
        assert_eq!(below("1:cpu:/cais/a\n"), None);
    }
}
