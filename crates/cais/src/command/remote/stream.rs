//! Standard streams that go over a connection.

use std::io::{self, BufReader, IsTerminal as _, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use engine::{DetachKeys, Error, Kind, RawMode, Result};
use remote::{Body, Engine, Place, Request, Stream, pass_on};
use rustix::process::Signal;
use serde_json::Value;

use super::Remote;
use crate::command::{self, detach_keys};

/// What is read at a time.
const PIECE_BYTES: usize = 32 << 10;
/// Before each piece of a process without a terminal: the stream, and how long it is.
const FRAME_BYTES: usize = 8;
/// Longest piece.
const FRAME_BYTES_MAX: u64 = 64 << 20;

/// How somebody talks with a process.
pub(super) struct Talk<'a> {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    /// Whether the process has a terminal.
    pub(super) is_terminal: bool,
    /// Whether signals to us are sent on to it.
    pub(super) signals: bool,
    /// What is typed to leave it running.
    pub(super) keys: &'a str,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The process has said all.
    Said,
    /// The keys were typed.
    Detached,
}

/// Shows what a process says, on our streams.
pub(super) fn show(from: &mut dyn Read, is_terminal: bool) -> io::Result<()> {
    if is_terminal {
        return pass_on(from, &mut io::stdout());
    }
    let mut head = [0; FRAME_BYTES];
    loop {
        match from.read(&mut head[..1])? {
            0 => return Ok(()),
            _ => from.read_exact(&mut head[1..])?,
        }
        let length = u64::from(u32::from_be_bytes([head[4], head[5], head[6], head[7]]));
        if head[0] > 3 || length > FRAME_BYTES_MAX {
            let why = "what came is no output of a process";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let mut piece = from.take(length);
        match head[0] {
            2 | 3 => pass_on(&mut piece, &mut io::stderr())?,
            _ => pass_on(&mut piece, &mut io::stdout())?,
        }
        if piece.limit() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A reader of ours that has gone is no failure.
pub(super) fn forgive(remote: &Remote<'_>, error: io::Error) -> Result<()> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(remote.broken(error)),
    }
}

/// Passes on what both sides say until the process has said all, or the keys were typed.
pub(super) fn talk(remote: &Remote<'_>, mut stream: Stream, talk: &Talk<'_>) -> Result<End> {
    let broken = |error| remote.broken(error);
    let is_raw = talk.is_terminal && talk.stdin;
    let raw = if is_raw { RawMode::enter() } else { Ok(None) };
    let _raw = raw.map_err(|error| Error::caused(Kind::Internal, "use the terminal", error))?;
    let detached = Arc::new(AtomicBool::new(false));
    let writer = stream.writer().map_err(broken)?;
    match talk.stdin {
        true => {
            let keys = if talk.is_terminal { detach_keys(talk.keys)? } else { Vec::new() };
            let flag = Arc::clone(&detached);
            // It may wait for a key when all is over; it ends with this process.
            thread::spawn(move || feed(&writer, DetachKeys::new(&keys), &flag));
        }
        false if !talk.is_terminal => {
            // What it hears is nothing, and no end of it either: others may talk with it.
            drop(writer);
        }
        false => {}
    }
    let shown = show(&mut stream, talk.is_terminal);
    if detached.load(Ordering::Acquire) {
        return Ok(End::Detached);
    }
    match shown {
        Err(error) => forgive(remote, error).map(|()| End::Said),
        Ok(()) => Ok(End::Said),
    }
}

/// Passes on our standard input.
fn feed(mut to: &UnixStream, mut keys: DetachKeys, detached: &AtomicBool) {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let length = match io::stdin().lock().read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let (passed, has_left) = keys.filter(&buffer[..length]);
        if to.write_all(&passed).is_err() {
            return;
        }
        if has_left {
            detached.store(true, Ordering::Release);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
    let _ = Stream::end_writing(to);
}

/// What of a process is asked for.
pub(super) fn attach_request<'r>(id: &str, talk: &Talk<'_>) -> Request<'r> {
    let request = Request::new("POST", &["containers", id, "attach"]).with("stream", "1");
    let request = request.with_flag("stdin", talk.stdin).with_flag("stdout", talk.stdout);
    let request = request.with_flag("stderr", talk.stderr);
    request.with_some("detachKeys", talk.keys)
}

pub(super) fn attach(remote: &Remote<'_>, args: &command::attach::Args) -> Result<i32> {
    let found = remote.inspect("containers", &args.container)?;
    let state = &found["State"];
    for (key, why) in [
        ("Paused", "cannot attach to a paused container, unpause it first"),
        ("Restarting", "cannot attach to a restarting container, wait until it is running"),
    ] {
        if state[key] == true {
            return Err(Error::new(Kind::Conflict, why));
        }
    }
    if state["Running"] != true {
        let why = "cannot attach to a stopped container, start it first";
        return Err(Error::new(Kind::Conflict, why));
    }
    let is_terminal = found["Config"]["Tty"] == true;
    let stdin = !args.no_stdin && found["Config"]["OpenStdin"] == true;
    if stdin && is_terminal {
        command::run::needs_terminal("add --no-stdin where standard input is not a terminal")?;
    }
    let (signals, keys) = (args.sig_proxy, args.detach_keys.as_str());
    let talk = Talk { stdin, stdout: true, stderr: true, is_terminal, signals, keys };
    attach_running(remote, found["Id"].as_str().unwrap_or(&args.container), &talk)
}

/// Joins a container that runs; its exit code.
pub(super) fn attach_running(remote: &Remote<'_>, id: &str, asked: &Talk<'_>) -> Result<i32> {
    let waiting = remote.ask(Request::new("POST", &["containers", id, "wait"]))?.into_body();
    let guard = Proxy::begin(remote, id, asked)?;
    let stream = remote.engine.take_over(attach_request(id, asked)).map_err(super::failure)?;
    guard.resize();
    let end = talk(remote, stream, asked)?;
    finish(remote, waiting, end)
}

/// Starts a container and takes part from its first byte on; its exit code.
pub(super) fn start_attached(
    remote: &Remote<'_>,
    id: &str,
    is_removed: bool,
    asked: &Talk<'_>,
) -> Result<i32> {
    let guard = Proxy::begin(remote, id, asked)?;
    let streams = asked.stdin || asked.stdout || asked.stderr;
    let stream = match streams {
        true => Some(remote.engine.take_over(attach_request(id, asked)).map_err(super::failure)?),
        false => None,
    };
    let condition = if is_removed { "removed" } else { "next-exit" };
    let wait = Request::new("POST", &["containers", id, "wait"]).with("condition", condition);
    let waiting = remote.ask(wait)?.into_body();
    remote.act(Request::new("POST", &["containers", id, "start"]))?;
    guard.resize();
    let end = stream.map_or(Ok(End::Said), |stream| talk(remote, stream, asked))?;
    finish(remote, waiting, end)
}

/// The exit code, once the engine tells it.
fn finish(remote: &Remote<'_>, waiting: Body, end: End) -> Result<i32> {
    if end == End::Detached {
        return Ok(0);
    }
    let mut documents = serde_json::Deserializer::from_reader(BufReader::new(waiting)).into_iter();
    let waited: Value = match documents.next() {
        Some(Ok(waited)) => waited,
        Some(Err(error)) => return Err(remote.broken(error.into())),
        None => return Err(remote.broken(io::ErrorKind::UnexpectedEof.into())),
    };
    if let Some(why) = waited["Error"]["Message"].as_str().filter(|why| !why.is_empty()) {
        return Err(Error::new(Kind::Internal, why.to_owned()));
    }
    Ok(i32::try_from(waited["StatusCode"].as_i64().unwrap_or(0)).unwrap_or(1))
}

/// Passes on signals, and changes of our terminal's size, while a process is ours.
pub(super) struct Proxy {
    place: Place,
    path: [String; 2],
    is_sized: bool,
}

impl Proxy {
    /// For a container. Before any thread of ours begins, since all of them have to leave signals to
    /// the one that reads them.
    pub(super) fn begin(remote: &Remote<'_>, id: &str, talk: &Talk<'_>) -> Result<Self> {
        let path = ["containers".to_owned(), id.to_owned()];
        Self::of(remote, path, talk.signals && !talk.is_terminal, talk.is_terminal && talk.stdin)
    }

    /// For a command in a container.
    pub(super) fn of_exec(remote: &Remote<'_>, id: &str, talk: &Talk<'_>) -> Result<Self> {
        let path = ["exec".to_owned(), id.to_owned()];
        Self::of(remote, path, false, talk.is_terminal && talk.stdin)
    }

    fn of(remote: &Remote<'_>, path: [String; 2], signals: bool, sizes: bool) -> Result<Self> {
        let is_sized = sizes && io::stdin().is_terminal();
        let proxy = Self { place: remote.engine.place().clone(), path, is_sized };
        let descriptor = match (signals, is_sized) {
            (true, _) => runtime::SignalFd::forwarded(),
            (false, true) => runtime::SignalFd::window(),
            (false, false) => return Ok(proxy),
        };
        let doing = |error| Error::caused(Kind::Internal, "take over signals", error);
        let mut descriptor = descriptor.map_err(doing)?;
        let (place, path) = (proxy.place.clone(), proxy.path.clone());
        // It ends with this process.
        thread::spawn(move || {
            let own = Self { place, path, is_sized };
            while let Ok(signal) = descriptor.read() {
                match signal {
                    Signal::WINCH => own.resize(),
                    signal => own.send(signal.as_raw()),
                }
            }
        });
        Ok(proxy)
    }

    /// Tells the size of our terminal, if the process has one of that size.
    pub(super) fn resize(&self) {
        if !self.is_sized {
            return;
        }
        let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) else { return };
        let request = Request::new("POST", &[&self.path[0], &self.path[1], "resize"]);
        let request = request.with("h", size.ws_row.to_string());
        self.tell(request.with("w", size.ws_col.to_string()));
    }

    fn send(&self, signal: i32) {
        let request = Request::new("POST", &[&self.path[0], &self.path[1], "kill"]);
        self.tell(request.with("signal", signal.to_string()));
    }

    /// Whoever has ended already needs neither.
    fn tell(&self, request: Request<'_>) {
        if let Ok(engine) = Engine::connect(self.place.clone(), docker::API_VERSION) {
            let _ = engine.json(request);
        }
    }
}

/// `system dial-stdio` to an engine elsewhere.
pub(super) fn dial_stdio(place: &Place) -> Result<i32> {
    let stream = Engine::dial(place).map_err(super::failure)?;
    command::dial_stdio::relay(stream).map(|()| 0)
}
