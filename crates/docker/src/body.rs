//! What is asked of a container, as `POST /containers/create` has it: the way back of
//! `api/create.rs`.

use engine::{
    Error, Kind, Membership, Mount, MountSource, NetworkMode, Result, Seccomp, Security, Settings,
};
use serde_json::{Map, Value, json};

use crate::container::asked_of_host;

/// The document by which an engine elsewhere is asked for such a container.
///
/// # Errors
/// [`Kind::Unsupported`] for what only this machine's own engine has.
pub fn create_body(settings: &Settings) -> Result<Value> {
    refuse(settings)?;
    let exposed = settings.expose.iter().map(|port| (port.clone(), json!({})));
    let published = settings
        .ports
        .iter()
        .map(|port| (format!("{}/{}", port.port, port.protocol.name()), json!({})));
    let exposed: Map<String, Value> = exposed.chain(published).collect();
    let mut body = json!({
        "Hostname": settings.hostname,
        "Domainname": settings.domainname,
        "User": settings.user,
        "AttachStdin": settings.attached.stdin,
        "AttachStdout": settings.attached.stdout,
        "AttachStderr": settings.attached.stderr,
        "Tty": settings.tty,
        "OpenStdin": settings.open_stdin,
        "StdinOnce": settings.open_stdin && settings.attached.stdin,
        "Env": settings.env,
        "Image": settings.image,
        "WorkingDir": settings.workdir,
        "Labels": settings.labels,
        "StopSignal": settings.stop_signal,
        "Volumes": anonymous(&settings.mounts),
        "ExposedPorts": exposed,
        "HostConfig": host_config(settings)?,
        "NetworkingConfig": { "EndpointsConfig": endpoints(settings) },
    });
    if !settings.cmd.is_empty() {
        body["Cmd"] = json!(settings.cmd);
    }
    if let Some(words) = &settings.entrypoint {
        body["Entrypoint"] = if words.is_empty() { json!([""]) } else { json!(words) };
    }
    if let Some(check) = &settings.healthcheck {
        body["Healthcheck"] = json!(check);
    }
    if let Some(seconds) = settings.stop_timeout_s {
        body["StopTimeout"] = seconds.into();
    }
    Ok(body)
}

/// What no engine of Docker's has.
fn refuse(settings: &Settings) -> Result<()> {
    let is_owned = settings.mounts.iter().any(|mount| mount.owner.is_some());
    let refused = [
        ("--honest-proc", settings.honest_proc.is_some()),
        ("the option user= of a mount", is_owned),
        ("--userns with ids", settings.security.user_namespace.is_some()),
    ];
    match refused.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("{name} is not supported for an engine elsewhere");
            Err(Error::new(Kind::Unsupported, message))
        }
    }
}

fn host_config(settings: &Settings) -> Result<Value> {
    let mut fields = asked_of_host(settings);
    let links = settings.links.iter().map(|(name, alias)| format!("{name}:{alias}"));
    fields.insert("Links".into(), links.collect());
    let (binds, mounts): (Vec<&Mount>, Vec<&Mount>) =
        settings.mounts.iter().partition(|mount| as_bind(mount).is_some());
    fields.insert("Binds".into(), binds.into_iter().filter_map(as_bind).collect());
    fields.insert("Mounts".into(), mounts.into_iter().filter_map(as_mount).collect());
    fields.insert("SecurityOpt".into(), security_options(&settings.security).into());
    if settings.security.unmasked {
        fields.insert("MaskedPaths".into(), json!([]));
        fields.insert("ReadonlyPaths".into(), json!([]));
    }
    let log = &settings.log;
    fields.insert("LogConfig".into(), json!({ "Type": log.driver, "Config": log.options }));
    // What nobody has said is the engine's to choose.
    fields.insert("ShmSize".into(), settings.shm_bytes.into());
    fields.insert("MemorySwap".into(), settings.limits.memory_swap.unwrap_or(0).into());
    // No limit is the largest number, which has another spelling there.
    let ulimits = settings.limits.ulimits.iter().map(|limit| {
        let (soft, hard) = (limit.soft.cast_signed(), limit.hard.cast_signed());
        json!({ "Name": limit.name, "Soft": soft, "Hard": hard })
    });
    fields.insert("Ulimits".into(), ulimits.collect());
    for (key, is_said) in [
        ("Runtime", false),
        ("CgroupnsMode", settings.security.host_cgroup),
        ("IpcMode", settings.security.ipc != engine::Sharing::Private),
        ("Init", settings.init),
    ] {
        if !is_said {
            fields.remove(key);
        }
    }
    Ok(Value::Object(fields))
}

/// `-v` makes directories that are missing, which no other way asks of old engines.
fn as_bind(mount: &Mount) -> Option<String> {
    let mut options = Vec::new();
    if mount.read_only {
        options.push("ro");
    }
    let source = match &mount.source {
        MountSource::Bind { path, create: true, propagation, recursive: true, subpath, .. }
            if subpath.as_os_str().is_empty() =>
        {
            if propagation != "rprivate" {
                options.push(propagation);
            }
            path.display().to_string()
        }
        MountSource::Volume { name, copy, subpath, labels, options: driver, .. }
            if !name.is_empty()
                && subpath.as_os_str().is_empty()
                && labels.is_empty()
                && driver.is_empty() =>
        {
            if !copy {
                options.push("nocopy");
            }
            name.clone()
        }
        _ => return None,
    };
    let target = &mount.target;
    Some(match options.join(",") {
        options if options.is_empty() => format!("{source}:{target}"),
        options => format!("{source}:{target}:{options}"),
    })
}

/// Everything else; what is in memory and plain volumes without a name have places of their own.
fn as_mount(mount: &Mount) -> Option<Value> {
    let of = |kind: &str, source: String, options: (&str, Value)| {
        let mut fields = json!({
            "Type": kind, "Source": source, "Target": mount.target, "ReadOnly": mount.read_only,
        });
        fields[options.0] = options.1;
        Some(fields)
    };
    match &mount.source {
        MountSource::Bind { path, propagation, recursive, writable_below, create, .. } => {
            let options = json!({
                "Propagation": propagation,
                "NonRecursive": !recursive,
                "ReadOnlyNonRecursive": writable_below,
                "CreateMountpoint": create,
            });
            of("bind", path.display().to_string(), ("BindOptions", options))
        }
        MountSource::Volume { .. } if is_plain(mount) => None,
        MountSource::Volume { name, copy, subpath, labels, options, .. } => {
            let options = json!({
                "NoCopy": !copy,
                "Subpath": subpath,
                "Labels": labels,
                "DriverConfig": { "Name": "local", "Options": options },
            });
            of("volume", name.clone(), ("VolumeOptions", options))
        }
        MountSource::Image { name, subpath, .. } => {
            of("image", name.clone(), ("ImageOptions", json!({ "Subpath": subpath })))
        }
        MountSource::Tmpfs { .. } | MountSource::Memory { .. } => None,
    }
}

/// Whether a mount is a volume without a name, of which nothing else was said.
fn is_plain(mount: &Mount) -> bool {
    match &mount.source {
        MountSource::Volume { name, copy, subpath, labels, options, .. } => {
            name.is_empty()
                && *copy
                && !mount.read_only
                && subpath.as_os_str().is_empty()
                && labels.is_empty()
                && options.is_empty()
        }
        _ => false,
    }
}

fn anonymous(mounts: &[Mount]) -> Map<String, Value> {
    let plain = mounts.iter().filter(|mount| is_plain(mount));
    plain.map(|mount| (mount.target.clone(), json!({}))).collect()
}

/// As they were written, but for a profile, which is sent itself, and what has a field of its own.
fn security_options(security: &Security) -> Vec<String> {
    let written = security.options.iter().filter(|option| !option.starts_with("systempaths"));
    let written = written.map(|option| match (&security.seccomp, option.starts_with("seccomp")) {
        (Seccomp::Profile(text), true) => format!("seccomp={text}"),
        _ => option.clone(),
    });
    written.collect()
}

fn endpoints(settings: &Settings) -> Map<String, Value> {
    let asked = match settings.network {
        NetworkMode::Bridge | NetworkMode::Named(_) => &settings.attachments[..],
        _ => &[],
    };
    asked.iter().map(|place| (place.network.clone(), endpoint(place))).collect()
}

fn endpoint(place: &Membership) -> Value {
    let text = |address: Option<String>| address.unwrap_or_default();
    json!({
        "Aliases": place.aliases,
        "MacAddress": text(place.mac.map(|mac| mac.to_string())),
        "IPAMConfig": {
            "IPv4Address": text(place.address.map(|address| address.to_string())),
            "IPv6Address": text(place.address_v6.map(|address| address.to_string())),
            "LinkLocalIPs": place.link_local.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
    })
}
