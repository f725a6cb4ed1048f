//! What was planned is done, step by step, by this one thread: a start forks.

use ::compose::plan::{Instance, Plan, Step};
use ::compose::{Dependency, Node, Order, Project, Resource, Service};
use engine::{Container, Error, Exec, Kind, RemoveOptions, Result};

use super::create_container::{Making, creation, has_anonymous_volumes, make};
use super::follow::Follower;
use super::scope::{OneOff, Scope};
use super::wait_for::{End, Until, wait};
use super::{from_compose, network, observed};

/// How many containers are stopped at the same time.
const AT_ONCE_MAX: usize = 50;

/// What is done with a project.
pub(super) struct Apply<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) project: &'a Project,
    /// Seconds that containers have to stop; their own where `None`.
    pub(super) timeout_s: Option<i64>,
    /// Whether new containers take over the anonymous volumes of those that they replace.
    pub(super) inherits: bool,
    /// Who shows the lines of what is started, if somebody does.
    pub(super) follower: Option<&'a mut Follower>,
    /// The names of all that was started.
    pub(super) started: Vec<Container>,
}

impl<'a> Apply<'a> {
    pub(super) fn new(scope: &'a Scope<'a>, project: &'a Project) -> Self {
        Self {
            scope,
            project,
            timeout_s: None,
            inherits: true,
            follower: None,
            started: Vec::new(),
        }
    }

    pub(super) fn run(&mut self, plan: &Plan) -> Result<()> {
        for warning in &plan.warnings {
            crate::progress::note(&format!("WARN: {warning}"));
        }
        warn_of_orphans(plan);
        for step in &plan.steps {
            // Who is attached sees the signal next, and stops what there is.
            if self.is_interrupted() {
                break;
            }
            self.step(step)?;
        }
        Ok(())
    }

    fn is_interrupted(&self) -> bool {
        self.follower.as_ref().is_some_and(|follower| follower.is_interrupted())
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::CreateNetwork(key) => {
                self.resource("Network", &self.project.networks, key, network::create_network)
            }
            Step::CreateVolume(key) => {
                self.resource("Volume", &self.project.volumes, key, network::create_volume)
            }
            Step::Wait(service, dependency) => self.wait(service, dependency),
            Step::Create(service, number) => {
                let service = self.service(service)?;
                let name = service.container_name(*number);
                let since = self.scope.report.begin(&container(&name), "Creating");
                let making =
                    Making { name: &name, number: *number, has_aliases: true, ..Making::default() };
                self.make(service, &making)?;
                self.scope.report.done(&container(&name), "Created", since);
                Ok(())
            }
            Step::Start(service, number) => {
                let found = self.find(service, *number)?;
                self.start(&found)
            }
            Step::Replace(service, number, old, order) => {
                self.replace(service, *number, old, *order)
            }
            Step::Restart(instance) => {
                let found = self.scope.engine.find(&instance.id)?;
                let since = self.scope.report.begin(&container(&instance.name), "Restarting");
                self.pre_stop(&found)?;
                self.scope.engine.restart(&found, self.timeout_s, None)?;
                self.scope.report.done(&container(&instance.name), "Started", since);
                self.follow(&found)
            }
            Step::Remove(instance) => {
                let found = self.scope.engine.find(&instance.id)?;
                self.stop(std::slice::from_ref(&found))?;
                self.remove(&found, true)
            }
        }
    }

    fn service(&self, name: &str) -> Result<&'a Service> {
        self.project
            .services
            .get(name)
            .ok_or_else(|| from_compose(self.project.no_such_service(name)))
    }

    fn find(&self, service: &str, number: u32) -> Result<Container> {
        let all = self.scope.containers(&[service.to_owned()], OneOff::Without)?;
        let found = all.into_iter().find(|container| observed::number(container) == number);
        found.ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("container {number} of service {service} has vanished"),
            )
        })
    }

    fn resource(
        &self,
        kind: &str,
        all: &std::collections::BTreeMap<String, Resource>,
        key: &str,
        create: fn(&Scope<'_>, &Project, &Resource) -> Result<()>,
    ) -> Result<()> {
        let Some(resource) = all.get(key) else { return Ok(()) };
        let what = format!("{kind} {}", resource.name);
        let since = self.scope.report.begin(&what, "Creating");
        match create(self.scope, self.project, resource) {
            // Another command was faster.
            Err(error) if error.kind() == Kind::Exists => {}
            outcome => outcome?,
        }
        self.scope.report.done(&what, "Created", since);
        Ok(())
    }

    fn make(&self, service: &Service, making: &Making<'_>) -> Result<Container> {
        let creation = creation(self.scope, self.project, service, making)?;
        make(self.scope.engine, &creation, engine::Attached::default(), making.heir_of)
    }

    /// Starts a container, and does what its service wants done then.
    pub(super) fn start(&mut self, found: &Container) -> Result<()> {
        let name = container(&found.record.name);
        let since = self.scope.report.begin(&name, "Starting");
        self.scope.engine.start(found)?;
        self.scope.report.done(&name, "Started", since);
        self.follow(found)?;
        let found = self.scope.engine.find(&found.record.id)?;
        for hook in self.hooks(&found, "post_start") {
            self.hook(&found, hook)?;
        }
        self.started.push(found);
        Ok(())
    }

    fn follow(&mut self, found: &Container) -> Result<()> {
        match &mut self.follower {
            Some(follower) => follower.follow(&self.scope.engine.find(&found.record.id)?),
            None => Ok(()),
        }
    }

    fn hooks(&self, found: &Container, key: &str) -> &'a [Node] {
        let project: &'a Project = self.project;
        let service = project.services.get(&observed::service(found));
        service.and_then(|service| service.node.get(key)).map(Node::items).unwrap_or_default()
    }

    fn hook(&self, found: &Container, hook: &Node) -> Result<()> {
        let env = hook.pairs_of("environment").into_iter();
        let env = env.filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        let exec = Exec {
            command: hook.words_of("command").into_iter().map(str::to_owned).collect(),
            env: env.collect(),
            workdir: hook.word_of("working_dir").unwrap_or_default().to_owned(),
            user: hook.word_of("user").unwrap_or_default().to_owned(),
            privileged: hook.is("privileged"),
            ..Exec::default()
        };
        match self.scope.engine.exec(found, &exec)? {
            engine::Outcome::Exited(0) | engine::Outcome::Detached => Ok(()),
            engine::Outcome::Exited(code) => {
                let message = format!(
                    "{}: hook of container {} exited with code {code}",
                    hook.place, found.record.name
                );
                Err(Error::new(Kind::Conflict, message))
            }
        }
    }

    /// Does what services want done before a container is stopped; that it fails keeps nothing from
    /// being stopped.
    pub(super) fn pre_stop(&self, found: &Container) -> Result<()> {
        if found.is_running() {
            for hook in self.hooks(found, "pre_stop") {
                if let Err(error) = self.hook(found, hook) {
                    crate::command::report(&error);
                }
            }
        }
        Ok(())
    }

    /// Stops containers, together.
    pub(super) fn stop(&self, containers: &[Container]) -> Result<()> {
        let running: Vec<&Container> =
            containers.iter().filter(|found| found.is_running()).collect();
        running.iter().try_for_each(|found| self.pre_stop(found))?;
        let (engine, report, timeout_s) = (self.scope.engine, self.scope.report, self.timeout_s);
        for chunk in running.chunks(AT_ONCE_MAX) {
            let stop = |found: &Container| {
                let name = container(&found.record.name);
                let since = report.begin(&name, "Stopping");
                engine.stop(found, timeout_s, None)?;
                report.done(&name, "Stopped", since);
                Ok(())
            };
            let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    chunk.iter().map(|found| scope.spawn(|| stop(found))).collect();
                let join = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
                join.map(|outcome| outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                    .collect()
            });
            outcomes.into_iter().collect::<Result<()>>()?;
        }
        Ok(())
    }

    /// Removes a container that is stopped.
    pub(super) fn remove(&self, found: &Container, volumes: bool) -> Result<()> {
        let name = container(&found.record.name);
        let since = self.scope.report.begin(&name, "Removing");
        match self.scope.engine.remove(found, RemoveOptions { force: true, volumes }) {
            Err(error) if error.kind() == Kind::NotFound => {}
            outcome => outcome?,
        }
        self.scope.report.done(&name, "Removed", since);
        Ok(())
    }

    /// Puts a new container in the place of an old one.
    fn replace(&mut self, service: &str, number: u32, old: &Instance, order: Order) -> Result<()> {
        let service = self.service(service)?;
        let engine = self.scope.engine;
        let old = engine.find(&old.id)?;
        let name = service.container_name(number);
        let what = container(&name);
        let since = self.scope.report.begin(&what, "Recreate");
        let temporary = format!("{}_{name}", old.short_id());
        let heir_of = self.inherits.then_some(&old);
        let making =
            Making { name: &temporary, number, has_aliases: true, heir_of, ..Making::default() };
        let new = self.make(service, &making)?;
        // Two cannot have one volume for themselves.
        let shares = self.inherits && has_anonymous_volumes(&old);
        let is_first = order == Order::StartFirst;
        if is_first && !shares {
            self.start_before(&new)?;
        }
        self.pre_stop(&old)?;
        if old.is_running() {
            engine.stop(&old, self.timeout_s, None)?;
        }
        engine.remove(&old, RemoveOptions { force: true, volumes: !self.inherits })?;
        engine.rename(&new, &name)?;
        self.scope.report.done(&what, "Recreated", since);
        match is_first && shares {
            true => self.start(&engine.find(&new.record.id)?),
            false => Ok(()),
        }
    }

    /// Starts what is to replace another, which stays if this one does not come to be healthy.
    fn start_before(&mut self, new: &Container) -> Result<()> {
        let engine = self.scope.engine;
        let started = self.start(new).and_then(|()| {
            wait(engine, std::slice::from_ref(new), Until::RunningOrHealthy, End::Never)
        });
        started.map_err(|error| {
            // The one that runs goes on; what failed is what has to be known.
            let _ = engine
                .find(&new.record.id)
                .and_then(|new| engine.remove(&new, RemoveOptions { force: true, volumes: true }));
            error.hint("the old container goes on")
        })
    }

    fn wait(&self, service: &str, dependency: &Dependency) -> Result<()> {
        let Some(until) = Until::of(dependency.condition) else { return Ok(()) };
        let other = &dependency.service;
        let containers = self.scope.containers(std::slice::from_ref(other), OneOff::Without)?;
        if containers.is_empty() {
            let message = format!("{service} is missing dependency {other}");
            return self.unless_optional(dependency, Error::new(Kind::NotFound, message));
        }
        let names: Vec<String> =
            containers.iter().map(|found| container(&found.record.name)).collect();
        let began: Vec<_> =
            names.iter().map(|name| self.scope.report.begin(name, "Waiting")).collect();
        let signals = self.follower.as_ref().and_then(|follower| follower.signals());
        match wait(self.scope.engine, &containers, until, signals.map_or(End::Never, End::Signal)) {
            Ok(()) if self.is_interrupted() => Ok(()),
            Ok(()) => {
                for (name, since) in names.iter().zip(began) {
                    self.scope.report.done(name, until.word(), since);
                }
                Ok(())
            }
            Err(error) => {
                let message = match until {
                    Until::Completed => error.to_string().replacen(
                        &format!("container {}", containers[0].record.name),
                        &format!("service \"{other}\""),
                        1,
                    ),
                    _ => format!("dependency failed to start: {error}"),
                };
                self.unless_optional(dependency, Error::new(error.kind(), message))
            }
        }
    }

    fn unless_optional(&self, dependency: &Dependency, error: Error) -> Result<()> {
        match dependency.is_required {
            true => Err(error
                .hint(format!("`cais compose logs {}` shows what it said", dependency.service))),
            false => {
                crate::progress::note(&format!(
                    "WARN: optional dependency \"{}\": {error}",
                    dependency.service
                ));
                Ok(())
            }
        }
    }
}

/// What a container is called where it is said what happens to it.
pub(super) fn container(name: &str) -> String {
    format!("Container {name}")
}

fn warn_of_orphans(plan: &Plan) {
    if !plan.orphans.is_empty()
        && std::env::var_os("COMPOSE_IGNORE_ORPHANS")
            .is_none_or(|value| value != "true" && value != "1")
    {
        crate::progress::note(&format!(
            "WARN: Found orphan containers ([{}]) for this project. If you removed or renamed this \
             service in your compose file, you can run this command with the --remove-orphans flag \
             to clean it up.",
            plan.orphans.join(" ")
        ));
    }
}
