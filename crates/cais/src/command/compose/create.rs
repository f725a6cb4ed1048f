//! `cais compose create`, and what it has in common with `up`.

use ::compose::plan::{Options, Recreate, plan};
use engine::{Error, Result};

use super::apply::Apply;
use super::follow::Follower;
use super::from_compose;
use super::image::{self, Wanted};
use super::observed::World;
use super::scope::Scope;
use crate::session::Session;

/// What `create` and `up` take.
#[derive(Debug, Clone, Default, clap::Args)]
pub(in crate::command) struct Making {
    /// Build images before starting containers
    #[arg(long)]
    pub(super) build: bool,
    /// Don't build an image, even if it's policy
    #[arg(long)]
    pub(super) no_build: bool,
    /// Pull image before running (always, missing, never, build, policy)
    #[arg(long, value_name = "WHEN", default_value = "policy")]
    pub(super) pull: String,
    /// Pull without printing progress information
    #[arg(long)]
    pub(super) quiet_pull: bool,
    /// Recreate containers even if their configuration and image haven't changed
    #[arg(long)]
    pub(super) force_recreate: bool,
    /// If containers already exist, don't recreate them. Incompatible with --force-recreate
    #[arg(long)]
    pub(super) no_recreate: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    pub(super) remove_orphans: bool,
    /// Scale SERVICE to NUM instances. Overrides the scale setting in the Compose file if present
    #[arg(long, value_name = "SERVICE=NUM")]
    pub(super) scale: Vec<String>,
    /// Assume "yes" as answer to all prompts, of which there are none
    #[arg(short, long)]
    pub(super) yes: bool,
}

/// What `create` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    #[command(flatten)]
    making: Making,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let mut scope = Scope::load(session)?;
    args.making.scale(&mut scope)?;
    let services = scope.select(&args.services, true)?;
    let options = Options { services, ..args.making.options(&args.services)? };
    bring_about(&scope, &args.making.wanted(false)?, &options, &Manner::default(), None)?;
    Ok(0)
}

impl Making {
    /// What is said of images.
    pub(super) fn wanted(&self, quiet_build: bool) -> Result<Wanted> {
        if self.build && self.no_build {
            return Err(Error::invalid("--build and --no-build are incompatible"));
        }
        let (pull, pulled_builds) = image::policy(&self.pull)?;
        let builds = match (self.build, self.no_build) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => pulled_builds,
        };
        Ok(Wanted { pull, builds, quiet_pull: self.quiet_pull, quiet_build })
    }

    /// What is said of containers.
    pub(super) fn options(&self, named: &[String]) -> Result<Options> {
        if self.force_recreate && self.no_recreate {
            return Err(Error::invalid("--force-recreate and --no-recreate are incompatible"));
        }
        let recreate = match (self.force_recreate, self.no_recreate) {
            (true, _) => Recreate::Always,
            (_, true) => Recreate::Never,
            _ => Recreate::Changed,
        };
        let dependencies = if self.no_recreate { Recreate::Never } else { Recreate::Changed };
        let asked = std::env::var("COMPOSE_REMOVE_ORPHANS").unwrap_or_default();
        Ok(Options {
            named: named.to_vec(),
            recreate,
            recreate_dependencies: dependencies,
            removes_orphans: self.remove_orphans || asked == "1" || asked == "true",
            ..Options::default()
        })
    }

    /// Takes over how many containers services are to have.
    pub(super) fn scale(&self, scope: &mut Scope<'_>) -> Result<()> {
        set_scale(scope, &self.scale)
    }
}

/// `SERVICE=NUM`.
pub(super) fn set_scale(scope: &mut Scope<'_>, texts: &[String]) -> Result<()> {
    for text in texts {
        let bad =
            || Error::invalid(format!("invalid --scale option \"{text}\". Should be SERVICE=NUM"));
        let (name, count) = text.split_once('=').ok_or_else(bad)?;
        let count: u32 = count.parse().map_err(|_| bad())?;
        let project = scope.project_mut()?;
        let error = from_compose(project.no_such_service(name));
        let service = project.services.get_mut(name).ok_or(error)?;
        if count > 1 && service.node.get("container_name").is_some() {
            return Err(Error::invalid(format!(
                "can't set container_name and {count} replicas for service {name}, container name must be unique"
            )));
        }
        service.scale = Some(count);
    }
    Ok(())
}

/// How containers are treated on the way.
#[derive(Debug, Clone, Default)]
pub(super) struct Manner {
    /// Seconds to stop in.
    pub(super) timeout_s: Option<i64>,
    /// Whether anonymous volumes are made anew.
    pub(super) renews_volumes: bool,
}

/// Makes the project as the files say; the names of what was started.
pub(super) fn bring_about(
    scope: &Scope<'_>,
    wanted: &Wanted,
    options: &Options,
    manner: &Manner,
    mut follower: Option<&mut Follower>,
) -> Result<Vec<engine::Container>> {
    let project = scope.project()?;
    image::provide(scope, project, &options.services, wanted)?;
    let world = World::look(scope)?;
    let plan = plan(project, &world, options).map_err(from_compose)?;
    if let Some(follower) = &mut follower {
        // From here on there is something to stop.
        follower.heed_signals()?;
    }
    let mut apply = Apply::new(scope, project);
    (apply.timeout_s, apply.inherits, apply.follower) =
        (manner.timeout_s, !manner.renews_volumes, follower);
    apply.run(&plan)?;
    Ok(apply.started)
}
