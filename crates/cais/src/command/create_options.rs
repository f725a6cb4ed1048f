//! The options of `run` and `create`, in Docker's grammar.

mod health;
mod limit;
mod mount;
pub(in crate::command) mod network;
mod refused;
pub(crate) mod value;

pub(in crate::command) use limit::UpdateOptions;
pub(crate) use value::environment;

use super::grammar::Bool;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{ArgAction, Args};
use docker::grammar::{is_host, security_option};
use engine::{Attached, Error, Kind, RestartPolicy, Result, Security, Settings};

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
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "CONTAINER[:ro|rw]")]
    volumes_from: Vec<String>,
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
    /// Pull image before creating; with lazy, start while its layers are still arriving
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["always", "missing", "never", "lazy"])]
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
    /// Add an annotation to the container (passed through to the OCI runtime)
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "STREAM")]
    attach: Vec<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true)]
    cgroup_parent: String,
    /// Runtime to use for this container: cais, also known as runc
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    runtime: String,
    /// Container isolation technology: default
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    isolation: String,
    /// Skip image verification
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, value_parser = Bool)]
    #[arg(num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "true", default_missing_value = "true", hide_default_value = true)]
    disable_content_trust: bool,
    /// Volume driver for the container: local
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    volume_driver: String,
    #[command(flatten)]
    health: health::HealthOptions,
    /// Let /proc/meminfo, cpuinfo, stat, uptime, loadavg and the processors online tell the
    /// container's limits
    #[arg(long)]
    honest_proc: bool,
    /// Storage driver options for the container: size
    #[arg(long, value_name = "size=BYTES")]
    storage_opt: Vec<String>,
    /// Logging driver for the container: json-file, local, journald, syslog, none
    #[arg(long, value_name = "DRIVER", default_value = "", hide_default_value = true)]
    log_driver: String,
    /// Log driver options
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
    #[command(flatten)]
    limits: limit::LimitOptions,
    #[command(flatten)]
    security: SecurityOptions,
    #[command(flatten)]
    refused: refused::Refused,
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
    /// PID namespace to use: host, or container:NAME
    #[arg(long, default_value = "", hide_default_value = true)]
    pid: String,
    /// IPC mode to use: private, shareable, none, host, or container:NAME
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

impl CreateOptions {
    /// What the options, the image and the command mean.
    pub(crate) fn settings(&self, image: &str, command: &[String]) -> Result<Settings> {
        self.refused.check()?;
        self.check_words()?;
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
            volumes_from: self.volumes_from.clone(),
            limits: self.limits.limits()?,
            security: self.security.security()?,
            devices: self.device.iter().map(|text| value::device(text)).collect::<Result<_>>()?,
            platform: self.platform.clone(),
            annotations: pairs("annotation", &self.annotation)?,
            cgroup_parent: value::cgroup_parent(&self.cgroup_parent)?,
            honest_proc: self.honest_proc.then_some(0),
            storage_bytes: value::storage(&self.storage_opt)?,
            log: value::log(&self.log_driver, &self.log_opt),
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

impl CreateOptions {
    /// Whether streams to attach to were named.
    pub(crate) fn is_attached(&self) -> bool {
        !self.attach.is_empty()
    }

    /// Whether it is removed when it exits.
    pub(crate) fn is_removed(&self) -> bool {
        self.rm
    }

    /// The streams that whoever runs it is attached to.
    pub(crate) fn attached(&self) -> Result<Attached> {
        let mut attached = Attached::default();
        if self.attach.is_empty() {
            return Ok(Attached { stdin: self.interactive, stdout: true, stderr: true });
        }
        for stream in &self.attach {
            match stream.to_ascii_lowercase().as_str() {
                "stdin" => attached.stdin = true,
                "stdout" => attached.stdout = true,
                "stderr" => attached.stderr = true,
                _ => {
                    return Err(Error::invalid(format!(
                        "invalid argument \"{stream}\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
                    )));
                }
            }
        }
        Ok(attached)
    }

    /// Words of which Linux, or Cais, has one.
    fn check_words(&self) -> Result<()> {
        if !matches!(self.isolation.as_str(), "" | "default") {
            let isolation = &self.isolation;
            let message =
                format!("Invalid isolation: \"{isolation}\" - linux only supports 'default'");
            return Err(Error::new(Kind::Unsupported, message));
        }
        if !matches!(self.runtime.as_str(), "" | "cais" | "runc") {
            let runtime = &self.runtime;
            return Err(Error::new(Kind::NotFound, format!("Unknown runtime specified {runtime}"))
                .hint("the runtime is part of Cais: leave --runtime out"));
        }
        if !self.disable_content_trust {
            return Err(Error::new(Kind::Unsupported, "content trust is not supported")
                .hint("name the image by its digest: NAME@sha256:…"));
        }
        if !matches!(self.volume_driver.as_str(), "" | "local") {
            let driver = &self.volume_driver;
            return Err(Error::new(Kind::NotFound, format!("plugin \"{driver}\" not found"))
                .hint("volumes have the driver `local` alone"));
        }
        Ok(())
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
            pid: value::pid_mode(&self.pid)?,
            ipc: value::ipc_mode(&self.ipc)?,
            host_uts: is_host("uts", &self.uts, &[])?,
            host_cgroup: is_host("cgroupns", &self.cgroupns, &["private"])?,
            user_namespace: value::user_namespace(&self.userns)?,
            ..Security::default()
        };
        for option in &self.security_opt {
            security_option(option, &mut security, &profile)?;
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

/// The text of a seccomp profile's file.
fn profile(file: &str) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| {
        let doing = format!("opening seccomp profile ({file}) failed");
        Error::caused(Kind::Invalid, doing, error)
    })
}
