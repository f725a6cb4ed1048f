//! Volumes.

use engine::{Kind, VolumeOptions};
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Answer, Call, done, json};
use super::failure::Failure;
use super::host_config::Words;
use crate::filter::{Pattern, has_label, switch};

/// `GET /volumes`
pub(super) fn list(call: &mut Call<'_, '_>) -> Answer {
    let engine = call.engine();
    let filters = call.filters(&["dangling", "driver", "label", "name"])?;
    let dangling = switch(&filters, "dangling", true)?;
    let names: Vec<Pattern> = filters.patterns("name")?;
    let mut found = Vec::new();
    for volume in engine.volume_list()? {
        let labels = volume.labels.clone().unwrap_or_default();
        let is_wanted = filters.any("driver", |driver| driver == "local")
            && filters.all("label", |label| has_label(&labels, label))
            && (names.is_empty() || names.iter().any(|name| name.is_match(&volume.name)))
            && (!filters.has("dangling")
                || engine.volume_users(&volume.name)?.is_empty() == dangling);
        if is_wanted {
            found.push(crate::volume(&volume));
        }
    }
    json(200, &json!({ "Volumes": found, "Warnings": null }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Asked {
    name: String,
    driver: String,
    driver_opts: Words,
    labels: Words,
    cluster_volume_spec: Option<Value>,
}

/// `POST /volumes/create`
pub(super) fn create(call: &mut Call<'_, '_>) -> Answer {
    let asked: Asked = call.input()?;
    if asked.cluster_volume_spec.is_some() {
        return Err(Failure::unsupported("volumes of clusters are not supported"));
    }
    if !matches!(asked.driver.as_str(), "" | "local") {
        let driver = asked.driver;
        return Err(Failure::new(404, format!("plugin \"{driver}\" not found")));
    }
    let options = VolumeOptions { labels: asked.labels, options: asked.driver_opts };
    let volume = call.engine().create_volume(&asked.name, options)?;
    json(201, &crate::volume(&volume))
}

/// `GET /volumes/{name}`
pub(super) fn inspect(call: &mut Call<'_, '_>) -> Answer {
    let volume = call.engine().volume(call.name()).map_err(missing)?;
    json(200, &crate::volume(&volume))
}

/// As Docker tells it since it has drivers.
fn missing(error: engine::Error) -> Failure {
    match error.kind() {
        Kind::NotFound => {
            let text = error.to_string();
            let name = text.rsplit(": ").next().unwrap_or_default();
            Failure::new(404, format!("get {name}: no such volume"))
        }
        _ => error.into(),
    }
}

/// `DELETE /volumes/{name}`
pub(super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    match call.engine().remove_volume(call.name()) {
        Err(error) if error.kind() == Kind::NotFound && call.flag("force") => {}
        outcome => outcome.map_err(missing)?,
    }
    done()
}
