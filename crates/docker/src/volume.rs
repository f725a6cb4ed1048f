//! `GET /volumes/{name}`

use engine::Volume;
use serde_json::{Value, json};

/// A volume as Docker's API shows it.
#[must_use]
pub fn volume(volume: &Volume) -> Value {
    json!({
        "CreatedAt": volume.created,
        "Driver": "local",
        "Labels": volume.labels.clone().unwrap_or_default(),
        "Mountpoint": volume.mountpoint.display().to_string(),
        "Name": volume.name,
        "Options": volume.options,
        "Scope": "local",
    })
}
