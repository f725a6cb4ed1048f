//! Compiled modules of Python (PEP 552).

use std::ffi::OsStr;
use std::os::unix::fs::FileExt as _;

use rustix::fs::FileType;

use super::Written;
use crate::build::source::lstat;

/// Magic, flags, time and size of the source.
const HEADER_BYTES: usize = 16;

/// Has the header of a module that was compiled from a source of the same layer say the time that the
/// source will have there: what is younger than the build becomes as old.
pub(super) fn bytecode(written: &Written<'_>) -> std::io::Result<()> {
    let mut header = [0; HEADER_BYTES];
    if written.file.read_exact_at(&mut header, 0).is_err() {
        return Ok(());
    }
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
    // Others are checked by a hash, or not at all.
    if word(4) != 0 {
        return Ok(());
    }
    let Some(source_s) = source_time(written)? else { return Ok(()) };
    if low_word(source_s) != word(8) || source_s <= written.time.epoch_s {
        return Ok(());
    }
    written.file.write_all_at(&low_word(written.time.epoch_s).to_le_bytes(), 8)
}

/// The time of the source, in seconds since 1970, if it is in the same layer: that of
/// `__pycache__/NAME.cpython-311.pyc` is `NAME.py` in the directory above, else it is beside it.
fn source_time(written: &Written<'_>) -> std::io::Result<Option<i64>> {
    let stem = written.name.trim_end_matches(".pyc");
    let module = stem.split('.').next().unwrap_or(stem);
    let places = [(written.above, module), (Some(written.at), stem)];
    for (directory, name) in places {
        let Some(directory) = directory else { continue };
        let found = lstat(directory, OsStr::new(&format!("{name}.py")))?;
        if let Some(stat) = found
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        {
            return Ok(Some(stat.st_mtime));
        }
    }
    Ok(None)
}

/// A time as the format has it, in 32 bits.
fn low_word(time_s: i64) -> u32 {
    u32::try_from(time_s & i64::from(u32::MAX)).unwrap_or(0)
}
