//! What `POST /containers/create` says, field by field (Docker Engine API, `ContainerConfig`,
//! `HostConfig`, `NetworkingConfig`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// `a: b` pairs.
pub(super) type Words = BTreeMap<String, String>;
/// Keys whose values are empty objects.
pub(super) type Keys = BTreeMap<String, Value>;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Created {
    pub(super) hostname: String,
    pub(super) domainname: String,
    pub(super) user: String,
    pub(super) attach_stdin: bool,
    pub(super) attach_stdout: bool,
    pub(super) attach_stderr: bool,
    pub(super) exposed_ports: Keys,
    pub(super) tty: bool,
    pub(super) open_stdin: bool,
    pub(super) stdin_once: bool,
    pub(super) env: Vec<String>,
    pub(super) cmd: OneOrMore,
    pub(super) healthcheck: Option<Healthcheck>,
    pub(super) image: String,
    pub(super) volumes: Keys,
    pub(super) working_dir: String,
    pub(super) entrypoint: Option<OneOrMore>,
    pub(super) network_disabled: bool,
    pub(super) mac_address: String,
    pub(super) on_build: Vec<String>,
    pub(super) labels: Words,
    pub(super) stop_signal: String,
    pub(super) stop_timeout: Option<i64>,
    pub(super) shell: Vec<String>,
    pub(super) host_config: HostConfig,
    pub(super) networking_config: NetworkingConfig,
}

/// A list of words, or a single one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    More(Vec<String>),
    One(String),
}

impl Default for OneOrMore {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

impl OneOrMore {
    pub(super) fn words(self) -> Vec<String> {
        match self {
            Self::More(words) => words,
            Self::One(word) => vec![word],
        }
    }
}

/// Times are in nanoseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Healthcheck {
    pub(super) test: Vec<String>,
    pub(super) interval: i64,
    pub(super) timeout: i64,
    pub(super) start_period: i64,
    pub(super) start_interval: i64,
    pub(super) retries: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct HostConfig {
    pub(super) binds: Vec<String>,
    pub(super) log_config: LogConfig,
    pub(super) network_mode: String,
    pub(super) port_bindings: BTreeMap<String, Vec<PortBinding>>,
    pub(super) restart_policy: RestartPolicy,
    pub(super) auto_remove: bool,
    pub(super) volume_driver: String,
    pub(super) volumes_from: Vec<String>,
    pub(super) annotations: Words,
    pub(super) cap_add: Vec<String>,
    pub(super) cap_drop: Vec<String>,
    pub(super) cgroupns_mode: String,
    pub(super) dns: Vec<String>,
    pub(super) dns_options: Vec<String>,
    pub(super) dns_search: Vec<String>,
    pub(super) extra_hosts: Vec<String>,
    pub(super) group_add: Vec<String>,
    pub(super) ipc_mode: String,
    pub(super) cgroup: String,
    pub(super) links: Vec<String>,
    pub(super) pid_mode: String,
    pub(super) privileged: bool,
    pub(super) publish_all_ports: bool,
    pub(super) readonly_rootfs: bool,
    pub(super) security_opt: Vec<String>,
    pub(super) storage_opt: Words,
    pub(super) tmpfs: Words,
    #[serde(rename = "UTSMode")]
    pub(super) uts_mode: String,
    pub(super) userns_mode: String,
    pub(super) shm_size: i64,
    pub(super) sysctls: Words,
    pub(super) runtime: String,
    pub(super) isolation: String,
    pub(super) mounts: Vec<Mount>,
    pub(super) masked_paths: Option<Vec<String>>,
    pub(super) readonly_paths: Option<Vec<String>>,
    pub(super) init: Option<bool>,
    pub(super) device_requests: Vec<Value>,
    pub(super) devices: Vec<Device>,
    #[serde(flatten)]
    pub(super) resources: Resources,
    /// What is none of these, in another spelling too.
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, Value>,
}

impl HostConfig {
    /// A field that asks for something, and that nobody here knows.
    pub(super) fn unknown(&self) -> Option<&str> {
        // What the client keeps for itself.
        const OF_CLIENTS: &[&str] = &["ContainerIDFile", "ConsoleSize"];
        let mut all = self.unknown.iter();
        all.find(|(name, value)| !OF_CLIENTS.contains(&name.as_str()) && asks(value))
            .map(|(name, _)| name.as_str())
    }
}

/// Whether a field asks for anything.
fn asks(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_set) => *is_set,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
    }
}

/// What `POST /containers/{id}/update` says.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Changes {
    pub(super) restart_policy: RestartPolicy,
    #[serde(flatten)]
    pub(super) resources: Resources,
    /// What is none of these.
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

impl Changes {
    /// A field that asks for something that cannot be changed.
    pub(super) fn refused(&self) -> Option<&str> {
        let mut unknown = self.unknown.iter();
        let unknown = unknown.find(|(_, value)| asks(value)).map(|(name, _)| name.as_str());
        let parent = (!self.resources.cgroup_parent.is_empty()).then_some("CgroupParent");
        unknown.or(parent).or_else(|| self.resources.refused())
    }
}

/// What containers are held to, and what `POST /containers/{id}/update` changes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Resources {
    pub(super) cpu_shares: i64,
    pub(super) memory: i64,
    pub(super) nano_cpus: i64,
    pub(super) cgroup_parent: String,
    pub(super) blkio_weight: u16,
    pub(super) blkio_weight_device: Vec<Weight>,
    pub(super) blkio_device_read_bps: Vec<Rate>,
    pub(super) blkio_device_write_bps: Vec<Rate>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub(super) blkio_device_read_iops: Vec<Rate>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub(super) blkio_device_write_iops: Vec<Rate>,
    pub(super) cpu_period: i64,
    pub(super) cpu_quota: i64,
    pub(super) cpu_realtime_period: i64,
    pub(super) cpu_realtime_runtime: i64,
    pub(super) cpuset_cpus: String,
    pub(super) cpuset_mems: String,
    pub(super) device_cgroup_rules: Vec<String>,
    pub(super) memory_reservation: i64,
    pub(super) memory_swap: i64,
    pub(super) memory_swappiness: Option<i64>,
    pub(super) oom_kill_disable: bool,
    pub(super) oom_score_adj: i32,
    pub(super) pids_limit: Option<i64>,
    pub(super) ulimits: Vec<Ulimit>,
    pub(super) kernel_memory: i64,
    #[serde(rename = "KernelMemoryTCP")]
    pub(super) kernel_memory_tcp: i64,
    pub(super) cpu_count: i64,
    pub(super) cpu_percent: i64,
    #[serde(rename = "IOMaximumIOps")]
    pub(super) io_maximum_iops: u64,
    #[serde(rename = "IOMaximumBandwidth")]
    pub(super) io_maximum_bandwidth: u64,
}

impl Resources {
    /// A field that asks for what Linux, or Cais, does not have.
    pub(super) fn refused(&self) -> Option<&'static str> {
        let all = [
            ("KernelMemory", self.kernel_memory != 0),
            ("KernelMemoryTCP", self.kernel_memory_tcp != 0),
            ("CpuCount", self.cpu_count != 0),
            ("CpuPercent", self.cpu_percent != 0),
            ("IOMaximumIOps", self.io_maximum_iops != 0),
            ("IOMaximumBandwidth", self.io_maximum_bandwidth != 0),
        ];
        all.into_iter().find(|(_, asked)| *asked).map(|(name, _)| name)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Weight {
    pub(super) path: String,
    pub(super) weight: u16,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Rate {
    pub(super) path: String,
    pub(super) rate: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Ulimit {
    pub(super) name: String,
    pub(super) hard: i64,
    pub(super) soft: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct LogConfig {
    #[serde(rename = "Type")]
    pub(super) driver: String,
    pub(super) config: Words,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct PortBinding {
    pub(super) host_ip: String,
    pub(super) host_port: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct RestartPolicy {
    pub(super) name: String,
    pub(super) maximum_retry_count: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Device {
    pub(super) path_on_host: String,
    pub(super) path_in_container: String,
    pub(super) cgroup_permissions: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Mount {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) read_only: bool,
    pub(super) bind_options: BindOptions,
    pub(super) volume_options: VolumeOptions,
    pub(super) tmpfs_options: TmpfsOptions,
    pub(super) image_options: ImageOptions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct BindOptions {
    pub(super) propagation: String,
    pub(super) non_recursive: bool,
    pub(super) create_mountpoint: bool,
    pub(super) read_only_non_recursive: bool,
    pub(super) read_only_force_recursive: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct VolumeOptions {
    pub(super) no_copy: bool,
    pub(super) labels: Words,
    pub(super) subpath: String,
    pub(super) driver_config: DriverConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct DriverConfig {
    pub(super) name: String,
    pub(super) options: Words,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct TmpfsOptions {
    pub(super) size_bytes: i64,
    pub(super) mode: u32,
    pub(super) options: Vec<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ImageOptions {
    pub(super) subpath: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct NetworkingConfig {
    pub(super) endpoints_config: BTreeMap<String, EndpointConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct EndpointConfig {
    #[serde(rename = "IPAMConfig")]
    pub(super) ipam_config: IpamConfig,
    pub(super) links: Vec<String>,
    pub(super) aliases: Vec<String>,
    pub(super) mac_address: String,
    pub(super) driver_opts: Words,
    pub(super) gw_priority: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct IpamConfig {
    #[serde(rename = "IPv4Address")]
    pub(super) ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    pub(super) ipv6_address: String,
    #[serde(rename = "LinkLocalIPs")]
    pub(super) link_local_ips: Vec<String>,
}
