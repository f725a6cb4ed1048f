//! `POST /containers/create`

mod limits;
mod mounts;
mod networks;

use engine::{
    Attached, Container, Error, Kind, LogConfig, RestartPolicy, Result, Security, Settings,
};
use oci::Healthcheck;
use serde_json::json;

use super::call::{Answer, Call, json};
use super::failure::Failure;
use super::host_config::{self as api, Created, HostConfig};
use crate::grammar;

pub(super) use limits::limits;
pub(super) use networks::{links, membership};

/// The shortest time of a health check, in nanoseconds.
const TIME_MIN_NS: i64 = 1_000_000;

pub(super) fn create(call: &mut Call<'_, '_>) -> Answer {
    let created: Created = call.input()?;
    if created.image.is_empty() {
        return Err(Failure::bad("no image specified"));
    }
    let mut warnings = Vec::new();
    let mut settings = settings(created, &mut warnings)?;
    call.text("name").clone_into(&mut settings.name);
    let platform = call.text("platform");
    settings.platform = (!platform.is_empty()).then(|| platform.to_owned());
    let container = make(call, settings)?;
    json(201, &json!({ "Id": container.record.id, "Warnings": warnings }))
}

/// Only a missing image is what clients take for a missing image.
fn make(call: &Call<'_, '_>, settings: Settings) -> std::result::Result<Container, Failure> {
    let engine = call.engine();
    let wanted = settings.platform.as_deref().and_then(|platform| platform.parse().ok());
    let image = settings.image.clone();
    engine.create(settings).map_err(|error| {
        let is_image =
            error.kind() == Kind::NotFound && engine.lacks_image(&image, wanted.as_ref());
        match (error.kind(), is_image) {
            (Kind::NotFound, true) => {
                let name = image.parse().map_or(image, |name: oci::Reference| name.familiar());
                Failure::new(404, format!("No such image: {name}"))
            }
            (Kind::NotFound, false) => Failure::bad(super::failure::told(&error)),
            _ => error.into(),
        }
    })
}

/// What a document asks for.
fn settings(created: Created, warnings: &mut Vec<String>) -> Result<Settings> {
    check_words(&created)?;
    let (network, attachments) = networks::networks(&created)?;
    let ports = networks::publications(&created.host_config.port_bindings)?;
    if network == engine::NetworkMode::Host && !ports.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    let exposed = created.exposed_ports.keys().map(|port| grammar::exposed(port));
    let security = security(&created.host_config)?;
    let limits = limits(&created.host_config.resources)?;
    let mounts = mounts::mounts(&created)?;
    let links = networks::all_links(&created)?;
    let Created { host_config: host, .. } = created;
    let settings = Settings {
        image: created.image,
        entrypoint: created.entrypoint.map(|words| match words.words() {
            words if words == [""] => Vec::new(),
            words => words,
        }),
        cmd: created.cmd.words(),
        env: created.env,
        workdir: created.working_dir,
        user: created.user,
        group_add: host.group_add,
        hostname: grammar::hostname(&created.hostname)?,
        domainname: created.domainname,
        labels: created.labels,
        tty: created.tty,
        open_stdin: created.open_stdin,
        auto_remove: host.auto_remove,
        init: host.init.unwrap_or(false),
        stop_signal: created.stop_signal,
        stop_timeout_s: created.stop_timeout,
        restart: restart(&host.restart_policy)?,
        healthcheck: created.healthcheck.map(healthcheck).transpose()?,
        network,
        attachments,
        ports,
        publish_all: host.publish_all_ports,
        expose: exposed.collect::<Result<Vec<_>>>()?.concat(),
        dns: networks::servers(host.dns)?,
        dns_search: host.dns_search,
        dns_options: host.dns_options,
        extra_hosts: host.extra_hosts.iter().map(|t| grammar::host(t)).collect::<Result<_>>()?,
        links,
        mounts,
        volumes_from: host.volumes_from,
        limits,
        security,
        devices: host.devices.into_iter().map(limits::device).collect::<Result<_>>()?,
        shm_bytes: u64::try_from(host.shm_size)
            .map_err(|_| Error::invalid("SHM size can not be less than 0"))?,
        attached: Attached {
            // The end of the first client's input is the container's.
            stdin: created.attach_stdin || created.open_stdin && created.stdin_once,
            stdout: created.attach_stdout,
            stderr: created.attach_stderr,
        },
        annotations: host.annotations,
        cgroup_parent: grammar::cgroup_parent(&host.resources.cgroup_parent)?,
        log: LogConfig { driver: host.log_config.driver, options: host.log_config.config },
        storage_bytes: storage(&host.storage_opt)?,
        ..Settings::default()
    };
    check_together(&settings)?;
    Ok(settings)
}

fn check_together(settings: &Settings) -> Result<()> {
    if settings.auto_remove && settings.restart != RestartPolicy::No {
        let message = "can't create 'AutoRemove' container with restart policy";
        return Err(Error::invalid(message));
    }
    if !settings.stop_signal.is_empty() {
        engine::signal(&settings.stop_signal)?;
    }
    for text in settings.dns_search.iter().chain(&settings.dns_options) {
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Error::invalid(format!("{text:?} is not one word of resolv.conf")));
        }
    }
    Ok(())
}

/// Words of which Linux, or Cais, has one, and what is not supported.
fn check_words(created: &Created) -> Result<()> {
    let host = &created.host_config;
    if !matches!(host.isolation.as_str(), "" | "default") {
        let isolation = &host.isolation;
        let message = format!("invalid isolation '{isolation}' on linux: only supports 'default'");
        return Err(Error::invalid(message));
    }
    if !matches!(host.runtime.as_str(), "" | "cais" | "runc" | "io.containerd.runc.v2") {
        let runtime = &host.runtime;
        return Err(Error::invalid(format!("unknown or invalid runtime name: {runtime}")));
    }
    if !matches!(host.volume_driver.as_str(), "" | "local") {
        let driver = &host.volume_driver;
        return Err(Error::new(Kind::NotFound, format!("plugin \"{driver}\" not found")));
    }
    if !host.device_requests.is_empty() {
        let message = "could not select device driver \"\" with capabilities: [[gpu]]";
        return Err(Error::invalid(message));
    }
    if let Some(name) = host.unknown() {
        let message = format!("invalid option: HostConfig.{name} is not known");
        return Err(Error::new(Kind::Unsupported, message)
            .hint("names are spelt as in the documentation of the API"));
    }
    let refused = [
        ("Cgroup", !host.cgroup.is_empty()),
        ("OnBuild", !created.on_build.is_empty()),
        ("Shell", !created.shell.is_empty()),
        ("MaskedPaths", host.masked_paths.as_ref().is_some_and(|paths| !paths.is_empty())),
        ("ReadonlyPaths", host.readonly_paths.as_ref().is_some_and(|paths| !paths.is_empty())),
    ];
    let refused = refused.into_iter().find(|(_, given)| *given).map(|(name, _)| name);
    match refused.or_else(|| host.resources.refused()) {
        None => Ok(()),
        Some(name) => {
            Err(Error::new(Kind::Unsupported, format!("invalid option: {name} is not supported")))
        }
    }
}

fn security(host: &HostConfig) -> Result<Security> {
    let is_empty = |paths: &Option<Vec<String>>| paths.as_ref().is_some_and(Vec::is_empty);
    let mut security = Security {
        privileged: host.privileged,
        cap_add: host.cap_add.clone(),
        cap_drop: host.cap_drop.clone(),
        read_only: host.readonly_rootfs,
        // What `systempaths=unconfined` becomes on its way.
        unmasked: is_empty(&host.masked_paths) && is_empty(&host.readonly_paths),
        sysctls: host.sysctls.clone(),
        options: host.security_opt.clone(),
        pid: grammar::pid_mode(&host.pid_mode)?,
        ipc: grammar::ipc_mode(&host.ipc_mode)?,
        host_uts: grammar::is_host("uts", &host.uts_mode, &[])?,
        host_cgroup: grammar::is_host("cgroupns", &host.cgroupns_mode, &["private"])?,
        user_namespace: grammar::user_namespace(&host.userns_mode)?,
        ..Security::default()
    };
    for option in &host.security_opt {
        grammar::security_option(option, &mut security, &profile)?;
    }
    Ok(security)
}

/// Clients send the profile itself.
fn profile(text: &str) -> Result<String> {
    match text.trim_start().starts_with('{') {
        true => Ok(text.to_owned()),
        false => Err(Error::invalid("Decoding seccomp profile failed: it is no JSON object")),
    }
}

fn restart(policy: &api::RestartPolicy) -> Result<RestartPolicy> {
    let max = u32::try_from(policy.maximum_retry_count)
        .map_err(|_| Error::invalid("maximum retry count cannot be negative"))?;
    let found = match policy.name.as_str() {
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => RestartPolicy::OnFailure { max },
        "on-unhealthy" => RestartPolicy::OnUnhealthy { max },
        name => {
            let message = format!("invalid restart policy: unknown policy '{name}'");
            return Err(Error::invalid(message));
        }
    };
    if max != found.max() {
        return Err(Error::invalid(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ));
    }
    Ok(found)
}

/// As [`restart`], of an update, where none is given to leave it as it is.
pub(super) fn new_restart(policy: &api::RestartPolicy) -> Result<Option<RestartPolicy>> {
    if policy.name.is_empty() { Ok(None) } else { restart(policy).map(Some) }
}

fn healthcheck(asked: api::Healthcheck) -> Result<Healthcheck> {
    let time = |name: &str, ns: i64| {
        let message = format!("{name} in Healthcheck cannot be less than 1ms");
        let is_none = ns == 0;
        u64::try_from(ns)
            .ok()
            .filter(|_| is_none || ns >= TIME_MIN_NS)
            .ok_or_else(|| Error::invalid(message))
    };
    let retries = u32::try_from(asked.retries);
    Ok(Healthcheck {
        interval: time("Interval", asked.interval)?,
        timeout: time("Timeout", asked.timeout)?,
        start_period: time("StartPeriod", asked.start_period)?,
        start_interval: time("StartInterval", asked.start_interval)?,
        retries: retries
            .map_err(|_| Error::invalid("Retries in Healthcheck cannot be negative"))?,
        test: asked.test,
    })
}

fn storage(options: &api::Words) -> Result<Option<u64>> {
    let options: Vec<String> =
        options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    grammar::storage(&options)
}
