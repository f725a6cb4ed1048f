//! `cais compose build`

use engine::{Error, Kind, Result};

use super::image::{Building, build};
use super::scope::Scope;
use crate::session::Session;

/// What `build` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Set build-time variables for services
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,
    /// Check build configuration
    #[arg(long)]
    check: bool,
    /// Set memory limit for the build container
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Set type of progress output (auto, plain, rawjson, quiet)
    #[arg(long, value_name = "TYPE")]
    progress: Option<String>,
    /// Always attempt to pull a newer version of the image
    #[arg(long)]
    pull: bool,
    /// Push service images
    #[arg(long)]
    push: bool,
    /// Suppress the build output
    #[arg(short, long)]
    quiet: bool,
    /// Set SSH authentications used when building service images
    #[arg(long, value_name = "ID", hide = true)]
    ssh: Option<String>,
    /// Also build dependencies (transitively)
    #[arg(long)]
    with_dependencies: bool,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    if args.ssh.is_some() {
        return Err(Error::new(Kind::Unsupported, "--ssh is not supported"));
    }
    let mut scope = Scope::load(session)?;
    let mut services = scope.select(&args.services, args.with_dependencies)?;
    let project = scope.project()?;
    // What others are built from comes first.
    services.sort_by_key(|name| {
        let contexts = project
            .services
            .get(name)
            .and_then(|service| service.build()?.get("additional_contexts"));
        let map = contexts.and_then(::compose::Node::entries);
        map.into_iter()
            .flat_map(::compose::Map::iter)
            .any(|(_, node)| node.word().is_some_and(|word| word.starts_with("service:")))
    });
    let building = Building {
        no_cache: args.no_cache,
        pull: args.pull,
        quiet: args.quiet,
        push: args.push,
        check: args.check,
        progress: args.progress.clone(),
        memory: args.memory.clone(),
        args: args.build_arg.clone(),
    };
    let mut code = 0;
    let mut count = 0;
    for service in services.iter().filter_map(|name| project.services.get(name)) {
        if service.build().is_some() {
            code |= build(&scope, project, service, &building)?;
            count += 1;
        }
    }
    if count == 0 {
        crate::progress::note("WARN: No services to build");
    }
    Ok(code)
}
