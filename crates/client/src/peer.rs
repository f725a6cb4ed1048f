//! Calls over HTTPS, for components on other hosts than the server's.

use std::io::{self, ErrorKind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::call::{Call, Events, Failure, Transport};
use crate::connection::{Connection, Head, Server};
use crate::https::{refusal_of, target};
use crate::tls::Tls;

/// The longest document of an answer, in bytes.
const DOCUMENT_BYTES_MAX: usize = 256 << 20;
/// The longest event of a watch, in bytes.
const EVENT_BYTES_MAX: usize = 16 << 20;
/// Connections that are kept for the next call.
const IDLE_MAX: usize = 8;
/// How long it is not tried to connect after that has failed: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Calls a server over HTTPS. Connections are kept, and made anew when they break; a server that is
/// not there is not asked more than every two seconds.
#[derive(Debug)]
pub struct Peer {
    server: Server,
    agent: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tls: Tls,
    /// What proves who asks, where no certificate does.
    token: Option<String>,
    idle: Vec<Connection>,
    pause: Duration,
    not_before: Instant,
}

impl Peer {
    /// Calls a server as somebody whom `tls` presents, or whose token is given.
    #[must_use]
    pub fn new(server: Server, agent: &str, tls: Tls, token: Option<String>) -> Self {
        let (pause, not_before) = (PAUSE.0, Instant::now());
        let state = State { tls, token, idle: Vec::new(), pause, not_before };
        Self { server, agent: agent.to_owned(), state: Mutex::new(state) }
    }

    /// From now on, new connections present something else.
    pub fn renew(&self, tls: Tls) {
        let mut state = self.state();
        state.tls = tls;
        state.idle.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> Option<Connection> {
        let mut state = self.state();
        loop {
            let kept = state.idle.pop()?;
            if kept.is_reusable() {
                return Some(kept);
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let mut state = self.state();
        if connection.is_reusable() && state.idle.len() < IDLE_MAX {
            state.idle.push(connection);
        }
    }

    /// Connects, not before a while after that has failed.
    fn connect(&self) -> io::Result<Connection> {
        let (tls, wait) = {
            let state = self.state();
            (state.tls.clone(), state.not_before.saturating_duration_since(Instant::now()))
        };
        std::thread::sleep(wait);
        let opened = Connection::open(&self.server, &tls);
        let mut state = self.state();
        match opened {
            Ok(_) => state.pause = PAUSE.0,
            Err(_) => {
                state.not_before = Instant::now() + state.pause;
                state.pause = (state.pause * 2).min(PAUSE.1);
            }
        }
        opened
    }

    /// Asks on a connection: the head of the answer.
    fn ask(&self, connection: &mut Connection, call: &Call) -> io::Result<Head> {
        let token = self.state().token.as_ref().map(|token| format!("Bearer {token}"));
        let mut fields = vec![("User-Agent", self.agent.as_str()), ("Accept", "application/json")];
        if let Some(token) = &token {
            fields.push(("Authorization", token));
        }
        if !call.content_type.is_empty() {
            fields.push(("Content-Type", call.content_type));
        }
        let body = (call.method != "GET").then_some(call.body.as_slice());
        let line = format!("{} {}", call.method, target(&call.parts, &call.query));
        connection.send(&line, &self.server, &fields, body)?;
        connection.head()
    }

    /// Asks on a connection that was kept, if the server has not hung up meanwhile, or on a new one.
    fn begin(&self, call: &Call) -> io::Result<(Connection, Head)> {
        if let Some(mut kept) = self.idle() {
            match self.ask(&mut kept, call) {
                Ok(head) => return Ok((kept, head)),
                // It has hung up before it read anything.
                Err(error) if is_hung_up(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection = self.connect()?;
        let head = self.ask(&mut connection, call)?;
        Ok((connection, head))
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        Failure::unreachable(format!("ask {}: {error}", self.server))
    }
}

fn is_hung_up(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

impl Transport for Peer {
    fn send(&self, call: &Call) -> Result<Value, Failure> {
        let (mut connection, head) = self.begin(call).map_err(|e| self.unreachable(&e))?;
        let body = connection.whole(DOCUMENT_BYTES_MAX).map_err(|e| self.unreachable(&e))?;
        self.keep(connection);
        if head.status >= 300 {
            return Err(refusal_of(head.status, &body));
        }
        let is_json = head.get("content-type").is_some_and(|kind| kind.contains("json"));
        match is_json {
            true => serde_json::from_slice(&body).map_err(|error| {
                Failure::unreachable(format!("read the answer of {}: {error}", self.server))
            }),
            false => Ok(Value::String(String::from_utf8_lossy(&body).into_owned())),
        }
    }

    fn watch(&self, call: &Call) -> Result<Box<dyn Events>, Failure> {
        let (mut connection, head) = self.begin(call).map_err(|e| self.unreachable(&e))?;
        if head.status >= 300 {
            let body = connection.whole(DOCUMENT_BYTES_MAX).map_err(|e| self.unreachable(&e))?;
            self.keep(connection);
            return Err(refusal_of(head.status, &body));
        }
        Ok(Box::new(Told { connection, text: Vec::new() }))
    }
}

/// A watch's events, a line each.
struct Told {
    connection: Connection,
    /// What is not a whole line yet.
    text: Vec<u8>,
}

impl Events for Told {
    fn next(&mut self, longest: Duration) -> Option<Vec<Value>> {
        let mut buffer = [0; 16 << 10];
        match self.connection.body(&mut buffer, longest) {
            Ok(0) => None,
            Ok(count) => {
                self.text.extend_from_slice(&buffer[..count]);
                // Nobody tells so much at once.
                (self.text.len() <= EVENT_BYTES_MAX).then(|| self.lines())?
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => Some(Vec::new()),
            Err(_) => None,
        }
    }
}

impl Told {
    /// The whole lines, unless one is no event.
    fn lines(&mut self) -> Option<Vec<Value>> {
        let Some(end) = self.text.iter().rposition(|byte| *byte == b'\n') else {
            return Some(Vec::new());
        };
        let rest = self.text.split_off(end + 1);
        let lines = std::mem::replace(&mut self.text, rest);
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).ok()).collect()
    }
}
