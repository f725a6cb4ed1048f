//! `cais compose push`

use engine::Result;

use super::scope::Scope;
use crate::progress;
use crate::session::Session;

/// What `push` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Push what it can and ignores images with push failures
    #[arg(long)]
    ignore_push_failures: bool,
    /// Also push images of services declared as dependencies
    #[arg(long)]
    include_deps: bool,
    /// Push without printing progress information
    #[arg(short, long)]
    quiet: bool,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let mut scope = Scope::load(session)?;
    let services = scope.select(&args.services, args.include_deps)?;
    let project = scope.project()?;
    for service in services.iter().filter_map(|name| project.services.get(name)) {
        // As Docker Compose: what is not built here is somebody else's to push.
        let (Some(build), Some(image)) = (service.build(), service.node.word_of("image")) else {
            continue;
        };
        let tags = build.words_of("tags").into_iter();
        for name in [image].into_iter().chain(tags) {
            let reference = crate::command::reference(name)?;
            match progress::push(
                scope.engine,
                &reference,
                None,
                args.quiet || scope.report.is_quiet(),
            ) {
                Err(error) if args.ignore_push_failures => crate::command::report(&error),
                outcome => {
                    outcome?;
                }
            }
        }
    }
    Ok(0)
}
