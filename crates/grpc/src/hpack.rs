//! Lists of header fields as HTTP/2 writes them: HPACK (RFC 7541).
//!
//! What is written refers to no table and is not compressed: each list is small, and any decoder
//! reads it. What is read may use all of it.

use std::collections::VecDeque;

use super::table::{CODE_BITS, FIELDS};

/// Header fields in their order.
pub(crate) type Headers = Vec<(String, String)>;

/// What a peer may have us remember, in bytes (RFC 7541, section 4.1); the default, which we never
/// change.
const TABLE_BYTES_MAX: usize = 4096;
/// What an entry counts beside its texts.
const ENTRY_BYTES: usize = 32;
/// Of a list of fields, in bytes as of [`ENTRY_BYTES`].
pub(crate) const LIST_BYTES_MAX: usize = 64 << 10;
/// The symbol behind those of bytes: the end of a text.
const END: usize = 256;
/// Longest code, in bits.
const BITS_MAX: u8 = 30;

/// What is wrong with a list; the connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Writes a list.
pub(crate) fn encode<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal that is not to be remembered, with a new name (section 6.2.2).
        block.push(0);
        for text in [name, value] {
            put_number(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A number whose first byte has seven bits for it (section 5.1).
fn put_number(block: &mut Vec<u8>, number: usize) {
    const FULL: usize = 127;
    let Some(mut rest) = number.checked_sub(FULL) else { return block.push(number as u8) };
    block.push(FULL as u8);
    while rest >= 128 {
        block.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// Reads the lists of one connection.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The newest first.
    table: VecDeque<(String, String)>,
    bytes: usize,
    /// What the peer says that it uses of [`TABLE_BYTES_MAX`].
    limit: Option<usize>,
}

impl Decoder {
    pub(crate) fn decode(&mut self, block: &[u8]) -> Result<Headers, Malformed> {
        let mut input = Input { rest: block };
        let (mut fields, mut bytes) = (Headers::new(), 0);
        while let Some(&first) = input.rest.first() {
            let field = match first {
                0x80.. => self.field(input.number(7)?)?,
                0x40.. => {
                    let field = self.literal(&mut input, 6)?;
                    self.remember(field.clone());
                    field
                }
                0x20.. => {
                    let limit = input.number(5)?;
                    if limit > TABLE_BYTES_MAX || !fields.is_empty() {
                        return Err(Malformed);
                    }
                    self.limit = Some(limit);
                    self.evict(0);
                    continue;
                }
                _ => self.literal(&mut input, 4)?,
            };
            bytes += size(&field);
            if bytes > LIST_BYTES_MAX {
                return Err(Malformed);
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn literal(&self, input: &mut Input<'_>, bits: u8) -> Result<(String, String), Malformed> {
        let name = match input.number(bits)? {
            0 => input.text()?,
            index => self.field(index)?.0,
        };
        Ok((name, input.text()?))
    }

    fn field(&self, index: usize) -> Result<(String, String), Malformed> {
        let index = index.checked_sub(1).ok_or(Malformed)?;
        match FIELDS.get(index) {
            Some((name, value)) => Ok(((*name).to_owned(), (*value).to_owned())),
            None => self.table.get(index - FIELDS.len()).cloned().ok_or(Malformed),
        }
    }

    fn remember(&mut self, field: (String, String)) {
        let bytes = size(&field);
        self.evict(bytes);
        if bytes <= self.limit() {
            self.bytes += bytes;
            self.table.push_front(field);
        }
    }

    /// Makes room for so much.
    fn evict(&mut self, bytes: usize) {
        while self.bytes + bytes > self.limit() {
            let Some(oldest) = self.table.pop_back() else { return };
            self.bytes -= size(&oldest);
        }
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(TABLE_BYTES_MAX)
    }
}

fn size(field: &(String, String)) -> usize {
    field.0.len() + field.1.len() + ENTRY_BYTES
}

struct Input<'a> {
    rest: &'a [u8],
}

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    /// A number whose first byte has so many bits for it (section 5.1).
    fn number(&mut self, bits: u8) -> Result<usize, Malformed> {
        let full = (1_usize << bits) - 1;
        let mut number = usize::from(self.byte()?) & full;
        if number < full {
            return Ok(number);
        }
        // Nothing here is longer than what four further bytes can say.
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(self.byte()?);
            number += (byte & 127) << shift;
            if byte < 128 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let is_coded = self.rest.first().is_some_and(|byte| byte & 128 != 0);
        let length = self.number(7)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        let text = match is_coded {
            true => uncoded(bytes)?,
            false => bytes.to_vec(),
        };
        String::from_utf8(text).map_err(|_| Malformed)
    }
}

/// Takes a text out of its Huffman code (section 5.2).
fn uncoded(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut text = Vec::with_capacity(bytes.len() * 8 / 5);
    let (mut code, mut bits) = (0_u32, 0_u8);
    for byte in bytes {
        for place in (0..8).rev() {
            code = code << 1 | u32::from(byte >> place & 1);
            bits += 1;
            match symbol(code, bits) {
                Some(END) => return Err(Malformed),
                Some(symbol) => {
                    text.push(symbol as u8);
                    (code, bits) = (0, 0);
                    if text.len() > LIST_BYTES_MAX {
                        return Err(Malformed);
                    }
                }
                None if bits == BITS_MAX => return Err(Malformed),
                None => {}
            }
        }
    }
    // The rest of the last byte is the beginning of the code of the end: ones.
    match bits < 8 && code == (1 << bits) - 1 {
        true => Ok(text),
        false => Err(Malformed),
    }
}

/// The symbol of a code of so many bits.
fn symbol(code: u32, bits: u8) -> Option<usize> {
    let Length { first, count, offset } = LENGTHS[usize::from(bits)];
    let number = code.checked_sub(first).filter(|number| *number < count)?;
    Some(usize::from(SYMBOLS[offset + number as usize]))
}

/// The codes of one length, which follow each other.
#[derive(Clone, Copy)]
struct Length {
    first: u32,
    count: u32,
    /// Where their symbols begin in [`SYMBOLS`].
    offset: usize,
}

/// Symbols by the length of their codes, and by their values.
const SYMBOLS: [u16; 257] = {
    let mut symbols = [0; 257];
    let (mut bits, mut at) = (1, 0);
    while bits <= BITS_MAX {
        let mut symbol = 0;
        while symbol < CODE_BITS.len() {
            if CODE_BITS[symbol] == bits {
                symbols[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    symbols
};

const LENGTHS: [Length; BITS_MAX as usize + 1] = {
    let mut lengths = [Length { first: 0, count: 0, offset: 0 }; BITS_MAX as usize + 1];
    let (mut bits, mut next, mut offset) = (1, 0, 0);
    while bits < lengths.len() {
        next <<= 1;
        let (mut count, mut symbol) = (0, 0);
        while symbol < CODE_BITS.len() {
            if CODE_BITS[symbol] as usize == bits {
                count += 1;
            }
            symbol += 1;
        }
        lengths[bits] = Length { first: next, count, offset };
        next += count;
        offset += count as usize;
        bits += 1;
    }
    lengths
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
        digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }

    fn pairs(fields: &[(&str, &str)]) -> Headers {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// The examples of RFC 7541, appendix C.4: requests of one connection, with codes.
    #[test]
    fn the_examples_of_the_standard_are_read() {
        let mut decoder = Decoder::default();
        let first = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "www.example.com"),
        ];
        let block = bytes("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff");
        assert_eq!(decoder.decode(&block), Ok(pairs(&first)));
        let block = bytes("8286 84be 5886 a8eb 1064 9cbf");
        let second = [&first[..], &[("cache-control", "no-cache")]].concat();
        assert_eq!(decoder.decode(&block), Ok(pairs(&second)));
        let block = bytes("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf");
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        assert_eq!(decoder.decode(&block), Ok(pairs(&third)));
    }

    /// Appendix C.5: a table of 256 bytes, from which entries fall out.
    #[test]
    fn what_does_not_fit_is_forgotten() {
        let mut decoder = Decoder::default();
        let mut long = vec![0x3f, 0xe1, 0x01];
        long.extend(encode([]));
        assert_eq!(decoder.decode(&long), Ok(pairs(&[])));
        for (name, value) in [("a", "x".repeat(100)), ("b", "y".repeat(100))] {
            let mut block = vec![0x40];
            for text in [name, &value] {
                put_number(&mut block, text.len());
                block.extend(text.as_bytes());
            }
            decoder.decode(&block).unwrap();
        }
        // The newest is number 62; there is no 63 any more.
        assert_eq!(decoder.decode(&[0xbe]).unwrap()[0].0, "b");
        assert_eq!(decoder.decode(&[0xbf]), Err(Malformed));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for wrong in ["80", "ff ff ff ff ff ff", "00 01", "00 05 61", "3f ff 7f", "00 81 00 00"] {
            assert_eq!(Decoder::default().decode(&bytes(wrong)), Err(Malformed), "{wrong}");
        }
        let long = "x".repeat(LIST_BYTES_MAX);
        assert_eq!(Decoder::default().decode(&encode([("a", &*long)])), Err(Malformed));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(fields in prop::collection::vec((".{0,200}", ".{0,200}"), 0..8)) {
            let block = encode(fields.iter().map(|(name, value)| (&**name, &**value)));
            prop_assert_eq!(Decoder::default().decode(&block), Ok(fields));
        }

        #[test]
        fn nothing_breaks_it(block in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Decoder::default().decode(&block);
        }
    }
}
