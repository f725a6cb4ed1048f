//! `cais context update`

use engine::Result;

use super::Docker;
use super::store::Store;
use crate::progress;
use crate::session::Session;

/// What `context update` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Description of the context
    #[arg(long)]
    description: Option<String>,
    /// Set the docker endpoint: host=ADDRESS,ca=FILE,cert=FILE,key=FILE
    #[arg(long, value_name = "KEY=VALUE,…")]
    docker: Option<String>,
    /// Its name
    context: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let store = Store::open()?;
    let mut context = store.get(&args.context)?;
    if let Some(text) = &args.description {
        context.describe(text);
    }
    let docker = args.docker.as_deref().map(Docker::parse).transpose()?.unwrap_or_default();
    docker.apply(&store, &mut context)?;
    docker.keep_files(&store, &args.context)?;
    store.put(&context)?;
    session.say(&args.context)?;
    progress::note(&format!("Successfully updated context \"{}\"", args.context));
    Ok(0)
}
