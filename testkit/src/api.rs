//! The binary's API, served in a sandbox, and the real Docker client to speak with it.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::dockerd::{answers, programs};
use crate::process::{Outcome, Running};
use crate::sandbox::Sandbox;

/// How long the server may take until it answers.
const READY_MAX: Duration = Duration::from_secs(30);

/// Time between two questions whether it answers yet.
const POLL: Duration = Duration::from_millis(20);

/// `cais serve` in the fake host of a [`Sandbox`], over the sandbox's own state.
#[derive(Debug)]
pub struct Api<'a> {
    sandbox: &'a Sandbox,
    process: Option<Running>,
    socket: PathBuf,
}

impl<'a> Api<'a> {
    /// Starts the server.
    ///
    /// # Panics
    /// It does not answer in time.
    #[must_use]
    pub fn start(sandbox: &'a Sandbox) -> Self {
        let socket = sandbox.work().with_file_name("api.sock");
        let mut api = Self { sandbox, process: None, socket };
        api.begin();
        api
    }

    fn begin(&mut self) {
        let script = format!("exec $E serve --quiet -H unix://{}", self.socket.display());
        self.process = Some(self.sandbox.start_script(&script));
        let deadline = Instant::now() + READY_MAX;
        while !answers(&self.socket) {
            assert!(Instant::now() < deadline, "cais serve does not answer within {READY_MAX:?}");
            thread::sleep(POLL);
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// Kills the server as the kernel would, and starts another.
    ///
    /// # Panics
    /// It does not answer in time.
    pub fn kill_and_start(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal(Signal::KILL);
            let _ = process.finish();
        }
        // Nobody answers there any more.
        let _ = fs::remove_file(&self.socket);
        self.begin();
    }

    /// Runs a script of the shell in which `$E` is the real `docker` command, speaking with the
    /// server.
    ///
    /// # Panics
    /// It does not end within a minute.
    #[track_caller]
    #[must_use]
    pub fn shell(&self, script: &str) -> Outcome {
        self.start_shell(script).finish()
    }

    /// Starts a script as [`Self::shell`] runs one.
    #[must_use]
    pub fn start_shell(&self, script: &str) -> Running {
        self.start_shell_with(&[], script)
    }

    /// Runs a script as [`Self::shell`] does, with more in its environment.
    ///
    /// # Panics
    /// As [`Self::shell`].
    #[track_caller]
    #[must_use]
    pub fn shell_with(&self, more: &[String], script: &str) -> Outcome {
        self.start_shell_with(more, script).finish()
    }

    fn start_shell_with(&self, more: &[String], script: &str) -> Running {
        let home = self.sandbox.work().with_file_name("home");
        let mut environment = vec![
            format!("HOME={}", home.display()),
            format!("DOCKER_HOST=unix://{}", self.socket.display()),
            "E=docker".to_owned(),
        ];
        environment.extend(programs().iter().chain(more).cloned());
        self.sandbox.start_shell(&environment, script)
    }
}

impl Drop for Api<'_> {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal(Signal::TERM);
            let outcome = process.finish();
            assert!(thread::panicking() || outcome.code == 0, "cais serve ended badly:\n{outcome}");
        }
    }
}
