//! `cais compose cp`

use engine::{Error, Result};

use super::scope::{OneOff, Scope};
use super::{one, typed};
use crate::session::Session;

/// What `cp` takes.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "cais compose cp [OPTIONS] SERVICE:SRC_PATH DEST_PATH|-\n       cais compose cp [OPTIONS] SRC_PATH|- SERVICE:DEST_PATH"
)]
pub(in crate::command) struct Args {
    /// Include containers created by the run command
    #[arg(long)]
    all: bool,
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Index of the container if service has multiple replicas
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// From where
    source: String,
    /// To where
    destination: String,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    let of = |text: &str| {
        let (service, path) = text.split_once(':')?;
        let is_service = !service.is_empty() && !service.contains('/');
        is_service.then(|| (service.to_owned(), path.to_owned()))
    };
    let copy = |source: String, destination: String| {
        let words = [
            format!("--archive={}", args.archive),
            format!("--follow-link={}", args.follow_link),
            "--".to_owned(),
            source,
            destination,
        ];
        crate::command::cp::run(session, &typed("cp", words)?)
    };
    match (of(&args.source), of(&args.destination)) {
        (Some((service, path)), None) => {
            scope.check_services(std::slice::from_ref(&service))?;
            let found = one(&scope, &service, args.index)?;
            copy(format!("{}:{path}", found.record.name), args.destination.clone())
        }
        (None, Some((service, path))) => {
            scope.check_services(std::slice::from_ref(&service))?;
            let one_off = if args.all { OneOff::With } else { OneOff::Without };
            // As Docker Compose: into every container, unless one is named.
            let all = match args.index {
                Some(index) => vec![one(&scope, &service, Some(index))?],
                None => scope.containers(std::slice::from_ref(&service), one_off)?,
            };
            if all.is_empty() {
                one(&scope, &service, None)?;
            }
            for found in all {
                copy(args.source.clone(), format!("{}:{path}", found.record.name))?;
            }
            Ok(0)
        }
        (Some(_), Some(_)) => Err(Error::invalid("copying between services is not supported")),
        (None, None) => Err(Error::invalid("unknown copy direction")
            .hint("as in cais compose cp web:/etc/nginx ./conf")),
    }
}
