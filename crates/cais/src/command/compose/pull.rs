//! `cais compose pull`

use engine::{Error, Result};

use super::scope::Scope;
use crate::session::Session;

/// What `pull` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Ignore images that can be built
    #[arg(long)]
    ignore_buildable: bool,
    /// Pull what it can and ignores images with pull failures
    #[arg(long)]
    ignore_pull_failures: bool,
    /// Also pull services declared as dependencies
    #[arg(long)]
    include_deps: bool,
    /// Apply pull policy (missing, always)
    #[arg(long, value_name = "POLICY", value_parser = ["missing", "always"])]
    policy: Option<String>,
    /// Pull without printing progress information
    #[arg(short, long)]
    quiet: bool,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let mut scope = Scope::load(session)?;
    let services = scope.select(&args.services, args.include_deps)?;
    let project = scope.project()?;
    let mut done: Vec<String> = Vec::new();
    for service in services.iter().filter_map(|name| project.services.get(name)) {
        let image = service.image();
        let can_build = service.build().is_some();
        let has_no_registry = can_build && service.node.get("image").is_none();
        let is_there = || scope.engine.image(&image).is_ok();
        let skips = done.contains(&image)
            || has_no_registry
            || (can_build && args.ignore_buildable)
            || matches!(service.node.word_of("pull_policy"), Some("never" | "build"))
            || (args.policy.as_deref() == Some("missing") && is_there());
        if skips {
            continue;
        }
        match super::image::pull(&scope, service, args.quiet) {
            Err(error) if args.ignore_pull_failures || can_build => crate::command::report(&error),
            Err(error) => {
                let hint = error.hint_text().map(str::to_owned);
                let failed = Error::caused(error.kind(), format!("pull {image}"), error);
                return Err(match hint {
                    Some(hint) => failed.hint(hint),
                    None => failed,
                });
            }
            Ok(()) => {}
        }
        done.push(image);
    }
    Ok(0)
}
