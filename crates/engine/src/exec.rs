//! A further command in a running container.

use std::os::fd::{AsFd as _, BorrowedFd};

use runtime::cgroup::Cgroup;
use runtime::{ExitStatus, Process, SignalFd, Stdio};

use crate::attached::Outcome;
use crate::container::{Container, Status};
use crate::detach::DetachKeys;
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Event;
use crate::image::{from_cgroup, from_runtime};
use crate::monitor::relay::{Relay, Streams};
use crate::settings::{Attached, Exec};
use crate::terminal::RawMode;
use crate::{Engine, hold, spec, stop};

impl Engine {
    /// Executes a command in a running container until it has ended, or we are detached from it.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if the container does not run or is paused,
    /// [`Kind::CommandNotFound`] and [`Kind::CommandNotExecutable`].
    pub fn exec(&self, container: &Container, exec: &Exec) -> Result<Outcome> {
        let init = stop::running(container)?;
        if container.state.status == Status::Paused {
            return Err(Error::new(
                Kind::Conflict,
                format!(
                    "container {} is paused, unpause the container before exec",
                    container.record.name
                ),
            ));
        }
        let (stdio, mut streams) = match exec.detach && !exec.tty {
            // Nobody will read what it writes, and nothing shall come of that.
            true => (Stdio::Fds { stdin: None, stdout: None, stderr: None }, Streams::default()),
            false => hold::stdio(exec.tty, exec.stdin, false)?,
        };
        let id = crate::id::fresh()?;
        let event = |action: &str| Event::container(action, container).with("execID", &id);
        let command = command_line(&exec.command);
        self.emit(event(&format!("exec_create: {command}")));
        self.emit(event(&format!("exec_start: {command}")));
        let mut executed = enter(container, init.as_fd(), exec, stdio)?;
        if let Some(master) = executed.take_master() {
            streams = hold::terminal_streams(master)?;
        }
        let mut relay = Relay::new(&executed, streams);
        if !exec.detach
            && let Some(code) = follow(&mut relay, exec)?
        {
            self.emit(event("exec_die").with("exitCode", &code.to_string()));
            return Ok(Outcome::Exited(code));
        }
        if exec.tty {
            keep(&mut relay)?;
        }
        Ok(Outcome::Detached)
    }
}

/// A command as Docker shows it in events: with a blank behind a program without arguments.
pub(crate) fn command_line(command: &[String]) -> String {
    match command {
        [program] => format!("{program} "),
        command => command.join(" "),
    }
}

/// Executes a command in a container that runs, whose first process `init` is.
pub(crate) fn enter(
    container: &Container,
    init: BorrowedFd<'_>,
    exec: &Exec,
    stdio: Stdio,
) -> Result<Process> {
    container.runs_something()?;
    let (process, seccomp) = spec::exec_process(container, exec)?;
    let mut cgroup = Cgroup::open(&container.cgroup_path()).map_err(from_cgroup)?;
    // The container was spared hierarchies because it could not mount them.
    let own_groups = exec.privileged && !container.record.settings.security.may_mount_hierarchies();
    if own_groups {
        cgroup = cgroup.join_all().map_err(from_cgroup)?;
    }
    let user = match exec.user.as_str() {
        "" => container.record.config.user.as_str(),
        user => user,
    };
    let state = spec::state(container, Some(container.state.pid));
    runtime::exec(&runtime::Exec {
        seccomp: seccomp.as_ref(),
        state: Some(&state),
        cgroup: Some(&cgroup),
        own_groups,
        user: Some(user),
        group_add: &container.record.settings.group_add,
        ..runtime::Exec::new((container.state.pid, init), &process, stdio)
    })
    .map_err(from_runtime)
}

/// Passes bytes both ways until the command has ended; `None` if the user detaches before.
fn follow(relay: &mut Relay<'_>, exec: &Exec) -> Result<Option<i32>> {
    let raw = if exec.tty && exec.stdin { RawMode::enter() } else { Ok(None) };
    let _raw = raw.doing(|| "use the terminal".into())?;
    relay.own = Some(Attached { stdin: exec.stdin, stdout: true, stderr: true });
    relay.signals = Some(SignalFd::forwarded().doing(|| "take over signals".into())?);
    relay.keys = exec.tty.then(|| DetachKeys::new(&exec.detach_keys));
    let status = relay.run().doing(|| "watch the command".into())?;
    Ok(status.map(ExitStatus::code))
}

/// Leaves the command to a process of its own: its terminal hangs up when nobody holds it.
fn keep(relay: &mut Relay<'_>) -> Result<()> {
    match runtime::fork().doing(|| "leave the command alone".into())? {
        runtime::Fork::Parent(_) => Ok(()),
        runtime::Fork::Child => {
            (relay.own, relay.signals, relay.keys) = (None, None, None);
            // It is not our child: that it has ended is all that can be known of its end.
            let _ = runtime::detach_from_session().and_then(|()| relay.run().map(drop));
            runtime::exit_now(0)
        }
    }
}
