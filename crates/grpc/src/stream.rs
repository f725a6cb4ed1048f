//! One call: messages in both directions, and how it ends.

use std::sync::Arc;

use crate::connection::Shared;
use crate::proto::Message;
use crate::status::{Code, Status};

/// Of one message, in bytes: what BuildKit takes.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// What stands before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// A call that goes on. One thread may send while another receives; it is given up when this is
/// dropped, unless it has come to its end.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    number: u32,
    is_server: bool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.change(|state| state.forget(self.number));
    }
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>, number: u32, is_server: bool) -> Self {
        Self { shared, number, is_server }
    }

    /// What is called: `/package.Service/Method`.
    #[must_use]
    pub fn path(&self) -> String {
        self.metadata(":path").unwrap_or_default()
    }

    /// What the caller says beside its messages.
    #[must_use]
    pub fn metadata(&self, wanted: &str) -> Option<String> {
        let state = self.shared.lock();
        let headers = state.streams.get(&self.number)?.headers.as_ref()?;
        headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
    }

    /// Sends a message, once the other side takes it.
    ///
    /// # Errors
    /// If the call has ended.
    pub fn send(&self, message: &Message) -> Result<(), Status> {
        self.begin();
        let message = message.as_bytes();
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mut data = Vec::with_capacity(PREFIX_BYTES + message.len());
        data.push(0);
        data.extend_from_slice(&length);
        data.extend_from_slice(message);
        self.send_data(&data, false)
    }

    /// Says that nothing more is sent.
    ///
    /// # Errors
    /// If the call has ended.
    pub fn end(&self) -> Result<(), Status> {
        self.send_data(&[], true)
    }

    fn send_data(&self, mut data: &[u8], ends: bool) -> Result<(), Status> {
        loop {
            let sent = self.shared.wait(|state| {
                let stream = state.streams.get(&self.number)?;
                if stream.is_reset
                    || state.is_closed
                    || !self.is_server && stream.trailers.is_some()
                {
                    return Some(None);
                }
                if stream.is_finished {
                    return Some(ends.then_some(data.len()));
                }
                let sent = state.put_data(self.number, data, ends);
                (sent > 0 || data.is_empty()).then_some(Some(sent))
            });
            // Why stands in the trailers.
            let Some(sent) = sent else { return Err(self.failure()) };
            data = &data[sent..];
            if data.is_empty() {
                return Ok(());
            }
        }
    }

    /// The next message; `None` once there will be none, and all went well.
    ///
    /// # Errors
    /// If the call has failed, and for a message that is too long or compressed.
    pub fn receive(&self) -> Result<Option<Vec<u8>>, Status> {
        let mut message = Vec::new();
        if !self.fill(&mut message, PREFIX_BYTES)? {
            return Ok(None);
        }
        let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]) as usize;
        if message[0] != 0 {
            return Err(Status::new(Code::Unimplemented, "the message is compressed"));
        }
        if length > MESSAGE_BYTES_MAX {
            let why =
                format!("the message has {length} bytes, and not {MESSAGE_BYTES_MAX} at most");
            return Err(Status::new(Code::ResourceExhausted, why));
        }
        message.clear();
        match self.fill(&mut message, length)? || length == 0 {
            true => Ok(Some(message)),
            false => Err(Status::new(Code::Internal, "the message is not whole")),
        }
    }

    /// The one message of a call, and its end.
    ///
    /// # Errors
    /// As of [`Stream::receive`], and if there is none.
    pub fn receive_one(&self) -> Result<Vec<u8>, Status> {
        let message = self.receive()?;
        let message = message.ok_or_else(|| Status::new(Code::Internal, "a message is missing"))?;
        // What follows says how it went.
        while self.receive()?.is_some() {}
        Ok(message)
    }

    /// Reads on until there are so many bytes: whether there are, or else nothing more comes.
    fn fill(&self, into: &mut Vec<u8>, wanted: usize) -> Result<bool, Status> {
        while into.len() < wanted {
            let read = self.shared.wait(|state| {
                let stream = state.streams.get_mut(&self.number)?;
                let length = stream.data.len().min(wanted - into.len());
                if length == 0 {
                    return (stream.has_ended || state.is_closed).then_some(false);
                }
                into.extend_from_slice(&stream.data[..length]);
                state.consume(self.number, length);
                Some(true)
            });
            if !read {
                if let Some(why) = self.why_ended() {
                    return Err(why);
                }
                return match into.is_empty() {
                    true => Ok(false),
                    false => Err(Status::new(Code::Internal, "the message is not whole")),
                };
            }
        }
        Ok(true)
    }

    /// Why nothing more comes; `None` if that is as it is to be.
    fn why_ended(&self) -> Option<Status> {
        let state = self.shared.lock();
        let stream = state.streams.get(&self.number)?;
        match &stream.trailers {
            Some(trailers) if !self.is_server => Status::of_trailers(trailers),
            _ if stream.is_reset => Some(Status::new(Code::Cancelled, "the call was given up")),
            _ if self.is_server && stream.has_ended => None,
            _ => Some(Status::gone()),
        }
    }

    fn failure(&self) -> Status {
        let unexpected = || Status::new(Code::Internal, "the call has ended before all was sent");
        self.why_ended().unwrap_or_else(unexpected)
    }

    /// Sends the fields that go before the first message of an answer.
    fn begin(&self) {
        if !self.is_server {
            return;
        }
        self.shared.change(|state| {
            let Some(stream) = state.streams.get_mut(&self.number) else { return };
            if std::mem::replace(&mut stream.has_begun, true) {
                return;
            }
            let fields = [(":status", "200"), ("content-type", "application/grpc")];
            state.put_fields(self.number, &fields, false);
        });
    }

    /// Ends a call that came: well, or not.
    pub fn finish(self, outcome: &Result<(), Status>) {
        self.begin();
        self.shared.change(|state| {
            let Some(stream) = state.streams.get(&self.number) else { return };
            if stream.is_reset || stream.is_finished {
                return;
            }
            match outcome {
                Ok(()) => state.put_fields(self.number, &[("grpc-status", "0")], true),
                Err(status) => {
                    let code = (status.code as u32).to_string();
                    let message = status.encoded_message();
                    let details = ("grpc-status-details-bin", &*status.details);
                    let details = (!status.details.is_empty()).then_some(details);
                    let fields = [("grpc-status", &*code), ("grpc-message", &*message)];
                    let fields: Vec<_> = fields.into_iter().chain(details).collect();
                    state.put_fields(self.number, &fields, true);
                }
            }
        });
    }

    /// Ends the call as if the other side had: whoever waits for a message of it waits no longer.
    pub fn give_up(&self) {
        self.shared.change(|state| {
            if let Some(stream) = state.streams.get_mut(&self.number) {
                stream.has_ended = true;
            }
        });
    }

    /// Waits until `ready` has something, which is asked whenever anything changes here, and at each
    /// [`Connection::wake`](crate::Connection::wake).
    ///
    /// # Errors
    /// If the other side has given up the call, or gone.
    pub fn wait_for<T>(&self, ready: &mut dyn FnMut() -> Option<T>) -> Result<T, Status> {
        self.shared.wait(|state| {
            if let Some(value) = ready() {
                return Some(Ok(value));
            }
            let is_there = state.streams.get(&self.number).is_some_and(|stream| !stream.is_reset);
            let cancelled = || Status::new(Code::Cancelled, "the call was given up");
            (!is_there || state.is_closed).then(|| Err(cancelled()))
        })
    }

    /// Whether the other side has given up the call, or gone.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        let state = self.shared.lock();
        state.is_closed || state.streams.get(&self.number).is_none_or(|stream| stream.is_reset)
    }
}
