//! A build that one process has another do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use build::{Command, Dockerfile, Ignore, MountKind, NamedContext, Request, lines, position};
use oci::{Platform, PlatformError, Reference};
use serde::{Deserialize, Serialize};

use super::exchange::{CacheTarget, cache_in_registry};
use super::{BuildError, BuildEvent, BuildOptions, DEFAULT_EPOCH_S};
use crate::Engine;
use crate::error::{Error, Kind, Result};
use crate::monitor::log::Stream;
use crate::settings::Limits;

/// What is built, and how, in words that can be sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BuildJob {
    /// What tells this Dockerfile from others.
    pub name: String,
    /// The Dockerfile's text.
    pub dockerfile: String,
    /// The directory whose files are copied, if there is one.
    pub context: Option<PathBuf>,
    /// What of it is out of sight: the text of a `.dockerignore`.
    pub ignore: String,
    /// Further contexts by name: directories.
    pub directories: BTreeMap<String, PathBuf>,
    /// Further contexts by name: images.
    pub images: BTreeMap<String, String>,
    /// Values of build arguments.
    pub args: BTreeMap<String, String>,
    /// The stage that is wanted; the last where `None`.
    pub target: Option<String>,
    /// What the image is for; this machine where `None`.
    pub platform: Option<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Whether everything is done anew.
    pub no_cache: bool,
    /// Stages that are done anew.
    pub no_cache_stages: BTreeSet<String>,
    /// The network of commands: `default`, `none` or `host`.
    pub network: String,
    /// What commands may ask for: `security.insecure`, `network.host`.
    pub allow: BTreeSet<String>,
    /// Further names, with their addresses.
    pub hosts: Vec<(String, String)>,
    /// How much of the machine a command may use.
    pub limits: Limits,
    /// The control group that those of commands lie in; the default where empty.
    pub cgroup_parent: String,
    /// Bytes of /dev/shm; the default where 0.
    pub shm_bytes: u64,
    /// Whether bases are asked for even if they are here.
    pub pull: bool,
    /// The image's names.
    pub tags: Vec<Reference>,
    /// The time of everything that is made, in seconds since 1970; the default where `None`.
    pub epoch_s: Option<i64>,
    /// Secrets, by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// The sockets of SSH agents, by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// Notes of the image's manifest.
    pub annotations: BTreeMap<String, String>,
    /// The names of caches in registries that outcomes may be had from.
    pub cache_from: Vec<String>,
    /// Where outcomes are brought.
    pub cache_to: Vec<JobCache>,
    /// Who asks, for registries: each with user and password.
    pub logins: Vec<(String, String, String)>,
}

/// A cache that a job writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCache {
    /// Its name in a registry; `None` for the image itself.
    pub name: Option<String>,
    /// As of [`CacheTarget`].
    pub is_max: bool,
    /// As of [`CacheTarget`].
    pub may_fail: bool,
}

/// What is told of a build while it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BuildNews {
    /// A step is begun: its number and its name.
    Started(usize, String),
    /// A step is done already, or by another one.
    Cached(usize, String),
    /// A command has written a line, without its end.
    Output(usize, Stream, Vec<u8>),
    /// A step is done.
    Done(usize),
    /// Something that is no step has been done: its name, and what came of it.
    Internal(String, String),
    /// Something is wrong in lines of the Dockerfile, from the first to the last, or with the step of
    /// this number: why stands in the failure that follows.
    Failed {
        /// The step, if it was one.
        step: Option<usize>,
        /// Its lines, from 1, if they are known.
        lines: Option<(usize, usize)>,
        /// The failure, as it is told of the step.
        why: String,
    },
    /// User and password for this registry are wanted.
    Login(String),
    /// A moment has passed.
    Tick,
    /// The image, by its id: this is all.
    Built(String),
}

/// What a check found in a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFinding {
    /// The rule's name, what it says, and where it is explained.
    pub rule: &'static str,
    /// See above.
    pub description: &'static str,
    /// See above; empty for our own.
    pub url: &'static str,
    /// What was found.
    pub message: String,
    /// In which lines, from 1.
    pub lines: (usize, usize),
}

/// What a Dockerfile names of what whoever builds has a say in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wants {
    /// The ids of secrets.
    pub secrets: BTreeSet<String>,
    /// The ids of SSH agents.
    pub agents: BTreeSet<String>,
    /// The names of the images that stages start from, or whose files are used.
    pub images: BTreeSet<String>,
}

impl Wants {
    /// What the mounts in this text name; nothing where it is no Dockerfile, which the build will say.
    #[must_use]
    pub fn of(dockerfile: &str) -> Self {
        let mut wants = Self::default();
        let Ok(file) = Dockerfile::parse(dockerfile) else { return wants };
        let is_image = |name: &str| {
            let is_stage = |stage: &build::Stage| stage.name.eq_ignore_ascii_case(name);
            let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
            name != "scratch" && !is_number && !file.stages.iter().any(is_stage)
        };
        let bases = file.stages.iter().map(|stage| &stage.base);
        wants.images.extend(bases.filter(|name| is_image(name)).cloned());
        for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
            if let Command::Copy(copy) = &instruction.command {
                wants.images.extend(copy.from.iter().filter(|name| is_image(name)).cloned());
            }
            let Command::Run(run) = &instruction.command else { continue };
            for flag in &run.mounts {
                wants.images.extend(flag.from.iter().filter(|name| is_image(name)).cloned());
                let Ok(mount) = flag.resolve(&mut |text| Ok(text.to_owned())) else { continue };
                let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
                match mount.kind {
                    MountKind::Secret => {
                        let names = [mount.id, mount.source, last(&mount.target)];
                        wants.secrets.extend(names.into_iter().find(|name| !name.is_empty()));
                    }
                    MountKind::Ssh if mount.id.is_empty() => {
                        wants.agents.insert("default".to_owned());
                    }
                    MountKind::Ssh => {
                        wants.agents.insert(mount.id);
                    }
                    _ => {}
                }
            }
        }
        wants
    }
}

impl BuildJob {
    fn options(&self) -> Result<BuildOptions> {
        let host = Platform::host();
        let platform = self.platform.as_deref().map(str::parse).transpose();
        let platform =
            platform.map_err(|error: PlatformError| Error::invalid(error.to_string()))?;
        let ignore = Ignore::parse(&self.ignore)
            .map_err(|error| Error::invalid(format!("read .dockerignore: {error}")))?;
        let job = self.clone();
        let host_network = (self.network == "host").then(|| "network.host".to_owned());
        let images = job.images.into_iter().map(|(name, image)| (name, NamedContext::Image(image)));
        let files = self.directories.keys().map(|name| (name.clone(), NamedContext::Files));
        let sources = self.cache_from.iter().map(|name| cache_in_registry(name));
        Ok(BuildOptions {
            name: job.name,
            dockerfile: job.dockerfile,
            context: job.context,
            request: Request {
                args: job.args,
                target: job.target,
                platform: platform.unwrap_or_else(|| host.clone()),
                build_platform: host,
                labels: job.labels,
                contexts: images.chain(files).collect(),
                ignore,
                no_cache: job.no_cache,
                no_cache_stages: job.no_cache_stages,
                network: job.network,
                hosts: job.hosts,
            },
            named_contexts: job.directories,
            secrets: job.secrets,
            ssh: job.ssh,
            cgroup_parent: job.cgroup_parent,
            ticks: false,
            limits: job.limits,
            shm_bytes: job.shm_bytes,
            pull: job.pull,
            allow: job.allow.into_iter().chain(host_network).collect(),
            epoch_s: job.epoch_s.unwrap_or(DEFAULT_EPOCH_S),
            tags: job.tags,
            normalize_off: BTreeSet::new(),
            lock: None,
            cache_from: sources.collect::<Result<_>>()?,
            is_cache: self.cache_to.iter().any(|target| target.name.is_none()),
        })
    }

    fn cache_targets(&self) -> Result<Vec<CacheTarget>> {
        let target = |target: &JobCache| {
            let place = target.name.as_deref().map(cache_in_registry).transpose()?;
            Ok(CacheTarget { place, is_max: target.is_max, may_fail: target.may_fail })
        };
        self.cache_to.iter().map(target).collect()
    }
}

impl Engine {
    /// What BuildKit's checks find in a job's Dockerfile; nothing is built. `ask` is asked who the
    /// client is for a registry.
    ///
    /// # Errors
    /// As of [`Engine::check_build`].
    pub fn check_job(
        &self,
        job: &BuildJob,
        ask: impl Fn(&str) -> Option<(String, String)> + Send + Sync + 'static,
    ) -> Result<Vec<JobFinding>> {
        let engine = self.clone().with_auth(registry::Auth::anonymous().asking(ask));
        let found = engine.check_build(&job.options()?, &|_| {});
        let found = found.map_err(|failed| explained(&job.dockerfile, failed, &mut |_| {}))?;
        let finding = |finding: build::Finding| JobFinding {
            rule: finding.rule.name,
            description: finding.rule.description,
            url: finding.rule.url,
            message: finding.message,
            lines: lines(&job.dockerfile, finding.span),
        };
        // Ours are advice.
        Ok(found.into_iter().filter(|finding| !finding.rule.is_own).map(finding).collect())
    }

    /// Builds an image; `tell` hears how it goes, and ends this process if nobody wants to know any
    /// more; `ask` is asked who the client is for a registry.
    ///
    /// # Errors
    /// As of [`Engine::build`].
    pub(crate) fn do_build(
        &self,
        mut job: BuildJob,
        ask: impl Fn(&str) -> Option<(String, String)> + Send + Sync + 'static,
        tell: &mut dyn FnMut(BuildNews),
    ) -> Result<String> {
        let mut auth = registry::Auth::anonymous().asking(ask);
        for (registry, user, password) in std::mem::take(&mut job.logins) {
            auth = auth.with_password(&registry, &user, &password);
        }
        let engine = self.clone().with_auth(auth);
        let options = job.options()?;
        let built = engine.build(&options, &|_| {}, &mut |event| match event {
            BuildEvent::Started { step, name } => tell(BuildNews::Started(step, name.to_owned())),
            BuildEvent::Cached { step, name } | BuildEvent::SameAs { step, name, .. } => {
                tell(BuildNews::Cached(step, name.to_owned()));
            }
            BuildEvent::Output { step, stream, line } => {
                tell(BuildNews::Output(step, stream, line.to_vec()));
            }
            BuildEvent::Done { step, .. } => tell(BuildNews::Done(step)),
            BuildEvent::Internal { name, what } => {
                tell(BuildNews::Internal(name.to_owned(), what.to_owned()));
            }
            BuildEvent::Tick => {}
        });
        let mut built = built.map_err(|failed| explained(&job.dockerfile, failed, tell))?;
        if !job.annotations.is_empty() {
            built.image = engine.annotate(&built.image, &job.annotations)?;
        }
        for target in job.cache_targets()? {
            match engine.export_cache(&built, &options.secrets, &target) {
                Ok(None) => {}
                Ok(Some(digest)) => tell(BuildNews::Internal(
                    "exporting cache".to_owned(),
                    format!("writing {digest} done"),
                )),
                Err(error) if target.may_fail => {
                    tell(BuildNews::Internal(
                        "exporting cache".to_owned(),
                        format!("ERROR: {error}"),
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(built.image.id.to_string())
    }
}

/// Tells where a build has failed; why, in the words of BuildKit's frontend.
fn explained(text: &str, failed: BuildError, tell: &mut dyn FnMut(BuildNews)) -> Error {
    let BuildError { error, span, step } = failed;
    let why = super::exchange::told(&error);
    tell(BuildNews::Failed { step, lines: span.map(|span| lines(text, span)), why });
    match span {
        Some(span) if step.is_none() && error.kind() == Kind::Invalid => {
            let (line, _) = position(text, span.start);
            let hint = error.hint_text().map(str::to_owned);
            let error = Error::caused(
                error.kind(),
                format!("dockerfile parse error on line {line}"),
                error,
            );
            hint.into_iter().fold(error, Error::hint)
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_name_what_they_want() {
        let text = "FROM a\nRUN --mount=type=secret,id=x --mount=type=ssh true\nFROM b\n\
                    RUN --mount=type=secret,target=/run/y --mount=type=ssh,id=k --mount=type=cache,id=c,target=/c true\n";
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let expected = Wants {
            secrets: set(&["x", "y"]),
            agents: set(&["default", "k"]),
            images: set(&["a", "b"]),
        };
        assert_eq!(Wants::of(text), expected);
        assert_eq!(Wants::of("RUN no Dockerfile"), Wants::default());
    }
}
