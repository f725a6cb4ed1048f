//! Programs that are called at the turning points of a container's life (runtime-spec config.md,
//! "POSIX-platform Hooks").

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use oci::runtime::{ContainerState, Hook, Hooks, State};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use crate::error::{Doing, Error};
use crate::launch::Launch;
use crate::program::Program;

/// How much of what a hook printed becomes part of an error, in bytes.
const OUTPUT_MAX: u64 = 1024;

/// Hooks of one kind with their input, ready to be called.
#[derive(Debug)]
pub(crate) struct Ready<'a> {
    name: &'static str,
    hooks: &'a [Hook],
    /// For hooks that have no environment of their own.
    env: Vec<(&'a OsStr, &'a OsStr)>,
    /// Standard output and standard error.
    output: Option<[File; 2]>,
    /// The state, which each hook reads.
    input: Option<File>,
    /// Where they are called, unless it is where this process is.
    directory: Option<&'a Path>,
}

impl<'a> Ready<'a> {
    /// Prepares the hooks of one kind, by the name of that kind.
    ///
    /// # Errors
    /// When the kernel gives no memory.
    pub(crate) fn new(name: &'static str, hooks: &'a [Hook], state: &State) -> Result<Self, Error> {
        let mut ready =
            Ready { name, hooks, env: Vec::new(), output: None, input: None, directory: None };
        if !hooks.is_empty() {
            let invalid = |error| Error::Spec(format!("describe the state for hooks: {error}"));
            let state = serde_json::to_vec(state).map_err(invalid)?;
            let file = || memory_file().doing(|| "make a file for a hook");
            ready.output = Some([file()?, file()?]);
            let mut input = file()?;
            input.write_all(&state).doing(|| "write the state for hooks")?;
            ready.input = Some(input);
        }
        Ok(ready)
    }

    /// Whether there are any.
    pub(crate) fn is_some(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// Calls them one after the other.
    ///
    /// # Errors
    /// Names the first that failed, and says what it printed.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        for index in 0..self.hooks.len() {
            self.run_one(index)?;
        }
        Ok(())
    }

    /// Calls all of them, whatever becomes of each; returns what failed.
    pub(crate) fn run_each(mut self) -> Vec<Error> {
        (0..self.hooks.len()).filter_map(|index| self.run_one(index).err()).collect()
    }

    fn run_one(&mut self, index: usize) -> Result<(), Error> {
        let failed =
            |why: String| Error::Spec(format!("error running {} hook #{index}: {why}", self.name));
        let hook = &self.hooks[index];
        let (Some(input), Some([out, err])) = (&self.input, &self.output) else { return Ok(()) };
        if !hook.path().is_absolute() {
            return Err(failed(format!("its path `{}` is not absolute", hook.path().display())));
        }
        let mut command = command(hook, &self.env);
        if let Some(directory) = self.directory {
            command.current_dir(directory);
        }
        for file in [out, err] {
            file.set_len(0).doing(|| "empty the output of a hook")?;
        }
        let streams = [input, out, err].map(fresh);
        let [input, output, errors] = streams;
        let streams = input.and_then(|input| Ok((input, output?, errors?)));
        let (input, output, errors) = streams.doing(|| "give a hook its input and output")?;
        command.stdin(input).stdout(output).stderr(errors);
        // As Go words it, which callers know.
        let start = |error: std::io::Error| {
            failed(format!("fork/exec {}: {}", hook.path().display(), plain(&error)))
        };
        let child = command.spawn().map_err(start)?;
        let timeout = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
        match wait(child, timeout.map(Duration::from_secs)) {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(status)) => Err(failed(format!(
                "{}, stdout: {}, stderr: {}",
                spell(status),
                text(out),
                text(err)
            ))),
            Ok(None) => Err(failed(format!(
                "hook ran past specified timeout of {}s",
                timeout.unwrap_or_default()
            ))),
            Err(error) => Err(failed(plain(&error))),
        }
    }
}

/// Calls the `createContainer` hooks: in the container's namespaces, with the host's files.
///
/// # Errors
/// As [`Ready::run`].
pub(crate) fn run_create_container(launch: &Launch<'_>) -> Result<(), Error> {
    let (Some(hooks), Some(oci)) = (launch.spec.hooks(), &launch.oci) else { return Ok(()) };
    let hooks = hooks.create_container().as_deref().unwrap_or_default();
    let state = own_state(oci.state, ContainerState::Creating);
    let mut ready = Ready::new("createContainer", hooks, &state)?;
    // As runc calls them: in the root file system that is about to become the root.
    ready.directory = oci.hooks_at;
    ready.run()
}

/// Prepares the `startContainer` hooks: in the container, with its files and what its program gets.
///
/// # Errors
/// As [`Ready::new`].
pub(crate) fn start_container<'a>(
    launch: &Launch<'a>,
    program: &'a Program,
) -> Result<Ready<'a>, Error> {
    let hooks = launch.spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_deref());
    let (Some(hooks), Some(oci)) = (hooks, &launch.oci) else {
        return Ready::new("startContainer", &[], &State::default());
    };
    let state = own_state(oci.state, ContainerState::Created);
    let mut ready = Ready::new("startContainer", hooks, &state)?;
    ready.env = program.env().iter().filter_map(|entry| variable(entry.as_bytes())).collect();
    Ok(ready)
}

/// The state as seen by the container's own first process.
fn own_state(state: &State, status: ContainerState) -> State {
    with(state, getpid().as_raw_pid(), status)
}

/// The state at a moment of the container's life.
pub(crate) fn with(state: &State, pid: i32, status: ContainerState) -> State {
    let mut state = state.clone();
    state.set_pid(Some(pid)).set_status(status);
    state
}

/// Whether there are hooks that must be called before the root is changed.
pub(crate) fn needs_host(hooks: &Hooks) -> bool {
    let any = |hooks: &Option<Vec<Hook>>| hooks.as_ref().is_some_and(|hooks| !hooks.is_empty());
    any(prestart(hooks)) || any(hooks.create_runtime()) || any(hooks.create_container())
}

/// The kind that came before `createRuntime` and means the same.
pub(crate) fn prestart(hooks: &Hooks) -> &Option<Vec<Hook>> {
    hooks.prestart()
}

fn command(hook: &Hook, env: &[(&OsStr, &OsStr)]) -> Command {
    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(rest);
    }
    command.env_clear();
    match hook.env() {
        Some(own) if !own.is_empty() => {
            command.envs(own.iter().filter_map(|entry| entry.split_once('=')));
        }
        _ => {
            command.envs(env.iter().copied());
        }
    }
    command
}

fn variable(entry: &[u8]) -> Option<(&OsStr, &OsStr)> {
    let at = entry.iter().position(|&byte| byte == b'=')?;
    Some((OsStr::from_bytes(&entry[..at]), OsStr::from_bytes(&entry[at + 1..])))
}

fn memory_file() -> std::io::Result<File> {
    Ok(File::from(memfd_create("hook", MemfdFlags::CLOEXEC)?))
}

/// The file once more, from its beginning.
fn fresh(file: &File) -> std::io::Result<OwnedFd> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    Ok(file.into())
}

/// What a hook printed, as far as it fits into an error.
fn text(file: &File) -> String {
    let mut bytes = Vec::new();
    let read = file.try_clone().and_then(|mut file| {
        file.rewind()?;
        file.take(OUTPUT_MAX).read_to_end(&mut bytes)
    });
    if read.is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

/// Waits until it ends; kills it when it does not in time, and then there is no status.
fn wait(mut child: Child, timeout: Option<Duration>) -> std::io::Result<Option<ExitStatus>> {
    let Some(timeout) = timeout else { return child.wait().map(Some) };
    let deadline = Instant::now() + timeout;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Ok(0) => {
                child.kill()?;
                return child.wait().map(|_| None);
            }
            Ok(_) => return child.wait().map(Some),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// As Go words it, which callers know.
fn spell(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => match status.signal() {
            Some(libc::SIGSYS) => "signal: bad system call".into(),
            Some(libc::SIGKILL) => "signal: killed".into(),
            Some(libc::SIGTERM) => "signal: terminated".into(),
            Some(libc::SIGSEGV) => "signal: segmentation fault".into(),
            Some(libc::SIGABRT) => "signal: aborted".into(),
            _ => status.to_string(),
        },
    }
}

/// Without the number.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or_default().to_lowercase()
}
