//! Containers: listed, looked at, and led through their lives.

use engine::{Container, Engine, Kind, NetworkMode, Operand, RemoveOptions, Update};
use httpd::Reply;
use serde_json::{Map, Value, json};
use store::ChangeKind;

use super::call::{Answer, Call, done, json};
use super::create::{limits, new_restart};
use super::failure::{Failure, told};
use super::host_config::Changes;
use crate::list::{
    CONTAINER_FILTERS, ContainerFilter, command_line, image_name, network_names, status,
};

/// `GET /containers/json`
pub(super) fn list(call: &mut Call<'_, '_>) -> Answer {
    let engine = call.engine();
    let filters = call.filters(CONTAINER_FILTERS)?;
    let wanted = ContainerFilter::new(engine, &filters)?;
    let limit = call.number::<i64>("limit")?.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.filter(|limit| *limit > 0);
    let any = limit.is_some() || filters.has("status") || filters.has("exited");
    let all = call.flag("all") || any;
    let mut containers = engine.list()?;
    containers.retain(|container| all || container.is_running());
    containers.retain(|container| wanted.has(container));
    containers.truncate(limit.unwrap_or(usize::MAX));
    let with_size = call.flag("size");
    let rows: Vec<Value> = containers.iter().map(|c| summary(engine, c, with_size)).collect();
    json(200, &rows.into())
}

/// A container as lists have it.
pub(super) fn summary(engine: &Engine, container: &Container, with_size: bool) -> Value {
    let record = &container.record;
    let created = record.created.parse::<jiff::Timestamp>().unwrap_or_default();
    let mut networks = Map::new();
    let details = crate::container::network_settings(container);
    if let Some(all) = details["Networks"].as_object() {
        networks.extend(all.clone());
    }
    let mut summary = json!({
        "Id": record.id,
        "Names": [format!("/{}", record.name)],
        "Image": image_name(&record.settings.image),
        "ImageID": record.image_id.to_string(),
        "Command": command_line(record.config.entrypoint.iter().chain(&record.config.cmd)),
        "Created": created.as_second(),
        "Ports": ports(container),
        "Labels": record.config.labels,
        "State": container.state.status.word(),
        "Status": status(container, jiff::Timestamp::now()),
        "HostConfig": { "NetworkMode": mode(container) },
        "NetworkSettings": { "Networks": networks },
        "Mounts": crate::container::mounts(engine, &record.settings.mounts),
    });
    if let (Value::Object(fields), true) = (&mut summary, with_size) {
        let own = engine.writable_bytes(container).unwrap_or(0);
        fields.insert("SizeRw".into(), own.into());
        fields.insert("SizeRootFs".into(), (own + engine.layers_bytes(container)).into());
    }
    summary
}

fn mode(container: &Container) -> String {
    match &container.record.settings.network {
        NetworkMode::Container(id) => format!("container:{id}"),
        _ => network_names(container).into_iter().next().unwrap_or_default(),
    }
}

fn ports(container: &Container) -> Vec<Value> {
    if !container.is_running() {
        return Vec::new();
    }
    let published = &container.state.ports;
    let exposed = container.exposed().into_iter().filter(|(port, protocol)| {
        !published.iter().any(|known| (known.to_port, known.protocol) == (*port, *protocol))
    });
    let exposed =
        exposed.map(|(port, protocol)| json!({ "PrivatePort": port, "Type": protocol.name() }));
    let published = published.iter().map(|port| {
        json!({
            "IP": port.address.to_string(),
            "PrivatePort": port.to_port,
            "PublicPort": port.port,
            "Type": port.protocol.name(),
        })
    });
    published.chain(exposed).collect()
}

/// `GET /containers/{id}/json`
pub(super) fn inspect(call: &mut Call<'_, '_>) -> Answer {
    let (engine, container) = (call.engine(), call.container()?);
    let mut view = crate::container(engine, &container)?;
    if let Value::Object(fields) = &mut view {
        let ids = engine.exec_ids(&container);
        fields.insert("ExecIDs".into(), if ids.is_empty() { Value::Null } else { ids.into() });
        if call.flag("size") {
            let own = engine.writable_bytes(&container)?;
            fields.insert("SizeRw".into(), own.into());
            fields.insert("SizeRootFs".into(), (own + engine.layers_bytes(&container)).into());
        }
    }
    json(200, &view)
}

/// `POST /containers/{id}/start`
pub(super) fn start(call: &mut Call<'_, '_>) -> Answer {
    let container = call.container()?;
    if !call.text("checkpoint").is_empty() {
        return Err(Failure::unsupported("checkpoints are not supported here"));
    }
    if container.state.status == engine::Status::Paused {
        let message = "cannot start a paused container, try unpause instead";
        return Err(Failure::new(409, message));
    }
    if container.is_running() {
        return Ok(Some(Reply::new(304)));
    }
    let started = call.api.spawner.start(&container);
    if started.is_err() && container.record.settings.auto_remove {
        let options = RemoveOptions { force: true, volumes: true };
        // The failure to start is what the user has to know.
        let _ = call.engine().remove(&container, options);
    }
    started?;
    done()
}

/// `POST /containers/{id}/stop`
pub(super) fn stop(call: &mut Call<'_, '_>) -> Answer {
    let container = call.container()?;
    if !container.is_running() {
        return Ok(Some(Reply::new(304)));
    }
    call.engine().stop(&container, call.number("t")?, signal(call)?)?;
    done()
}

/// `POST /containers/{id}/restart`
pub(super) fn restart(call: &mut Call<'_, '_>) -> Answer {
    let container = call.container()?;
    call.api.spawner.restart(&container, call.number("t")?, signal(call)?)?;
    done()
}

/// `POST /containers/{id}/kill`
pub(super) fn kill(call: &mut Call<'_, '_>) -> Answer {
    let container = call.container()?;
    let signal = signal(call)?.map_or_else(|| engine::signal("KILL"), Ok)?;
    call.engine().kill(&container, signal).map_err(|error| {
        let name = call.name();
        match error.kind() {
            Kind::Conflict => {
                Failure::new(409, format!("cannot kill container: {name}: {}", told(&error)))
            }
            _ => error.into(),
        }
    })?;
    if signal == rustix::process::Signal::KILL {
        // As in Docker: whoever hears of it finds it ended.
        call.engine().wait_for_end(&container)?;
    }
    done()
}

fn signal(call: &Call<'_, '_>) -> Result<Option<rustix::process::Signal>, Failure> {
    match call.text("signal") {
        "" => Ok(None),
        text => Ok(Some(engine::signal(text)?)),
    }
}

/// `POST /containers/{id}/pause`
pub(super) fn pause(call: &mut Call<'_, '_>) -> Answer {
    call.engine().pause(&call.container()?)?;
    done()
}

/// `POST /containers/{id}/unpause`
pub(super) fn unpause(call: &mut Call<'_, '_>) -> Answer {
    call.engine().unpause(&call.container()?)?;
    done()
}

/// `POST /containers/{id}/rename`
pub(super) fn rename(call: &mut Call<'_, '_>) -> Answer {
    call.engine().rename(&call.container()?, call.text("name"))?;
    done()
}

/// `POST /containers/{id}/update`
pub(super) fn update(call: &mut Call<'_, '_>) -> Answer {
    let changes: Changes = call.input()?;
    if let Some(name) = changes.refused() {
        return Err(Failure::unsupported(format!("{name} of a container cannot be changed")));
    }
    let limits = limits(&changes.resources)?;
    let update = Update { limits, restart: new_restart(&changes.restart_policy)? };
    call.engine().update(&call.container()?, &update)?;
    json(200, &json!({ "Warnings": [] }))
}

/// `DELETE /containers/{id}`, and of a link, whose name is that of a container, a slash and its own.
pub(super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    if call.flag("link") {
        call.engine().remove_link(call.name())?;
        return done();
    }
    let options = RemoveOptions { force: call.flag("force"), volumes: call.flag("v") };
    call.engine().remove(&call.container()?, options)?;
    done()
}

/// `GET /containers/{id}/changes`
pub(super) fn changes(call: &mut Call<'_, '_>) -> Answer {
    let operand = Operand::Container(Box::new(call.container()?));
    let comparison = call.engine().compare(None, &operand, None)?;
    let changes = comparison.changes(&[]).map_err(engine::Error::from)?;
    let kind = |kind| match kind {
        ChangeKind::Changed => 0,
        ChangeKind::Added => 1,
        ChangeKind::Deleted => 2,
    };
    let changes = changes.iter();
    let rows: Vec<Value> = changes
        .map(|change| json!({ "Path": change.path.to_string_lossy(), "Kind": kind(change.kind) }))
        .collect();
    json(200, &if rows.is_empty() { Value::Null } else { rows.into() })
}

/// `GET /containers/{id}/export`
pub(super) fn export(call: &mut Call<'_, '_>) -> Answer {
    let (engine, container) = (call.engine(), call.container()?);
    let Ok(out) = call.stream("application/x-tar") else { return Ok(None) };
    // What is not whole has no end, which clients see.
    if let Ok(out) = engine.export(&container, std::io::BufWriter::with_capacity(64 << 10, out))
        && let Ok(out) = out.into_inner()
    {
        let _ = out.end();
    }
    Ok(None)
}
