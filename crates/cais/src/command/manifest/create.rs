//! `cais manifest create`

use engine::Result;

use crate::session::Session;

/// What `create` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Amend an existing manifest list
    #[arg(short, long)]
    amend: bool,
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// What the list is to be called
    manifest_list: String,
    /// The manifests, by name
    #[arg(required = true)]
    manifests: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let list = super::super::reference(&args.manifest_list)?;
    let members = args.manifests.iter().map(|name| super::super::reference(name));
    let members = members.collect::<Result<Vec<_>>>()?;
    let engine = session.engine()?;
    engine.create_manifest_list(&list, &members, args.amend, args.insecure)?;
    session.say(format!("Created manifest list {}", list.familiar())).map(|()| 0)
}
