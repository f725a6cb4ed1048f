//! A process' streams on one connection: as channels of a WebSocket, or as streams of SPDY.

mod streams;
mod web;

use std::io;
use std::os::fd::AsFd;

use httpd::{Exchange, Reply, WebSocket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use self::streams::Streams;
pub(crate) use self::streams::leave;
use self::web::Web;
use crate::failure::Failure;
use crate::pods::{Process, Said, Talk, TalkOptions};
use crate::spdy::{self, Session};

/// The protocols that are spoken over SPDY, the best first.
const STREAM_PROTOCOLS: [&str; 1] = ["v4.channel.k8s.io"];
/// Input that a process has not taken: then its client is not read further.
const INPUT_BYTES_MAX: usize = 1 << 20;
/// How soon input is offered again that was not taken.
const AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Where a process' words go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Stdout,
    Stderr,
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    Input(Vec<u8>),
    /// There is no more input.
    InputEnds,
    /// The size of its terminal: rows and columns.
    Size(u16, u16),
}

/// The client's end of a conversation.
trait Line: AsFd {
    /// Whether something was read ahead, so that it need not be waited for.
    fn has_more(&mut self) -> bool;
    /// Hears what has come; none if nothing more will.
    fn hear(&mut self) -> io::Result<Option<Vec<Heard>>>;
    fn say(&mut self, output: Output, bytes: &[u8]) -> io::Result<()>;
    /// Says how it has ended, and hangs up.
    fn end(&mut self, status: &Value) -> io::Result<()>;
}

/// What a size of a terminal says in JSON.
fn size(text: &[u8]) -> Option<Heard> {
    let size: Value = serde_json::from_slice(text).ok()?;
    let number = |field: &str| size[field].as_u64().and_then(|number| u16::try_from(number).ok());
    Some(Heard::Size(number("Height")?, number("Width")?))
}

/// What is left to be given to a process.
#[derive(Debug, Default)]
struct Input {
    bytes: Vec<u8>,
    is_over: bool,
}

/// Whether a request asks for SPDY instead of a WebSocket.
pub(crate) fn asks_for_spdy(exchange: &Exchange<'_>) -> bool {
    exchange.head().upgrade.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(spdy::NAME))
}

/// The first of these protocols that a client knows, by the header that it lists them in.
pub(crate) fn choose<'a>(
    exchange: &Exchange<'_>,
    header: &str,
    known: &[&'a str],
) -> Result<&'a str, Failure> {
    let asked = exchange.head().list(&header.to_ascii_lowercase()).unwrap_or_default();
    let is_asked = |name: &&&str| asked.split(',').any(|word| word.trim() == **name);
    known.iter().find(is_asked).copied().ok_or_else(|| {
        Failure::bad_request(format!(
            "unable to upgrade: a WebSocket or {} with one of {known:?} is spoken here",
            spdy::NAME
        ))
    })
}

/// The header by which protocols over SPDY are chosen.
pub(crate) const STREAM_PROTOCOL: &str = "X-Stream-Protocol-Version";

/// Speaks SPDY on a request's connection from now on.
pub(crate) fn upgrade<'a>(
    exchange: &'a mut Exchange<'_>,
    protocol: &str,
) -> io::Result<Session<httpd::Upgraded<'a>>> {
    let reply = Reply::new(101).header("Connection", "Upgrade").header("Upgrade", spdy::NAME);
    exchange.upgrade(&reply.header(STREAM_PROTOCOL, protocol)).map(Session::new)
}

/// Serves a conversation, if the client asks for one that is spoken here.
pub(crate) fn serve(exchange: &mut Exchange<'_>, talk: Talk) -> Result<io::Result<()>, Failure> {
    if asks_for_spdy(exchange) {
        let protocol = choose(exchange, STREAM_PROTOCOL, &STREAM_PROTOCOLS)?;
        let streams = upgrade(exchange, protocol)
            .and_then(|session| Streams::await_all(session, &talk.options));
        return Ok(streams.and_then(|mut streams| converse(&mut streams, talk)));
    }
    let protocol = choose(exchange, "sec-websocket-protocol", &web::PROTOCOLS)?;
    let socket = WebSocket::accept(exchange, Some(protocol), |reply| reply);
    Ok(socket.map_err(Failure::bad_request)?.and_then(|socket| converse(&mut Web(socket), talk)))
}

fn converse(line: &mut dyn Line, talk: Talk) -> io::Result<()> {
    let Talk { options, begin } = talk;
    let status = match begin() {
        Ok(mut process) => status(pass_on(line, process.as_mut(), &options)?),
        Err(why) => failed(&why),
    };
    line.end(&status)
}

/// How a process has ended, as clients are told.
fn status(code: Option<i32>) -> Value {
    match code {
        Some(0) => json!({"metadata": {}, "status": "Success"}),
        Some(code) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        None => failed("nobody knows how it has ended"),
    }
}

fn failed(why: &str) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": format!("Internal error occurred: {why}"),
    })
}

/// Passes on what both sides say, until the process has ended: its code.
fn pass_on(
    line: &mut dyn Line,
    process: &mut dyn Process,
    options: &TalkOptions,
) -> io::Result<Option<i32>> {
    let mut input = Input::default();
    let mut is_heard = true;
    loop {
        let is_waiting = !input.give(process)?;
        let reads = is_heard && input.bytes.len() < INPUT_BYTES_MAX;
        if reads && line.has_more() {
            is_heard = hear(line, process, &mut input)?;
            continue;
        }
        let flags = if reads { PollFlags::IN } else { PollFlags::empty() };
        let mut set = [
            PollFd::from_borrowed_fd(process.socket(), PollFlags::IN),
            PollFd::from_borrowed_fd(line.as_fd(), flags),
        ];
        let longest = is_waiting.then_some(&AGAIN);
        rustix::io::retry_on_intr(|| poll(&mut set, longest))?;
        let [says, client] = [set[0].revents(), set[1].revents()];
        if !says.is_empty() {
            let (output, bytes) = match process.listen() {
                Said::Stdout(bytes) => (options.stdout.then_some(Output::Stdout), bytes),
                Said::Stderr(bytes) => {
                    ((options.stderr && !options.tty).then_some(Output::Stderr), bytes)
                }
                Said::Exit(code) => return Ok(Some(code)),
                Said::Gone => return Ok(None),
            };
            if let Some(output) = output {
                line.say(output, bytes)?;
            }
        } else if client.contains(PollFlags::IN) {
            is_heard = hear(line, process, &mut input)?;
            if !is_heard {
                // Whoever has gone does not want to know the end.
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        } else if !client.is_empty() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
}

/// Hears what the client says; whether there may be more.
fn hear(line: &mut dyn Line, process: &mut dyn Process, input: &mut Input) -> io::Result<bool> {
    let Some(heard) = line.hear()? else { return Ok(false) };
    for one in heard {
        match one {
            Heard::Input(bytes) if !input.is_over => input.bytes.extend(bytes),
            Heard::Input(_) => {}
            Heard::InputEnds => input.is_over = true,
            Heard::Size(rows, columns) => process.resize(rows, columns),
        }
    }
    Ok(true)
}

impl Input {
    /// Gives what is taken; whether nothing is left.
    fn give(&mut self, process: &mut dyn Process) -> io::Result<bool> {
        while !self.bytes.is_empty() {
            match process.try_input(&self.bytes) {
                Ok(0) => return Ok(false),
                Ok(taken) => drop(self.bytes.drain(..taken)),
                // It reads no more, and may go on.
                Err(_) => self.bytes.clear(),
            }
        }
        if self.is_over {
            match process.try_end_input() {
                Ok(false) => return Ok(false),
                Ok(true) | Err(_) => self.is_over = false,
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_as_upstream_tells_them() {
        assert_eq!(status(Some(0))["status"], "Success");
        let failure = status(Some(3));
        assert_eq!(failure["reason"], "NonZeroExitCode");
        assert_eq!(failure["details"]["causes"][0]["message"], "3");
        assert_eq!(status(None)["code"], 500);
    }

    #[test]
    fn a_size_has_two_numbers() {
        assert_eq!(size(br#"{"Width":80,"Height":24}"#), Some(Heard::Size(24, 80)));
        assert_eq!(size(br#"{"Width":80}"#), None);
    }
}
