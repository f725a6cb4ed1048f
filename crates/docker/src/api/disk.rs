//! `GET /system/df`

use engine::{BuildCacheUsage, DiskUsage, VolumeUsage};
use serde_json::{Map, Value, json};

use super::call::{Answer, Call, json};
use super::container;
use super::failure::Failure;
use super::image;

const KINDS: &[&str] = &["container", "image", "volume", "build-cache"];

pub(super) fn df(call: &mut Call<'_, '_>) -> Answer {
    let asked: Vec<&str> = call.exchange.head().parameters("type").collect();
    if let Some(kind) = asked.iter().find(|kind| !KINDS.contains(kind)) {
        return Err(Failure::bad(format!("unknown object type: {kind}")));
    }
    let wants = |kind: &str| asked.is_empty() || asked.contains(&kind);
    let engine = call.engine();
    // Docker has no word for what is unfinished.
    let DiskUsage { images, layers_bytes, containers, volumes, build_cache, unfinished: _ } =
        engine.disk_usage()?;
    let mut view = Map::new();
    if wants("image") {
        view.insert("LayersSize".into(), layers_bytes.into());
        let mut all = Vec::new();
        for usage in &images {
            let mut summary = image::summary(engine, &usage.image, call.version)?;
            summary["Containers"] = usage.containers.into();
            summary["SharedSize"] = usage.shared_bytes.into();
            all.push(summary);
        }
        view.insert("Images".into(), all.into());
    }
    if wants("container") {
        let all = containers.iter().map(|(found, bytes)| {
            let mut summary = container::summary(engine, found, false);
            summary["SizeRw"] = (*bytes).into();
            summary["SizeRootFs"] = (bytes + engine.layers_bytes(found)).into();
            summary
        });
        view.insert("Containers".into(), all.collect());
    }
    if wants("volume") {
        view.insert("Volumes".into(), volumes.iter().map(volume).collect());
    }
    if wants("build-cache") {
        view.insert("BuildCache".into(), build_cache.iter().map(cache_record).collect());
    }
    if call.version < 42 {
        let own = build_cache.iter().filter(|record| !record.is_shared);
        view.insert("BuilderSize".into(), own.map(|record| record.bytes).sum::<u64>().into());
    }
    json(200, &Value::Object(view))
}

fn cache_record(record: &BuildCacheUsage) -> Value {
    let used = record.used.to_string();
    json!({
        "ID": record.id,
        "Type": record.kind,
        "Description": "",
        "InUse": record.is_used,
        "Shared": record.is_shared,
        "Size": record.bytes,
        "CreatedAt": used,
        "LastUsedAt": used,
        "UsageCount": 1,
    })
}

fn volume(usage: &VolumeUsage) -> Value {
    let mut view = crate::volume(&usage.volume);
    view["UsageData"] = json!({ "Size": usage.bytes, "RefCount": usage.links });
    view
}
