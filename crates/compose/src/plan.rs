//! What has to be done so that what is there becomes what the files say.

use std::collections::BTreeSet;
use std::fmt;

use crate::error::{Error, Result};
use crate::node::Node;
use crate::project::{Project, Resource};
use crate::service::{Condition, Dependency, Order, Service};

/// A container of the project that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its service.
    pub service: String,
    /// Its number.
    pub number: u32,
    /// Whether it runs.
    pub is_running: bool,
    /// Whether it has been started at all.
    pub was_started: bool,
    /// [`Project::hash`] of what it was made from.
    pub hash: String,
    /// The id of the image that it was made of.
    pub image: String,
}

/// For whom a network or a volume was made, and from what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// The project; empty for none.
    pub project: String,
    /// [`Resource::hash`] of what it was made from; empty where that is not known.
    pub hash: String,
}

/// What is there.
pub trait Observed {
    /// The containers of the project's services, without those of `run`.
    fn containers(&self) -> &[Instance];
    /// The network of this name, if it is there.
    fn network(&self, name: &str) -> Option<Made>;
    /// The volume of this name, if it is there.
    fn volume(&self, name: &str) -> Option<Made>;
    /// The id of an image, if it is there.
    fn image(&self, name: &str) -> Option<String>;
}

/// When a container is replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recreate {
    /// If it is not what the files say.
    #[default]
    Changed,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What is asked for beside the files.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The services, each after those that it depends on; those that it needs are among them.
    pub services: Vec<String>,
    /// Those of them that were named; all if none is.
    pub named: Vec<String>,
    /// When containers of those are replaced.
    pub recreate: Recreate,
    /// When containers of those that they depend on are.
    pub recreate_dependencies: Recreate,
    /// Whether containers are started.
    pub starts: bool,
    /// Whether containers of services that are no more are removed.
    pub removes_orphans: bool,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a network, by its key.
    CreateNetwork(String),
    /// Make a volume, by its key.
    CreateVolume(String),
    /// Wait for what a service depends on.
    Wait(String, Dependency),
    /// Make a container of a service, with its number.
    Create(String, u32),
    /// Start the container of a service with this number.
    Start(String, u32),
    /// Put a new container in the place of an old one.
    Replace(String, u32, Instance, Order),
    /// Start a container that runs anew.
    Restart(Instance),
    /// Stop and remove a container.
    Remove(Instance),
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateNetwork(key) => write!(out, "network {key}"),
            Self::CreateVolume(key) => write!(out, "volume {key}"),
            Self::Wait(service, on) => {
                write!(out, "wait {service} for {} {:?}", on.service, on.condition)
            }
            Self::Create(service, number) => write!(out, "create {service} {number}"),
            Self::Start(service, number) => write!(out, "start {service} {number}"),
            Self::Replace(_, _, old, order) => write!(out, "replace {} {order:?}", old.name),
            Self::Restart(instance) => write!(out, "restart {}", instance.name),
            Self::Remove(instance) => write!(out, "remove {}", instance.name),
        }
    }
}

/// What is to be done, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// The names of containers whose services are no more, and that stay.
    pub orphans: Vec<String>,
    /// What users should know.
    pub warnings: Vec<String>,
}

/// Plans what makes a project so.
///
/// # Errors
/// If something that belongs to somebody else is not there.
pub fn plan(project: &Project, observed: &dyn Observed, options: &Options) -> Result<Plan> {
    let mut planner =
        Planner { project, observed, options, plan: Plan::default(), replaced: BTreeSet::new() };
    planner.resources()?;
    planner.orphans();
    for name in &options.services {
        if let Some(service) = project.services.get(name) {
            planner.service(service);
        }
    }
    Ok(planner.plan)
}

struct Planner<'a> {
    project: &'a Project,
    observed: &'a dyn Observed,
    options: &'a Options,
    plan: Plan,
    /// Services whose containers are new.
    replaced: BTreeSet<String>,
}

impl Planner<'_> {
    fn resources(&mut self) -> Result<()> {
        let mut networks = BTreeSet::new();
        let mut volumes = BTreeSet::new();
        for name in &self.options.services {
            let Some(service) = self.project.services.get(name) else { continue };
            networks.extend(service.networks().into_keys());
            let mounts = service.node.get("volumes").map(Node::items).unwrap_or_default();
            let named = mounts.iter().filter(|mount| mount.word_of("type") == Some("volume"));
            volumes.extend(named.filter_map(|mount| mount.word_of("source")));
        }
        for key in networks {
            let Some(network) = self.project.networks.get(key) else { continue };
            match self.observed.network(&network.name) {
                Some(made) => self.compare("network", network, &made),
                None => {
                    belongs_to_us("network", network)?;
                    self.plan.steps.push(Step::CreateNetwork(key.to_owned()));
                }
            }
        }
        for key in volumes {
            let Some(volume) = self.project.volumes.get(key) else { continue };
            match self.observed.volume(&volume.name) {
                Some(made) => self.compare("volume", volume, &made),
                None => {
                    belongs_to_us("volume", volume)?;
                    self.plan.steps.push(Step::CreateVolume(key.to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Warns of what is there and is not what the files say: it may hold data, or be in use.
    fn compare(&mut self, kind: &str, resource: &Resource, made: &Made) {
        let name = &resource.name;
        if resource.is_external {
            return;
        }
        if made.project != self.project.name {
            self.plan.warnings.push(format!(
                "{kind} \"{name}\" already exists but was not created for project \"{}\". Use \
                 `external: true` to use an existing {kind}",
                self.project.name
            ));
        } else if !made.hash.is_empty() && made.hash != resource.hash() {
            self.plan.warnings.push(format!(
                "{kind} \"{name}\" exists but doesn't match the configuration in the Compose file; \
                 it stays as it is until it is removed"
            ));
        }
    }

    fn orphans(&mut self) {
        let is_known = |name: &str| self.project.all().any(|service| service.name == name);
        for instance in self.observed.containers() {
            if is_known(&instance.service) {
                continue;
            }
            if self.options.removes_orphans {
                self.plan.steps.push(Step::Remove(instance.clone()));
            } else {
                self.plan.orphans.push(instance.name.clone());
            }
        }
    }

    fn service(&mut self, service: &Service) {
        let Self { options, observed, .. } = *self;
        let name = &service.name;
        let mut there: Vec<&Instance> =
            observed.containers().iter().filter(|instance| instance.service == *name).collect();
        there.sort_by_key(|instance| instance.number);
        let wanted = service.replicas() as usize;
        let surplus = there.split_off(wanted.min(there.len()));
        for instance in surplus.into_iter().rev() {
            self.plan.steps.push(Step::Remove(instance.clone()));
        }
        if options.starts && wanted > 0 {
            self.wait(service);
        }
        for instance in &there {
            self.keep(service, instance);
        }
        let last = there.last().map_or(0, |instance| instance.number);
        let missing = wanted.saturating_sub(there.len());
        for number in (last + 1..).take(missing) {
            self.plan.steps.push(Step::Create(name.clone(), number));
            if options.starts {
                self.plan.steps.push(Step::Start(name.clone(), number));
            }
        }
    }

    fn wait(&mut self, service: &Service) {
        for dependency in service.dependencies() {
            let is_part = self.options.services.contains(&dependency.service);
            let other = self.project.services.get(&dependency.service);
            let has_any = other.is_some_and(|other| other.replicas() > 0);
            if dependency.condition != Condition::Started && is_part && has_any {
                self.plan.steps.push(Step::Wait(service.name.clone(), dependency));
            }
        }
    }

    /// What becomes of a container that stays, by name at least.
    fn keep(&mut self, service: &Service, instance: &Instance) {
        let name = &service.name;
        if self.is_to_be_replaced(service, instance) {
            self.replaced.insert(name.clone());
            let order = match instance.is_running && self.options.starts {
                true => service.order(),
                false => Order::StopFirst,
            };
            let step = Step::Replace(name.clone(), instance.number, instance.clone(), order);
            self.plan.steps.push(step);
            if self.options.starts && order == Order::StopFirst {
                self.plan.steps.push(Step::Start(name.clone(), instance.number));
            }
        } else if !instance.is_running && self.options.starts {
            self.plan.steps.push(Step::Start(name.clone(), instance.number));
        } else if instance.is_running && self.options.starts && self.needs_restart(service) {
            self.plan.steps.push(Step::Restart(instance.clone()));
        }
    }

    fn is_to_be_replaced(&self, service: &Service, instance: &Instance) -> bool {
        let named = &self.options.named;
        let recreate = match named.is_empty() || named.contains(&service.name) {
            true => self.options.recreate,
            false => self.options.recreate_dependencies,
        };
        match recreate {
            Recreate::Always => true,
            Recreate::Never => false,
            Recreate::Changed => {
                let image = self.observed.image(&service.image());
                instance.hash != self.project.hash(service)
                    || image.is_some_and(|image| image != instance.image)
                    || self.shares_with_replaced(service)
            }
        }
    }

    /// Whether it lives in a namespace, or with the volumes, of what is new.
    fn shares_with_replaced(&self, service: &Service) -> bool {
        let modes = ["network_mode", "ipc", "pid"];
        let words = modes.iter().filter_map(|key| service.node.word_of(key));
        let others = words.filter_map(|word| word.strip_prefix("service:"));
        let from = service.node.words_of("volumes_from");
        let from = from.iter().map(|word| word.split(':').next().unwrap_or_default());
        others.chain(from).any(|other| self.replaced.contains(other))
    }

    fn needs_restart(&self, service: &Service) -> bool {
        let mut all = service.dependencies().into_iter();
        all.any(|dependency| dependency.restarts && self.replaced.contains(&dependency.service))
    }
}

fn belongs_to_us(kind: &str, resource: &Resource) -> Result<()> {
    match resource.is_external {
        false => Ok(()),
        true => Err(Error::at(
            &resource.node.place,
            format!("{kind} {} declared as external, but could not be found", resource.name),
        )
        .hint(format!("`cais {kind} create {}` makes it", resource.name))),
    }
}

/// How a service comes to its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supply {
    /// It is there, or it is not for us to get.
    None,
    /// It is got from its registry.
    Pull,
    /// As [`Supply::Pull`]; without it, the service is built.
    PullOrBuild,
    /// It is built.
    Build,
}

/// When images are got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Always.
    Always,
    /// If they are not there.
    Missing,
    /// Never.
    Never,
}

/// How a service comes to its image. `asked` is what the command line says of pulls, `builds` of
/// builds; `age_s` is how long ago its image was got, if it is there.
///
/// # Errors
/// If the service's own policy is none.
pub fn supply(
    service: &Service,
    is_there: bool,
    age_s: i64,
    asked: Option<PullPolicy>,
    builds: Option<bool>,
) -> Result<Supply> {
    let word = service.node.word_of("pull_policy").unwrap_or("missing");
    let can_build = service.build().is_some();
    if can_build && (builds == Some(true) || (word == "build" && builds.is_none())) {
        return Ok(Supply::Build);
    }
    let own = match word {
        "always" => PullPolicy::Always,
        "never" => PullPolicy::Never,
        "missing" | "if_not_present" | "build" => PullPolicy::Missing,
        "daily" => by_age(age_s, 86_400),
        "weekly" => by_age(age_s, 604_800),
        _ => {
            let every = word.strip_prefix("every_").and_then(crate::scalar::nanoseconds);
            let every = every.ok_or_else(|| {
                let message =
                    format!("services.{}.pull_policy: invalid policy {word}", service.name);
                let place =
                    service.node.get("pull_policy").map_or(&service.node.place, |node| &node.place);
                Error::at(place, message).hint(
                    "policies are always, missing, never, build, daily, weekly and every_DURATION",
                )
            })?;
            by_age(age_s, every / 1_000_000_000)
        }
    };
    let policy = asked.unwrap_or(own);
    let may_build = can_build && builds != Some(false);
    Ok(match (policy, is_there) {
        (PullPolicy::Missing | PullPolicy::Never, true) => Supply::None,
        // What is built here has no registry, unless a pull is asked for in so many words.
        (_, is_there) if can_build && asked != Some(PullPolicy::Always) && word != "always" => {
            match is_there || !may_build {
                true => Supply::None,
                false => Supply::Build,
            }
        }
        (PullPolicy::Never, false) => Supply::None,
        _ if may_build => Supply::PullOrBuild,
        _ => Supply::Pull,
    })
}

fn by_age(age_s: i64, limit_s: i64) -> PullPolicy {
    if age_s > limit_s { PullPolicy::Always } else { PullPolicy::Missing }
}
