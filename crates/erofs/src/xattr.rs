//! Extended attributes, as they follow an inode.

use rustix::io::Errno;

const HEADER_BYTES: usize = 12;
/// The number of words that an inode can say it has, with the header as one.
const WORDS_MAX: usize = u16::MAX as usize;

/// The classes of attributes that the format knows, by the number that stands for each.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// Whether an image can hold an attribute of this name.
#[must_use]
pub fn supports(name: &[u8]) -> bool {
    split(name).is_some()
}

fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(prefix, index)| {
        let rest = name.strip_prefix(*prefix)?;
        // A class ends with a dot and needs a name; an access list is a name.
        (prefix.ends_with(b".") != rest.is_empty()).then_some((*index, rest))
    })
}

/// The area behind an inode, empty without attributes.
pub(crate) fn encode<'a>(
    attributes: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Vec<u8>, Errno> {
    let mut area = Vec::new();
    for (name, value) in attributes {
        let (index, rest) = split(name).ok_or(Errno::OPNOTSUPP)?;
        let length = u8::try_from(rest.len()).map_err(|_| Errno::RANGE)?;
        let size = u16::try_from(value.len()).map_err(|_| Errno::TOOBIG)?;
        if area.is_empty() {
            area.resize(HEADER_BYTES, 0);
        }
        area.extend_from_slice(&[length, index]);
        area.extend_from_slice(&size.to_le_bytes());
        area.extend_from_slice(rest);
        area.extend_from_slice(value);
        area.resize(area.len().next_multiple_of(4), 0);
    }
    if area.len() > HEADER_BYTES + 4 * (WORDS_MAX - 1) {
        return Err(Errno::TOOBIG);
    }
    Ok(area)
}

/// What an inode says about an area.
pub(crate) fn count(area_bytes: usize) -> u16 {
    match area_bytes {
        0 => 0,
        n => ((n - HEADER_BYTES) / 4 + 1) as u16,
    }
}

/// Bytes of an area, from what an inode says about it.
pub(crate) fn bytes(count: u16) -> u64 {
    match count {
        0 => 0,
        n => HEADER_BYTES as u64 + 4 * (u64::from(n) - 1),
    }
}

/// Names and values of an area that [`encode`] made.
pub(crate) fn decode(area: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut rest = area.get(HEADER_BYTES..).unwrap_or_default();
    while !rest.is_empty() {
        let (length, index) = (usize::from(*rest.first()?), *rest.get(1)?);
        let size = usize::from(u16::from_le_bytes(rest.get(2..4)?.try_into().ok()?));
        let (prefix, _) = PREFIXES.iter().find(|(_, known)| *known == index)?;
        let name = [prefix, rest.get(4..4 + length)?].concat();
        found.push((name, rest.get(4 + length..4 + length + size)?.to_vec()));
        rest = rest.get((4 + length + size).next_multiple_of(4)..)?;
    }
    Some(found)
}
