//! Commands in containers that are created first and started later, by whoever knows their id: the
//! API's. Each is held by a process of its own while it runs, as a container is by its monitor.
//!
//! ```text
//! <run root>/exec/<exec id>/exec.json    what was asked, of which container
//! <run root>/exec/<exec id>/begun        made by whoever starts it
//! <run root>/exec/<exec id>/state.json   what has become of it; missing until it is started
//! <run root>/exec/<exec id>/attach       the socket of whoever holds it
//! ```

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use runtime::{ExitStatus, Stdio};
use serde::{Deserialize, Serialize};

use crate::container::{Container, Status};
use crate::conversation::Conversation;
use crate::error::{Doing, Error, Kind, Result};
use crate::event::Event;
use crate::exec::{command_line, enter};
use crate::file::{create_dir, read_json, write_json};
use crate::monitor::attach;
use crate::monitor::relay::{Client, Relay, Streams};
use crate::settings::Exec;
use crate::{Engine, hold, start, stop};

/// How long the outcome of a command is kept after its end.
const KEPT: Duration = Duration::from_secs(5 * 60);
/// Commands that are remembered of one machine.
const INSTANCES_MAX: usize = 10_000;
const RECORD: &str = "exec.json";
const STATE: &str = "state.json";
/// Made by whoever begins it: once.
const BEGUN: &str = "begun";

/// A command in a container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ExecInstance {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The container's id.
    pub container: String,
    /// What was asked.
    pub exec: Exec,
    /// What has become of it.
    #[serde(skip)]
    pub state: ExecState,
}

/// What has become of a command in a container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecState {
    /// Its process on the host; 0 before it is started.
    pub pid: i32,
    /// Its exit code, once it has ended.
    pub exit_code: Option<i32>,
    /// Whoever holds it, and when that was started.
    holder: (i32, u64),
}

impl ExecInstance {
    /// Whether it has been started, and has not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state.pid != 0 && self.state.exit_code.is_none()
    }
}

impl Engine {
    fn execs(&self) -> PathBuf {
        self.containers.run_dir("exec")
    }

    /// Creates a command in a running container; nothing of it runs yet.
    ///
    /// # Errors
    /// [`Kind::Conflict`] if the container does not run or is paused.
    pub fn create_exec(&self, container: &Container, exec: &Exec) -> Result<String> {
        check_ready(container)?;
        self.sweep_execs(None);
        let id = crate::id::fresh()?;
        let directory = self.execs().join(&id);
        create_dir(&directory)?;
        let instance = ExecInstance {
            id: id.clone(),
            container: container.record.id.clone(),
            exec: exec.clone(),
            state: ExecState::default(),
        };
        write_json(&directory, RECORD, &instance)?;
        let command = command_line(&exec.command);
        let event = Event::container(format!("exec_create: {command}"), container);
        self.emit(event.with("execID", &id));
        Ok(id)
    }

    /// A command by its id.
    ///
    /// # Errors
    /// [`Kind::NotFound`].
    pub fn exec_instance(&self, id: &str) -> Result<ExecInstance> {
        let missing = || Error::new(Kind::NotFound, format!("No such exec instance: {id}"));
        if id.len() != crate::id::LENGTH || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let directory = self.execs().join(id);
        let mut instance: ExecInstance =
            read_json(&directory.join(RECORD)).map_err(|_| missing())?;
        instance.state = read_json(&directory.join(STATE)).unwrap_or_default();
        let (holder, begun) = instance.state.holder;
        if instance.is_running() && !runtime::is_alive(holder, begun) {
            // Nobody has seen its end.
            instance.state.exit_code = Some(hold::UNKNOWN_CODE);
        }
        Ok(instance)
    }

    /// The ids of the commands that run in a container, and of those that were created for it.
    #[must_use]
    pub fn exec_ids(&self, container: &Container) -> Vec<String> {
        let ids = self.exec_names().filter(|id| {
            self.exec_instance(id).is_ok_and(|instance| {
                instance.container == container.record.id && instance.state.exit_code.is_none()
            })
        });
        let mut ids: Vec<String> = ids.collect();
        ids.sort();
        ids
    }

    fn exec_names(&self) -> impl Iterator<Item = String> + use<> {
        let entries = fs::read_dir(self.execs()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.take(INSTANCES_MAX)
    }

    /// Changes the size of a running command's terminal.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Conflict`] if it does not run.
    pub fn resize_exec(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let instance = self.exec_instance(id)?;
        if !instance.is_running() {
            let text = format!("exec instance {id} is not running");
            return Err(Error::new(Kind::Conflict, text));
        }
        let doing = || format!("reach exec instance {id}");
        let socket = attach::connect(&self.execs().join(id).join("attach")).doing(doing)?;
        Conversation::new(socket).resize(rows, columns).doing(doing)
    }

    /// Whether a command may be started now.
    ///
    /// # Errors
    /// [`Kind::NotFound`]; [`Kind::Conflict`] if it was started before, or its container does not
    /// run.
    pub fn check_exec(&self, id: &str) -> Result<ExecInstance> {
        let instance = self.exec_instance(id)?;
        if instance.state.exit_code.is_some() {
            return Err(Error::new(
                Kind::Conflict,
                format!("Error: Exec command {id} has already run"),
            ));
        }
        if instance.is_running() {
            return Err(already_running(id));
        }
        check_ready(&self.find(&instance.container)?)?;
        Ok(instance)
    }

    /// Starts a command and holds it until it has ended, with whoever is at the other end of
    /// `client`; `started` is called once it runs. This process must have one thread.
    ///
    /// # Errors
    /// As of [`Engine::check_exec`] and [`Engine::exec`].
    pub(crate) fn hold_exec(
        &self,
        id: &str,
        client: Option<OwnedFd>,
        started: &mut dyn FnMut(),
    ) -> Result<()> {
        let instance = self.check_exec(id)?;
        let directory = self.execs().join(id);
        fs::File::create_new(directory.join(BEGUN)).map_err(|_| already_running(id))?;
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let mut state = ExecState {
            holder: (own, runtime::start_time(own).unwrap_or(0)),
            ..ExecState::default()
        };
        let container = self.find(&instance.container)?;
        let command = command_line(&instance.exec.command);
        let event = |action: String| Event::container(action, &container).with("execID", id);
        self.emit(event(format!("exec_start: {command}")));
        let held = self.relay_exec(&instance, &container, client, &mut |pid| {
            state.pid = pid;
            // Without it, nobody can ask for its outcome; it goes on all the same.
            let _ = write_json(&directory, STATE, &state);
            started();
        });
        let (code, clients) = match held {
            Ok((status, clients)) => (status.code(), clients),
            Err(error) => {
                state.exit_code = Some(start::exit_code(error.kind()));
                let _ = write_json(&directory, STATE, &state);
                return Err(error);
            }
        };
        let pid = state.pid;
        let _ = write_json(&directory, STATE, &ExecState { pid, exit_code: Some(code), ..state });
        self.emit(event("exec_die".to_owned()).with("exitCode", &code.to_string()));
        let _ = fs::remove_file(directory.join("attach"));
        // Only now: whoever hears of the end finds it written down.
        clients.into_iter().for_each(|client| client.farewell(code));
        Ok(())
    }

    fn relay_exec(
        &self,
        instance: &ExecInstance,
        container: &Container,
        client: Option<OwnedFd>,
        started: &mut dyn FnMut(i32),
    ) -> Result<(ExitStatus, Vec<Client>)> {
        let exec = &instance.exec;
        let init = stop::running(container)?;
        let (stdio, mut streams) = match client.is_none() && !exec.tty {
            // Nobody will read what it writes, and nothing shall come of that.
            true => (Stdio::Fds { stdin: None, stdout: None, stderr: None }, Streams::default()),
            false => hold::stdio(exec.tty, exec.stdin, false)?,
        };
        let mut process = enter(container, init.as_fd(), exec, stdio)?;
        if let Some(master) = process.take_master() {
            streams = hold::terminal_streams(master)?;
        }
        let path = self.execs().join(&instance.id).join("attach");
        let mut relay = Relay::new(&process, streams);
        relay.listener =
            Some(attach::listener(&path).doing(|| format!("listen on {}", path.display()))?);
        relay.clients.extend(client.map(Client::starter));
        started(process.pid());
        let status = relay.run().doing(|| "watch the command".into())?;
        let status = status.expect("who follows a command detaches from a client of its holder");
        Ok((status, std::mem::take(&mut relay.clients)))
    }

    /// Forgets commands whose outcome nobody has asked for in time, whose container is gone, or,
    /// where one is given, all of that container.
    pub(crate) fn sweep_execs(&self, of: Option<&str>) {
        for id in self.exec_names() {
            let directory = self.execs().join(&id);
            let is_over = match self.exec_instance(&id) {
                Ok(instance) => {
                    of == Some(instance.container.as_str())
                        || !self.containers.exists(&instance.container)
                        || instance.state.exit_code.is_some() && is_old(&directory.join(STATE))
                }
                // One that is just being made has no record yet.
                Err(_) => is_old(&directory),
            };
            if is_over {
                let _ = fs::remove_dir_all(directory);
            }
        }
    }
}

fn already_running(id: &str) -> Error {
    Error::new(Kind::Conflict, format!("Error: Exec command {id} is already running"))
}

fn is_old(path: &Path) -> bool {
    let changed = fs::metadata(path).and_then(|meta| meta.modified());
    changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > KEPT))
}

fn check_ready(container: &Container) -> Result<()> {
    stop::running(container)?;
    if container.state.status != Status::Paused {
        return Ok(());
    }
    let name = &container.record.name;
    let text = format!("container {name} is paused, unpause the container before exec");
    Err(Error::new(Kind::Conflict, text))
}
