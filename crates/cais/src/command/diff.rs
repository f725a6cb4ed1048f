//! `cais diff`

use std::io::IsTerminal as _;

use engine::Result;
use store::ChangeKind;

use crate::output;
use crate::session::Session;

/// What `diff` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container, by name or id
    container: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    use std::os::unix::ffi::OsStrExt;
    let engine = session.engine()?;
    let mut text = Vec::new();
    for change in engine.diff(&engine.find(&args.container)?)? {
        text.extend_from_slice(&[letter(change.kind), b' ']);
        text.extend_from_slice(change.path.as_os_str().as_bytes());
        text.push(b'\n');
    }
    if std::io::stdout().is_terminal() {
        return session.print(&output::printable(&String::from_utf8_lossy(&text))).map(|()| 0);
    }
    session.print_bytes(&text).map(|()| 0)
}

/// Docker's letters.
fn letter(kind: ChangeKind) -> u8 {
    match kind {
        ChangeKind::Added => b'A',
        ChangeKind::Changed => b'C',
        ChangeKind::Deleted => b'D',
    }
}
