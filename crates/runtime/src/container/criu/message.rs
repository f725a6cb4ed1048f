//! The few messages of CRIU's `rpc.proto` that are needed, in the encoding of Protocol Buffers
//! (<https://protobuf.dev/programming-guides/encoding/>): a key with the number of the field and
//! the kind of the value, then the value.

use super::Request;

/// A number in groups of seven bits, the lowest first.
const VARINT: u64 = 0;
/// Eight bytes.
const FIXED_64: u64 = 1;
/// A length, and as many bytes: a text, or another message.
const BYTES: u64 = 2;
/// Four bytes.
const FIXED_32: u64 = 5;

/// A message that is being written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Adds a number; a negative one as the encoding has it, in 64 bits.
    pub(crate) fn number(&mut self, field: u32, value: i64) -> &mut Message {
        self.key(field, VARINT);
        self.varint(value.cast_unsigned());
        self
    }

    /// Adds what is true or false.
    pub(crate) fn flag(&mut self, field: u32, value: bool) -> &mut Message {
        self.number(field, value.into())
    }

    /// Adds a text.
    pub(crate) fn text(&mut self, field: u32, value: impl AsRef<[u8]>) -> &mut Message {
        let value = value.as_ref();
        self.key(field, BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// Adds a message.
    pub(crate) fn message(&mut self, field: u32, value: &Message) -> &mut Message {
        self.text(field, &value.0)
    }

    /// A message of two texts, the fields 1 and 2: `ext_mount_map`, `cgroup_root` and the like.
    pub(crate) fn pair(first: impl AsRef<[u8]>, second: impl AsRef<[u8]>) -> Message {
        let mut pair = Message::default();
        pair.text(1, first).text(2, second);
        pair
    }

    /// The message as it is sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn key(&mut self, field: u32, kind: u64) {
        self.varint(u64::from(field) << 3 | kind);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// One field of a message that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn number(self) -> u64 {
        if let Value::Number(number) = self { number } else { 0 }
    }

    /// Numbers of 32 bits are written in 64.
    fn int(self) -> i32 {
        self.number() as i32
    }

    fn bytes(self) -> &'a [u8] {
        if let Value::Bytes(bytes) = self { bytes } else { &[] }
    }

    fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// The fields of a message; `None` for what is no message.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = read_varint(&mut bytes)?;
        let value = match key & 7 {
            VARINT => Value::Number(read_varint(&mut bytes)?),
            BYTES => {
                let length = usize::try_from(read_varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Value::Bytes(value)
            }
            kind @ (FIXED_32 | FIXED_64) => {
                bytes = bytes.get(if kind == FIXED_32 { 4 } else { 8 }..)?;
                continue;
            }
            _ => return None,
        };
        fields.push((key >> 3, value));
    }
    Some(fields)
}

/// The fields of a message that are numbers, by their own numbers; `None` for what is no message.
pub(crate) fn numbers(bytes: &[u8]) -> Option<Vec<(u64, u64)>> {
    let number = |(field, value): (u64, Value<'_>)| match value {
        Value::Number(number) => Some((field, number)),
        Value::Bytes(_) => None,
    };
    Some(fields(bytes)?.into_iter().filter_map(number).collect())
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for at in 0..10 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// What CRIU answers (`criu_resp`).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// To which kind of request; [`Request::Notify`] when it asks something itself.
    pub(super) kind: u64,
    pub(super) success: bool,
    /// What it asks (`criu_notify`): a name, and for some the first process.
    pub(super) notice: Option<(String, i32)>,
    /// The kernel's number of what went wrong.
    pub(super) errno: i32,
    /// What went wrong.
    pub(super) error: Option<String>,
    /// What it can do (`criu_features`), by the numbers of the fields.
    pub(super) features: Vec<u64>,
    /// Its version as one number; see [`super::version`].
    pub(super) version: Option<u32>,
}

impl Answer {
    /// Reads one; `None` for what is none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Answer> {
        let mut answer = Answer::default();
        for (field, value) in fields(bytes)? {
            match field {
                1 => answer.kind = value.number(),
                2 => answer.success = value.number() != 0,
                5 => answer.notice = Some(notice(value.bytes())?),
                7 => answer.errno = value.int(),
                8 => answer.features = features(value.bytes())?,
                9 => answer.error = Some(value.text()),
                10 => answer.version = Some(version(value.bytes())?),
                _ => {}
            }
        }
        Some(answer)
    }
}

fn notice(bytes: &[u8]) -> Option<(String, i32)> {
    let mut notice = (String::new(), 0);
    for (field, value) in fields(bytes)? {
        match field {
            1 => notice.0 = value.text(),
            2 => notice.1 = value.int(),
            _ => {}
        }
    }
    Some(notice)
}

fn features(bytes: &[u8]) -> Option<Vec<u64>> {
    let there = |(field, value): (u64, Value<'_>)| (value.number() != 0).then_some(field);
    Some(fields(bytes)?.into_iter().filter_map(there).collect())
}

/// Major, minor and sublevel in two digits each; what was built from a repository counts as the
/// next minor one.
fn version(bytes: &[u8]) -> Option<u32> {
    let (mut major, mut minor, mut sub, mut built) = (0, 0, 0, false);
    for (field, value) in fields(bytes)? {
        match field {
            1 => major = value.number(),
            2 => minor = value.number(),
            3 => built = !value.bytes().is_empty() && value.bytes() != b"0",
            4 => sub = value.number(),
            _ => {}
        }
    }
    let (minor, sub) = if built { (minor + 1, 0) } else { (minor, sub) };
    u32::try_from(major.checked_mul(10_000)?.checked_add(minor.checked_mul(100)?)? + sub).ok()
}

/// A request (`criu_req`).
pub(super) fn request(kind: Request, options: Option<&Message>) -> Message {
    let mut request = Message::default();
    request.number(1, kind as i64);
    if let Some(options) = options {
        request.message(2, options);
    }
    request
}

/// Asks for the features with these numbers.
pub(super) fn feature_request(feature: u32) -> Message {
    let (mut features, mut request) = (Message::default(), request(Request::FeatureCheck, None));
    features.flag(feature, true);
    request.message(5, &features);
    request
}

/// Tells that what was asked has been done.
pub(super) fn done() -> Message {
    let mut request = request(Request::Notify, None);
    request.flag(3, true);
    request
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_encoded_as_the_format_says() {
        let mut message = Message::default();
        message.number(1, 150).text(2, "testing").flag(25, true).number(3, -1);
        let negative = [0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        let expected = [&b"\x08\x96\x01\x12\x07testing\xc8\x01\x01"[..], &negative].concat();
        assert_eq!(message.bytes(), expected);
        assert_eq!(done().bytes(), b"\x08\x06\x18\x01");
        let read = fields(&expected).unwrap();
        let numbers: Vec<i64> =
            read.iter().map(|(_, value)| value.number().cast_signed()).collect();
        assert_eq!(numbers, [150, 0, 1, -1]);
        assert_eq!(read[3].1.int(), -1);
    }

    #[test]
    fn an_answer_is_read() {
        let bytes = b"\x08\x06\x10\x01\x2a\x10\x0a\x0cpost-restore\x10\x07";
        let expected = Answer {
            kind: 6,
            success: true,
            notice: Some(("post-restore".into(), 7)),
            ..Answer::default()
        };
        assert_eq!(Answer::parse(bytes), Some(expected));
        // A fixed number that nobody knows is passed over.
        let failed = b"\x08\x01\x10\x00\x38\x16\x4a\x02no\xfd\x01\x01\x02\x03\x04";
        let answer = Answer::parse(failed).unwrap();
        assert_eq!((answer.kind, answer.success, answer.errno), (1, false, 22));
        assert_eq!(answer.error.as_deref(), Some("no"));
        for end in 1..bytes.len() {
            // Cut off, it is none, or a shorter one; never a panic.
            let _ = Answer::parse(&bytes[..end]);
        }
        assert_eq!(Answer::parse(b"\x08"), None);
        assert_eq!(Answer::parse(b"\x2a\x7f\x01"), None);
        assert_eq!(Answer::parse(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]), None);
    }

    #[test]
    fn versions_can_be_compared() {
        assert_eq!(version(b"\x08\x03\x10\x11\x20\x01"), Some(31_701));
        assert_eq!(version(b"\x08\x04\x10\x02"), Some(40_200));
        assert_eq!(version(b"\x08\x04\x10\x02\x1a\x05v4.2g"), Some(40_300));
    }

    proptest! {
        #[test]
        fn anything_can_be_read(bytes: Vec<u8>) {
            let _ = Answer::parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read(field in 1_u32..1000, number: i64, text: Vec<u8>) {
            let mut message = Message::default();
            message.number(field, number).text(field, &text);
            let expected = [Value::Number(number.cast_unsigned()), Value::Bytes(&text)];
            let expected = expected.map(|value| (u64::from(field), value));
            prop_assert_eq!(fields(message.bytes()).unwrap(), expected);
        }
    }
}
