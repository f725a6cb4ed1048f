//! `state`, and the form in which `list` shows containers too.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use runtime::container::{Container, Status};
use serde::Serialize;

use super::{Args, Call, Verb, print};

pub(super) const VERB: Verb = Verb {
    name: "state",
    about: "output the state of a container",
    usage: "<container-id>",
    flags: &[],
    args: Args::Exactly(1),
    sealed: false,
    run,
};

/// What runc shows of a container, in its order.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(rename = "ociVersion")]
    version: String,
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) status: &'static str,
    pub(super) bundle: PathBuf,
    rootfs: PathBuf,
    pub(super) created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    pub(super) owner: String,
}

impl Shown {
    pub(super) fn of(container: &Container) -> Result<Shown> {
        let (record, status) = (container.record().clone(), container.status()?);
        let created = jiff::Timestamp::from_nanosecond(record.created_ns.into());
        Ok(Shown {
            version: record.oci_version,
            id: record.id,
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status: status.word(),
            bundle: record.bundle,
            rootfs: record.rootfs,
            created: created.context("read when the container was created")?.to_string(),
            annotations: record.annotations.into_iter().collect(),
            owner: String::new(),
        })
    }
}

fn run(call: &Call<'_>) -> Result<i32> {
    let shown = Shown::of(&Container::open(call.root, call.id()?)?)?;
    Ok(print(&serde_json::to_string_pretty(&shown)?))
}
