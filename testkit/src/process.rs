//! A run of the binary, and how it ended.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::fake_host::only_child;

/// How long a command of a test may take before the test gives up.
const RUN_MAX: Duration = Duration::from_secs(180);

/// How a command ended. All checks panic with everything that the command said.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command line.
    pub command: String,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
    /// Its exit code, or 128 and the signal that ended it.
    pub code: i32,
}

impl Outcome {
    /// Demands success; gives the standard output, without the line end.
    ///
    /// # Panics
    /// The command failed.
    #[track_caller]
    #[must_use]
    pub fn ok(&self) -> &str {
        self.code(0).stdout.trim_end_matches('\n')
    }

    /// Demands this exit code.
    ///
    /// # Panics
    /// It ended otherwise.
    #[track_caller]
    pub fn code(&self, wanted: i32) -> &Self {
        assert!(self.code == wanted, "wanted exit code {wanted}, but:\n{self}");
        self
    }

    /// Demands exactly this standard output.
    ///
    /// # Panics
    /// It wrote something else.
    #[track_caller]
    pub fn out(&self, wanted: &str) -> &Self {
        assert!(self.stdout == wanted, "wanted standard output {wanted:?}, but:\n{self}");
        self
    }

    /// Demands that the standard error contains `part`, whatever its case.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn says(&self, part: &str) -> &Self {
        let said = self.stderr.to_lowercase().contains(&part.to_lowercase());
        assert!(said, "wanted {part:?} in standard error, but:\n{self}");
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "$ {}\nexit code {}", self.command, self.code)?;
        writeln!(out, "--- standard output\n{}", self.stdout)?;
        write!(out, "--- standard error\n{}", self.stderr)
    }
}

/// A command that still runs; dropping it kills it.
pub struct Running {
    command: String,
    child: Child,
    stdin: Option<Box<dyn Write + Send + Sync>>,
    /// Our end of the command's terminal, where it has one.
    terminal: Option<File>,
    stdout: Arc<Stream>,
    stderr: Arc<Stream>,
}

impl Running {
    /// Starts `command`, which [`crate::fake_host`] wraps; `shown` is what messages call it.
    pub(crate) fn start(mut command: Command, shown: String) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {shown}: {error}"));
        let stdout = Stream::read_from(child.stdout.take().expect("standard output is piped"));
        let stderr = Stream::read_from(child.stderr.take().expect("standard error is piped"));
        let stdin = child.stdin.take().map(|pipe| Box::new(pipe) as Box<dyn Write + Send + Sync>);
        Self { command: shown, child, stdin, terminal: None, stdout, stderr }
    }

    /// Starts `command` on a terminal of its own, of so many columns and rows; what it writes
    /// there is its standard output.
    pub(crate) fn start_on_terminal(command: &Command, shown: String, size: (u16, u16)) -> Self {
        let (ours, theirs) = pseudo_terminal().expect("the kernel gives a pseudoterminal");
        let theirs = || theirs.try_clone().expect("a descriptor can be duplicated");
        // The program has to lead a session before a terminal can be its own.
        let mut leader = Command::new("setsid");
        leader.arg("--ctty").arg(command.get_program()).args(command.get_args());
        leader.stdin(theirs()).stdout(theirs()).stderr(theirs());
        let our_end = || ours.try_clone().expect("a descriptor can be duplicated");
        set_size(&ours, size);
        let child = leader.spawn().unwrap_or_else(|error| panic!("start {shown}: {error}"));
        Self {
            command: shown,
            child,
            stdin: Some(Box::new(our_end())),
            stdout: Stream::read_from(our_end()),
            stderr: Stream::read_from(std::io::empty()),
            terminal: Some(ours),
        }
    }

    /// Changes the size of the command's terminal.
    ///
    /// # Panics
    /// It has none.
    pub fn resize(&self, columns: u16, rows: u16) {
        let terminal = self.terminal.as_ref().expect("the command runs on a terminal");
        set_size(terminal, (columns, rows));
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    /// The command no longer reads.
    pub fn write(&mut self, text: &str) {
        self.write_bytes(text.as_bytes());
    }

    /// Writes bytes to its standard input.
    ///
    /// # Panics
    /// The command no longer reads.
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is written before it is closed");
        stdin.write_all(bytes).expect("the command reads its standard input");
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until its standard output contains `text`.
    ///
    /// # Panics
    /// It does not within a minute, or the command ends before.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let seen = self.stdout.wait(|seen| contains(&seen.bytes, text) || seen.ended);
        let seen = seen.is_some() && contains(&self.stdout.bytes(), text);
        assert!(seen, "{text:?} does not appear:\n{}", self.outcome(-1));
    }

    /// Whether the command has ended.
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to the command.
    ///
    /// One that has just ended needs none.
    pub fn signal(&self, signal: Signal) {
        let nsenter = self.child.id();
        if let Some(pid) = only_child(nsenter).and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, signal);
        }
        // nsenter stops with its child, and does not go on with it.
        if signal == Signal::CONT {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Ends its standard input and waits for its end.
    ///
    /// # Panics
    /// It does not end within a minute, or something that it left behind holds its output open.
    #[track_caller]
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        self.close_stdin();
        let ended =
            [&self.stdout, &self.stderr].iter().all(|s| s.wait(|seen| seen.ended).is_some());
        if !ended {
            let exited = self.child.try_wait().ok().flatten().is_some();
            let what =
                if exited { "exited, but its output is still held open" } else { "still runs" };
            self.kill();
            panic!("after {RUN_MAX:?} the command {what}:\n{}", self.outcome(-1));
        }
        let status = self.child.wait().expect("a child can be waited for");
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        self.outcome(code.expect("a process ends by itself or by a signal"))
    }

    fn outcome(&self, code: i32) -> Outcome {
        let text = |stream: &Stream| String::from_utf8_lossy(&stream.bytes()).into_owned();
        Outcome {
            command: self.command.clone(),
            stdout: text(&self.stdout),
            stderr: text(&self.stderr),
            code,
        }
    }

    fn kill(&mut self) {
        if let Some(pid) = only_child(self.child.id()).and_then(|p| Pid::from_raw(p.cast_signed()))
        {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Running").field("command", &self.command).finish_non_exhaustive()
    }
}

/// Both ends of a new pseudoterminal (pty(7)): ours, and the command's.
fn pseudo_terminal() -> rustix::io::Result<(File, OwnedFd)> {
    let ours =
        pty::openpt(pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY | pty::OpenptFlags::CLOEXEC)?;
    pty::grantpt(&ours)?;
    pty::unlockpt(&ours)?;
    let name = pty::ptsname(&ours, Vec::new())?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let theirs = rustix::fs::open(name, flags, rustix::fs::Mode::empty())?;
    Ok((ours.into(), theirs))
}

fn set_size(terminal: &File, (columns, rows): (u16, u16)) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("a terminal has a size");
}

/// What has come out of a pipe so far.
#[derive(Debug, Default)]
struct Stream {
    seen: Mutex<Seen>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    bytes: Vec<u8>,
    ended: bool,
}

impl Stream {
    fn read_from(mut pipe: impl Read + Send + 'static) -> Arc<Self> {
        let stream = Arc::new(Self::default());
        let writer = Arc::clone(&stream);
        thread::spawn(move || {
            let mut buffer = [0_u8; 8192];
            loop {
                let count = pipe.read(&mut buffer).unwrap_or(0);
                let mut seen = writer.seen.lock().expect("a reader does not panic");
                seen.bytes.extend_from_slice(&buffer[..count]);
                seen.ended = count == 0;
                writer.more.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        stream
    }

    fn bytes(&self) -> Vec<u8> {
        self.seen.lock().expect("a reader does not panic").bytes.clone()
    }

    /// Waits until `done`; nothing when that takes too long.
    fn wait(&self, done: impl Fn(&Seen) -> bool) -> Option<()> {
        let deadline = Instant::now() + RUN_MAX;
        let mut seen = self.seen.lock().expect("a reader does not panic");
        while !done(&seen) {
            let left = deadline.checked_duration_since(Instant::now())?;
            seen = self.more.wait_timeout(seen, left).expect("a reader does not panic").0;
        }
        Some(())
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len().max(1)).any(|window| window == text.as_bytes())
}

/// A command line as a person would type it.
pub(crate) fn shown(program: &str, arguments: &[&str]) -> String {
    let mut line = program.to_owned();
    for argument in arguments {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.:,@%+".contains(c);
        let written = match argument.chars().all(plain) && !argument.is_empty() {
            true => write!(line, " {argument}"),
            false => write!(line, " '{argument}'"),
        };
        written.expect("a string can be written to");
    }
    line
}
