//! Whether the memory of a checkpoint is whole: CRIU waits for ever for pages that are not there.

use std::fs;
use std::path::Path;

use super::Error;
use super::criu::numbers;

/// First word of images with content (`IMG_COMMON_MAGIC` of CRIU's magic.h).
const COMMON: u32 = 0x5456_4319;
/// Second word of a list of pages (`PAGEMAP_MAGIC`).
const PAGEMAP: u32 = 0x5608_4025;
/// That of the list of processes (`PSTREE_MAGIC`), whose first field is the number.
const PSTREE: u32 = 0x5027_3030;
/// The pages are in the file of pages (`PE_PRESENT` of CRIU's pagemap.h).
const PRESENT: u64 = 1 << 2;
/// The smallest pages that Linux has, in bytes.
const PAGE_BYTES: u64 = 4096;

/// Refuses a checkpoint in `directory` that lacks pages which the lists of its processes name.
/// What has a form that is not understood is CRIU's to judge, as is what is left of older ones.
///
/// # Errors
/// [`Error::Refused`] names the file.
pub(super) fn check(directory: &Path) -> Result<(), Error> {
    let read = |name: &str, magic: u32| {
        let bytes = fs::read(directory.join(name)).ok()?;
        messages(&bytes, magic)
    };
    for process in read("pstree.img", PSTREE).unwrap_or_default() {
        let Some(pid) = field(&process, 1) else { continue };
        let name = format!("pagemap-{pid}.img");
        let Some((id, pages)) = read(&name, PAGEMAP).and_then(|list| count(&list)) else {
            continue;
        };
        let file = directory.join(format!("pages-{id}.img"));
        let length = fs::metadata(&file).map_or(0, |file| file.len());
        if length < pages.saturating_mul(PAGE_BYTES) {
            return Err(Error::Refused(format!(
                "the checkpoint is not whole: `{}` is shorter than `{name}` says",
                file.display()
            )));
        }
    }
    Ok(())
}

/// The numbers of a message, by those of their fields.
type Numbers = Vec<(u64, u64)>;

/// The messages in an image of this kind, each behind its length.
fn messages(bytes: &[u8], magic: u32) -> Option<Vec<Numbers>> {
    let word = |bytes: &[u8]| Some(u32::from_le_bytes(*bytes.first_chunk()?));
    if word(bytes)? != COMMON || word(bytes.get(4..)?)? != magic {
        return None;
    }
    let (mut rest, mut found) = (bytes.get(8..)?, Vec::new());
    while !rest.is_empty() {
        let length = usize::try_from(word(rest)?).ok()?;
        let (message, after) = rest.get(4..)?.split_at_checked(length)?;
        found.push(numbers(message)?);
        rest = after;
    }
    Some(found)
}

fn field(message: &Numbers, number: u64) -> Option<u64> {
    message.iter().rev().find(|(found, _)| *found == number).map(|(_, value)| *value)
}

/// Which file of pages a list is about, and how many pages it has there (`pagemap_head` and
/// `pagemap_entry` of CRIU's pagemap.proto).
fn count(list: &[Numbers]) -> Option<(u64, u64)> {
    let (head, entries) = list.split_first()?;
    let mut pages = 0_u64;
    for entry in entries {
        // Before there were flags, everything was there that was not the parent's.
        let old = if field(entry, 3) == Some(1) { 0 } else { PRESENT };
        if field(entry, 4).unwrap_or(old) & PRESENT != 0 {
            pages = pages.checked_add(field(entry, 5).or(field(entry, 2))?)?;
        }
    }
    Some((field(head, 1)?, pages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::criu::Message;

    /// An image: what it is, the number of what it is about, and how many pages with which flags.
    fn image(magic: u32, id: i64, entries: &[(i64, i64)]) -> Vec<u8> {
        let mut bytes = [COMMON.to_le_bytes(), magic.to_le_bytes()].concat();
        let mut add = |message: &Message| {
            let length = u32::try_from(message.bytes().len()).unwrap();
            bytes.extend(length.to_le_bytes());
            bytes.extend(message.bytes());
        };
        let mut head = Message::default();
        add(head.number(1, id));
        for (count, flags) in entries {
            let mut entry = Message::default();
            add(entry.number(1, 4096).number(2, *count).number(4, *flags));
        }
        bytes
    }

    #[test]
    fn pages_that_are_missing_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        // Two here, one in the parent, one for later.
        let list = image(PAGEMAP, 7, &[(1, 4), (5, 1), (1, 6), (9, 2)]);
        fs::write(at("pstree.img"), image(PSTREE, 1, &[])).unwrap();
        // One that is left of an older checkpoint.
        fs::write(at("pagemap-2.img"), image(PAGEMAP, 7, &[(99, 4)])).unwrap();
        fs::write(at("pagemap-1.img"), &list).unwrap();
        let full = usize::try_from(2 * PAGE_BYTES).unwrap();
        for (length, whole) in [(full, true), (full - 1, false), (0, false)] {
            fs::write(at("pages-7.img"), vec![0; length]).unwrap();
            assert_eq!(check(directory.path()).is_ok(), whole, "{length}");
        }
        let text = check(directory.path()).unwrap_err().to_string();
        assert!(text.contains("pages-7.img` is shorter than `pagemap-1.img` says"), "{text}");
        // A list that is not understood is CRIU's to judge.
        for end in 0..list.len() {
            fs::write(at("pagemap-1.img"), &list[..end]).unwrap();
            let _ = check(directory.path());
        }
        fs::write(at("pagemap-1.img"), "other").unwrap();
        check(directory.path()).unwrap();
    }
}
