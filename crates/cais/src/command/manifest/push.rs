//! `cais manifest push`

use engine::Result;

use crate::session::Session;

/// What `push` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Allow push to an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Remove the local manifest list after push
    #[arg(short, long)]
    purge: bool,
    /// The list
    manifest_list: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let list = super::super::reference(&args.manifest_list)?;
    let engine = session.engine()?;
    let name = list.name();
    let tell = |digest| {
        // Whoever read it may have gone, and the push goes on all the same.
        let _ = session.say(format!("Pushed ref {name}@{digest} with digest: {digest}"));
    };
    let digest = {
        let told = std::sync::Mutex::new(Vec::new());
        let digest = engine.push_manifest_list(&list, args.insecure, &|digest| {
            told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(digest);
        });
        let told = told.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        told.into_iter().for_each(tell);
        digest?
    };
    if args.purge {
        engine.remove_manifest_list(&list)?;
    }
    session.say(digest.to_string()).map(|()| 0)
}
