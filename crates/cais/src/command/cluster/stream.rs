//! A process' streams as channels of one WebSocket: what is typed goes to it, what it says comes here.

use std::io::{self, ErrorKind, Write as _};

use client::https::WebSocket;
use runtime::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::tcgetwinsize;
use serde_json::{Value, json};

use super::{Cluster, Outcome, Trouble, list, note, word};

/// The best first. Only the first can say that there is no more input.
pub(crate) const PROTOCOLS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// What of a process is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
    pub(crate) quiet: bool,
}

/// Talks with a process that a path leads to, until it ends: its exit code.
pub(crate) fn talk(cluster: &Cluster, target: &str, wanted: Wanted) -> Outcome<i32> {
    let mut socket = match cluster.https.web_socket(target, PROTOCOLS) {
        Ok(socket) => socket,
        Err(failure) if failure.code == 0 => return Err(failure.into()),
        Err(failure) => {
            let status =
                json!({"code": failure.code, "reason": failure.reason, "message": failure.message});
            return Err(Trouble::Refused(status));
        }
    };
    let broken = |error: io::Error| Trouble::local(format!("talk with the container: {error}"));
    let raw = if wanted.tty { engine::RawMode::enter().map_err(broken)? } else { None };
    let status = pass_on(&mut socket, wanted).map_err(broken);
    drop(raw);
    ended(status?, wanted.quiet)
}

/// Passes on what both sides say: what is said of the end.
fn pass_on(socket: &mut WebSocket, wanted: Wanted) -> io::Result<Option<Value>> {
    let mut is_typed = wanted.stdin;
    let mut window = if wanted.tty { Some(SignalFd::window()?) } else { None };
    if wanted.tty {
        resize(socket)?;
    }
    let mut end = None;
    loop {
        loop {
            match socket.try_receive() {
                Ok(Some(message)) => hear(&message, &mut end)?,
                Ok(None) => return Ok(end),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let stdin = rustix::stdio::stdin();
        let input = if is_typed { PollFlags::IN } else { PollFlags::empty() };
        let mut set = vec![PollFd::new(&*socket, PollFlags::IN)];
        // Without input its end would be told for ever.
        if is_typed {
            set.push(PollFd::new(&stdin, input));
        }
        if let Some(window) = &window {
            set.push(PollFd::new(window, PollFlags::IN));
        }
        rustix::io::retry_on_intr(|| poll(&mut set, None))?;
        let is_ready = |at: usize| set.get(at).is_some_and(|own| !own.revents().is_empty());
        let (typed, resized) = (is_typed && is_ready(1), is_ready(1 + usize::from(is_typed)));
        drop(set);
        if typed {
            is_typed = pass_input(socket)?;
        }
        if let Some(window) = window.as_mut().filter(|_| resized) {
            window.read()?;
            resize(socket)?;
        }
    }
}

/// Passes on what was typed; whether there may be more.
fn pass_input(socket: &mut WebSocket) -> io::Result<bool> {
    let mut message = vec![0; 32 << 10];
    message[0] = STDIN;
    let read =
        rustix::io::retry_on_intr(|| rustix::io::read(rustix::stdio::stdin(), &mut message[1..]))?;
    if read > 0 {
        socket.send(&message[..=read])?;
        return Ok(true);
    }
    if socket.protocol() == PROTOCOLS[0] {
        socket.send(&[CLOSE, STDIN])?;
    }
    Ok(false)
}

fn resize(socket: &mut WebSocket) -> io::Result<()> {
    let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) else { return Ok(()) };
    let mut message = vec![RESIZE];
    message.extend(json!({"Width": size.ws_col, "Height": size.ws_row}).to_string().into_bytes());
    socket.send(&message)
}

fn hear(message: &[u8], end: &mut Option<Value>) -> io::Result<()> {
    match message.split_first() {
        Some((&STDOUT, bytes)) => {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Some((&STDERR, bytes)) => io::stderr().lock().write_all(bytes),
        Some((&ERROR, bytes)) => {
            *end = serde_json::from_slice(bytes).ok();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The exit code of what is said of an end.
fn ended(status: Option<Value>, quiet: bool) -> Outcome<i32> {
    let Some(status) = status else {
        return Err(Trouble::local("the connection ended before the command did"));
    };
    if status["status"] == "Success" {
        return Ok(0);
    }
    let code = list(&status, "/details/causes").find(|cause| cause["reason"] == "ExitCode");
    match code.and_then(|cause| word(cause, "/message").parse::<i32>().ok()) {
        Some(code) => {
            if !quiet {
                note(&format!("command terminated with exit code {code}"));
            }
            Ok(code)
        }
        None => Err(Trouble::local(word(&status, "/message"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_become_exit_codes() {
        assert_eq!(ended(Some(json!({"status": "Success"})), true).unwrap(), 0);
        let failed = json!({
            "status": "Failure", "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
        });
        assert_eq!(ended(Some(failed), true).unwrap(), 3);
        let other = json!({"status": "Failure", "message": "no such program"});
        assert_eq!(ended(Some(other), true).unwrap_err().words(), "error: no such program");
        assert!(ended(None, true).is_err());
    }
}
