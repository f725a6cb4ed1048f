//! `GET /containers/{id}/json`

use engine::{
    Container, DEFAULT_LOG_OPTIONS, DeviceRule, Engine, Health, HealthResult, Limits, LogConfig,
    Membership, MemoryEnd, Mount, MountSource, NetworkMode, Placement, Result, Security, Settings,
    Sharing, Status, Throttle, Throttled, Victim,
};
use oci::ContainerConfig;
use serde_json::{Map, Value, json};

use crate::network;

/// What Docker shows for a time that is not there.
pub(crate) const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// A container as Docker's API shows it.
///
/// # Errors
/// If its layers cannot be named.
pub fn container(engine: &Engine, container: &Container) -> Result<Value> {
    let record = &container.record;
    let file = |name: &str| container.name_file(name).display().to_string();
    let command: Vec<&String> = record.config.entrypoint.iter().chain(&record.config.cmd).collect();
    let (path, args) = command
        .split_first()
        .map_or((String::new(), &[][..]), |(path, args)| (path.to_string(), args));
    Ok(json!({
        "Id": record.id,
        "Created": record.created,
        "Path": path,
        "Args": args,
        "State": state(container),
        "Image": record.image_id.to_string(),
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": match record.settings.log.driver() {
            "json-file" => container.log_path().display().to_string(),
            _ => String::new(),
        },
        "Name": format!("/{}", record.name),
        "RestartCount": container.state.restarts,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config(container),
        "GraphDriver": graph_driver(engine, container)?,
        "Mounts": mounts(engine, &record.settings.mounts),
        "Config": config(container),
        "NetworkSettings": network_settings(container),
    }))
}

fn state(container: &Container) -> Value {
    let state = &container.state;
    let time = |time: &str| if time.is_empty() { NO_TIME.to_owned() } else { time.to_owned() };
    let mut fields = json!({
        "Status": state.status.word(),
        "Running": container.is_running(),
        "Paused": state.status == Status::Paused,
        "Restarting": state.status == Status::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": false,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": time(&state.started_at),
        "FinishedAt": time(&state.finished_at),
    });
    let memory = &state.memory;
    if let (Value::Object(fields), true) = (&mut fields, *memory != MemoryEnd::default()) {
        let victim = |victim: &Victim| json!({ "Name": victim.name, "Pid": victim.pid });
        fields.insert("MemoryPeak".into(), json!(memory.peak_bytes));
        fields.insert("OOMKills".into(), json!(memory.oom_kills));
        fields.insert("OOMVictims".into(), memory.victims.iter().map(victim).collect());
    }
    if let (Value::Object(fields), Some(health)) = (&mut fields, container.health()) {
        fields.insert("Health".into(), self::health(&health));
    }
    fields
}

fn health(health: &Health) -> Value {
    let result = |result: &HealthResult| {
        json!({
            "Start": result.start,
            "End": result.end,
            "ExitCode": result.exit_code,
            "Output": result.output,
        })
    };
    json!({
        "Status": health.status.word(),
        "FailingStreak": health.failing_streak,
        "Log": health.log.iter().map(result).collect::<Vec<_>>(),
    })
}

fn host_config(container: &Container) -> Value {
    let mut fields = asked_of_host(&container.record.settings);
    fields.insert("Links".into(), links(container));
    Value::Object(fields)
}

/// What was asked of the host, but for links, which are told otherwise than they are asked for.
pub(crate) fn asked_of_host(settings: &Settings) -> Map<String, Value> {
    let binds: Vec<String> = settings.mounts.iter().filter_map(bind).collect();
    let host = |is_host: bool, otherwise: &str| if is_host { "host" } else { otherwise }.to_owned();
    let mut fields = limits(&settings.limits);
    let Security { privileged, cap_add, cap_drop, read_only, sysctls, options, .. } =
        &settings.security;
    let shm = if settings.shm_bytes == 0 { 64 << 20 } else { settings.shm_bytes };
    let devices: Vec<Value> = settings
        .devices
        .iter()
        .map(|device| {
            json!({
                "PathOnHost": device.host,
                "PathInContainer": device.container,
                "CgroupPermissions": device.permissions,
            })
        })
        .collect();
    let rest = json!({
        "Binds": binds,
        "ContainerIDFile": "",
        "LogConfig": log_config(&settings.log),
        "NetworkMode": network_mode(&settings.network),
        "PortBindings": network::bindings(&settings.ports),
        "RestartPolicy": {
            "Name": settings.restart.name(),
            "MaximumRetryCount": settings.restart.max(),
        },
        "AutoRemove": settings.auto_remove,
        "VolumeDriver": "",
        "StorageOpt": settings.storage_bytes.map(|bytes| json!({ "size": bytes.to_string() })),
        "VolumesFrom": Some(&settings.volumes_from).filter(|from| !from.is_empty()),
        "CapAdd": cap_add,
        "CapDrop": cap_drop,
        "CgroupnsMode": host(settings.security.host_cgroup, "private"),
        "Dns": settings.dns,
        "DnsOptions": settings.dns_options,
        "DnsSearch": settings.dns_search,
        "ExtraHosts": extra_hosts(&settings.extra_hosts),
        "GroupAdd": settings.group_add,
        "IpcMode": sharing(&settings.security.ipc, "private"),
        "PidMode": sharing(&settings.security.pid, ""),
        "UTSMode": host(settings.security.host_uts, ""),
        "Privileged": privileged,
        "PublishAllPorts": settings.publish_all,
        "ReadonlyRootfs": read_only,
        "SecurityOpt": options,
        "Sysctls": sysctls,
        "ShmSize": shm,
        "Runtime": "cais",
        "Isolation": "",
        "Annotations": settings.annotations,
        "CgroupParent": settings.cgroup_parent,
        "Init": settings.init,
        "Devices": devices,
        "Tmpfs": tmpfs(&settings.mounts),
    });
    if let Value::Object(rest) = rest {
        fields.extend(rest);
    }
    fields
}

fn limits(limits: &Limits) -> Map<String, Value> {
    let ulimits: Vec<Value> = limits
        .ulimits
        .iter()
        .map(|limit| json!({ "Name": limit.name, "Hard": limit.hard, "Soft": limit.soft }))
        .collect();
    let weights = limits.blkio_weight_devices.iter();
    let weights = weights.map(|(path, weight)| json!({ "Path": path, "Weight": weight }));
    let weights: Vec<Value> = weights.collect();
    let throttles = |of: Throttled| {
        let throttles = limits.blkio_throttles.iter().filter(|throttle| throttle.of == of);
        let one = |throttle: &Throttle| json!({ "Path": throttle.device, "Rate": throttle.rate });
        throttles.map(one).collect::<Vec<Value>>()
    };
    let fields = json!({
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "Memory": limits.memory.unwrap_or(0),
        "NanoCpus": limits.nano_cpus.unwrap_or(0),
        "CpuPeriod": limits.cpu_period_us.unwrap_or(0),
        "CpuQuota": limits.cpu_quota_us.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "MemorySwap": limits.memory_swap.unwrap_or(limits.memory.unwrap_or(0) * 2),
        "MemorySwappiness": limits.memory_swappiness,
        "CpuRealtimePeriod": limits.cpu_rt_period_us.unwrap_or(0),
        "CpuRealtimeRuntime": limits.cpu_rt_runtime_us.unwrap_or(0),
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": weights,
        "BlkioDeviceReadBps": throttles(Throttled::ReadBytes),
        "BlkioDeviceWriteBps": throttles(Throttled::WriteBytes),
        "BlkioDeviceReadIOps": throttles(Throttled::Reads),
        "BlkioDeviceWriteIOps": throttles(Throttled::Writes),
        "DeviceCgroupRules": limits.device_rules.iter().map(rule).collect::<Vec<_>>(),
        "OomKillDisable": limits.oom_kill_disable,
        "OomScoreAdj": limits.oom_score_adj.unwrap_or(0),
        "PidsLimit": limits.pids,
        "Ulimits": ulimits,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// As `--device-cgroup-rule` has it.
fn rule(rule: &DeviceRule) -> String {
    let number = |number: Option<i64>| number.map_or("*".to_owned(), |number| number.to_string());
    let DeviceRule { kind, major, minor, access } = rule;
    format!("{kind} {}:{} {access}", number(*major), number(*minor))
}

fn sharing(sharing: &Sharing, own: &str) -> String {
    match sharing {
        Sharing::Private => own.to_owned(),
        Sharing::Shareable => "shareable".to_owned(),
        Sharing::None => "none".to_owned(),
        Sharing::Host => "host".to_owned(),
        Sharing::Container(id) => format!("container:{id}"),
    }
}

/// What was asked of the log, and what holds otherwise.
fn log_config(log: &LogConfig) -> Value {
    let mut options: Map<String, Value> = Map::new();
    if matches!(log.driver(), "json-file" | "local") {
        options.extend(DEFAULT_LOG_OPTIONS.map(|(name, value)| (name.to_owned(), json!(value))));
    }
    options.extend(log.options.iter().map(|(name, value)| (name.clone(), json!(value))));
    json!({ "Type": log.driver(), "Config": options })
}

fn bind(mount: &Mount) -> Option<String> {
    let mode = if mount.read_only { ":ro" } else { "" };
    match &mount.source {
        MountSource::Bind { path, .. } => {
            Some(format!("{}:{}{mode}", path.display(), mount.target))
        }
        MountSource::Volume { name, anonymous: false, .. } => {
            Some(format!("{name}:{}{mode}", mount.target))
        }
        _ => None,
    }
}

fn tmpfs(mounts: &[Mount]) -> Value {
    let options = mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Tmpfs { options } => Some((mount.target.clone(), json!(options.join(",")))),
        _ => None,
    });
    Value::Object(options.collect())
}

pub(crate) fn mounts(engine: &Engine, mounts: &[Mount]) -> Vec<Value> {
    let volumes = engine.root().join("volumes");
    let one = |mount: &Mount| {
        let writable = !mount.read_only;
        match &mount.source {
            MountSource::Bind { path, propagation, .. } => Some(json!({
                "Type": "bind", "Source": path, "Destination": mount.target, "Mode": "",
                "RW": writable, "Propagation": propagation,
            })),
            MountSource::Volume { name, .. } => Some(json!({
                "Type": "volume", "Name": name, "Source": volumes.join(name).join("_data"),
                "Destination": mount.target, "Driver": "local", "Mode": "z", "RW": writable,
                "Propagation": "",
            })),
            MountSource::Image { name, .. } => Some(json!({
                "Type": "image", "Source": name, "Destination": mount.target, "Mode": "",
                "RW": false, "Propagation": "",
            })),
            MountSource::Memory { .. } | MountSource::Tmpfs { .. } => None,
        }
    };
    mounts.iter().filter_map(one).collect()
}

fn graph_driver(engine: &Engine, container: &Container) -> Result<Value> {
    let rootfs = engine.store().rootfs(container.record.chain(), container.directory(), false)?;
    let oci::Rootfs::Overlay { lower, upper, work, .. } = rootfs else { return Ok(Value::Null) };
    let lower: Vec<String> = lower.iter().map(|layer| layer.path().display().to_string()).collect();
    Ok(json!({
        "Data": { "LowerDir": lower.join(":"), "UpperDir": upper, "WorkDir": work },
        "Name": "overlay2",
    }))
}

/// The configuration with which a container was made.
fn config(container: &Container) -> Value {
    let record = &container.record;
    let settings = &record.settings;
    let mut fields = config_fields(&record.config);
    let own = json!({
        "Hostname": record.config_hostname(),
        "Domainname": settings.domainname,
        "AttachStdin": settings.attached.stdin,
        "AttachStdout": settings.attached.stdout,
        "AttachStderr": settings.attached.stderr,
        "Tty": settings.tty,
        "OpenStdin": settings.open_stdin,
        "StdinOnce": settings.open_stdin && settings.attached.stdin,
        "Image": settings.image,
    });
    if let (Value::Object(fields), Value::Object(own)) = (&mut fields, own) {
        fields.extend(own);
        if let Some(seconds) = settings.stop_timeout_s {
            fields.insert("StopTimeout".into(), seconds.into());
        }
    }
    fields
}

/// What an image's configuration and a container's have in common.
pub(crate) fn config_fields(config: &ContainerConfig) -> Value {
    let words = |words: &[String]| if words.is_empty() { Value::Null } else { json!(words) };
    let mut fields = json!({
        "User": config.user,
        "Env": config.env,
        "Cmd": words(&config.cmd),
        "Entrypoint": words(&config.entrypoint),
        "WorkingDir": config.working_dir,
        "Labels": config.labels,
        "OnBuild": words(&config.on_build),
    });
    let Value::Object(object) = &mut fields else { return fields };
    let volumes = if config.volumes.is_empty() { Value::Null } else { json!(config.volumes) };
    object.insert("Volumes".into(), volumes);
    if !config.exposed_ports.is_empty() {
        object.insert("ExposedPorts".into(), json!(config.exposed_ports));
    }
    if !config.stop_signal.is_empty() {
        object.insert("StopSignal".into(), json!(config.stop_signal));
    }
    if !config.shell.is_empty() {
        object.insert("Shell".into(), json!(config.shell));
    }
    if let Some(check) = &config.healthcheck {
        object.insert("Healthcheck".into(), json!(check));
    }
    fields
}

fn network_mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Bridge => "bridge".into(),
        NetworkMode::Host => "host".into(),
        NetworkMode::None => "none".into(),
        NetworkMode::Container(id) => format!("container:{id}"),
        NetworkMode::Named(name) => name.clone(),
    }
}

fn extra_hosts(hosts: &[(String, String)]) -> Value {
    match hosts {
        [] => Value::Null,
        hosts => hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect(),
    }
}

fn links(container: &Container) -> Value {
    let own = &container.record.name;
    match &container.record.settings.links[..] {
        [] => Value::Null,
        links => links.iter().map(|(name, alias)| format!("/{name}:/{own}/{alias}")).collect(),
    }
}

pub(crate) fn network_settings(container: &Container) -> Value {
    let mode = &container.record.settings.network;
    let places = &container.state.places;
    let mut networks = Map::new();
    for membership in container.record.settings.networks() {
        let place = places.iter().find(|place| place.network == membership.network);
        let name = membership.network.clone();
        networks.insert(name, place_on(container, &membership, place));
    }
    if matches!(mode, NetworkMode::Host | NetworkMode::None) {
        let membership = Membership::default();
        networks.insert(network_mode(mode), place_on(container, &membership, None));
    }
    // Docker shows these only of the default bridge.
    let place = places.iter().find(|place| place.network == "bridge");
    let endpoint = place.map(|place| &place.endpoint);
    let v6 = endpoint.and_then(|endpoint| endpoint.v6);
    json!({
        "Bridge": "",
        "SandboxID": container.record.id,
        "Ports": network::ports(container),
        "GlobalIPv6Address": v6.map(|v6| v6.address.to_string()).unwrap_or_default(),
        "GlobalIPv6PrefixLen": v6.map_or(0, |v6| v6.prefix),
        "IPv6Gateway": v6.map(|v6| network::gateway(v6.gateway.into())).unwrap_or_default(),
        "Gateway": endpoint.map(|e| network::gateway(e.gateway.into())).unwrap_or_default(),
        "IPAddress": endpoint.map(|e| e.address.to_string()).unwrap_or_default(),
        "IPPrefixLen": endpoint.map_or(0, |e| e.prefix),
        "MacAddress": endpoint.map(network::mac).unwrap_or_default(),
        "Networks": networks,
    })
}

fn place_on(container: &Container, asked: &Membership, place: Option<&Placement>) -> Value {
    let endpoint = place.map(|place| &place.endpoint);
    let named = place.filter(|place| place.network != "bridge");
    let aliases = named.map(|place| {
        let own = container.short_id().to_owned();
        place.aliases.iter().cloned().chain([own]).collect::<Vec<_>>()
    });
    let v6 = endpoint.and_then(|endpoint| endpoint.v6);
    let wanted = [
        asked.address.map(|address| ("IPv4Address".to_owned(), Value::from(address.to_string()))),
        asked.address_v6.map(|address| ("IPv6Address".to_owned(), address.to_string().into())),
        (!asked.link_local.is_empty()).then(|| {
            let all = asked.link_local.iter().map(ToString::to_string);
            ("LinkLocalIPs".to_owned(), all.collect::<Vec<_>>().into())
        }),
    ];
    let wanted: Map<String, Value> = wanted.into_iter().flatten().collect();
    let wanted = if wanted.is_empty() { Value::Null } else { wanted.into() };
    json!({
        "IPAMConfig": wanted,
        "Links": null,
        "Aliases": aliases,
        "MacAddress": endpoint.map(network::mac).unwrap_or_default(),
        "NetworkID": place.map(|place| place.network_id.as_str()).unwrap_or_default(),
        "EndpointID": place.map(|p| network::endpoint_id(&container.record.id, &p.network)).unwrap_or_default(),
        "Gateway": endpoint.map(|e| network::gateway(e.gateway.into())).unwrap_or_default(),
        "IPAddress": endpoint.map(|e| e.address.to_string()).unwrap_or_default(),
        "IPPrefixLen": endpoint.map_or(0, |e| e.prefix),
        "IPv6Gateway": v6.map(|v6| network::gateway(v6.gateway.into())).unwrap_or_default(),
        "GlobalIPv6Address": v6.map(|v6| v6.address.to_string()).unwrap_or_default(),
        "GlobalIPv6PrefixLen": v6.map_or(0, |v6| v6.prefix),
    })
}
