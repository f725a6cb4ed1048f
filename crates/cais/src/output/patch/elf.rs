//! The build id of a program (`NT_GNU_BUILD_ID`; System V ABI, "Note Section").

/// Bytes from the start of a program in which its notes are looked for: linkers put them first.
pub(crate) const HEAD_BYTES: u64 = 64 * 1024;

const PT_NOTE: u64 = 4;
const NT_GNU_BUILD_ID: u64 = 3;
/// Program headers looked at; real programs have about a dozen.
const HEADERS_MAX: u64 = 128;
/// Notes looked at in one segment.
const NOTES_MAX: usize = 64;

/// The build id in hexadecimal digits, if `head` is the beginning of a program that has one.
pub(crate) fn build_id(head: &[u8]) -> Option<String> {
    let [0x7f, b'E', b'L', b'F', class, data, ..] = *head else { return None };
    let elf = Elf { bytes: head, wide: class == 2, little: data == 1 };
    let (table, size, count) = match elf.wide {
        true => (elf.number(32, 8)?, elf.number(54, 2)?, elf.number(56, 2)?),
        false => (elf.number(28, 4)?, elf.number(42, 2)?, elf.number(44, 2)?),
    };
    (0..count.min(HEADERS_MAX)).find_map(|n| {
        let at = table.checked_add(n.checked_mul(size)?)?;
        if elf.number(at, 4)? != PT_NOTE {
            return None;
        }
        let (offset, length) = match elf.wide {
            true => (elf.number(at.checked_add(8)?, 8)?, elf.number(at.checked_add(32)?, 8)?),
            false => (elf.number(at.checked_add(4)?, 4)?, elf.number(at.checked_add(16)?, 4)?),
        };
        elf.note(offset, length)
    })
}

struct Elf<'a> {
    bytes: &'a [u8],
    wide: bool,
    little: bool,
}

impl Elf<'_> {
    fn slice(&self, at: u64, length: u64) -> Option<&[u8]> {
        let start = usize::try_from(at).ok()?;
        self.bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
    }

    fn number(&self, at: u64, length: u64) -> Option<u64> {
        let bytes = self.slice(at, length)?;
        let add = |all: u64, &byte: &u8| all << 8 | u64::from(byte);
        Some(if self.little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) })
    }

    fn note(&self, offset: u64, length: u64) -> Option<String> {
        let mut at = offset;
        let end = offset.checked_add(length)?;
        for _ in 0..NOTES_MAX {
            if at >= end {
                return None;
            }
            let (name, value) = (self.number(at, 4)?, self.number(at.checked_add(4)?, 4)?);
            let kind = self.number(at.checked_add(8)?, 4)?;
            let name_at = at.checked_add(12)?;
            let value_at = name_at.checked_add(name.next_multiple_of(4))?;
            if kind == NT_GNU_BUILD_ID && self.slice(name_at, name)? == b"GNU\0" {
                let id = self.slice(value_at, value)?;
                return Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
            }
            at = value_at.checked_add(value.next_multiple_of(4))?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of 64 bits with one note.
    fn program(kind: u32, id: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = 4;
        bytes[64 + 8] = 120;
        bytes[64 + 32] = 16 + id.len() as u8;
        for word in [4, id.len() as u32, kind] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(b"GNU\0");
        bytes.extend(id);
        bytes
    }

    #[test]
    fn the_build_id_is_found_or_nothing_is() {
        let whole = program(3, &[0xab, 0xcd, 1, 2]);
        assert_eq!(build_id(&whole).as_deref(), Some("abcd0102"));
        assert_eq!(build_id(&program(1, &[0xab])), None);
        for length in 0..whole.len() {
            assert_eq!(build_id(&whole[..length]), None, "{length}");
        }
        let mut huge = whole;
        huge[32..40].fill(0xff);
        assert_eq!(build_id(&huge), None);
    }
}
