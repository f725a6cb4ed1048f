//! `GET /containers/{id}/json`

use engine::{
    Container, Engine, Health, HealthResult, Limits, Membership, Mount, MountSource, NetworkMode,
    Placement, Result, Security, Status,
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
        "LogPath": container.log_path().display().to_string(),
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
    let settings = &container.record.settings;
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
        "LogConfig": { "Type": "json-file", "Config": { "max-size": "20m", "max-file": "5" } },
        "NetworkMode": network_mode(&settings.network),
        "PortBindings": network::bindings(&settings.ports),
        "RestartPolicy": {
            "Name": settings.restart.name(),
            "MaximumRetryCount": settings.restart.max(),
        },
        "AutoRemove": settings.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": null,
        "CapAdd": cap_add,
        "CapDrop": cap_drop,
        "CgroupnsMode": host(settings.security.host_cgroup, "private"),
        "Dns": settings.dns,
        "DnsOptions": settings.dns_options,
        "DnsSearch": settings.dns_search,
        "ExtraHosts": extra_hosts(&settings.extra_hosts),
        "Links": links(container),
        "GroupAdd": settings.group_add,
        "IpcMode": host(settings.security.host_ipc, "private"),
        "PidMode": host(settings.security.host_pid, ""),
        "UTSMode": host(settings.security.host_uts, ""),
        "Privileged": privileged,
        "PublishAllPorts": settings.publish_all,
        "ReadonlyRootfs": read_only,
        "SecurityOpt": options,
        "Sysctls": sysctls,
        "ShmSize": shm,
        "Runtime": "cais",
        "Init": settings.init,
        "Devices": devices,
        "Tmpfs": tmpfs(&settings.mounts),
    });
    if let Value::Object(rest) = rest {
        fields.extend(rest);
    }
    Value::Object(fields)
}

fn limits(limits: &Limits) -> Map<String, Value> {
    let ulimits: Vec<Value> = limits
        .ulimits
        .iter()
        .map(|limit| json!({ "Name": limit.name, "Hard": limit.hard, "Soft": limit.soft }))
        .collect();
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
        "OomKillDisable": false,
        "OomScoreAdj": limits.oom_score_adj.unwrap_or(0),
        "PidsLimit": limits.pids,
        "Ulimits": ulimits,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
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

fn mounts(engine: &Engine, mounts: &[Mount]) -> Vec<Value> {
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
            MountSource::Tmpfs { .. } => None,
        }
    };
    mounts.iter().filter_map(one).collect()
}

fn graph_driver(engine: &Engine, container: &Container) -> Result<Value> {
    let layers = &container.record.layers;
    let rootfs = engine.store().rootfs(layers, container.directory(), false)?;
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
        "AttachStdin": settings.open_stdin,
        "AttachStdout": true,
        "AttachStderr": true,
        "Tty": settings.tty,
        "OpenStdin": settings.open_stdin,
        "StdinOnce": settings.open_stdin,
        "Image": settings.image,
    });
    if let (Value::Object(fields), Value::Object(own)) = (&mut fields, own) {
        fields.extend(own);
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

fn network_settings(container: &Container) -> Value {
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
    json!({
        "Bridge": "",
        "SandboxID": container.record.id,
        "Ports": network::ports(container),
        "Gateway": endpoint.map(|e| e.gateway.to_string()).unwrap_or_default(),
        "IPAddress": endpoint.map(|e| e.address.to_string()).unwrap_or_default(),
        "IPPrefixLen": endpoint.map_or(0, |e| e.prefix),
        "MacAddress": endpoint.map(|e| e.mac.to_string()).unwrap_or_default(),
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
    let wanted = asked.address.map(|address| json!({ "IPv4Address": address.to_string() }));
    json!({
        "IPAMConfig": wanted,
        "Links": null,
        "Aliases": aliases,
        "MacAddress": endpoint.map(|e| e.mac.to_string()).unwrap_or_default(),
        "NetworkID": place.map(|place| place.network_id.as_str()).unwrap_or_default(),
        "EndpointID": place.map(|p| network::endpoint_id(&container.record.id, &p.network)).unwrap_or_default(),
        "Gateway": endpoint.map(|e| e.gateway.to_string()).unwrap_or_default(),
        "IPAddress": endpoint.map(|e| e.address.to_string()).unwrap_or_default(),
        "IPPrefixLen": endpoint.map_or(0, |e| e.prefix),
    })
}
