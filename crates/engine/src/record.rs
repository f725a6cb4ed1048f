//! Records of containers as they are written: without what nobody asked for, since a list of a
//! thousand containers reads a thousand of them.

use std::path::Path;

use serde_json::{Map, Value};

use crate::container::{RECORD, Record};
use crate::error::{Error, Kind, Result};
use crate::file::write_file;
use crate::settings::Settings;

/// The settings that are left out one by one.
const GROUPS: [&str; 2] = ["limits", "security"];

/// Writes the record of the container in `dir`.
pub(crate) fn write(dir: &Path, record: &Record) -> Result<()> {
    let text = compact(record).and_then(|record| serde_json::to_vec(&record));
    let text =
        text.map_err(|error| Error::caused(Kind::Internal, format!("write {RECORD}"), error))?;
    write_file(dir, RECORD, &text)
}

/// The record without settings that are as they are where nothing is said; to read it puts them back.
fn compact(record: &Record) -> serde_json::Result<Value> {
    let mut record = serde_json::to_value(record)?;
    let usual = serde_json::to_value(Settings::default())?;
    if let (Some(own), Some(usual)) = (record["settings"].as_object_mut(), usual.as_object()) {
        for group in GROUPS {
            if let Some(own) = own.get_mut(group).and_then(Value::as_object_mut) {
                leave_out(own, usual[group].as_object());
            }
        }
        leave_out(own, Some(usual));
    }
    Ok(record)
}

fn leave_out(own: &mut Map<String, Value>, usual: Option<&Map<String, Value>>) {
    own.retain(|name, value| usual.and_then(|usual| usual.get(name)) != Some(value));
}

#[cfg(test)]
mod tests {
    use oci::{ContainerConfig, Digest};

    use super::*;
    use crate::restart::RestartPolicy;
    use crate::settings::{Limits, NetworkMode, Seccomp, Security, Sharing};

    fn record(settings: Settings) -> Record {
        Record {
            id: "0".repeat(64),
            name: "some".into(),
            created: crate::clock::now(),
            image_id: Digest::of(b"image"),
            layers: vec![Digest::of(b"layer")],
            manifest: None,
            settings,
            config: ContainerConfig::default(),
        }
    }

    #[test]
    fn what_is_left_out_comes_back() {
        let limits = Limits { memory: Some(1 << 30), cpuset_cpus: "0".into(), ..Limits::default() };
        let security = Security {
            seccomp: Seccomp::Unconfined,
            pid: Sharing::Host,
            read_only: true,
            ..Security::default()
        };
        for settings in [
            Settings::default(),
            Settings { limits: limits.clone(), tty: true, ..Settings::default() },
            Settings {
                limits,
                security,
                image: "busybox".into(),
                network: NetworkMode::Named("n".into()),
                restart: RestartPolicy::OnFailure { max: 0 },
                honest_proc: Some(0),
                entrypoint: Some(Vec::new()),
                ..Settings::default()
            },
        ] {
            let text = serde_json::to_string(&compact(&record(settings.clone())).unwrap()).unwrap();
            let back: Record = serde_json::from_str(&text).unwrap();
            assert_eq!(back.settings, settings, "{text}");
        }
    }

    #[test]
    fn what_is_usual_is_not_written() {
        let compact = compact(&record(Settings::default())).unwrap();
        assert_eq!(compact["settings"], serde_json::json!({ "limits": {}, "security": {} }));
    }
}
