//! `cais compose up`

use ::compose::Condition;
use ::compose::plan::{Options, Recreate};
use engine::{Container, Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use super::apply::Apply;
use super::create::{Making, Manner, bring_about};
use super::follow::{Follower, News, Style};
use super::observed;
use super::scope::{OneOff, Scope};
use super::wait_for::{End, Until, wait};
use crate::session::Session;

/// The exit code of what was stopped by a signal of its terminal.
const INTERRUPTED: i32 = 130;

/// What `up` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    #[command(flatten)]
    making: Making,
    /// Stops all containers if any container was stopped. Incompatible with -d
    #[arg(long)]
    abort_on_container_exit: bool,
    /// Stops all containers if any container exited with failure. Incompatible with -d
    #[arg(long)]
    abort_on_container_failure: bool,
    /// Recreate dependent containers. Incompatible with --no-recreate
    #[arg(long)]
    always_recreate_deps: bool,
    /// Restrict attaching to the specified services. Incompatible with --attach-dependencies
    #[arg(long, value_name = "SERVICE")]
    attach: Vec<String>,
    /// Automatically attach to log output of dependent services
    #[arg(long)]
    attach_dependencies: bool,
    /// Detached mode: Run containers in the background
    #[arg(short, long)]
    detach: bool,
    /// Return the exit code of the selected service container. Implies --abort-on-container-exit
    #[arg(long, value_name = "SERVICE")]
    exit_code_from: Option<String>,
    /// Do not attach (stream logs) to the specified services
    #[arg(long, value_name = "SERVICE")]
    no_attach: Vec<String>,
    /// Produce monochrome output
    #[arg(long)]
    no_color: bool,
    /// Don't start linked services
    #[arg(long)]
    no_deps: bool,
    /// Don't print prefix in logs
    #[arg(long)]
    no_log_prefix: bool,
    /// Don't start the services after creating them
    #[arg(long)]
    no_start: bool,
    /// Suppress the build output
    #[arg(long)]
    quiet_build: bool,
    /// Recreate anonymous volumes instead of retrieving data from the previous containers
    #[arg(short = 'V', long)]
    renew_anon_volumes: bool,
    /// Use this timeout in seconds for container shutdown when attached or when containers are
    /// already running
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<i64>,
    /// Show timestamps
    #[arg(long)]
    timestamps: bool,
    /// Wait for services to be running|healthy. Implies detached mode
    #[arg(long)]
    wait: bool,
    /// Maximum duration in seconds to wait for the project to be running|healthy
    #[arg(long, value_name = "SECONDS")]
    wait_timeout: Option<u64>,
    /// Watch source code and rebuild/refresh containers when files are updated
    #[arg(short, long)]
    watch: bool,
    /// The services; all without one
    services: Vec<String>,
}

impl Args {
    fn aborts(&self) -> bool {
        self.abort_on_container_exit
            || (self.exit_code_from.is_some() && !self.abort_on_container_failure)
    }

    fn is_detached(&self) -> bool {
        self.detach || self.wait || self.no_start
    }

    fn check(&self) -> Result<()> {
        if self.watch {
            return Err(Error::new(
                engine::Kind::Unsupported,
                "--watch is not supported with `up`",
            )
            .hint("`cais compose watch` starts the services and watches"));
        }
        let attaching = self.attach_dependencies
            || self.aborts()
            || self.abort_on_container_failure
            || !self.attach.is_empty();
        let what = match (self.wait, self.detach || self.no_start) {
            (true, _) => "--wait",
            (_, true) => "--detach",
            _ => "",
        };
        if !what.is_empty() && attaching {
            return Err(Error::invalid(format!(
                "{what} cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach, --attach-dependencies or --watch"
            )));
        }
        let incompatible = [
            (
                self.aborts() && self.abort_on_container_failure,
                "--abort-on-container-failure cannot be combined with --abort-on-container-exit",
            ),
            (
                !self.attach.is_empty() && self.attach_dependencies,
                "cannot combine --attach and --attach-dependencies",
            ),
            (
                self.renew_anon_volumes && self.making.no_recreate,
                "--no-recreate and --renew-anon-volumes are incompatible",
            ),
            (
                self.always_recreate_deps && self.making.no_recreate,
                "--always-recreate-deps and --no-recreate are incompatible",
            ),
        ];
        match incompatible.iter().find(|(is_so, _)| *is_so) {
            Some((_, message)) => Err(Error::invalid(*message)),
            None => Ok(()),
        }
    }
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    args.check()?;
    let mut scope = Scope::load(session)?;
    args.making.scale(&mut scope)?;
    if let Some(service) = &args.exit_code_from {
        scope.check_services(std::slice::from_ref(service))?;
    }
    let services = scope.select(&args.services, !args.no_deps)?;
    let mut options =
        Options { services, starts: !args.no_start, ..args.making.options(&args.services)? };
    if args.always_recreate_deps {
        options.recreate_dependencies = Recreate::Always;
    }
    let wanted = args.making.wanted(args.quiet_build)?;
    let manner = Manner { timeout_s: args.timeout, renews_volumes: args.renew_anon_volumes };
    if args.is_detached() {
        bring_about(&scope, &wanted, &options, &manner, None)?;
        if args.wait {
            wait_for_all(&scope, &options.services, args.wait_timeout)?;
        }
        return Ok(0);
    }
    let attached = attached(&scope, args, &options)?;
    let style = Style::new(&scope.ansi, args.no_color, args.no_log_prefix, args.timestamps);
    let before = scope.containers(&options.services, OneOff::Without)?;
    let mut follower = Follower::start(scope.engine, style)?;
    follower.only(&attached);
    // Nobody is told of what runs already before it is known that it stays.
    bring_about(&scope, &wanted, &options, &manner, Some(&mut follower))?;
    let containers = scope.containers(&options.services, OneOff::Without)?;
    for found in containers.iter().filter(|found| found.is_running()) {
        if before.iter().any(|old| is_same_run(old, found)) {
            follower.follow_from_now(found)?;
        }
    }
    let code = Attached { scope: &scope, args, containers, follower }.run()?;
    Ok(code)
}

/// Whether a container has not been started since it was looked at before.
fn is_same_run(old: &Container, new: &Container) -> bool {
    old.record.id == new.record.id && old.state.started_at == new.state.started_at
}

/// The services whose lines are shown.
fn attached(scope: &Scope<'_>, args: &Args, options: &Options) -> Result<Vec<String>> {
    scope.check_services(&args.attach)?;
    scope.check_services(&args.no_attach)?;
    let project = scope.project()?;
    let opted_out = |name: &String| {
        let service = project.services.get(name);
        service.is_some_and(|service| service.node.word_of("attach") == Some("false"))
    };
    let mut all: Vec<String> = match (&args.attach[..], &args.services[..]) {
        ([], []) => options.services.clone(),
        ([], _) if args.attach_dependencies => options.services.clone(),
        ([], named) => named.to_vec(),
        (attach, _) => attach.to_vec(),
    };
    all.retain(|name| {
        !args.no_attach.contains(name) && (args.attach.contains(name) || !opted_out(name))
    });
    Ok(all)
}

/// Waits until all services run, and are healthy where that is checked; or have ended, where others
/// depend on that.
pub(super) fn wait_for_all(
    scope: &Scope<'_>,
    services: &[String],
    timeout_s: Option<u64>,
) -> Result<()> {
    let all = scope.project_if_any().into_iter().flat_map(|project| project.services.values());
    let ends: Vec<String> = all
        .flat_map(::compose::Service::dependencies)
        .filter(|dependency| dependency.condition == Condition::Completed)
        .map(|dependency| dependency.service)
        .collect();
    let containers = scope.containers(services, OneOff::Without)?;
    let (ending, running): (Vec<Container>, Vec<Container>) =
        containers.into_iter().partition(|found| ends.contains(&observed::service(found)));
    for (containers, until) in [(ending, Until::Completed), (running, Until::RunningOrHealthy)] {
        let begin = |found: &Container| {
            let name = super::apply::container(&found.record.name);
            let since = scope.report.begin(&name, "Waiting");
            (name, since)
        };
        let began: Vec<_> = containers.iter().map(begin).collect();
        wait(scope.engine, &containers, until, timeout_s.map_or(End::Never, End::Seconds))?;
        for (name, since) in began {
            scope.report.done(&name, until.word(), since);
        }
    }
    Ok(())
}

/// A project whose lines are shown, until it ends or somebody ends it.
struct Attached<'a> {
    scope: &'a Scope<'a>,
    args: &'a Args,
    containers: Vec<Container>,
    follower: Follower,
}

impl Attached<'_> {
    fn run(mut self) -> Result<i32> {
        let mut running: Vec<String> = self
            .containers
            .iter()
            .filter(|found| found.is_running())
            .map(|found| found.record.id.clone())
            .collect();
        // What has ended already is told, too.
        running.extend(
            self.containers
                .iter()
                .filter(|found| !found.is_running())
                .map(|found| found.record.id.clone()),
        );
        let mut code = 0;
        loop {
            match self.follower.next()? {
                News::Interrupted => {
                    crate::progress::note("Gracefully Stopping... press Ctrl+C again to force");
                    self.stop()?;
                    code = INTERRUPTED;
                    break;
                }
                News::Over => break,
                News::Ended { id, code: ended } => {
                    running.retain(|known| *known != id);
                    let aborts =
                        self.args.aborts() || (self.args.abort_on_container_failure && ended != 0);
                    if aborts {
                        crate::progress::note("Aborting on container exit...");
                        self.stop()?;
                        code = self.code(&id, ended)?;
                        break;
                    }
                    if running.is_empty() {
                        break;
                    }
                }
            }
        }
        self.follower.finish()?;
        Ok(code)
    }

    /// Stops everything; a second signal kills it.
    fn stop(&self) -> Result<()> {
        let project = self.scope.project()?;
        let services: Vec<String> = self.containers.iter().map(observed::service).collect();
        let containers = self.scope.containers(&services, OneOff::Without)?;
        let (done, tell) = std::io::pipe()
            .map_err(|error| Error::caused(engine::Kind::Internal, "make a pipe", error))?;
        let engine = self.scope.engine;
        let (all, signals) = (containers.clone(), self.follower.signals());
        std::thread::scope(|threads| {
            threads.spawn(move || {
                let mut set = vec![PollFd::new(&done, PollFlags::IN)];
                set.extend(signals.map(|signals| PollFd::new(signals, PollFlags::IN)));
                let polled = rustix::io::retry_on_intr(|| poll(&mut set, None));
                if polled.is_ok() && set[0].revents().is_empty() {
                    crate::progress::note("Killing containers");
                    for found in &all {
                        // One that has ended meanwhile needs no signal.
                        let _ = engine.kill(found, Signal::KILL);
                    }
                }
            });
            // Closed at the end, however that comes, which ends the other.
            let _tell = tell;
            let mut apply = Apply::new(self.scope, project);
            apply.timeout_s = self.args.timeout;
            let mut groups = self.scope.in_stop_order(containers).into_iter();
            groups.try_for_each(|group| apply.stop(&group))
        })
    }

    /// The code that is ours once a container has ended with `ended`.
    fn code(&self, id: &str, ended: i32) -> Result<i32> {
        let Some(service) = &self.args.exit_code_from else { return Ok(ended) };
        let own = self.containers.iter().find(|found| found.record.id == id);
        if own.is_some_and(|found| observed::service(found) == *service) {
            return Ok(ended);
        }
        let all = self.scope.containers(std::slice::from_ref(service), OneOff::Without)?;
        Ok(all.first().map_or(0, |found| found.state.exit_code))
    }
}
