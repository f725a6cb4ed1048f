//! What `cais build` takes, in buildx's spelling.

mod elsewhere;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use build::{Ignore, NamedContext, Request};
use engine::{DEFAULT_EPOCH_S, Error, Kind, Limits, Result};
use oci::Platform;

use super::context::Input;
use crate::command::create_options::value;

/// The argument, and the variable, that says which time everything has.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What `build` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Add a custom host-to-IP mapping (format: "host:ip")
    #[arg(long, value_name = "HOST:IP")]
    add_host: Vec<String>,
    /// Allow extra privileged entitlement (e.g., "network.host", "security.insecure")
    #[arg(long, value_name = "RIGHT")]
    allow: Vec<String>,
    /// Add annotation to the image
    #[arg(long, value_name = "[LEVEL:]KEY=VALUE")]
    pub(super) annotation: Vec<String>,
    /// Attestation parameters
    #[arg(long, value_name = "TYPE")]
    pub(super) attest: Vec<String>,
    /// Set build-time variables
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,
    /// Additional build contexts (e.g., name=path)
    #[arg(long, value_name = "NAME=PLACE")]
    pub(super) build_context: Vec<String>,
    /// Set method for evaluating build ("build", "check")
    #[arg(long, value_name = "METHOD")]
    call: Option<String>,
    /// External cache sources
    #[arg(long, value_name = "SOURCE")]
    pub(super) cache_from: Vec<String>,
    /// Cache export destinations
    #[arg(long, value_name = "DESTINATION")]
    pub(super) cache_to: Vec<String>,
    /// Set the parent cgroup for the RUN instructions
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
    /// Shorthand for "--call=check": check the Dockerfile, and build nothing
    #[arg(long)]
    check: bool,
    /// Compress the build context, which nothing is sent of
    #[arg(long)]
    compress: bool,
    /// Limit the CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Limit the CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// Number of CPUs of each RUN
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "CPUS", default_value = "", hide_default_value = true)]
    cpuset_cpus: String,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "NODES", default_value = "", hide_default_value = true)]
    cpuset_mems: String,
    /// Skip image verification, which there is none of
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = crate::command::grammar::Bool
    )]
    disable_content_trust: Option<bool>,
    /// Always remove intermediate containers, of which none is ever kept
    #[arg(long)]
    force_rm: bool,
    /// Name of the Dockerfile (default: "PATH/Dockerfile")
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::command) file: Option<String>,
    /// Write the image ID to a file
    #[arg(long, value_name = "FILE")]
    pub(in crate::command) iidfile: Option<PathBuf>,
    /// Container isolation technology: default
    #[arg(long, value_name = "NAME")]
    isolation: Option<String>,
    /// Set metadata for an image
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Shorthand for "--output=type=docker", which every image is here
    #[arg(long)]
    load: bool,
    /// Use only what cais.lock has of the network: bases by digest, files of ADD by checksum
    #[arg(long, conflicts_with = "update_lock")]
    pub(super) locked: bool,
    /// Memory limit of each RUN
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "BYTES")]
    memory_swap: Option<String>,
    /// Write build result metadata to a file
    #[arg(long, value_name = "FILE")]
    pub(super) metadata_file: Option<PathBuf>,
    /// Set the networking mode for the RUN instructions during build: default, none or host
    #[arg(long, value_name = "MODE", default_value = "default")]
    network: String,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Do not cache specified stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Leave files as commands wrote them that a rule would make the same every time: its name, or all
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub(super) no_normalize: Vec<String>,
    /// Output destination (format: "type=local,dest=path")
    #[arg(short, long, value_name = "TYPE=…")]
    pub(super) output: Vec<String>,
    /// Set target platforms for build: several make an index
    #[arg(long, value_name = "OS/ARCH[,…]")]
    platform: Vec<String>,
    /// Set type of progress output (auto, tty, plain, rawjson, quiet) [default: auto]
    #[arg(long, value_name = "TYPE")]
    pub(super) progress: Option<String>,
    /// Shorthand for "--attest=type=provenance"
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) provenance: Option<String>,
    /// Always attempt to pull all referenced images
    #[arg(long)]
    pub(super) pull: bool,
    /// Push the image once it is built
    #[arg(long)]
    pub(super) push: bool,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    pub(in crate::command) quiet: bool,
    /// Remove intermediate containers, of which none is ever kept
    #[arg(
        long,
        value_name = "BOOL",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        hide_default_value = true,
        value_parser = crate::command::grammar::Bool
    )]
    rm: bool,
    /// Shorthand for "--attest=type=sbom"
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) sbom: Option<String>,
    /// Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")
    #[arg(long, value_name = "SECRET")]
    pub(super) secret: Vec<String>,
    /// Open a shell in the file system of a command that fails, if there is a terminal
    #[arg(long)]
    pub(super) shell_on_error: bool,
    /// Security options
    #[arg(long, value_name = "OPTION", hide = true)]
    security_opt: Vec<String>,
    /// Shared memory size for build containers
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// Squash newly built layers into a single new layer
    #[arg(long, hide = true)]
    squash: bool,
    /// SSH agent socket or keys to expose to the build
    #[arg(long, value_name = "ID")]
    pub(super) ssh: Vec<String>,
    /// Image identifier (format: "[registry/]repository[:tag]")
    #[arg(short, long, value_name = "NAME")]
    pub(in crate::command) tag: Vec<String>,
    /// Set the target build stage to build
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Ulimit options
    #[arg(long, value_name = "TYPE=SOFT:HARD")]
    ulimit: Vec<String>,
    /// Ask for everything anew that comes from the network, and write it down in cais.lock
    #[arg(long)]
    pub(super) update_lock: bool,
    /// Do every step again under other conditions, and name what differs; the exit code is 1 then
    #[arg(long)]
    pub(super) verify: bool,
    /// The Dockerfile's text, where a file of `bake` has it.
    #[arg(skip)]
    pub(in crate::command) dockerfile_inline: Option<String>,
    /// The context: a directory, a git repository, the address of an archive or a Dockerfile, or - for
    /// either on standard input
    #[arg(value_name = "PATH | URL | -")]
    pub(in crate::command) path: String,
}

impl Args {
    /// Refuses what is about one image, where there are several.
    pub(super) fn refuse_for_several(&self, count: usize) -> Result<()> {
        let given = [
            ("--cache-to", !self.cache_to.is_empty()),
            ("--verify", self.verify),
            ("--attest", !super::attest::asked(self)?.is_empty()),
        ];
        if count == 1 && self.says("BUILDKIT_MULTI_PLATFORM")? {
            let message = "an index of one platform, as BUILDKIT_MULTI_PLATFORM asks for";
            return Err(Error::new(Kind::Unsupported, format!("{message}, is not supported"))
                .hint("with several --platform there is one"));
        }
        match given.iter().find(|(_, is_given)| *is_given && count > 1) {
            None => Ok(()),
            Some((flag, _)) => {
                let message = format!("{flag} for several platforms at once is not supported yet");
                Err(Error::new(Kind::Unsupported, message).hint("build one after the other"))
            }
        }
    }

    /// What is known and not done yet is an error, and not forgotten.
    pub(in crate::command) fn refuse_unsupported(&self) -> Result<()> {
        let given = [
            ("--rm=false", !self.rm),
            ("--security-opt", !self.security_opt.is_empty()),
            ("--squash", self.squash),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => {
                Err(Error::new(Kind::Unsupported, format!("{flag} is not supported yet")))
            }
            None if self.isolation.as_deref().is_some_and(|text| text != "default") => {
                Err(Error::invalid("--isolation is for containers of Windows, and this is Linux"))
            }
            None if self.push && self.tag.is_empty() => {
                Err(Error::invalid("tag is needed when pushing to registry")
                    .hint("give one with -t"))
            }
            None => Ok(()),
        }
    }

    /// Whether the Dockerfile is checked, and nothing is built.
    pub(super) fn only_checks(&self) -> Result<bool> {
        match self.call.as_deref() {
            None | Some("" | "build") => Ok(self.check),
            Some("check" | "lint") => Ok(true),
            Some(method) => {
                let message = format!("--call {method} is not supported");
                Err(Error::new(Kind::Unsupported, message).hint("there are build and check"))
            }
        }
    }

    /// The platforms that are built for.
    pub(super) fn platforms(&self) -> Result<Vec<Platform>> {
        let mut platforms = Vec::new();
        let given = self.platform.iter().flat_map(|list| list.split(','));
        for text in given.map(str::trim).filter(|text| !text.is_empty()) {
            let platform = match text {
                "local" => Some(Platform::host()),
                text => crate::command::platform(Some(text))?,
            };
            let platform = platform.unwrap_or_else(Platform::host);
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        if platforms.is_empty() {
            platforms.push(Platform::host());
        }
        Ok(platforms)
    }

    /// Whether the argument `BUILDKIT_CONTEXT_KEEP_GIT_DIR` says that `.git` stays.
    pub(super) fn keeps_git_dir(&self) -> Result<bool> {
        self.says("BUILDKIT_CONTEXT_KEEP_GIT_DIR")
    }

    /// Whether the argument `BUILDKIT_INLINE_CACHE` asks for what `--cache-to type=inline` does.
    pub(super) fn has_inline_cache(&self) -> Result<bool> {
        self.says("BUILDKIT_INLINE_CACHE")
    }

    /// Whether an argument that is for the builder is true.
    fn says(&self, name: &str) -> Result<bool> {
        let args = pairs("build-arg", &self.build_arg)?;
        Ok(args.get(name).is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true")))
    }

    /// What is asked of the plan for one platform.
    pub(super) fn request(
        &self,
        ignore: Ignore,
        contexts: BTreeMap<String, NamedContext>,
        platform: Platform,
        epoch_s: i64,
    ) -> Result<Request> {
        let mut args = pairs("build-arg", &self.build_arg)?;
        if self.given_epoch()?.is_some() {
            args.insert(EPOCH.into(), epoch_s.to_string());
        }
        Ok(Request {
            args,
            target: self.target.clone().filter(|target| !target.is_empty()),
            platform,
            build_platform: Platform::host(),
            labels: value::labels(&self.label, &[])?,
            contexts,
            ignore,
            no_cache: self.no_cache,
            no_cache_stages: self.no_cache_filter.iter().cloned().collect::<BTreeSet<_>>(),
            network: self.network()?,
            hosts: self.hosts()?,
        })
    }

    /// What commands may ask for: what is said, and the network that is chosen for all of them.
    pub(super) fn allowed(&self) -> Result<BTreeSet<String>> {
        const RIGHTS: [&str; 2] = ["network.host", "security.insecure"];
        if let Some(unknown) = self.allow.iter().find(|right| !RIGHTS.contains(&right.as_str())) {
            return Err(Error::invalid(format!("unknown entitlement {unknown:?}"))
                .hint("there are network.host and security.insecure"));
        }
        let chosen = (self.network == "host").then(|| "network.host".to_owned());
        Ok(self.allow.iter().cloned().chain(chosen).collect())
    }

    fn network(&self) -> Result<String> {
        match self.network.as_str() {
            "" | "default" | "bridge" => Ok("default".into()),
            mode @ ("none" | "host") => Ok(mode.into()),
            mode => {
                let message = format!("network mode {mode:?} is not supported by a build");
                Err(Error::new(Kind::Unsupported, message).hint("there are default, none and host"))
            }
        }
    }

    fn hosts(&self) -> Result<Vec<(String, String)>> {
        let host = |text: &String| {
            let split = text.split_once('=').or_else(|| text.split_once(':'));
            let (name, address) = split.filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
                Error::invalid(format!("bad format for add-host: {text:?}"))
                    .hint("as in name:10.0.0.1")
            })?;
            let address = address.trim_start_matches('[').trim_end_matches(']');
            let is_known = address == "host-gateway" || address.parse::<std::net::IpAddr>().is_ok();
            match is_known {
                true => Ok((name.to_owned(), address.to_owned())),
                false => {
                    Err(Error::invalid(format!("invalid IP address in add-host: {address:?}")))
                }
            }
        };
        self.add_host.iter().map(host).collect()
    }

    fn given_epoch(&self) -> Result<Option<String>> {
        let given = pairs("build-arg", &self.build_arg)?.remove(EPOCH);
        Ok(given.or_else(|| std::env::var(EPOCH).ok()).filter(|text| !text.is_empty()))
    }

    /// The time of everything that is made.
    pub(super) fn epoch(&self, input: &Input) -> Result<i64> {
        match self.given_epoch()?.as_deref() {
            None => Ok(DEFAULT_EPOCH_S),
            Some("context") => Ok(input.committed_s().unwrap_or(DEFAULT_EPOCH_S)),
            Some(text) => text.parse().map_err(|_| {
                Error::invalid(format!("invalid SOURCE_DATE_EPOCH: {text}"))
                    .hint("it is a number of seconds since 1970, or context: its last commit")
            }),
        }
    }

    pub(super) fn limits(&self) -> Result<Limits> {
        let bytes = |name: &str, text: &Option<String>| {
            text.as_ref().map(|text| value::bytes(name, text)).transpose()
        };
        Ok(Limits {
            memory: bytes("memory", &self.memory)?,
            memory_swap: bytes("memory-swap", &self.memory_swap)?,
            nano_cpus: self.cpus.as_ref().map(|text| value::nano_cpus(text)).transpose()?,
            cpu_shares: self.cpu_shares,
            cpu_period_us: self.cpu_period,
            cpu_quota_us: self.cpu_quota,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            ulimits: self.ulimit.iter().map(|text| value::ulimit(text)).collect::<Result<_>>()?,
            ..Limits::default()
        })
    }

    pub(super) fn cgroup_parent(&self) -> Result<String> {
        self.cgroup_parent.as_deref().map_or_else(|| Ok(String::new()), value::cgroup_parent)
    }

    pub(super) fn shm_bytes(&self) -> Result<u64> {
        let bytes =
            self.shm_size.as_ref().map(|text| value::bytes("shm-size", text)).transpose()?;
        Ok(bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0))
    }
}

/// `name=value`; a name alone takes the value from our own environment, or is not given.
fn pairs(flag: &str, given: &[String]) -> Result<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    for text in given {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text.as_str(), std::env::var(text).ok()),
        };
        if name.is_empty() {
            return Err(Error::invalid(format!("invalid --{flag}: {text:?} has no name")));
        }
        if let Some(value) = value {
            pairs.insert(name.to_owned(), value);
        }
    }
    Ok(pairs)
}
