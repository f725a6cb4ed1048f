//! The OCI runtime beside others: the same bundle, the same life; and the floor below it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::bundle;
use super::contest::{Contestant, Spread, hold};
use super::engine::{Engine, profile};
use super::limit;
use super::report::Section;
use super::world::{World, output, version_2_alone};

/// How many containers are started at once.
const MANY: usize = 100;
/// The same for all of them.
const MANY_ROUNDS_MAX: usize = 5;

/// All tables.
pub(crate) fn measure(world: &World, rounds: usize) -> Result<Vec<Section>> {
    let mut notes = vec![
        "bare system calls: a program without anything else makes the same namespaces, file systems and control group, executes `true` in them and removes them; it reads no bundle, filters no devices, switches no loopback link on and keeps no state".to_owned(),
        "`run` of a bundle that `runc spec` wrote (pid, net, ipc, uts, mnt and cgroup namespaces, read-only root) over unpacked files of busybox: create, start, wait and delete".to_owned(),
    ];
    let profile = profile(world, &mut notes)?;
    // While there may be controllers of version 1.
    let limits = limit::measure(world)?;
    notes.push("all of them see control groups of version 2 alone, since crun refuses a host with both versions; in a bundle that asks for no limits".to_owned());
    version_2_alone()?;
    let mut engines = vec![Engine::cais(world)];
    engines.extend(Engine::others(world, &mut notes)?);
    let mut sections = Vec::new();
    for (seccomp, what) in
        [(None, "without seccomp"), (profile.as_ref(), "Docker's seccomp profile")]
    {
        let contestants = engines.iter().map(|engine| engine.runs(world, seccomp));
        let mut contestants = contestants.collect::<Result<Vec<_>>>()?;
        if seccomp.is_none() {
            contestants.push(engines[0].runs_with_devices(world)?);
            contestants.push(floor(world)?);
        }
        let times = hold(&mut contestants, rounds)?;
        let title = format!("OCI runtime: `run true`, {what}");
        sections.push(Section::new(&title, &times, std::mem::take(&mut notes)));
    }
    sections.push(executions(world, &engines, rounds)?);
    sections.push(limits);
    sections.extend(many(world, &engines, rounds.min(MANY_ROUNDS_MAX))?);
    sections.push(steps(world, rounds)?);
    Ok(sections)
}

/// What no runtime can be below: the bare system calls, in a program that does nothing else.
fn floor(world: &World) -> Result<Contestant<'_>> {
    let rootfs = bundle::rootfs(world)?;
    let command = move |round| {
        let mut command = Command::new(beside(world, "floor"));
        command.arg(&rootfs).arg(format!("cais-bench-bare-{round}"));
        Ok(command)
    };
    Ok(Contestant { name: "bare system calls".into(), command: Box::new(command), daemon: None })
}

/// A further process in a container that runs.
fn executions(world: &World, engines: &[Engine], rounds: usize) -> Result<Section> {
    let mut contestants = Vec::new();
    for engine in engines {
        let bundle = engine.bundle(world, "sleep", &|spec| {
            spec["process"]["args"] = json!(["sleep", "1000"]);
        })?;
        let bundle = bundle.display().to_string();
        start(engine.command(&["run", "--detach", "--bundle", &bundle, "bench-sleep"]))?;
        let command = |_| Ok(engine.command(&["exec", "bench-sleep", "true"]));
        let name = engine.name.to_owned();
        contestants.push(Contestant { name, command: Box::new(command), daemon: None });
    }
    let times = hold(&mut contestants, rounds);
    drop(contestants);
    for engine in engines {
        output(&mut engine.command(&["delete", "--force", "bench-sleep"]))?;
    }
    Ok(Section::new("OCI runtime: `exec true` in a running container", &times?, Vec::new()))
}

/// Runs a command whose container keeps the streams.
fn start(mut command: Command) -> Result<()> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// A hundred containers at once, started and removed.
fn many(world: &World, engines: &[Engine], rounds: usize) -> Result<Vec<Section>> {
    let each = |engine: &Engine, args: &str| {
        let one = engine.shell(args);
        format!("for i in $(seq {MANY}); do {one} & done; wait")
    };
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for engine in engines {
        let mut bundles = Vec::new();
        for number in 1..=MANY {
            bundles.push(engine.bundle(world, &format!("many-{number}"), &|spec| {
                spec["process"]["args"] = json!(["sleep", "1000"]);
            })?);
        }
        let stem = bundles[0].display().to_string();
        let stem = stem.strip_suffix('1').context("number the bundles")?.to_owned();
        let start =
            each(engine, &format!("run --detach --bundle {stem}$i many-$i >/dev/null 2>&1"));
        let end = each(engine, "delete --force many-$i");
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let (begin, clear) = (start.clone(), end.clone());
        let started = move |round| {
            if round > 0 {
                output(&mut shell(&clear))?;
            }
            Ok(shell(&begin))
        };
        starts.push(Contestant {
            name: engine.name.into(),
            command: Box::new(started),
            daemon: None,
        });
        let ended = move |round| {
            if round > 0 {
                output(&mut shell(&start))?;
            }
            Ok(shell(&end))
        };
        ends.push(Contestant { name: engine.name.into(), command: Box::new(ended), daemon: None });
    }
    let notes = vec!["each with namespaces of its own, the network's too, by a command of its own; Docker's profile is not in it".to_owned()];
    let started = hold(&mut starts, rounds)?;
    let ended = hold(&mut ends, rounds)?;
    Ok(vec![
        Section::new(&format!("OCI runtime: {MANY} containers started at once"), &started, notes),
        Section::new(
            &format!("OCI runtime: {MANY} containers killed and removed at once"),
            &ended,
            Vec::new(),
        ),
    ])
}

/// The library, step by step, beside the bare system calls.
fn steps(world: &World, rounds: usize) -> Result<Section> {
    let driver = bundle::make(world, "driver")?;
    bundle::change(&driver, |spec| {
        spec["annotations"] = json!({"run.cgroup": "/cais-bench-driver", "run.times": "1"});
        bundle::remove_resources(spec);
    })?;
    let rootfs = bundle::rootfs(world)?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        ours.push(told(Command::new(beside(world, "oci-run")).arg(&driver))?);
        let group = format!("cais-bench-floor-{round}");
        floor.push(told(Command::new(beside(world, "floor")).arg(&rootfs).arg(group))?);
    }
    let names: Vec<String> =
        ours.first().into_iter().flat_map(serde_json::Map::keys).cloned().collect();
    let median = |all: &[serde_json::Map<String, Value>], step: &str| {
        let micros: Vec<f64> = all.iter().filter_map(|one| one.get(step)?.as_f64()).collect();
        (!micros.is_empty()).then(|| Spread::of(&micros).median)
    };
    let shown =
        |micros: Option<f64>| micros.map_or("–".to_owned(), |micros| format!("{micros:.0}"));
    let rows = names
        .iter()
        .map(|step| (step.clone(), [shown(median(&floor, step)), shown(median(&ours, step))]));
    Ok(Section::of_columns(
        "The library's steps beside the floor, µs",
        &["floor", "cais"],
        &rows.collect::<Vec<_>>(),
        vec![
            "floor: the bare system calls for the same namespaces, file systems and cgroups in a program that reads and checks nothing; one cgroup mount, where cais makes one for each hierarchy of version 1".to_owned(),
            "one after the other, without pauses".to_owned(),
        ],
    ))
}

/// A program that was built with the binary under test.
fn beside(world: &World, name: &str) -> PathBuf {
    world.cais.with_file_name(name)
}

/// The JSON object that a program prints.
fn told(command: &mut Command) -> Result<serde_json::Map<String, Value>> {
    let said = output(command)?;
    serde_json::from_str(&said).with_context(|| format!("read what {command:?} says"))
}
