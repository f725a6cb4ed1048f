//! What is told of a build: `StatusResponse`, a message for each thing that happens.

use std::collections::VecDeque;

use engine::{BuildNews, Stream};
use grpc::proto::Message;
use jiff::Timestamp;
use oci::Digest;

/// What nobody has heard yet, at most: a client that does not ask is not to fill memory.
const WAITING_MAX: usize = 10_000;

/// What has happened and was not told.
#[derive(Debug, Default)]
pub(super) struct News {
    waiting: VecDeque<Message>,
    /// When each step has begun, and what it is called.
    begun: Vec<(usize, String, Timestamp)>,
    count: usize,
}

/// A step, or something else that is done, as it is told: a vertex of BuildKit's graph.
struct Vertex<'a> {
    /// What tells it from others of the build.
    id: &'a str,
    name: &'a str,
}

impl Vertex<'_> {
    /// Clients know a vertex by a digest.
    fn digest(&self) -> String {
        Digest::of(self.id.as_bytes()).to_string()
    }

    fn message(&self, started: Timestamp) -> Message {
        let message = Message::new().text(1, &self.digest()).text(3, self.name);
        message.message(5, &time(started))
    }
}

impl News {
    pub(super) fn take(&mut self) -> Option<Message> {
        self.waiting.pop_front()
    }

    fn push(&mut self, message: Message) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(message);
        }
    }

    fn vertex(&mut self, vertex: &Message) {
        self.push(Message::new().message(1, vertex));
    }

    /// Something that is no step, and done, with what came of it, a line each.
    pub(super) fn internal(&mut self, name: &str, what: &str) {
        let (id, began) = self.begin(name);
        let now = time(began);
        for line in what.lines() {
            let line = line.strip_suffix(" done").unwrap_or(line);
            let status = Message::new().text(1, line).text(2, &Vertex { id: &id, name }.digest());
            let status = status.message(6, &now).message(7, &now).message(8, &now);
            self.push(Message::new().message(2, &status));
        }
        self.end(&id, name, began, None);
    }

    /// Something that is no step begins; what it is known by, and when it began, which clients tell
    /// its end by, too.
    pub(super) fn begin(&mut self, name: &str) -> (String, Timestamp) {
        self.count += 1;
        let (id, now) = (format!("{} {name}", self.count), Timestamp::now());
        self.vertex(&Vertex { id: &id, name }.message(now));
        (id, now)
    }

    /// How far that is: bytes.
    pub(super) fn progress(&mut self, id: &str, what: &str, bytes: u64, has_ended: bool) {
        let now = time(Timestamp::now());
        let vertex = Digest::of(id.as_bytes()).to_string();
        let status = Message::new().text(1, what).text(2, &vertex).number(4, bytes);
        let mut status = status.message(6, &now).message(7, &now);
        if has_ended {
            status = status.message(8, &now);
        }
        self.push(Message::new().message(2, &status));
    }

    /// It is done, or has failed.
    pub(super) fn end(&mut self, id: &str, name: &str, began: Timestamp, why: Option<&str>) {
        let vertex = Vertex { id, name }.message(began).message(6, &time(Timestamp::now()));
        self.vertex(&vertex.text(7, why.unwrap_or_default()));
    }

    /// What a build tells.
    pub(super) fn hear(&mut self, news: &BuildNews) {
        match news {
            BuildNews::Started(step, name) => {
                let now = Timestamp::now();
                self.begun.push((*step, name.clone(), now));
                self.vertex(&Vertex { id: &step_id(*step), name }.message(now));
            }
            BuildNews::Cached(step, name) => {
                let now = Timestamp::now();
                let vertex = Vertex { id: &step_id(*step), name }.message(now);
                self.vertex(&vertex.number(4, 1).message(6, &time(now)));
            }
            BuildNews::Output(step, stream, line) => {
                let number = if *stream == Stream::Stdout { 1 } else { 2 };
                let vertex = Digest::of(step_id(*step).as_bytes()).to_string();
                let line = [&line[..], b"\n"].concat();
                let log = Message::new().text(1, &vertex).message(2, &time(Timestamp::now()));
                self.push(Message::new().message(3, &log.number(3, number).bytes(4, &line)));
            }
            BuildNews::Done(step) => self.done(*step, None),
            BuildNews::Internal(name, what) => self.internal(name, what),
            BuildNews::Failed { step: Some(step), why, .. } => self.done(*step, Some(why)),
            BuildNews::Failed { .. }
            | BuildNews::Login(_)
            | BuildNews::Tick
            | BuildNews::Built(_) => {}
        }
    }

    fn done(&mut self, step: usize, why: Option<&str>) {
        let Some(at) = self.begun.iter().position(|(number, ..)| *number == step) else { return };
        let (_, name, began) = self.begun.swap_remove(at);
        self.end(&step_id(step), &name, began, why);
    }
}

fn step_id(step: usize) -> String {
    format!("step {step}")
}

/// `google.protobuf.Timestamp`
pub(super) fn time(time: Timestamp) -> Message {
    let (seconds, nanoseconds) = (time.as_second(), time.subsec_nanosecond());
    let message = Message::new().number(1, seconds.cast_unsigned());
    message.number(2, u64::from(nanoseconds.cast_unsigned()))
}
