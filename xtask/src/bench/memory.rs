//! What stands still: the memory of an idle container's monitor, and the size of programs.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::dockerd::Dockerd;
use super::report::Section;
use super::world::{World, output};

/// Programs that Docker needs to run a container.
const DOCKER: &[&str] = &[
    "/usr/bin/docker",
    "/usr/sbin/dockerd",
    "/usr/bin/containerd",
    "/usr/bin/containerd-shim-runc-v2",
    "/usr/sbin/runc",
];

/// The process that holds a container which does nothing.
pub(crate) fn monitor(world: &World) -> Result<Section> {
    super::start::pull(world)?;
    // Pages of a program that was built just now count as dirty until they are on the disk.
    rustix::fs::sync();
    let mut run = world.cais("start");
    run.args(["run", "--detach", "--network", "none", "busybox", "sleep", "1000"]);
    let id = output(&mut run)?;
    let state = world.path("start/containers").join(id.trim()).join("state.json");
    let state: Value = serde_json::from_str(&fs::read_to_string(state)?)?;
    let pid = state["monitor_pid"].as_i64().context("find the monitor")?;
    let mut facts = vec![fact("cais: monitor", pid)?];
    output(world.cais("start").args(["rm", "--force", id.trim()]))?;
    if let Some(dockerd) = Dockerd::start(world)? {
        let mut run = dockerd.client();
        run.args(["run", "--detach", "--network", "none", "busybox", "sleep", "1000"]);
        let id = output(&mut run)?;
        for pid in fs::read_to_string(dockerd.group().join("cgroup.procs"))?.lines() {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.starts_with("containerd-shim") {
                facts.push(fact("docker: containerd-shim-runc-v2", pid.parse()?)?);
            }
        }
        output(dockerd.client().args(["rm", "--force", id.trim()]))?;
    }
    let notes = vec!["from smaps_rollup; private and dirty is what one more container costs, and Docker's daemons come on top once".to_owned()];
    Ok(Section::of_facts("memory of the process that holds an idle container", facts, notes))
}

fn fact(name: &str, pid: i64) -> Result<(String, String)> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let values = ["Private_Dirty", "Pss_Anon", "Rss"].iter().filter_map(|field| {
        let line = text.lines().find(|line| line.starts_with(&format!("{field}:")))?;
        let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(format!("{field} {kib:.0} KiB"))
    });
    Ok((name.to_owned(), values.collect::<Vec<_>>().join(", ")))
}

/// How large the programs are on disk.
pub(crate) fn size(world: &World) -> Result<Section> {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let cais = fs::metadata(&world.cais)?.len();
    let mut facts = vec![("cais: one static program".to_owned(), mib(cais))];
    let there: Vec<&str> = DOCKER.iter().copied().filter(|p| Path::new(p).exists()).collect();
    let sizes = there.iter().map(|path| Ok(fs::metadata(path)?.len()));
    let total: u64 = sizes.sum::<Result<u64>>()?;
    if !there.is_empty() {
        let names: Vec<&str> = there.iter().filter_map(|path| path.rsplit('/').next()).collect();
        facts.push((format!("docker: {}", names.join(", ")), mib(total)));
    }
    Ok(Section::of_facts("size on disk", facts, Vec::new()))
}
