//! Every key of a Compose file: <https://github.com/compose-spec/compose-spec>.

use crate::shape::Shape::*;
use crate::shape::{Bare, Field, Shape, Unique};
use crate::short;

macro_rules! fields {
    ($($name:literal: $shape:expr),* $(,)?) => {
        Fields(&[$(Field { name: $name, shape: $shape }),*])
    };
}

const PAIRS: Shape = Pairs(Bare::Empty);
const ENVIRONMENT: Shape = Pairs(Bare::Inherited);
const TEXTS: Shape = Texts(Unique::No);
const NAMES: Shape = Texts(Unique::Name);
const WORDS: Shape = List(&Word, Unique::No);
const OPTIONS: Shape = Map(&Word);

/// A whole file.
pub(crate) const FILE: Shape = fields! {
    "version": Any,
    "name": Text,
    "include": List(&Short(short::include, &INCLUDE), Unique::No),
    "services": Map(&SERVICE),
    "networks": Map(&Short(short::external, &NETWORK)),
    "volumes": Map(&Short(short::external, &VOLUME)),
    "secrets": Map(&Short(short::external, &SECRET)),
    "configs": Map(&Short(short::external, &CONFIG)),
    "models": Map(&Any),
};

const INCLUDE: Shape = fields! {
    "path": TEXTS,
    "env_file": TEXTS,
    "project_directory": Text,
};

/// A service.
pub(crate) const SERVICE: Shape = Fields(SERVICE_FIELDS);

/// The keys of a service.
pub(crate) const SERVICE_FIELDS: &[Field] = &[
    Field { name: "profiles", shape: NAMES },
    Field { name: "annotations", shape: PAIRS },
    Field { name: "attach", shape: Bool },
    Field { name: "build", shape: Short(short::build, &BUILD) },
    Field { name: "develop", shape: DEVELOP },
    Field { name: "blkio_config", shape: BLKIO },
    Field { name: "cap_add", shape: NAMES },
    Field { name: "cap_drop", shape: NAMES },
    Field { name: "cgroup_parent", shape: Text },
    Field { name: "cgroup", shape: OneOf(&["host", "private"]) },
    Field { name: "cpu_count", shape: Int },
    Field { name: "cpu_percent", shape: Float },
    Field { name: "cpu_period", shape: Int },
    Field { name: "cpu_quota", shape: Int },
    Field { name: "cpu_rt_period", shape: Int },
    Field { name: "cpu_rt_runtime", shape: Int },
    Field { name: "cpus", shape: Float },
    Field { name: "cpuset", shape: Word },
    Field { name: "cpu_shares", shape: Int },
    Field { name: "command", shape: Command },
    Field { name: "configs", shape: Short(short::mounted, &CONFIG_MOUNTS) },
    Field { name: "container_name", shape: Text },
    Field { name: "credential_spec", shape: Any },
    Field { name: "depends_on", shape: Short(short::depends_on, &Map(&DEPENDENCY)) },
    Field { name: "deploy", shape: DEPLOY },
    Field { name: "device_cgroup_rules", shape: WORDS },
    Field { name: "devices", shape: Short(short::devices, &List(&DEVICE, Unique::By("target"))) },
    Field { name: "dns", shape: NAMES },
    Field { name: "dns_opt", shape: NAMES },
    Field { name: "dns_search", shape: NAMES },
    Field { name: "domainname", shape: Text },
    Field { name: "entrypoint", shape: Command },
    Field { name: "provider", shape: Any },
    Field { name: "environment", shape: ENVIRONMENT },
    Field { name: "env_file", shape: Short(short::env_file, &List(&ENV_FILE, Unique::By("path"))) },
    Field { name: "expose", shape: NAMES },
    Field { name: "extends", shape: Short(short::extends, &EXTENDS) },
    Field { name: "external_links", shape: WORDS },
    Field { name: "extra_hosts", shape: HOSTS },
    Field { name: "group_add", shape: WORDS },
    Field { name: "gpus", shape: Any },
    Field { name: "hostname", shape: Text },
    Field { name: "healthcheck", shape: HEALTHCHECK },
    Field { name: "image", shape: Text },
    Field { name: "init", shape: Bool },
    Field { name: "ipc", shape: Text },
    Field { name: "isolation", shape: Text },
    Field { name: "labels", shape: PAIRS },
    Field { name: "label_file", shape: TEXTS },
    Field { name: "links", shape: NAMES },
    Field { name: "logging", shape: LOGGING },
    Field { name: "mem_limit", shape: Bytes },
    Field { name: "mem_reservation", shape: Bytes },
    Field { name: "memswap_limit", shape: Bytes },
    Field { name: "mem_swappiness", shape: Int },
    Field { name: "mac_address", shape: Text },
    Field { name: "models", shape: Any },
    Field { name: "networks", shape: Short(short::networks, &Map(&ENDPOINT)) },
    Field { name: "network_mode", shape: Text },
    Field { name: "oom_kill_disable", shape: Bool },
    Field { name: "oom_score_adj", shape: Int },
    Field { name: "pid", shape: Text },
    Field { name: "pids_limit", shape: Int },
    Field { name: "platform", shape: Text },
    Field { name: "ports", shape: Short(short::ports, &List(&PORT, Unique::Port)) },
    Field { name: "privileged", shape: Bool },
    Field { name: "pull_policy", shape: Text },
    Field { name: "pull_refresh_after", shape: Text },
    Field { name: "read_only", shape: Bool },
    Field { name: "restart", shape: Text },
    Field { name: "runtime", shape: Text },
    Field { name: "scale", shape: Int },
    Field { name: "secrets", shape: Short(short::mounted, &SECRET_MOUNTS) },
    Field { name: "security_opt", shape: WORDS },
    Field { name: "shm_size", shape: Bytes },
    Field { name: "stdin_open", shape: Bool },
    Field { name: "stop_grace_period", shape: Duration },
    Field { name: "stop_signal", shape: Word },
    Field { name: "storage_opt", shape: OPTIONS },
    Field { name: "sysctls", shape: PAIRS },
    Field { name: "tmpfs", shape: NAMES },
    Field { name: "tty", shape: Bool },
    Field { name: "ulimits", shape: ULIMITS },
    Field { name: "use_api_socket", shape: Bool },
    Field { name: "user", shape: Word },
    Field { name: "userns_mode", shape: Text },
    Field { name: "uts", shape: Text },
    Field { name: "volumes", shape: Short(short::volumes, &List(&MOUNT, Unique::By("target"))) },
    Field { name: "volumes_from", shape: WORDS },
    Field { name: "working_dir", shape: Text },
    Field { name: "pre_start", shape: Any },
    Field { name: "post_start", shape: List(&HOOK, Unique::No) },
    Field { name: "pre_stop", shape: List(&HOOK, Unique::No) },
];

const HOSTS: Shape = Short(short::hosts, &List(&Text, Unique::Whole));
const ULIMITS: Shape = Map(&IntOr(&ULIMIT));
const ULIMIT: Shape = fields! { "soft": Int, "hard": Int };

const BUILD: Shape = fields! {
    "context": Text,
    "dockerfile": Text,
    "dockerfile_inline": Text,
    "entitlements": WORDS,
    "args": ENVIRONMENT,
    "ssh": Any,
    "labels": PAIRS,
    "cache_from": WORDS,
    "cache_to": WORDS,
    "no_cache": Bool,
    "no_cache_filter": TEXTS,
    "additional_contexts": PAIRS,
    "network": Text,
    "provenance": BoolOrText,
    "sbom": BoolOrText,
    "pull": Bool,
    "target": Text,
    "shm_size": Bytes,
    "extra_hosts": HOSTS,
    "isolation": Text,
    "privileged": Bool,
    "secrets": Short(short::mounted, &SECRET_MOUNTS),
    "tags": NAMES,
    "ulimits": ULIMITS,
    "platforms": NAMES,
};

const BLKIO_RATES: Shape = List(&fields! { "path": Text, "rate": Word }, Unique::No);
const BLKIO: Shape = fields! {
    "weight": Int,
    "weight_device": List(&fields! { "path": Text, "weight": Int }, Unique::No),
    "device_read_bps": BLKIO_RATES,
    "device_read_iops": BLKIO_RATES,
    "device_write_bps": BLKIO_RATES,
    "device_write_iops": BLKIO_RATES,
};

const DEPENDENCY: Shape = fields! {
    "condition": OneOf(&["service_started", "service_healthy", "service_completed_successfully"]),
    "restart": Bool,
    "required": Bool,
};

const WATCH: Shape = fields! {
    "path": Text,
    "action": OneOf(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"]),
    "target": Text,
    "ignore": TEXTS,
    "include": TEXTS,
    "exec": HOOK,
    "initial_sync": Bool,
};
const DEVELOP: Shape = fields! { "watch": List(&WATCH, Unique::No) };

const RESOURCES: Shape = fields! {
    "cpus": Float,
    "memory": Bytes,
    "pids": Int,
    "devices": Any,
    "generic_resources": Any,
};
const UPDATE: Shape = fields! {
    "parallelism": Int,
    "delay": Duration,
    "failure_action": Text,
    "monitor": Duration,
    "max_failure_ratio": Float,
    "order": OneOf(&["start-first", "stop-first"]),
};
const RESTART: Shape = fields! {
    "condition": OneOf(&["none", "on-failure", "any", "always", "unless-stopped"]),
    "delay": Duration,
    "max_attempts": Int,
    "window": Duration,
};
const DEPLOY: Shape = fields! {
    "mode": OneOf(&["replicated", "global", "replicated-job", "global-job"]),
    "replicas": Int,
    "labels": PAIRS,
    "update_config": UPDATE,
    "rollback_config": UPDATE,
    "resources": fields! { "limits": RESOURCES, "reservations": RESOURCES },
    "restart_policy": RESTART,
    "placement": Any,
    "endpoint_mode": Text,
};

const DEVICE: Shape = fields! { "source": Text, "target": Text, "permissions": Text };
const ENV_FILE: Shape = fields! {
    "path": Text,
    "required": Bool,
    "format": OneOf(&["raw"]),
};
const EXTENDS: Shape = fields! { "service": Text, "file": Text };

const HEALTHCHECK: Shape = fields! {
    "test": Test,
    "timeout": Duration,
    "interval": Duration,
    "retries": Int,
    "start_period": Duration,
    "start_interval": Duration,
    "disable": Bool,
};

const LOGGING: Shape = fields! { "driver": Text, "options": OPTIONS };

const ENDPOINT: Shape = fields! {
    "aliases": NAMES,
    "driver_opts": OPTIONS,
    "gw_priority": Int,
    "interface_name": Text,
    "ipv4_address": Text,
    "ipv6_address": Text,
    "link_local_ips": NAMES,
    "mac_address": Text,
    "priority": Int,
};

const PORT: Shape = fields! {
    "name": Text,
    "mode": Text,
    "host_ip": Text,
    "target": Int,
    "published": Word,
    "protocol": Text,
    "app_protocol": Text,
};

const FILE_MOUNT: Shape = fields! {
    "source": Text,
    "target": Text,
    "uid": Word,
    "gid": Word,
    "mode": Mode,
};
const SECRET_MOUNTS: Shape = List(&FILE_MOUNT, Unique::Mount("/run/secrets"));
const CONFIG_MOUNTS: Shape = List(&FILE_MOUNT, Unique::Mount(""));

const MOUNT: Shape = fields! {
    "type": OneOf(&["bind", "volume", "tmpfs", "image", "npipe", "cluster"]),
    "source": Text,
    "target": Text,
    "read_only": Bool,
    "consistency": Text,
    "bind": fields! {
        "propagation": Text,
        "create_host_path": Bool,
        "recursive": OneOf(&["enabled", "disabled", "writable", "readonly"]),
        "selinux": OneOf(&["z", "Z"]),
    },
    "volume": fields! { "labels": PAIRS, "nocopy": Bool, "subpath": Text },
    "tmpfs": fields! { "size": Bytes, "mode": Mode },
    "image": fields! { "subpath": Text },
};

const HOOK: Shape = fields! {
    "command": Command,
    "user": Word,
    "privileged": Bool,
    "working_dir": Text,
    "environment": ENVIRONMENT,
};

const POOL: Shape = fields! {
    "subnet": Text,
    "gateway": Text,
    "ip_range": Text,
    "aux_addresses": OPTIONS,
};
const IPAM: Shape = fields! {
    "driver": Text,
    "config": List(&POOL, Unique::By("subnet")),
    "options": OPTIONS,
};

const NETWORK: Shape = fields! {
    "name": Text,
    "driver": Text,
    "driver_opts": OPTIONS,
    "ipam": IPAM,
    "external": Bool,
    "internal": Bool,
    "attachable": Bool,
    "labels": PAIRS,
    "enable_ipv4": Bool,
    "enable_ipv6": Bool,
};
const VOLUME: Shape = fields! {
    "name": Text,
    "driver": Text,
    "driver_opts": OPTIONS,
    "external": Bool,
    "labels": PAIRS,
};
const SECRET: Shape = fields! {
    "name": Text,
    "environment": Text,
    "file": Text,
    "external": Bool,
    "labels": PAIRS,
    "driver": Text,
    "driver_opts": OPTIONS,
    "template_driver": Text,
};
const CONFIG: Shape = fields! {
    "name": Text,
    "environment": Text,
    "file": Text,
    "content": Text,
    "external": Bool,
    "labels": PAIRS,
    "template_driver": Text,
};
