//! `cais version`

use engine::Result;

use crate::session::Session;

/// What `version` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(session: &Session, _: &Args) -> Result<i32> {
    let (version, arch) = (env!("CARGO_PKG_VERSION"), oci::Platform::host());
    session.print(&format!("Cais\n Version:  {version}\n OS/Arch:  {arch}\n")).map(|()| 0)
}
