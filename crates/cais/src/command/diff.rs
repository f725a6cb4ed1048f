//! `cais diff`

use engine::Result;

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
        text.extend_from_slice(&[change.letter(), b' ']);
        text.extend_from_slice(change.path.as_os_str().as_bytes());
        text.push(b'\n');
    }
    session.print_bytes(&text).map(|()| 0)
}
