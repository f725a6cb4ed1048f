//! What a user asks of a container, typed; the image's defaults are merged in when it is created.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use oci::{Digest, Healthcheck};
use serde::{Deserialize, Serialize};

use crate::port::Publication;
use crate::restart::RestartPolicy;

/// Everything that is asked of a container, kept with it for its whole life.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The name; chosen where empty.
    pub name: String,
    /// The reference or id of the image, as written.
    pub image: String,
    /// The program and its fixed arguments; the image's where `None`, none where empty.
    pub entrypoint: Option<Vec<String>>,
    /// The arguments, or the program where there is no entrypoint; the image's where empty.
    pub cmd: Vec<String>,
    /// `NAME=value`, beyond the image's.
    pub env: Vec<String>,
    /// The directory to start in; the image's where empty.
    pub workdir: String,
    /// `user[:group]`; the image's where empty.
    pub user: String,
    /// Supplementary groups, by name or number.
    pub group_add: Vec<String>,
    /// The host name; the first 12 digits of the id where empty.
    pub hostname: String,
    /// The NIS domain name.
    pub domainname: String,
    /// Free-form notes, beyond the image's.
    pub labels: BTreeMap<String, String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input is kept open.
    pub open_stdin: bool,
    /// Whether it is removed when it exits.
    pub auto_remove: bool,
    /// Whether Cais' own init is PID 1 and the program its child.
    pub init: bool,
    /// The signal that asks it to stop; the image's, else SIGTERM, where empty.
    pub stop_signal: String,
    /// Seconds between that signal and SIGKILL; 10 where `None`; negative waits for ever.
    pub stop_timeout_s: Option<i64>,
    /// When it is started again after it has ended.
    pub restart: RestartPolicy,
    /// How its health is checked; the image's where `None`.
    pub healthcheck: Option<Healthcheck>,
    /// Which network it is on.
    pub network: NetworkMode,
    /// What is asked of the networks it is on, the first first; empty for nothing beyond
    /// [`Settings::network`].
    pub attachments: Vec<Membership>,
    /// The ports of the host that stand for its own.
    pub ports: Vec<Publication>,
    /// Whether every port that it exposes is published.
    pub publish_all: bool,
    /// Ports that it exposes beyond the image's: `80/tcp`.
    pub expose: Vec<String>,
    /// Its name servers, instead of the host's.
    pub dns: Vec<String>,
    /// The domains that it looks names up in, instead of the host's; `.` alone for none.
    pub dns_search: Vec<String>,
    /// Options of its resolver, instead of the host's.
    pub dns_options: Vec<String>,
    /// Further lines of its /etc/hosts: name and address, or `host-gateway`.
    pub extra_hosts: Vec<(String, String)>,
    /// Containers that it knows by further names: container and name.
    pub links: Vec<(String, String)>,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// Containers whose mounts it has too, each with `:ro` or `:rw` behind it where that was said.
    pub volumes_from: Vec<String>,
    /// How much of the machine it may use.
    pub limits: Limits,
    /// How it is held.
    pub security: Security,
    /// Device nodes of the host.
    pub devices: Vec<Device>,
    /// Bytes of /dev/shm; 64 MiB where 0.
    pub shm_bytes: u64,
    /// The streams that whoever runs it is attached to.
    pub attached: Attached,
    /// Free-form notes for the runtime and its hooks.
    pub annotations: BTreeMap<String, String>,
    /// The control group that its own is made in: absolute, without `..`; `/cais` where empty.
    pub cgroup_parent: String,
    /// The platform the image was asked for.
    pub platform: Option<String>,
    /// Where its lines go.
    pub log: LogConfig,
    /// Bytes that its writable layer may take of the disk; no limit where `None`.
    pub storage_bytes: Option<u64>,
    /// Whether files of /proc and /sys tell its limits instead of the machine's size; the number
    /// says with which processor it begins.
    pub honest_proc: Option<u32>,
    /// That it is a pod: it runs nothing, and its namespaces are there for other containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// The id of the pod that it is in, whose names and namespaces it has; in none where empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub in_pod: String,
}

/// What the containers of a pod share beside network, IPC and UTS namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Whether they share a process namespace.
    pub shares_processes: bool,
    /// Memory that they may mount: names, and bytes; 0 for half of the machine's.
    pub memory: BTreeMap<String, u64>,
}

/// Where a container's lines go, as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// `json-file`, `local`, `journald`, `syslog` or `none`; empty for the default.
    pub driver: String,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

impl LogConfig {
    /// The driver's name.
    #[must_use]
    pub fn driver(&self) -> &str {
        if self.driver.is_empty() { "json-file" } else { &self.driver }
    }
}

/// Which network a container is on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// A network namespace of its own, joined to the default bridge.
    #[default]
    Bridge,
    /// The host's network namespace.
    Host,
    /// A network namespace of its own with a loopback interface only.
    None,
    /// The network namespace of another container, by id.
    Container(String),
    /// A network namespace of its own, joined to networks that users made, of which this is the
    /// name of the first.
    Named(String),
}

/// What is asked of a container's place on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Membership {
    /// The network's name.
    pub network: String,
    /// Names that it is known by there, beyond its own.
    pub aliases: Vec<String>,
    /// The address it is to have.
    pub address: Option<Ipv4Addr>,
    /// The IPv6 address it is to have.
    pub address_v6: Option<Ipv6Addr>,
    /// The hardware address it is to have.
    pub mac: Option<net::MacAddress>,
    /// Link-local addresses that it is to have, too.
    pub link_local: Vec<IpAddr>,
}

impl Settings {
    /// The networks that it is on.
    #[must_use]
    pub fn networks(&self) -> Vec<Membership> {
        match &self.network {
            NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_) => Vec::new(),
            NetworkMode::Bridge if self.attachments.is_empty() => {
                vec![Membership { network: "bridge".into(), ..Membership::default() }]
            }
            NetworkMode::Bridge | NetworkMode::Named(_) => self.attachments.clone(),
        }
    }

    /// Whether it is on a network that a user made, where containers know each other by name.
    #[must_use]
    pub fn has_names(&self) -> bool {
        let made = |attachment: &Membership| attachment.network != "bridge";
        match &self.network {
            // Who is in a pod asks the servers that the pod names.
            _ if self.pod.is_some() => false,
            NetworkMode::Bridge | NetworkMode::Named(_) => self.attachments.iter().any(made),
            NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_) => false,
        }
    }
}

/// Something mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Where, absolute.
    pub target: String,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Whose files those of the source's owner are in the container.
    #[serde(default)]
    pub owner: Option<Owner>,
}

/// A user of a container's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `user[:group]`, as it was written.
    pub name: String,
    /// The ids that the image has for it.
    pub ids: (u32, u32),
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum MountSource {
    /// A file or directory of the host.
    Bind {
        /// Absolute.
        path: PathBuf,
        /// Whether a missing directory is created: `-v` does, `--mount` does not.
        create: bool,
        /// `rprivate`, `rslave`, …
        propagation: String,
        /// Whether mounts below it come along.
        recursive: bool,
        /// Whether a read-only mount leaves those below it as they are.
        #[serde(default)]
        writable_below: bool,
        /// What of it is mounted, looked for below it without leaving it; all of it where empty.
        #[serde(default)]
        subpath: PathBuf,
    },
    /// A volume; an anonymous one where the name is 64 hexadecimal digits made for it.
    Volume {
        /// Its name.
        name: String,
        /// Whether it was made for this container alone, and goes with it.
        anonymous: bool,
        /// Whether a fresh one is filled with the image's content.
        copy: bool,
        /// The directory in it that is mounted; all of it where empty.
        #[serde(default)]
        subpath: PathBuf,
        /// Labels and options of a fresh one; then the options of the one that is there.
        #[serde(default)]
        labels: BTreeMap<String, String>,
        /// As `labels`.
        #[serde(default)]
        options: BTreeMap<String, String>,
    },
    /// The files of an image, read-only.
    Image {
        /// As it was written.
        name: String,
        /// Its id.
        id: Option<Digest>,
        /// Its layers, lowest first: kept as long as the container is.
        layers: Vec<Digest>,
        /// The directory in it that is mounted; all of it where empty.
        subpath: PathBuf,
    },
    /// Memory of its pod, by its name there.
    Memory {
        /// A name of [`Pod::memory`].
        name: String,
    },
    /// Memory.
    Tmpfs {
        /// Options of the file system, as `mount` takes them.
        options: Vec<String>,
    },
}

/// How much of the machine a container may use. `None` and 0 mean no limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<i64>,
    /// Bytes of memory that it should stay below.
    pub memory_reservation: Option<i64>,
    /// Bytes of memory and swap together; -1 for unlimited swap.
    pub memory_swap: Option<i64>,
    /// How readily its memory is swapped, 0 to 100; cgroup v1 only.
    pub memory_swappiness: Option<u64>,
    /// Billionths of a processor.
    pub nano_cpus: Option<i64>,
    /// Relative weight; the default is 1024.
    pub cpu_shares: Option<u64>,
    /// The period of the quota, in microseconds.
    pub cpu_period_us: Option<u64>,
    /// The quota in each period, in microseconds.
    pub cpu_quota_us: Option<i64>,
    /// Processors it may run on: `0-3,5`.
    pub cpuset_cpus: String,
    /// Memory nodes it may use.
    pub cpuset_mems: String,
    /// Microseconds of real-time scheduling in each real-time period; cgroup v1 only.
    pub cpu_rt_runtime_us: Option<i64>,
    /// The real-time period, in microseconds; cgroup v1 only.
    pub cpu_rt_period_us: Option<u64>,
    /// Processes and threads; -1 for unlimited.
    pub pids: Option<i64>,
    /// Relative weight of its block I/O, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// The same for single devices.
    pub blkio_weight_devices: Vec<(PathBuf, u16)>,
    /// Limits on single block devices.
    pub blkio_throttles: Vec<Throttle>,
    /// Whether it waits for memory instead of being killed; cgroup v1 only.
    pub oom_kill_disable: bool,
    /// Rules for devices beyond those that it is given.
    pub device_rules: Vec<DeviceRule>,
    /// Limits per process.
    pub ulimits: Vec<Ulimit>,
    /// Preference of the OOM killer, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
}

/// A limit on the use of one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// The device's node on the host.
    pub device: PathBuf,
    /// What is counted.
    pub of: Throttled,
    /// How many of them in a second.
    pub rate: u64,
}

/// What a [`Throttle`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Throttled {
    /// Bytes that are read.
    ReadBytes,
    /// Bytes that are written.
    WriteBytes,
    /// Reads.
    Reads,
    /// Writes.
    Writes,
}

/// A rule of the device controller that allows something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// `a`ll, `b`lock or `c`haracter devices.
    pub kind: char,
    /// Any where `None`.
    pub major: Option<i64>,
    /// Any where `None`.
    pub minor: Option<i64>,
    /// `r`, `w` and `m`.
    pub access: String,
}

/// A limit per process, as `setrlimit(2)` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, …
    pub name: String,
    /// What applies.
    pub soft: u64,
    /// What it can be raised to.
    pub hard: u64,
}

/// How a container is held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// All capabilities, all devices, no confinement.
    pub privileged: bool,
    /// Capabilities beyond Docker's default; `ALL` for all.
    pub cap_add: Vec<String>,
    /// Capabilities taken away; `ALL` for all.
    pub cap_drop: Vec<String>,
    /// Whether programs may not gain privileges (set-user-id and the like).
    pub no_new_privileges: bool,
    /// Which system calls are allowed.
    pub seccomp: Seccomp,
    /// Whether the root file system is read-only.
    pub read_only: bool,
    /// Whether masked and read-only paths of /proc and /sys are left as they are.
    pub unmasked: bool,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// The options as they were written, for `inspect`.
    pub options: Vec<String>,
    /// Whose PID namespace it is in.
    pub pid: Sharing,
    /// Whose IPC namespace it is in.
    pub ipc: Sharing,
    /// Whether it shares the host's UTS namespace.
    pub host_uts: bool,
    /// Whether it shares the host's cgroup namespace.
    pub host_cgroup: bool,
    /// First host id and count of ids of a user namespace of its own.
    pub user_namespace: Option<(u32, u32)>,
}

impl Security {
    /// Whether its processes may be able to mount hierarchies of control groups, here or in a user
    /// namespace that they make: whatever is not known to keep them from it. The default filter does,
    /// for those without `CAP_SYS_ADMIN`.
    pub(crate) fn may_mount_hierarchies(&self) -> bool {
        self.privileged
            || self.host_cgroup
            || self.user_namespace.is_some()
            || !self.cap_add.is_empty()
            || self.seccomp != Seccomp::default()
    }
}

/// Standard streams of a container that somebody is attached to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attached {
    /// Whether its standard input is theirs.
    pub stdin: bool,
    /// Whether they see its standard output.
    pub stdout: bool,
    /// Whether they see its standard error.
    pub stderr: bool,
}

/// Whose namespace of a kind a container is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// One of its own.
    #[default]
    Private,
    /// One of its own, which others may join.
    Shareable,
    /// One of its own, without what shows it: for IPC, without /dev/shm.
    None,
    /// The host's.
    Host,
    /// Another container's, by id.
    Container(String),
}

/// Which system calls are allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// Docker's default profile.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// A profile in Docker's JSON format.
    Profile(String),
}

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// On the host.
    pub host: PathBuf,
    /// In the container.
    pub container: PathBuf,
    /// `r`, `w` and `m`: read, write, make nodes.
    pub permissions: String,
}

/// A further command in a running container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Exec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `NAME=value`, beyond the container's.
    pub env: Vec<String>,
    /// The directory to start in; the container's where empty.
    pub workdir: String,
    /// `user[:group]`; the container's where empty.
    pub user: String,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input is ours.
    pub stdin: bool,
    /// Whether it is left alone once it runs.
    pub detach: bool,
    /// The keys that leave it alone later, where it has a terminal.
    pub detach_keys: Vec<u8>,
    /// Whether it has all capabilities and no confinement.
    pub privileged: bool,
    /// Which of its streams somebody asked for when it was created.
    pub attached: Attached,
}

impl MountSource {
    /// A volume: an anonymous one where the name is empty.
    #[must_use]
    pub fn volume(name: &str) -> Self {
        Self::Volume {
            name: name.to_owned(),
            anonymous: name.is_empty(),
            copy: true,
            subpath: PathBuf::new(),
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
        }
    }
}
