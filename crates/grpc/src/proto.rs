//! Messages as Protocol Buffers write them
//! (<https://protobuf.dev/programming-guides/encoding/>): numbers and bytes by the numbers of fields.
//! What a field means is said where a message is made or read.

use crate::status::{Code, Status};

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, as it was written: integers, truth values, enumerations.
    Number(u64),
    /// Bytes: texts, other messages, entries of maps.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number; 0 if it is none.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Bytes(_) => 0,
        }
    }

    /// The bytes; none if it is a number.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Number(_) => &[],
            Self::Bytes(bytes) => bytes,
        }
    }

    /// The bytes as a text.
    #[must_use]
    pub fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The key and the value of an entry of a map from text to text.
    ///
    /// # Errors
    /// If it is no message.
    pub fn entry(self) -> Result<(String, String), Status> {
        let (mut key, mut value) = (String::new(), String::new());
        for field in fields(self.bytes()) {
            match field? {
                (1, text) => key = text.text(),
                (2, text) => value = text.text(),
                _ => {}
            }
        }
        Ok((key, value))
    }
}

/// The fields of a message, in the order in which they were written.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

/// See [`fields`]. After an error there are no others.
#[derive(Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        let malformed = || Status::new(Code::InvalidArgument, "the message is malformed");
        Some(field.ok_or_else(malformed))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let tag = self.number()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => Value::Number(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Number(u32::from_le_bytes(self.take(4)?.try_into().ok()?).into()),
            _ => return None,
        };
        Some((number, value))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(number);
            }
        }
        None
    }
}

/// A message that is being written. What has the default of its kind is left out, as it is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a number.
    #[must_use]
    pub fn number(mut self, field: u32, number: u64) -> Self {
        if number != 0 {
            self.put(u64::from(field) << 3);
            self.put(number);
        }
        self
    }

    /// With bytes.
    #[must_use]
    pub fn bytes(self, field: u32, bytes: &[u8]) -> Self {
        if bytes.is_empty() { self } else { self.present(field, bytes) }
    }

    /// With a text.
    #[must_use]
    pub fn text(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// With another message, which is there even if it is empty.
    #[must_use]
    pub fn message(self, field: u32, message: &Self) -> Self {
        self.present(field, &message.0)
    }

    /// With an entry of a map from text to text.
    #[must_use]
    pub fn entry(self, field: u32, key: &str, value: &str) -> Self {
        self.message(field, &Self::new().text(1, key).text(2, value))
    }

    /// As it is sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn present(mut self, field: u32, bytes: &[u8]) -> Self {
        self.put(u64::from(field) << 3 | 2);
        self.put(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn put(&mut self, mut number: u64) {
        while number >= 128 {
            self.0.push((number % 128 + 128) as u8);
            number /= 128;
        }
        self.0.push(number as u8);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_as_the_manual_has_them() {
        // Its first two examples.
        assert_eq!(Message::new().number(1, 150).as_bytes(), [0x08, 0x96, 0x01]);
        let text = Message::new().text(2, "testing");
        assert_eq!(text.as_bytes(), b"\x12\x07testing");
        assert_eq!(Message::new().message(3, &Message::new()).as_bytes(), [0x1a, 0]);
        assert_eq!(Message::new().number(1, 0).text(2, "").as_bytes(), b"");
        let read: Vec<_> =
            fields(b"\x08\x96\x01\x12\x02ab\x1d\x01\0\0\0").map(Result::unwrap).collect();
        let expected = [(1, Value::Number(150)), (2, Value::Bytes(b"ab")), (3, Value::Number(1))];
        assert_eq!(read, expected);
        for wrong in [
            &b"\x08"[..],
            b"\x12\x05a",
            b"\x0b",
            b"\0",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert!(fields(wrong).any(|field| field.is_err()), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number in 1_u64.., text in ".{1,300}", key in ".{0,9}") {
            let message = Message::new().number(7, number).text(2000, &text).entry(5, &key, &text);
            let read: Vec<_> = fields(message.as_bytes()).map(Result::unwrap).collect();
            prop_assert_eq!(read[0], (7, Value::Number(number)));
            prop_assert_eq!(read[1], (2000, Value::Bytes(text.as_bytes())));
            prop_assert_eq!(read[2].1.entry(), Ok((key, text)));
        }

        #[test]
        fn nothing_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            fields(&bytes).for_each(drop);
        }
    }
}
