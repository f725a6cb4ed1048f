//! Files of /proc.

use std::fs::File;
use std::io::{self, Read as _};

/// Most such files are smaller.
const USUAL_BYTES: usize = 8 << 10;

/// The whole of a file of /proc.
///
/// Such a file says that it is empty, and is composed anew for each read, so that reading it in
/// the small pieces that such a size suggests costs several times as much.
pub(crate) fn read(path: &str) -> io::Result<String> {
    let mut text = String::with_capacity(USUAL_BYTES);
    // A file alone would be asked for its size first.
    File::open(path)?.take(u64::MAX).read_to_string(&mut text)?;
    Ok(text)
}
