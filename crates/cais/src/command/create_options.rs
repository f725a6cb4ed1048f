//! The options of `run` and `create`, in Docker's grammar.

mod health;
mod mount;
pub(in crate::command) mod network;
pub(crate) mod value;

pub(crate) use value::environment;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args};
use engine::{Error, Kind, Limits, RestartPolicy, Result, Seccomp, Security, Settings};

/// Options of Docker's that are known, and not supported yet: long name, short name, whether a
/// value follows. Each is a clear error, never ignored.
const UNSUPPORTED: &[(&str, Option<char>, bool)] = &[
    ("annotation", None, true),
    ("attach", Some('a'), true),
    ("blkio-weight", None, true),
    ("blkio-weight-device", None, true),
    ("cgroup-parent", None, true),
    ("cpu-rt-period", None, true),
    ("cpu-rt-runtime", None, true),
    ("device-cgroup-rule", None, true),
    ("device-read-bps", None, true),
    ("device-read-iops", None, true),
    ("device-write-bps", None, true),
    ("device-write-iops", None, true),
    ("disable-content-trust", None, false),
    ("gpus", None, true),
    ("ip6", None, true),
    ("isolation", None, true),
    ("kernel-memory", None, true),
    ("link-local-ip", None, true),
    ("log-driver", None, true),
    ("log-opt", None, true),
    ("oom-kill-disable", None, false),
    ("runtime", None, true),
    ("storage-opt", None, true),
    ("use-api-socket", None, false),
    ("volume-driver", None, true),
    ("volumes-from", None, true),
];

/// What can be said of a container when it is created.
#[derive(Debug, Args)]
pub(crate) struct CreateOptions {
    /// Assign a name to the container
    #[arg(long)]
    name: Option<String>,
    /// Automatically remove the container and its anonymous volumes when it exits
    #[arg(long)]
    rm: bool,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR", default_value = "", hide_default_value = true)]
    workdir: String,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, default_value = "", hide_default_value = true)]
    user: String,
    /// Add additional groups to join
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long)]
    entrypoint: Option<String>,
    /// Container host name
    #[arg(short = 'h', long, default_value = "", hide_default_value = true)]
    hostname: String,
    /// Container NIS domain name
    #[arg(long, default_value = "", hide_default_value = true)]
    domainname: String,
    /// Set meta data on a container
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Signal to stop the container
    #[arg(long, default_value = "", hide_default_value = true)]
    stop_signal: String,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<i64>,
    #[command(flatten)]
    network: network::NetworkOptions,
    /// Bind mount a volume
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "type=TYPE,src=SOURCE,dst=TARGET")]
    mount: Vec<String>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// Add a host device to the container
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]")]
    device: Vec<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Pull image before creating
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["always", "missing", "never"])]
    pub(crate) pull: String,
    /// Suppress the pull output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Write the container ID to the file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: String,
    #[command(flatten)]
    health: health::HealthOptions,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    security: SecurityOptions,
    #[command(flatten)]
    unsupported: Unsupported,
}

/// How much of the machine a container may use.
#[derive(Debug, Args)]
struct LimitOptions {
    #[command(flatten)]
    changing: UpdateOptions,
    /// Tune container memory swappiness (0 to 100); -1 leaves it to the kernel
    #[arg(long, value_name = "PERCENT")]
    memory_swappiness: Option<i64>,
    /// Ulimit options
    #[arg(long, value_name = "TYPE=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "SCORE")]
    oom_score_adj: Option<i32>,
}

/// The limits that can be changed while a container runs.
#[derive(Debug, Args)]
pub(crate) struct UpdateOptions {
    /// Memory limit
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Memory soft limit
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<String>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "BYTES")]
    memory_swap: Option<String>,
    /// Number of CPUs
    #[arg(long, value_name = "DECIMAL")]
    cpus: Option<String>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "CPUS", default_value = "", hide_default_value = true)]
    cpuset_cpus: String,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "NODES", default_value = "", hide_default_value = true)]
    cpuset_mems: String,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "COUNT")]
    pids_limit: Option<i64>,
}

/// How a container is held.
#[derive(Debug, Args)]
struct SecurityOptions {
    /// Give extended privileges to this container
    #[arg(long)]
    privileged: bool,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Security Options: seccomp=unconfined|FILE, no-new-privileges, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,
    /// Sysctl options
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// PID namespace to use: host
    #[arg(long, default_value = "", hide_default_value = true)]
    pid: String,
    /// IPC mode to use: private, host
    #[arg(long, default_value = "", hide_default_value = true)]
    ipc: String,
    /// UTS namespace to use: host
    #[arg(long, default_value = "", hide_default_value = true)]
    uts: String,
    /// Cgroup namespace to use: private, host
    #[arg(long, default_value = "", hide_default_value = true)]
    cgroupns: String,
    /// User namespace to use: host, or FIRST:COUNT of the host's ids that root and others become
    #[arg(long, default_value = "", hide_default_value = true)]
    userns: String,
}

/// The options that are only there to be refused.
#[derive(Debug)]
struct Unsupported(Option<&'static str>);

impl clap::Args for Unsupported {
    fn augment_args(command: clap::Command) -> clap::Command {
        UNSUPPORTED.iter().fold(command, |command, (name, short, has_value)| {
            let action = if *has_value { ArgAction::Append } else { ArgAction::SetTrue };
            let arg = Arg::new(*name).long(*name).hide(true).action(action);
            command.arg(match short {
                Some(short) => arg.short(*short),
                None => arg,
            })
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Unsupported {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let given = |(name, _, has_value): &&(&str, Option<char>, bool)| {
            let given = matches.value_source(name) == Some(ValueSource::CommandLine);
            // A switch may be given to say that it is off.
            given && (*has_value || matches.get_flag(name))
        };
        Ok(Self(UNSUPPORTED.iter().find(given).map(|(name, ..)| *name)))
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl CreateOptions {
    /// What the options, the image and the command mean.
    pub(crate) fn settings(&self, image: &str, command: &[String]) -> Result<Settings> {
        if let Some(name) = self.unsupported.0 {
            return Err(Error::new(Kind::Unsupported, format!("--{name} is not supported yet"))
                .hint("leave the option out; `cais run --help` lists what is supported"));
        }
        let mut settings = Settings {
            name: self.name.clone().unwrap_or_default(),
            image: image.to_owned(),
            entrypoint: self.entrypoint.as_ref().map(|word| match word.as_str() {
                "" => Vec::new(),
                word => vec![word.to_owned()],
            }),
            cmd: command.to_vec(),
            env: value::environment(&self.env, &self.env_file)?,
            workdir: self.workdir.clone(),
            user: self.user.clone(),
            group_add: self.group_add.clone(),
            hostname: value::hostname(&self.hostname)?,
            domainname: self.domainname.clone(),
            labels: value::labels(&self.label, &self.label_file)?,
            tty: self.tty,
            open_stdin: self.interactive,
            auto_remove: self.rm,
            init: self.init,
            stop_signal: self.stop_signal.clone(),
            stop_timeout_s: self.stop_timeout,
            restart: value::restart_policy(&self.restart)?,
            healthcheck: self.health.healthcheck()?,
            mounts: mount::mounts(&self.volume, &self.mount, &self.tmpfs)?,
            limits: self.limits.limits()?,
            security: self.security.security()?,
            devices: self.device.iter().map(|text| value::device(text)).collect::<Result<_>>()?,
            platform: self.platform.clone(),
            ..Settings::default()
        };
        self.network.apply(&mut settings)?;
        if let Some(size) = &self.shm_size {
            settings.shm_bytes = value::bytes("shm-size", size)?.try_into().unwrap_or(0);
        }
        if settings.auto_remove && settings.restart != RestartPolicy::No {
            return Err(Error::invalid(
                "conflicting options: cannot specify both --restart and --rm",
            ));
        }
        if !settings.stop_signal.is_empty() {
            engine::signal(&settings.stop_signal)?;
        }
        Ok(settings)
    }
}

impl LimitOptions {
    fn limits(&self) -> Result<Limits> {
        let ulimits = self.ulimit.iter().map(|text| value::ulimit(text)).collect::<Result<_>>()?;
        Ok(Limits {
            memory_swappiness: self.memory_swappiness.map(value::swappiness).transpose()?.flatten(),
            ulimits,
            oom_score_adj: self.oom_score_adj,
            ..self.changing.limits()?
        })
    }
}

impl UpdateOptions {
    /// What the options mean.
    pub(crate) fn limits(&self) -> Result<Limits> {
        let bytes = |name: &str, text: &Option<String>| {
            text.as_ref().map(|text| value::bytes(name, text)).transpose()
        };
        Ok(Limits {
            memory: bytes("memory", &self.memory)?,
            memory_reservation: bytes("memory-reservation", &self.memory_reservation)?,
            memory_swap: bytes("memory-swap", &self.memory_swap)?,
            nano_cpus: self.cpus.as_ref().map(|text| value::nano_cpus(text)).transpose()?,
            cpu_shares: self.cpu_shares,
            cpu_period_us: self.cpu_period,
            cpu_quota_us: self.cpu_quota,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids_limit,
            ..Limits::default()
        })
    }
}

impl SecurityOptions {
    fn security(&self) -> Result<Security> {
        let mut security = Security {
            privileged: self.privileged,
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            read_only: self.read_only,
            sysctls: pairs("sysctl", &self.sysctl)?,
            options: self.security_opt.clone(),
            host_pid: is_host("pid", &self.pid, &[])?,
            host_ipc: is_host("ipc", &self.ipc, &["private", "shareable"])?,
            host_uts: is_host("uts", &self.uts, &[])?,
            host_cgroup: is_host("cgroupns", &self.cgroupns, &["private"])?,
            user_namespace: value::user_namespace(&self.userns)?,
            ..Security::default()
        };
        for option in &self.security_opt {
            security_option(option, &mut security)?;
        }
        Ok(security)
    }
}

fn pairs(name: &str, texts: &[String]) -> Result<BTreeMap<String, String>> {
    let split = |text: &String| {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| {
            Error::invalid(format!("invalid --{name} \"{text}\": expected NAME=VALUE"))
        })?;
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(split).collect()
}

/// Whether a namespace is the host's; `private` names are the default's.
fn is_host(name: &str, text: &str, private: &[&str]) -> Result<bool> {
    match text {
        "host" => Ok(true),
        "" => Ok(false),
        other if private.contains(&other) => Ok(false),
        other if other.starts_with("container:") || (name, other) == ("ipc", "none") => {
            Err(Error::new(Kind::Unsupported, format!("--{name} {other} is not supported yet"))
                .hint(format!("--{name} host is")))
        }
        other => {
            Err(Error::invalid(format!("--{name}: invalid {} mode: {other}", name.to_uppercase())))
        }
    }
}

fn security_option(option: &str, security: &mut Security) -> Result<()> {
    let (key, value) =
        option.split_once('=').or_else(|| option.split_once(':')).unwrap_or((option, "true"));
    match (key, value) {
        ("no-new-privileges", "true" | "false") => security.no_new_privileges = value == "true",
        ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
        ("seccomp", "builtin" | "default") => security.seccomp = Seccomp::Default,
        ("seccomp", file) => {
            let json = std::fs::read_to_string(file).map_err(|error| {
                Error::caused(
                    Kind::Invalid,
                    format!("opening seccomp profile ({file}) failed"),
                    error,
                )
            })?;
            security.seccomp = Seccomp::Profile(json);
        }
        ("systempaths", "unconfined") => security.unmasked = true,
        // There is nothing to switch off where the kernel has no such module.
        ("apparmor", "unconfined") | ("label", "disable") => {}
        ("apparmor" | "label" | "systempaths", _) => {
            return Err(Error::new(
                Kind::Unsupported,
                format!("--security-opt {option} is not supported yet"),
            ));
        }
        _ => {
            let options =
                "seccomp=unconfined, seccomp=FILE, no-new-privileges, systempaths=unconfined";
            return Err(Error::invalid(format!("invalid --security-opt: \"{option}\""))
                .hint(format!("options are {options}")));
        }
    }
    Ok(())
}
