//! Handing the listener of a filter to the agent that answers it (runtime-spec config-linux.md,
//! "The Container Process State").
//!
//! The process that loads the filter may not be able to send anything any more, so it only tells
//! its number of the listener, by write(2), and waits for a read(2); the other side takes the
//! listener from it and goes to the agent. This is why no rule may notify of `write`, and it is
//! what runc asks of profiles too.

use std::io::{IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use oci::runtime::{
    ContainerProcessState, ContainerState, LinuxSeccomp, LinuxSeccompAction, SECCOMP_FD_NAME, State,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::error::{Doing, Error};
use crate::sync::Sync;

/// Who answers for the calls that a profile notifies of.
#[derive(Debug)]
pub(crate) struct Agent {
    path: PathBuf,
    metadata: Option<String>,
    state: State,
}

impl Agent {
    /// The agent that `profile` asks for; `None` without a rule that notifies.
    ///
    /// # Errors
    /// When there is such a rule and nobody to ask, or no state to tell.
    pub(crate) fn of(
        profile: Option<&LinuxSeccomp>,
        state: Option<&State>,
    ) -> Result<Option<Agent>, Error> {
        let notifies = |profile: &&LinuxSeccomp| {
            let mut rules = profile.syscalls().iter().flatten();
            rules.any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify)
        };
        let Some(profile) = profile.filter(notifies) else { return Ok(None) };
        let path = profile.listener_path().as_deref().filter(|path| *path != Path::new(""));
        let path = path.ok_or_else(|| {
            Error::Spec("seccomp profile: SCMP_ACT_NOTIFY needs a listenerPath".into())
        })?;
        let state = state.ok_or_else(|| {
            Error::Unsupported("SCMP_ACT_NOTIFY where the container has no state to tell".into())
        })?;
        let metadata = profile.listener_metadata().clone().filter(|text| !text.is_empty());
        Ok(Some(Agent { path: path.into(), metadata, state: state.clone() }))
    }

    /// Lets it know of a first process, before whose program the container counts as being
    /// created.
    pub(crate) fn of_first(mut self, pid: i32) -> Agent {
        self.state.set_pid(Some(pid)).set_status(ContainerState::Creating);
        self
    }

    /// Takes the listener that the process `pid` is about to tell of over `socket`, and gives it to
    /// the agent.
    ///
    /// # Errors
    /// The one that the process sent; when it cannot be looked into, or the agent not be reached.
    pub(crate) fn introduce(
        &self,
        (pid, pidfd): (i32, BorrowedFd<'_>),
        socket: &Sync,
    ) -> Result<(), Error> {
        let number = socket.hear_listener()?;
        let listener = pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())
            .doing(|| format!("take the seccomp listener from process {pid}"))?;
        socket.confirm_listener()?;
        let message = self.message(pid)?;
        self.send(&message, listener.as_fd()).doing(|| {
            format!(
                "failed to connect with seccomp agent `{}`, which is to get the listener",
                self.path.display()
            )
        })
    }

    fn message(&self, pid: i32) -> Result<Vec<u8>, Error> {
        let mut process = ContainerProcessState::default();
        process
            .set_version(self.state.version().clone())
            .set_fds(vec![SECCOMP_FD_NAME.into()])
            .set_pid(pid)
            .set_metadata(self.metadata.clone())
            .set_state(self.state.clone());
        let invalid = |error| Error::Spec(format!("describe the state for the agent: {error}"));
        serde_json::to_vec(&process).map_err(invalid)
    }

    /// One state, one connection.
    fn send(&self, message: &[u8], listener: BorrowedFd<'_>) -> std::io::Result<()> {
        let mut stream = UnixStream::connect(&self.path)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [listener];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let parts = [IoSlice::new(message)];
        let sent = sendmsg(&stream, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
        stream.write_all(&message[sent..])
    }
}
