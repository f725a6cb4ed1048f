//! `cais context create`

use engine::{Error, Kind, Result};

use super::Docker;
use super::store::{Context, Store, check_name};
use crate::command::remote::current_context;
use crate::progress;
use crate::session::Session;

/// What `context create` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Description of the context
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// Set the docker endpoint: host=ADDRESS,ca=FILE,cert=FILE,key=FILE
    #[arg(long, value_name = "KEY=VALUE,…")]
    docker: Option<String>,
    /// Create context from a named context
    #[arg(long, value_name = "CONTEXT")]
    from: Option<String>,
    /// Its name
    context: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    check_name(&args.context)?;
    let store = Store::open()?;
    if store.meta_directory(&args.context).exists() {
        return Err(Error::new(Kind::Exists, format!("context {:?} already exists", args.context)));
    }
    let mut context = match (&args.from, &args.docker) {
        (Some(from), _) => {
            let mut context = store.get(from)?;
            context.name.clone_from(&args.context);
            context.document["Name"] = args.context.as_str().into();
            context
        }
        (None, Some(_)) => Context::new(&args.context),
        (None, None) => {
            let current = current_context()?;
            return Err(Error::invalid("docker endpoint configuration is required").hint(format!(
                "as in --docker host=ssh://user@host; --from copies one, as the current {current}"
            )));
        }
    };
    if !args.description.is_empty() {
        context.describe(&args.description);
    }
    let docker = args.docker.as_deref().map(Docker::parse).transpose()?.unwrap_or_default();
    docker.apply(&store, &mut context)?;
    context.endpoint()?;
    if let Some(from) = args.from.as_ref().or(docker.from.as_ref()) {
        copy_tls(&store, from, &args.context)?;
    }
    docker.keep_files(&store, &args.context)?;
    store.put(&context)?;
    session.say(&args.context)?;
    progress::note(&format!("Successfully created context \"{}\"", args.context));
    Ok(0)
}

fn copy_tls(store: &Store, from: &str, to: &str) -> Result<()> {
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        if let Ok(text) = std::fs::read(store.tls_files(from).join(file)) {
            store.keep_tls(to, file, &text)?;
        }
    }
    Ok(())
}
