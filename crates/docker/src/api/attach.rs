//! `POST /containers/{id}/attach`, `GET …/attach/ws`, and `POST …/resize`

use std::io;

use engine::{Attached, Container, Entry, LogItem, LogQuery, Purpose, Status, Stream};
use httpd::{Reply, WebSocket};
use rustix::event::{PollFd, PollFlags, poll};

use super::call::{Answer, Call};
use super::failure::Failure;
use super::frame;
use super::hijack::{Client, End, Streams, has_left, upgrade};

pub(super) fn attach(call: &mut Call<'_, '_>) -> Answer {
    let asked = Asked::new(call)?;
    let is_terminal = asked.container.record.settings.tty;
    let engine = call.engine();
    let Ok(mut client) = upgrade(call, is_terminal) else { return Ok(None) };
    asked.talk(engine, &mut client);
    Ok(None)
}

/// As [`attach`], in messages of a WebSocket.
pub(super) fn attach_ws(call: &mut Call<'_, '_>) -> Answer {
    let mut asked = Asked::new(call)?;
    asked.streams.is_raw = true;
    let engine = call.engine();
    let api = call.api;
    let client = WebSocket::accept(call.exchange, None, |reply| api.signed(reply));
    let Ok(mut client) = client.map_err(Failure::bad)? else { return Ok(None) };
    asked.talk(engine, &mut client);
    client.close();
    Ok(None)
}

impl Client for WebSocket<'_> {
    fn has_more(&mut self) -> bool {
        WebSocket::has_more(self)
    }
}

/// What a client wants of a container.
struct Asked {
    container: Container,
    streams: Streams,
    past: bool,
    entry: Option<Entry>,
}

impl Asked {
    fn new(call: &Call<'_, '_>) -> Result<Self, Failure> {
        let container = call.container()?;
        let name = &container.record.name;
        let conflict = |why: &str| Failure::new(409, format!("container {name} {why}"));
        match container.state.status {
            Status::Paused => {
                return Err(conflict("is paused, unpause the container before attach"));
            }
            Status::Restarting => {
                return Err(conflict("is restarting, wait until the container is running"));
            }
            _ => {}
        }
        let wanted = Attached {
            stdin: call.flag("stdin"),
            stdout: call.flag("stdout"),
            stderr: call.flag("stderr"),
        };
        let is_terminal = container.record.settings.tty;
        let streams = Streams::new(wanted, is_terminal, call.text("detachKeys"))?;
        let (past, present) = (call.flag("logs"), call.flag("stream"));
        // Before the client hears of it: what it does next may start the container.
        let enter = || call.engine().enter(&container, Purpose::TakePart);
        let entry = present.then(enter).transpose()?;
        Ok(Self { container, streams, past, entry })
    }

    fn talk(self, engine: &engine::Engine, client: &mut impl Client) {
        let Self { container, mut streams, past, entry } = self;
        // A client that has gone does not want to know.
        if past && tell_past(engine, &container, &streams, client).is_err() {
            return;
        }
        if let Some(entry) = entry {
            let _ = follow(engine, &container, &mut streams, client, entry);
        }
    }
}

/// What is in the log.
fn tell_past(
    engine: &engine::Engine,
    container: &Container,
    streams: &Streams,
    client: &mut impl Client,
) -> engine::Result<()> {
    engine.logs(container, &LogQuery::default(), &mut |item| {
        let LogItem::Line(line) = item else { return Ok(()) };
        let wanted = match line.stream {
            Stream::Stdout => streams.wanted.stdout,
            Stream::Stderr => streams.wanted.stderr,
        };
        if wanted {
            frame::write(client, line.stream, &line.text, streams.is_raw)?;
        }
        Ok(())
    })
}

/// Stays with a container for one run, which may begin later, and be held by one monitor after the
/// other.
fn follow(
    engine: &engine::Engine,
    container: &Container,
    streams: &mut Streams,
    client: &mut impl Client,
    mut entry: Entry,
) -> io::Result<()> {
    loop {
        let mut conversation = match entry {
            Entry::Now(conversation) => conversation,
            Entry::Later(waiter) => {
                let mut set =
                    [PollFd::new(&waiter, PollFlags::IN), PollFd::new(client, PollFlags::empty())];
                rustix::io::retry_on_intr(|| poll(&mut set, None))?;
                if has_left(client) {
                    return Ok(());
                }
                waiter.accept()?
            }
        };
        if streams.talk(client, &mut conversation) != End::Gone {
            return Ok(());
        }
        // Another monitor may hold it by now; else it could not be started, or has ended.
        match engine.find(&container.record.id) {
            Ok(found) if found.is_running() => {
                entry = engine.enter(&found, Purpose::TakePart).map_err(io::Error::other)?;
            }
            _ => return Ok(()),
        }
    }
}

/// `POST /containers/{id}/resize`
pub(super) fn resize(call: &mut Call<'_, '_>) -> Answer {
    let (rows, columns) = size(call)?;
    call.engine().resize(&call.container()?, rows, columns)?;
    Ok(Some(Reply::new(200)))
}

/// The height and the width that are asked for.
pub(super) fn size(call: &Call<'_, '_>) -> Result<(u16, u16), Failure> {
    let rows = call.number("h")?.ok_or_else(|| Failure::bad("invalid height: none is given"))?;
    let columns = call.number("w")?.ok_or_else(|| Failure::bad("invalid width: none is given"))?;
    Ok((rows, columns))
}
