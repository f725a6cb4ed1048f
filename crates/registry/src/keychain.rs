//! Keychains: programs `docker-credential-NAME` that keep secrets and give them on a line of
//! standard input (Docker's manual of `docker login`, "Credential stores").

use std::io::{Read, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::Deserialize;

/// Long enough to type the passphrase that a keychain may ask for.
const TIME_MAX: Duration = Duration::from_secs(60);
const OUTPUT_SIZE_MAX: usize = 64 << 10;
/// What keychains print, with status 1, when they know nothing.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// What a keychain answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Found {
    pub(crate) username: String,
    pub(crate) secret: String,
}

/// Asks the keychain `name` for the credentials of `registry`.
///
/// # Errors
/// One line that says which keychain failed and how.
pub(crate) fn get(name: &str, registry: &str) -> Result<Option<Found>, String> {
    let Some(output) = run(name, "get", registry)? else { return Ok(None) };
    let found = serde_json::from_slice(&output);
    found.map(Some).map_err(|error| format!("docker-credential-{name}: {error}"))
}

/// Has the keychain `name` keep credentials.
///
/// # Errors
/// As of [`get`].
pub(crate) fn store(name: &str, registry: &str, user: &str, secret: &str) -> Result<(), String> {
    let input = serde_json::json!({"ServerURL": registry, "Username": user, "Secret": secret});
    run(name, "store", &input.to_string()).map(drop)
}

/// Has the keychain `name` forget the credentials of `registry`, if it has any.
///
/// # Errors
/// As of [`get`].
pub(crate) fn erase(name: &str, registry: &str) -> Result<(), String> {
    run(name, "erase", registry).map(drop)
}

/// Calls a keychain; `None` if it knows nothing about what it was asked for.
fn run(name: &str, verb: &str, input: &str) -> Result<Option<Vec<u8>>, String> {
    if !is_name(name) {
        return Err("the name of a credential store may only have letters, digits, `-`, `_`, `.`"
            .to_owned());
    }
    let program = format!("docker-credential-{name}");
    let failed = |why: String| format!("{program}: {why}");
    // A group of its own, so that what it starts ends with it.
    let child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let mut running = Running(child);
    let deadline = Instant::now() + TIME_MAX;
    let output = running.converse(input, deadline).map_err(failed)?;
    let status = running.end(deadline).map_err(failed)?;
    if status.success() {
        return Ok(Some(output));
    }
    let said = String::from_utf8_lossy(&output);
    if said.contains(NOT_FOUND) {
        return Ok(None);
    }
    Err(failed(format!("{status}: {}", crate::fault::printable(said.trim()))))
}

fn is_name(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty() && name.bytes().all(known)
}

/// A keychain that is ended when we no longer listen.
struct Running(Child);

impl Running {
    fn converse(&mut self, text: &str, deadline: Instant) -> Result<Vec<u8>, String> {
        let mut input = self.0.stdin.take().expect("standard input was asked for as a pipe");
        let mut output = self.0.stdout.take().expect("standard output was asked for as a pipe");
        // The line fits into the pipe; a keychain that does not read it may still answer.
        let _ = writeln!(input, "{text}");
        drop(input);
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            wait_readable(&output, deadline)?;
            match output.read(&mut chunk).map_err(|error| error.to_string())? {
                0 => return Ok(bytes),
                n => bytes.extend_from_slice(&chunk[..n]),
            }
            if bytes.len() > OUTPUT_SIZE_MAX {
                return Err("answers too much".to_owned());
            }
        }
    }

    /// Waits for the end of a keychain that closed its output.
    fn end(&mut self, deadline: Instant) -> Result<ExitStatus, String> {
        let pid = self.pid().ok_or("has no process id")?;
        let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| error.to_string())?;
        wait_readable(&handle, deadline)?;
        self.0.wait().map_err(|error| error.to_string())
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.0.id()).ok()?)
    }
}

fn wait_readable(pipe: &impl std::os::fd::AsFd, deadline: Instant) -> Result<(), String> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|error| error.to_string())?;
        match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(format!("no answer in {} seconds", TIME_MAX.as_secs())),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After a wait the number may be another's; the standard library remembers the wait.
        if matches!(self.0.try_wait(), Ok(None)) {
            if let Some(group) = self.pid() {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.0.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_elsewhere() {
        for name in ["", "../x", "a/b", "a b", "a;b"] {
            assert!(get(name, "a.b").is_err(), "{name}");
        }
        assert!(is_name("ecr-login") && is_name("desktop.exe"));
    }

    #[test]
    fn an_absent_keychain_is_named() {
        let error = get("surely-not-installed", "a.b").err().unwrap();
        assert!(error.starts_with("docker-credential-surely-not-installed: "), "{error}");
    }
}
