//! Whole files as lines of text (git, `diff.c`: `emit_binary_diff_body`, and `base85.c`).

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;

const DIGITS: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
/// Bytes that one line holds.
const LINE_BYTES: usize = 52;

/// Writes `content`, which is `size` bytes long, compressed and encoded.
///
/// # Errors
/// If it is shorter than that, or cannot be read; what `out` answers.
pub(crate) fn literal(out: &mut dyn Write, size: u64, content: &mut dyn Read) -> io::Result<()> {
    writeln!(out, "literal {size}")?;
    let lines = Lines { out: &mut *out, pending: Vec::with_capacity(LINE_BYTES) };
    let mut encoder = ZlibEncoder::new(lines, Compression::default());
    if io::copy(&mut content.take(size), &mut encoder)? != size {
        return Err(changed());
    }
    encoder.finish()?.end()?;
    out.write_all(b"\n")
}

/// Why a file is not as long as it was a moment ago.
pub(super) fn changed() -> io::Error {
    io::Error::other("the file changed while it was read")
}

struct Lines<'a> {
    out: &'a mut dyn Write,
    pending: Vec<u8>,
}

impl Lines<'_> {
    fn end(mut self) -> io::Result<()> {
        if self.pending.is_empty() { Ok(()) } else { self.line() }
    }

    /// One line: how many bytes it holds, then five digits for every four of them.
    fn line(&mut self) -> io::Result<()> {
        let length = self.pending.len() as u8;
        let mut text = vec![if length <= 26 { b'A' + length - 1 } else { b'a' + length - 27 }];
        for chunk in self.pending.chunks(4) {
            let mut four = [0; 4];
            four[..chunk.len()].copy_from_slice(chunk);
            let mut number = u32::from_be_bytes(four);
            let mut digits = [0; 5];
            for digit in digits.iter_mut().rev() {
                *digit = DIGITS[(number % 85) as usize];
                number /= 85;
            }
            text.extend(digits);
        }
        text.push(b'\n');
        self.pending.clear();
        self.out.write_all(&text)
    }
}

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(LINE_BYTES - self.pending.len());
        self.pending.extend_from_slice(&bytes[..n]);
        if self.pending.len() == LINE_BYTES {
            self.line()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What git reads from such lines.
    fn decoded(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in text.lines().skip(1).filter(|line| !line.is_empty()) {
            let (length, digits) = (line.as_bytes()[0], &line.as_bytes()[1..]);
            let length = if length <= b'Z' { length - b'A' + 1 } else { length - b'a' + 27 };
            let value = |digit: &u8| DIGITS.iter().position(|known| known == digit).unwrap() as u32;
            let fours = digits.chunks(5).flat_map(|five| {
                five.iter().fold(0u32, |all, digit| all * 85 + value(digit)).to_be_bytes()
            });
            bytes.extend(fours.take(length as usize));
        }
        let mut content = Vec::new();
        flate2::read::ZlibDecoder::new(&bytes[..]).read_to_end(&mut content).unwrap();
        content
    }

    #[test]
    fn whole_files_can_be_read_back() {
        for size in [0usize, 1, 3, 51, 52, 53, 5000] {
            let content: Vec<u8> = (0..size).map(|n| (n * n % 251) as u8).collect();
            let mut out = Vec::new();
            literal(&mut out, size as u64, &mut &content[..]).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with(&format!("literal {size}\n")) && text.ends_with("\n\n"));
            assert_eq!(decoded(&text), content);
        }
    }

    #[test]
    fn a_file_that_shrank_is_an_error() {
        assert!(literal(&mut Vec::new(), 2, &mut &b"x"[..]).is_err());
    }
}
