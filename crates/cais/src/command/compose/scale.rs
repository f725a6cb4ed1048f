//! `cais compose scale`

use ::compose::plan::{Options, Recreate};
use engine::{Error, Result};

use super::create::{Manner, bring_about, set_scale};
use super::image::Wanted;
use super::scope::Scope;
use crate::session::Session;

/// What `scale` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Don't start linked services
    #[arg(long)]
    no_deps: bool,
    /// The services, each with how many containers it is to have
    #[arg(required = true, value_name = "SERVICE=REPLICAS")]
    scales: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let mut scope = Scope::load(session)?;
    let name = |text: &String| match text.split_once('=') {
        Some((name, _)) => Ok(name.to_owned()),
        None => Err(Error::invalid(format!("invalid scale specifier: {text}")).hint("as in web=3")),
    };
    let named = args.scales.iter().map(name).collect::<Result<Vec<_>>>()?;
    let services = scope.select(&named, !args.no_deps)?;
    set_scale(&mut scope, &args.scales)?;
    let options = Options {
        services,
        named,
        recreate: Recreate::Never,
        recreate_dependencies: Recreate::Never,
        starts: true,
        removes_orphans: false,
    };
    bring_about(&scope, &Wanted::default(), &options, &Manner::default(), None)?;
    Ok(0)
}
