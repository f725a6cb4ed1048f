//! A further command in a running container.

use std::os::fd::AsFd as _;

use runtime::SignalFd;
use runtime::cgroup::Cgroup;

use crate::container::{Container, Status};
use crate::error::{Doing, Error, Kind, Result};
use crate::image::{from_cgroup, from_runtime};
use crate::monitor::relay::{Own, Relay};
use crate::settings::Exec;
use crate::terminal::RawMode;
use crate::{Engine, spec, start, stop};

impl Engine {
    /// Executes a command in a running container and returns its exit code; 0 at once where it is
    /// detached.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if the container does not run or is paused,
    /// [`Kind::CommandNotFound`] and [`Kind::CommandNotExecutable`].
    pub fn exec(&self, container: &Container, exec: &Exec) -> Result<i32> {
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
        let (process, seccomp) = spec::exec_process(container, exec)?;
        let cgroup = Cgroup::open(&container.cgroup_path()).map_err(from_cgroup)?;
        let (stdio, mut streams) = start::stdio(exec.tty, exec.stdin)?;
        let user = match exec.user.as_str() {
            "" => container.record.config.user.as_str(),
            user => user,
        };
        let mut executed = runtime::exec(&runtime::Exec {
            seccomp: seccomp.as_ref(),
            cgroup: Some(&cgroup),
            user: Some(user),
            group_add: &container.record.settings.group_add,
            ..runtime::Exec::new((container.state.pid, init.as_fd()), &process, stdio)
        })
        .map_err(from_runtime)?;
        if exec.detach {
            return Ok(0);
        }
        if let Some(master) = executed.take_master() {
            streams = start::terminal_streams(master)?;
        }
        let raw = if exec.tty && exec.stdin { RawMode::enter() } else { Ok(None) };
        let _raw = raw.doing(|| "use the terminal".into())?;
        let mut relay = Relay::new(&executed, streams);
        relay.own = Some(Own { stdin: exec.stdin, stdout: true, stderr: true });
        relay.signals = Some(SignalFd::forwarded().doing(|| "take over signals".into())?);
        let status = relay.run().doing(|| "watch the command".into())?;
        Ok(status.code())
    }
}
