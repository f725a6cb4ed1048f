//! Values as bytes (D-Bus specification, "Type System" and "Marshaling"), in little endian.
//!
//! Reading never trusts a length: every one is checked against what is there, and nesting is
//! bounded.

/// The largest message that is read or written, in bytes; the specification allows 128 MiB.
pub(super) const MESSAGE_MAX: usize = 1 << 20;
/// How deep values may be nested (the specification allows 64).
const DEPTH_MAX: usize = 16;

/// A value, with its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Value {
    Byte(u8),
    Bool(bool),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Text(String),
    Path(String),
    Signature(String),
    /// Elements of one type, which is given since there may be none.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    /// A key and its value; only inside an array.
    Entry(Box<Value>, Box<Value>),
    Variant(Box<Value>),
}

impl Value {
    pub(in super::super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// `a(sv)`: properties.
    pub(in super::super) fn properties(all: Vec<(String, Value)>) -> Self {
        let property =
            |(name, value)| Self::Struct(vec![Self::Text(name), Self::Variant(Box::new(value))]);
        Self::Array("(sv)".into(), all.into_iter().map(property).collect())
    }

    /// The type's signature.
    pub(super) fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::I32(_) => "i".into(),
            Self::U32(_) => "u".into(),
            Self::I64(_) => "x".into(),
            Self::U64(_) => "t".into(),
            Self::Text(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(fields) => {
                format!("({})", fields.iter().map(Self::signature).collect::<String>())
            }
            Self::Entry(key, value) => format!("{{{}{}}}", key.signature(), value.signature()),
            Self::Variant(_) => "v".into(),
        }
    }
}

/// Writes values one after the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn pad(&mut self, alignment: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.pad(4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.pad(8);
        self.bytes.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        // Longer than a message can be, it fails where the message is checked.
        self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.bytes.extend(text.bytes());
        self.bytes.push(0);
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(byte) => self.bytes.push(*byte),
            Value::Bool(bool) => self.u32(u32::from(*bool)),
            Value::I32(number) => self.u32(number.cast_unsigned()),
            Value::U32(number) => self.u32(*number),
            Value::I64(number) => self.u64(number.cast_unsigned()),
            Value::U64(number) => self.u64(*number),
            Value::Text(text) | Value::Path(text) => self.text(text),
            Value::Signature(signature) => self.signature(signature),
            Value::Array(element, values) => self.array(element, values),
            Value::Struct(fields) => {
                self.pad(8);
                fields.iter().for_each(|field| self.value(field));
            }
            Value::Entry(key, value) => {
                self.pad(8);
                self.value(key);
                self.value(value);
            }
            Value::Variant(value) => {
                self.signature(&value.signature());
                self.value(value);
            }
        }
    }

    fn signature(&mut self, signature: &str) {
        self.bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.bytes.extend(signature.bytes());
        self.bytes.push(0);
    }

    fn array(&mut self, element: &str, values: &[Value]) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        // The padding before the first element does not count, and is there even without one.
        self.pad(alignment(element.as_bytes().first().copied().unwrap_or(b'y')));
        let start = self.bytes.len();
        values.iter().for_each(|value| self.value(value));
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

fn alignment(kind: u8) -> usize {
    match kind {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b'h' | b's' | b'o' | b'a' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 1,
    }
}

/// Reads values; `None` for anything that is not well-formed.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn pad(&mut self, alignment: usize) -> Option<()> {
        let to = self.at.next_multiple_of(alignment);
        (to <= self.bytes.len()).then(|| self.at = to)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.pad(4)?;
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        self.pad(8)?;
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn string(&mut self, length: usize) -> Option<String> {
        let bytes = self.take(length)?;
        (self.byte()? == 0).then_some(())?;
        String::from_utf8(bytes.to_vec()).ok()
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?;
        self.string(length.into())
    }

    /// All values of a signature, which is a list of types.
    pub(super) fn values(&mut self, signature: &str) -> Option<Vec<Value>> {
        let mut types = Types(signature.as_bytes());
        let mut values = Vec::new();
        while !types.0.is_empty() {
            values.push(self.value(types.next(0)?, 0)?);
        }
        Some(values)
    }

    /// One value of one complete type.
    fn value(&mut self, kind: &[u8], depth: usize) -> Option<Value> {
        let text = |kind: &[u8]| String::from_utf8(kind.to_vec()).ok();
        (depth < DEPTH_MAX).then_some(())?;
        Some(match kind.first()? {
            b'y' => Value::Byte(self.byte()?),
            b'b' => Value::Bool(self.u32()? != 0),
            b'i' => Value::I32(self.u32()?.cast_signed()),
            b'u' | b'h' => Value::U32(self.u32()?),
            b'x' => Value::I64(self.u64()?.cast_signed()),
            // A double is only ever passed over.
            b't' | b'd' => Value::U64(self.u64()?),
            b's' => Value::Text(self.text()?),
            b'o' => Value::Path(self.text()?),
            b'g' => Value::Signature(self.signature()?),
            b'n' | b'q' => {
                self.pad(2)?;
                Value::U32(u16::from_le_bytes(self.take(2)?.try_into().ok()?).into())
            }
            b'v' => {
                let signature = self.signature()?;
                let mut types = Types(signature.as_bytes());
                let kind = types.next(0)?;
                types.0.is_empty().then_some(())?;
                Value::Variant(Box::new(self.value(kind, depth + 1)?))
            }
            b'a' => Value::Array(text(&kind[1..])?, self.array(&kind[1..], depth)?),
            b'(' => {
                self.pad(8)?;
                let mut types = Types(&kind[1..kind.len() - 1]);
                let mut fields = Vec::new();
                while !types.0.is_empty() {
                    fields.push(self.value(types.next(0)?, depth + 1)?);
                }
                Value::Struct(fields)
            }
            b'{' => {
                self.pad(8)?;
                let mut types = Types(&kind[1..kind.len() - 1]);
                let key = self.value(types.next(0)?, depth + 1)?;
                let value = self.value(types.next(0)?, depth + 1)?;
                types.0.is_empty().then_some(())?;
                Value::Entry(Box::new(key), Box::new(value))
            }
            _ => return None,
        })
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u32()?;
        self.string(length as usize)
    }

    fn array(&mut self, element: &[u8], depth: usize) -> Option<Vec<Value>> {
        let length = self.u32()? as usize;
        self.pad(alignment(*element.first()?))?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut values = Vec::new();
        while self.at < end {
            let before = self.at;
            values.push(self.value(element, depth + 1)?);
            // An element without a size would go on for ever.
            (self.at > before).then_some(())?;
        }
        (self.at == end).then_some(values)
    }
}

/// The complete types of a signature.
struct Types<'a>(&'a [u8]);

impl<'a> Types<'a> {
    fn next(&mut self, depth: usize) -> Option<&'a [u8]> {
        let length = length_of_type(self.0, depth)?;
        let (first, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(first)
    }
}

/// How many bytes the first complete type of a signature has.
fn length_of_type(signature: &[u8], depth: usize) -> Option<usize> {
    (depth < DEPTH_MAX).then_some(())?;
    match signature.first()? {
        b'a' => Some(1 + length_of_type(&signature[1..], depth + 1)?),
        open @ (b'(' | b'{') => {
            let close = if *open == b'(' { b')' } else { b'}' };
            let mut at = 1;
            while *signature.get(at)? != close {
                at += length_of_type(&signature[at..], depth + 1)?;
            }
            (at > 1).then_some(at + 1)
        }
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'h' | b'x' | b't' | b'd' | b's' | b'o'
        | b'g' | b'v' => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values of all types, arrays with elements of one type.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u8>().prop_map(Value::Byte),
            any::<bool>().prop_map(Value::Bool),
            any::<i32>().prop_map(Value::I32),
            any::<u32>().prop_map(Value::U32),
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::U64),
            "[a-zä/]{0,9}".prop_map(Value::Text),
            "/[a-z/]{0,9}".prop_map(Value::Path),
            "[sv]{0,3}".prop_map(Value::Signature),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Value::Struct),
                (inner.clone(), 0_usize..3)
                    .prop_map(|(one, count)| Value::Array(one.signature(), vec![one; count])),
                inner.clone().prop_map(|value| Value::Variant(Box::new(value))),
                (any::<u32>(), inner).prop_map(|(key, value)| {
                    let entry = Value::Entry(Box::new(Value::U32(key)), Box::new(value));
                    Value::Array(entry.signature(), vec![entry])
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(values in prop::collection::vec(value(), 0..4)) {
            let mut writer = Writer::default();
            values.iter().for_each(|value| writer.value(value));
            let signature: String = values.iter().map(Value::signature).collect();
            let mut reader = Reader::new(&writer.bytes);
            prop_assert_eq!(reader.values(&signature), Some(values));
            prop_assert_eq!(reader.at, writer.bytes.len());
        }

        #[test]
        fn anything_may_come(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            signature in "[ybiuxtsogva(){}dnqh]{0,12}",
        ) {
            let _ = Reader::new(&bytes).values(&signature);
        }

        #[test]
        fn no_prefix_of_a_message_is_one(value in value(), cut in 1_usize..40) {
            let mut writer = Writer::default();
            writer.value(&value);
            let kept = writer.bytes.len().saturating_sub(cut);
            prop_assert_ne!(Reader::new(&writer.bytes[..kept]).values(&value.signature()), Some(vec![value]));
        }
    }

    #[test]
    fn bytes_are_as_in_the_specification() {
        // The example of an array of 64-bit numbers: its length does not count the padding.
        let mut writer = Writer::default();
        writer.value(&Value::Array("x".into(), vec![Value::I64(5)]));
        assert_eq!(writer.bytes, [8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
        let mut writer = Writer::default();
        writer.value(&Value::Variant(Box::new(Value::text("ab"))));
        assert_eq!(writer.bytes, [1, b's', 0, 0, 2, 0, 0, 0, b'a', b'b', 0]);
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "a".repeat(60) + "y";
        assert_eq!(Reader::new(&[0; 400]).values(&deep), None);
        assert_eq!(Reader::new(&[0; 400]).values("()"), None);
        assert_eq!(Reader::new(&[0; 400]).values("(y"), None);
        // Variants in variants.
        let bytes: Vec<u8> = [1, b'v', 0].repeat(100);
        assert_eq!(Reader::new(&bytes).values("v"), None);
    }
}
