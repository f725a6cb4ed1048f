//! Starting a container, and holding it until it ends: the life of a monitor.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use crate::attached::{Attaching, Attachment, Outcome};
use crate::container::Container;
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Event;
use crate::image::from_runtime;
use crate::monitor::attach;
use crate::monitor::relay::Client;
use crate::restart::RestartPolicy;
use crate::{Engine, stop};

/// How a process reports what has failed to another.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Engine {
    /// Starts a container, and returns when its command runs; a monitor of its own holds it.
    ///
    /// # Errors
    /// [`Kind::CommandNotFound`], [`Kind::CommandNotExecutable`], and whatever the kernel refuses;
    /// the container stays created, and nothing of it is left running.
    pub fn start(&self, container: &Container) -> Result<()> {
        self.fork_monitor(container, None)
    }

    /// Starts a container and stays attached to it: this process is its monitor, unless it has a
    /// terminal, from which the user may detach, or is left before it ends.
    ///
    /// # Errors
    /// As of [`Engine::start`].
    pub fn start_attached(&self, container: &Container, by: &Attaching<'_>) -> Result<Outcome> {
        let settings = &container.record.settings;
        self.emit(Event::container("attach", container));
        let own = by.streams;
        let stays = !settings.tty && by.signals && (own.stdout || own.stderr);
        if stays && settings.restart == RestartPolicy::No {
            return self.hold(container.clone(), Some(own), None, &mut || {}).map(Outcome::Exited);
        }
        let (client, served) = attach::pair().doing(|| "attach to the monitor".into())?;
        let mut attachment = Attachment::new(client, by, settings.tty);
        attachment.announce_size();
        self.fork_monitor(container, Some(served))?;
        // What has ended meanwhile needs no signals.
        let started = self.find(&container.record.id).unwrap_or_else(|_| container.clone());
        attachment.process = stop::running(&started).ok();
        attachment.run().or_else(|error| self.attach_again(&started, by, error))
    }

    /// Forks the process that will hold the container, and waits until it is started.
    fn fork_monitor(&self, container: &Container, client: Option<OwnedFd>) -> Result<()> {
        fork_monitor(|started| {
            self.hold(container.clone(), None, client.map(Client::starter), started)
        })
    }
}

/// Forks the process that will hold a container as `hold` does, and waits until that calls what it
/// is given: then it is started.
pub(crate) fn fork_monitor(hold: impl FnOnce(&mut dyn FnMut()) -> Result<i32>) -> Result<()> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".into())?;
    match runtime::fork().doing(|| "fork the monitor".into())? {
        runtime::Fork::Parent(child) => {
            // What is the monitor's is not ours any more.
            drop((writer, hold));
            let mut report = Vec::new();
            let read = File::from(reader).read_to_end(&mut report);
            read.doing(|| "hear from the monitor".into())?;
            let outcome = understand(&report);
            if outcome.is_err() {
                // A monitor that failed ends at once; it leaves no zombie behind.
                let _ = child.wait();
            }
            outcome
        }
        runtime::Fork::Child => {
            drop(reader);
            be_monitor(File::from(writer), hold)
        }
    }
}

/// The forked process: becomes a session of its own, holds the container, and ends with it.
fn be_monitor(report: File, hold: impl FnOnce(&mut dyn FnMut()) -> Result<i32>) -> ! {
    let mut report = Some(report);
    let held = match runtime::detach_from_session() {
        Ok(()) => hold(&mut || {
            if let Some(mut report) = report.take() {
                // Whoever started us may be gone; the container lives all the same.
                let _ = report.write_all(b"ok");
            }
            runtime::trim_memory();
        }),
        Err(error) => Err(Error::caused(Kind::Internal, "leave the session", error)),
    };
    if let (Err(error), Some(mut report)) = (&held, report.take()) {
        let _ = report.write_all(&serde_json::to_vec(&explain(error)).unwrap_or_default());
    }
    runtime::exit_now(i32::from(held.is_err()))
}

/// Executes this program again, with its arguments, from a view of its file that a container
/// cannot write or change the mode through (CVE-2019-5736). To be called before [`Engine::start`],
/// [`Engine::start_attached`] and [`Engine::exec`]; nothing that cannot be done twice may have
/// happened yet.
///
/// Every container can reach that file: a program that is `/proc/self/exe`, or a script that names
/// it as its interpreter, executes what its process executed before.
///
/// # Errors
/// If the kernel refuses.
pub fn seal() -> Result<()> {
    match runtime::seal_executable() {
        // Without privilege the program's file is not ours to protect from ourselves.
        Err(_) if !rustix::process::geteuid().is_root() => Ok(()),
        outcome => outcome.map_err(from_runtime),
    }
}

/// The exit code of a command that could not be started.
#[must_use]
pub(crate) fn exit_code(kind: Kind) -> i32 {
    match kind {
        Kind::CommandNotFound => 127,
        Kind::CommandNotExecutable => 126,
        _ => 128,
    }
}

pub(crate) fn explain(error: &Error) -> Failure {
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    Failure {
        kind: error.kind(),
        message: error.to_string(),
        causes,
        hint: error.hint_text().map(str::to_owned),
    }
}

impl Failure {
    /// The failure, as it was there.
    pub(crate) fn error(self) -> Error {
        let error = match self.causes.join(": ") {
            causes if causes.is_empty() => Error::new(self.kind, self.message),
            causes => Error::caused(self.kind, self.message, causes),
        };
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

fn understand(report: &[u8]) -> Result<()> {
    if report == b"ok" {
        return Ok(());
    }
    let failure: Failure = serde_json::from_slice(report)
        .map_err(|_| Error::new(Kind::Internal, "the container's monitor ended unexpectedly"))?;
    Err(failure.error())
}
