//! As much of D-Bus as it takes to speak with systemd: method calls with their answers, and one
//! signal (D-Bus specification, "Message Protocol" and "Authentication Protocol").

mod wire;

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wire::{MESSAGE_MAX, Reader, Writer};

pub(super) use wire::Value;

/// How long systemd may take to an answer, and to finish a job.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// The longest line of the authentication.
const LINE_MAX: usize = 1024;
/// How many signals are kept until somebody asks for them.
const SIGNALS_MAX: usize = 256;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The other side's answer: the name of an error, and what it says.
    #[error("{name}: {text}")]
    Refused {
        /// Such as `org.freedesktop.systemd1.UnitExists`.
        name: String,
        /// In words.
        text: String,
    },
    /// The connection.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where a method is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    serial: u32,
    signals: VecDeque<Message>,
}

const BUS: &str = "org.freedesktop.DBus";

impl Connection {
    /// Connects to a bus, which gives a name, or to a peer, which does not.
    pub(super) fn open(socket: &Path, is_bus: bool) -> Result<Self, Failure> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
        stream.set_write_timeout(Some(ANSWER_WAIT_MAX))?;
        authenticate(&mut stream)?;
        let mut made = Self { stream, serial: 0, signals: VecDeque::new() };
        if is_bus {
            made.call(&bus("Hello"), &[])?;
        }
        Ok(made)
    }

    /// Asks a bus for signals that match.
    pub(super) fn listen(&mut self, rule: &str) -> Result<(), Failure> {
        self.call(&bus("AddMatch"), &[Value::text(rule)]).map(drop)
    }

    /// Calls a method and waits for its answer.
    pub(super) fn call(
        &mut self,
        method: &Method<'_>,
        arguments: &[Value],
    ) -> Result<Vec<Value>, Failure> {
        self.serial += 1;
        let serial = self.serial;
        self.stream.write_all(&encode(method, serial, arguments)?)?;
        let deadline = Instant::now() + ANSWER_WAIT_MAX;
        loop {
            let message = self.read(deadline)?;
            match message.kind {
                Kind::Return if message.reply_to == Some(serial) => return Ok(message.body),
                Kind::Error if message.reply_to == Some(serial) => return Err(message.refusal()),
                Kind::Signal if self.signals.len() < SIGNALS_MAX => {
                    self.signals.push_back(message);
                }
                _ => {}
            }
        }
    }

    /// Waits for a signal whose arguments are the wanted ones.
    pub(super) fn wait_signal(
        &mut self,
        member: &str,
        wanted: impl Fn(&[Value]) -> bool,
    ) -> Result<Vec<Value>, Failure> {
        let deadline = Instant::now() + ANSWER_WAIT_MAX;
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None => self.read(deadline)?,
            };
            let named = message.kind == Kind::Signal && message.member.as_deref() == Some(member);
            if named && wanted(&message.body) {
                return Ok(message.body);
            }
        }
    }

    fn read(&mut self, deadline: Instant) -> Result<Message, Failure> {
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        self.stream.set_read_timeout(Some(left.ok_or_else(late)?))?;
        let mut head = [0; HEAD];
        self.stream.read_exact(&mut head)?;
        let rest = length_of_rest(&head).ok_or_else(malformed)?;
        let mut bytes = head.to_vec();
        bytes.resize(HEAD + rest, 0);
        self.stream.read_exact(&mut bytes[HEAD..])?;
        decode(&bytes).ok_or_else(|| malformed().into())
    }
}

fn bus(member: &str) -> Method<'_> {
    Method { destination: BUS, path: "/org/freedesktop/DBus", interface: BUS, member }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a malformed message of D-Bus")
}

/// By the credentials of the socket: an empty identity stands for them, so that a user namespace
/// does not matter.
fn authenticate(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(b"\0AUTH EXTERNAL\r\n")?;
    let mut line = read_line(stream)?;
    if line.starts_with("DATA") {
        stream.write_all(b"DATA\r\n")?;
        line = read_line(stream)?;
    }
    if !line.starts_with("OK ") {
        let text = format!("the bus refuses this user: {line:?}");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    stream.write_all(b"BEGIN\r\n")
}

fn read_line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
        if line.len() > LINE_MAX {
            return Err(malformed());
        }
    }
    String::from_utf8(line).map_err(|_| malformed()).map(|line| line.trim_end().to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Call = 1,
    Return = 2,
    Error = 3,
    Signal = 4,
}

#[derive(Debug)]
struct Message {
    kind: Kind,
    reply_to: Option<u32>,
    member: Option<String>,
    error: Option<String>,
    body: Vec<Value>,
}

impl Message {
    fn refusal(self) -> Failure {
        let text = match self.body.into_iter().next() {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        };
        Failure::Refused { name: self.error.unwrap_or_default(), text }
    }
}

/// The fixed part of a message: up to and with the length of its header fields.
const HEAD: usize = 16;
const LITTLE_ENDIAN: u8 = b'l';
const PROTOCOL: u8 = 1;

// The header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

fn encode(method: &Method<'_>, serial: u32, arguments: &[Value]) -> io::Result<Vec<u8>> {
    let mut body = Writer::default();
    arguments.iter().for_each(|argument| body.value(argument));
    let field = |code: u8, value: Value| {
        Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))])
    };
    let mut fields = vec![
        field(PATH, Value::Path(method.path.into())),
        field(INTERFACE, Value::text(method.interface)),
        field(MEMBER, Value::text(method.member)),
        field(DESTINATION, Value::text(method.destination)),
    ];
    if !arguments.is_empty() {
        let signature = arguments.iter().map(Value::signature).collect();
        fields.push(field(SIGNATURE, Value::Signature(signature)));
    }
    let mut message = Writer::default();
    message.bytes.extend([LITTLE_ENDIAN, Kind::Call as u8, 0, PROTOCOL]);
    message.u32(u32::try_from(body.bytes.len()).unwrap_or(u32::MAX));
    message.u32(serial);
    message.value(&Value::Array("(yv)".into(), fields));
    message.pad(8);
    message.bytes.extend(body.bytes);
    if message.bytes.len() > MESSAGE_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(message.bytes)
}

/// How many bytes follow the fixed part.
fn length_of_rest(head: &[u8; HEAD]) -> Option<usize> {
    let mut reader = Reader::new(head);
    let little = reader.byte()? == LITTLE_ENDIAN;
    reader.pad(4)?;
    let (body, _, fields) = (reader.u32()? as usize, reader.u32()?, reader.u32()? as usize);
    let rest = fields.checked_next_multiple_of(8)?.checked_add(body)?;
    (little && rest <= MESSAGE_MAX).then_some(rest)
}

fn decode(bytes: &[u8]) -> Option<Message> {
    let kind = match bytes.get(1)? {
        1 => Kind::Call,
        2 => Kind::Return,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => return None,
    };
    let body_length = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?) as usize;
    let (header, body) = bytes.split_at_checked(bytes.len().checked_sub(body_length)?)?;
    let fields = Reader::new(header).values("yyyyuua(yv)")?.pop()?;
    let mut message = Message { kind, reply_to: None, member: None, error: None, body: Vec::new() };
    let mut signature = String::new();
    let Value::Array(_, fields) = fields else { return None };
    for field in fields {
        let Value::Struct(field) = field else { return None };
        let [Value::Byte(code), Value::Variant(value)] = <[Value; 2]>::try_from(field).ok()? else {
            return None;
        };
        match (code, *value) {
            (MEMBER, Value::Text(text)) => message.member = Some(text),
            (ERROR_NAME, Value::Text(text)) => message.error = Some(text),
            (REPLY_SERIAL, Value::U32(serial)) => message.reply_to = Some(serial),
            (SIGNATURE, Value::Signature(text)) => signature = text,
            _ => {}
        }
    }
    message.body = Reader::new(body).values(&signature)?;
    Some(message)
}

/// The socket of an address such as `unix:path=/run/user/1000/bus,guid=…`; the first of a list.
pub(super) fn socket_of(address: &str) -> Option<PathBuf> {
    let first = address.split(';').next()?;
    let keys = first.strip_prefix("unix:")?;
    let path = keys.split(',').find_map(|key| key.strip_prefix("path="))?;
    unescape(path).map(PathBuf::from)
}

/// Undoes `%2f` and the like.
fn unescape(text: &str) -> Option<std::ffi::OsString> {
    use std::os::unix::ffi::OsStringExt as _;
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    Some(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const METHOD: Method<'_> =
        Method { destination: "d.e", path: "/p", interface: "i.f", member: "M" };

    #[test]
    fn a_call_can_be_decoded() {
        let arguments = [Value::text("x"), Value::properties(vec![("A".into(), Value::U64(7))])];
        let bytes = encode(&METHOD, 9, &arguments).unwrap();
        let head: [u8; HEAD] = bytes[..HEAD].try_into().unwrap();
        assert_eq!(length_of_rest(&head), Some(bytes.len() - HEAD));
        let message = decode(&bytes).unwrap();
        assert_eq!((message.kind, message.member.as_deref()), (Kind::Call, Some("M")));
        assert_eq!(message.body, arguments);
        assert!(encode(&METHOD, 9, &[Value::text("x".repeat(MESSAGE_MAX))]).is_err());
    }

    #[test]
    fn addresses_are_read() {
        for (address, want) in [
            ("unix:path=/run/user/1000/bus", Some("/run/user/1000/bus")),
            ("unix:path=/a%20b,guid=1f;tcp:host=x", Some("/a b")),
            ("unix:abstract=/tmp/x", None),
            ("tcp:host=localhost", None),
            ("unix:path=/%zz", None),
            ("", None),
        ] {
            assert_eq!(socket_of(address), want.map(PathBuf::from), "{address}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_come(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_call_with_a_changed_byte_may_come(at in 0_usize..200, byte in any::<u8>()) {
            let arguments = [Value::properties(vec![("Name".into(), Value::text("value"))])];
            let mut bytes = encode(&METHOD, 1, &arguments).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = decode(&bytes);
            let head: [u8; HEAD] = bytes[..HEAD].try_into().unwrap();
            prop_assert!(length_of_rest(&head).is_none_or(|rest| rest <= MESSAGE_MAX));
        }
    }
}
