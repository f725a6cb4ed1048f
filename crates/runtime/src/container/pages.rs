//! Whether the memory of a checkpoint is whole: CRIU waits for ever for pages that are not there.

use std::fs;
use std::path::Path;

use super::Error;
use super::criu::numbers;
use crate::error::Doing;

/// First word of images with content (`IMG_COMMON_MAGIC` of CRIU's magic.h).
const COMMON: u32 = 0x5456_4319;
/// Second word of a list of pages (`PAGEMAP_MAGIC`).
const PAGEMAP: u32 = 0x5608_4025;
/// The pages are in the file of pages (`PE_PRESENT` of CRIU's pagemap.h).
const PRESENT: u64 = 1 << 2;
/// The smallest pages that Linux has, in bytes.
const PAGE_BYTES: u64 = 4096;

/// Refuses a checkpoint in `directory` that lacks pages which its lists name.
///
/// # Errors
/// [`Error::Refused`] names the file.
pub(super) fn check(directory: &Path) -> Result<(), Error> {
    let doing = || format!("read the checkpoint in `{}`", directory.display());
    for entry in fs::read_dir(directory).doing(doing)? {
        let path = entry.doing(doing)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with("pagemap-") {
            continue;
        }
        let bytes = fs::read(&path).doing(|| format!("read `{}`", path.display()))?;
        // What has another form is CRIU's to judge.
        let Some((id, pages)) = list(&bytes) else { continue };
        let file = directory.join(format!("pages-{id}.img"));
        let length = fs::metadata(&file).map_or(0, |file| file.len());
        if length < pages * PAGE_BYTES {
            return Err(Error::Refused(format!(
                "the checkpoint is not whole: `{}` is shorter than `{name}` says",
                file.display()
            )));
        }
    }
    Ok(())
}

/// Which file of pages a list is about, and how many pages it has there (`pagemap_head` and
/// `pagemap_entry` of pagemap.proto, each behind its length).
fn list(bytes: &[u8]) -> Option<(u64, u64)> {
    let word = |bytes: &[u8]| Some(u32::from_le_bytes(*bytes.first_chunk()?));
    if word(bytes)? != COMMON || word(bytes.get(4..)?)? != PAGEMAP {
        return None;
    }
    let (mut rest, mut id, mut pages) = (bytes.get(8..)?, None, 0_u64);
    while !rest.is_empty() {
        let length = usize::try_from(word(rest)?).ok()?;
        let (message, after) = rest.get(4..)?.split_at_checked(length)?;
        rest = after;
        let fields = numbers(message)?;
        let field = |number: u64| fields.iter().rev().find(|(n, _)| *n == number).map(|(_, v)| *v);
        if id.is_none() {
            id = Some(field(1)?);
            continue;
        }
        // Before there were flags, everything was there that was not the parent's.
        let flags = field(4).unwrap_or(if field(3) == Some(1) { 0 } else { PRESENT });
        if flags & PRESENT != 0 {
            pages = pages.checked_add(field(5).or(field(2))?)?;
        }
    }
    Some((id?, pages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::criu::Message;

    /// A list of these entries: how many pages, and their flags.
    fn pagemap(id: i64, entries: &[(i64, i64)]) -> Vec<u8> {
        let mut bytes = [COMMON.to_le_bytes(), PAGEMAP.to_le_bytes()].concat();
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
        let list = pagemap(7, &[(1, 4), (5, 1), (1, 6), (9, 2)]);
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
