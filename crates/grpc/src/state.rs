//! What both ends of a connection know, as a machine: bytes go in, bytes come out, and streams
//! change. It neither reads nor waits.

use std::collections::HashMap;

use crate::frame::{
    CONTENT_BYTES_MAX, Frame, PREFACE, flag, kind, put, put_fields, reason, setting,
};
use crate::hpack::{self, Headers, LIST_BYTES_MAX};

/// Bytes of a stream that may come before somebody has read them; all of it is kept in memory.
const STREAM_WINDOW: usize = 256 << 10;
/// As above, of a connection: streams are what limits it.
const CONNECTION_WINDOW: usize = 32 << 20;
/// What a peer begins with (RFC 9113, section 6.9.2).
const WINDOW_DEFAULT: i64 = 65_535;
const WINDOW_MAX: i64 = (1 << 31) - 1;
/// Calls at one time, each of which has a thread.
const CALLS_MAX: usize = 128;
/// Bytes that wait to be written, above which nobody adds data.
pub(crate) const OUT_BYTES: usize = 512 << 10;
/// As above, at which a peer that has us answer and reads nothing is hung up on.
const OUT_BYTES_MAX: usize = 4 << 20;

/// Which end of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// We call.
    Client,
    /// We are called.
    Server,
}

/// A call that is going on.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The fields that came first, and those at the end.
    pub(crate) headers: Option<Headers>,
    pub(crate) trailers: Option<Headers>,
    /// Data that nobody has read.
    pub(crate) data: Vec<u8>,
    /// Bytes that were read and may come again.
    consumed: usize,
    /// Whether nothing more comes.
    pub(crate) has_ended: bool,
    /// Whether an answer of ours has begun.
    pub(crate) has_begun: bool,
    /// Whether we have said that nothing more comes of us.
    pub(crate) is_finished: bool,
    /// Whether it was given up, by whom ever.
    pub(crate) is_reset: bool,
    /// Bytes that the other side takes.
    window: i64,
}

/// A list of fields that has not come to its end.
#[derive(Debug)]
struct Pending {
    stream: u32,
    ends: bool,
    block: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct State {
    end: End,
    received: Vec<u8>,
    /// What is to be written.
    pub(crate) out: Vec<u8>,
    pub(crate) streams: HashMap<u32, Stream>,
    /// Calls that came and nobody has taken.
    pub(crate) calls: Vec<u32>,
    next: u32,
    newest: u32,
    has_preface: bool,
    decoder: hpack::Decoder,
    pending: Option<Pending>,
    window: i64,
    window_of_streams: i64,
    taken: usize,
    /// Whether no call is made any more.
    is_leaving: bool,
    pub(crate) is_closed: bool,
}

/// What the other side may not do: the connection is of no use any more.
struct Broken;

type Step = Result<(), Broken>;

impl State {
    pub(crate) fn new(end: End) -> Self {
        let mut out = if end == End::Client { PREFACE.to_vec() } else { Vec::new() };
        let mut settings = Vec::new();
        let mut say = |number: u16, value: usize| {
            settings.extend_from_slice(&number.to_be_bytes());
            settings.extend_from_slice(&(value as u32).to_be_bytes());
        };
        if end == End::Client {
            say(setting::ENABLE_PUSH, 0);
        }
        say(setting::STREAMS_MAX, CALLS_MAX);
        say(setting::WINDOW, STREAM_WINDOW);
        put(&mut out, kind::SETTINGS, 0, 0, &settings);
        let more = CONNECTION_WINDOW - WINDOW_DEFAULT as usize;
        put(&mut out, kind::WINDOW_UPDATE, 0, 0, &(more as u32).to_be_bytes());
        Self {
            end,
            received: Vec::new(),
            out,
            streams: HashMap::new(),
            calls: Vec::new(),
            next: 1,
            newest: 0,
            has_preface: end == End::Client,
            decoder: hpack::Decoder::default(),
            pending: None,
            window: WINDOW_DEFAULT,
            window_of_streams: WINDOW_DEFAULT,
            taken: 0,
            is_leaving: false,
            is_closed: false,
        }
    }

    /// Takes what came.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        if self.take_frames().is_err() || self.out.len() > OUT_BYTES_MAX {
            let mut content = self.newest.to_be_bytes().to_vec();
            content.extend_from_slice(&reason::PROTOCOL.to_be_bytes());
            put(&mut self.out, kind::GO_AWAY, 0, 0, &content);
            self.is_closed = true;
        }
    }

    fn take_frames(&mut self) -> Step {
        if !self.has_preface {
            let length = self.received.len().min(PREFACE.len());
            if self.received[..length] != PREFACE[..length] {
                return Err(Broken);
            }
            if length < PREFACE.len() {
                return Ok(());
            }
            self.received.drain(..length);
            self.has_preface = true;
        }
        while let Some(frame) = Frame::take(&mut self.received).map_err(|_| Broken)? {
            self.frame(&frame)?;
        }
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Step {
        // Nothing may come between the parts of a list (section 6.10).
        if self.pending.is_some() != (frame.kind == kind::CONTINUATION) {
            return Err(Broken);
        }
        match frame.kind {
            kind::DATA => self.data(frame),
            kind::HEADERS => {
                let block = frame.inner().ok_or(Broken)?.to_vec();
                let ends = frame.has(flag::END_STREAM);
                self.pending = Some(Pending { stream: frame.stream, ends, block });
                self.fields(frame.has(flag::END_HEADERS))
            }
            kind::CONTINUATION => {
                let pending = self.pending.as_mut().filter(|list| list.stream == frame.stream);
                pending.ok_or(Broken)?.block.extend_from_slice(&frame.content);
                self.fields(frame.has(flag::END_HEADERS))
            }
            kind::RESET => {
                if let Some(stream) = self.streams.get_mut(&frame.stream) {
                    stream.is_reset = true;
                    stream.has_ended = true;
                }
                Ok(())
            }
            kind::SETTINGS if frame.has(flag::ACK) => Ok(()),
            kind::SETTINGS => self.settings(&frame.content),
            kind::PING if frame.has(flag::ACK) => Ok(()),
            kind::PING if frame.content.len() == 8 => {
                put(&mut self.out, kind::PING, flag::ACK, 0, &frame.content);
                Ok(())
            }
            kind::WINDOW_UPDATE => self.widen(frame),
            kind::GO_AWAY => {
                self.is_leaving = true;
                Ok(())
            }
            kind::PING | kind::PUSH_PROMISE => Err(Broken),
            // Priorities, and what is not known (section 4.1).
            _ => Ok(()),
        }
    }

    fn data(&mut self, frame: &Frame) -> Step {
        let content = frame.inner().ok_or(Broken)?;
        // It is taken whatever becomes of it, so that the connection goes on.
        self.taken += frame.content.len();
        if self.taken >= CONNECTION_WINDOW / 2 {
            let taken = std::mem::take(&mut self.taken) as u32;
            put(&mut self.out, kind::WINDOW_UPDATE, 0, 0, &taken.to_be_bytes());
        }
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            return if self.was_open(frame.stream) { Ok(()) } else { Err(Broken) };
        };
        // Padding counts as if it were read at once.
        stream.consumed += frame.content.len() - content.len();
        if stream.data.len() + content.len() > STREAM_WINDOW || stream.has_ended && !stream.is_reset
        {
            return Err(Broken);
        }
        stream.data.extend_from_slice(content);
        stream.has_ended |= frame.has(flag::END_STREAM);
        Ok(())
    }

    /// Whether a stream of this number may have been there.
    fn was_open(&self, stream: u32) -> bool {
        let is_ours = (stream % 2 == 1) == (self.end == End::Client);
        stream != 0 && if is_ours { stream < self.next } else { stream <= self.newest }
    }

    fn fields(&mut self, is_whole: bool) -> Step {
        let Some(pending) = self.pending.take() else { return Err(Broken) };
        if !is_whole {
            if pending.block.len() > LIST_BYTES_MAX {
                return Err(Broken);
            }
            self.pending = Some(pending);
            return Ok(());
        }
        let Pending { stream: number, ends, block } = pending;
        // The tables of both sides must stay the same even if nobody wants to know what it says.
        let fields = self.decoder.decode(&block).map_err(|_| Broken)?;
        if let Some(stream) = self.streams.get_mut(&number) {
            // A list before the answer may only say that there will be one (RFC 9110, section 15.2).
            let is_interim =
                fields.iter().any(|(name, value)| name == ":status" && value.starts_with('1'));
            match stream.headers {
                _ if is_interim && !ends => return Ok(()),
                None => {
                    if ends {
                        stream.trailers = Some(fields.clone());
                    }
                    stream.headers = Some(fields);
                }
                Some(_) if ends && !stream.has_ended => stream.trailers = Some(fields),
                Some(_) => return Err(Broken),
            }
            stream.has_ended |= ends;
            return Ok(());
        }
        if self.was_open(number) {
            return Ok(());
        }
        self.open(number, fields, ends)
    }

    /// Begins a call that comes.
    fn open(&mut self, number: u32, fields: Headers, has_ended: bool) -> Step {
        if self.end == End::Client || number.is_multiple_of(2) {
            return Err(Broken);
        }
        self.newest = number;
        if self.streams.len() >= CALLS_MAX {
            put(&mut self.out, kind::RESET, 0, number, &reason::REFUSED.to_be_bytes());
            return Ok(());
        }
        let window = self.window_of_streams;
        let stream = Stream { headers: Some(fields), has_ended, window, ..Stream::default() };
        self.streams.insert(number, stream);
        self.calls.push(number);
        Ok(())
    }

    fn settings(&mut self, content: &[u8]) -> Step {
        let settings = content.chunks_exact(6);
        if !settings.remainder().is_empty() {
            return Err(Broken);
        }
        for entry in settings {
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            match u16::from_be_bytes([entry[0], entry[1]]) {
                setting::WINDOW => {
                    let wanted = i64::from(value);
                    let more = wanted - self.window_of_streams;
                    self.window_of_streams = wanted;
                    self.streams.values_mut().for_each(|stream| stream.window += more);
                    if self.streams.values().any(|stream| stream.window > WINDOW_MAX)
                        || wanted > WINDOW_MAX
                    {
                        return Err(Broken);
                    }
                }
                // More than the least is not needed.
                setting::FRAME_BYTES if (value as usize) < CONTENT_BYTES_MAX => return Err(Broken),
                _ => {}
            }
        }
        put(&mut self.out, kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    fn widen(&mut self, frame: &Frame) -> Step {
        let more: [u8; 4] = frame.content[..].try_into().map_err(|_| Broken)?;
        let more = i64::from(u32::from_be_bytes(more) & (u32::MAX >> 1));
        let window = match frame.stream {
            0 => &mut self.window,
            number => match self.streams.get_mut(&number) {
                Some(stream) => &mut stream.window,
                None => return Ok(()),
            },
        };
        *window += more;
        if more == 0 || *window > WINDOW_MAX { Err(Broken) } else { Ok(()) }
    }

    /// Begins a call; its number, or `None` if there can be none.
    pub(crate) fn call(&mut self, headers: &[(&str, &str)]) -> Option<u32> {
        if self.is_closed || self.is_leaving || self.next > u32::MAX >> 1 {
            return None;
        }
        let number = self.next;
        self.next += 2;
        let stream = Stream { window: self.window_of_streams, ..Stream::default() };
        self.streams.insert(number, stream);
        self.put_fields(number, headers, false);
        Some(number)
    }

    /// Writes a list of fields, with which we say nothing more if it is the end.
    pub(crate) fn put_fields(&mut self, number: u32, headers: &[(&str, &str)], ends: bool) {
        let block = hpack::encode(headers.iter().copied());
        put_fields(&mut self.out, number, &block, ends);
        self.finish(number, ends);
    }

    /// Writes as much of the data as may be sent now: how much that is.
    pub(crate) fn put_data(&mut self, number: u32, data: &[u8], ends: bool) -> usize {
        let Some(stream) = self.streams.get_mut(&number) else { return 0 };
        if self.out.len() > OUT_BYTES {
            return 0;
        }
        let may = stream.window.min(self.window).clamp(0, CONTENT_BYTES_MAX as i64) as usize;
        let length = data.len().min(may);
        if length == 0 && !data.is_empty() {
            return 0;
        }
        stream.window -= length as i64;
        self.window -= length as i64;
        let is_all = ends && length == data.len();
        let flags = if is_all { flag::END_STREAM } else { 0 };
        put(&mut self.out, kind::DATA, flags, number, &data[..length]);
        self.finish(number, is_all);
        length
    }

    fn finish(&mut self, number: u32, ends: bool) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.is_finished |= ends;
        }
    }

    /// Says that so much of a stream's data was read.
    pub(crate) fn consume(&mut self, number: u32, length: usize) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.data.drain(..length);
        stream.consumed += length;
        if stream.consumed >= STREAM_WINDOW / 2 && !stream.has_ended {
            let consumed = std::mem::take(&mut stream.consumed) as u32;
            put(&mut self.out, kind::WINDOW_UPDATE, 0, number, &consumed.to_be_bytes());
        }
    }

    /// Forgets a call; where it has not come to its end, it is given up.
    pub(crate) fn forget(&mut self, number: u32) {
        let Some(stream) = self.streams.remove(&number) else { return };
        if !(stream.is_reset || stream.is_finished && stream.has_ended) {
            put(&mut self.out, kind::RESET, 0, number, &reason::CANCEL.to_be_bytes());
        }
    }
}
