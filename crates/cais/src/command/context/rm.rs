//! `cais context rm`

use engine::{Error, Kind, Result};

use super::store::{DEFAULT, Store};
use crate::command::each;
use crate::command::remote::current_context;
use crate::session::Session;

/// What `context rm` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Force the removal of a context in use
    #[arg(short, long)]
    force: bool,
    /// Their names
    #[arg(required = true)]
    contexts: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let store = Store::open()?;
    let current = current_context()?;
    each(&args.contexts, |name| {
        if name == DEFAULT {
            return Err(Error::invalid("context \"default\" cannot be removed"));
        }
        match store.get(name) {
            Err(error) if args.force && error.kind() == Kind::NotFound => {}
            found => drop(found?),
        }
        if name == current {
            if !args.force {
                let message = format!("context {name:?} is in use, set -f flag to force remove");
                return Err(Error::new(Kind::Conflict, message));
            }
            store.choose(None)?;
        }
        store.remove(name)?;
        session.say(name)
    })
}
