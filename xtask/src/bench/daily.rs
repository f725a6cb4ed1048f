//! What people do all day with containers that run: beside Docker where it does the same.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::contest::{Contestant, hold};
use super::dockerd::Dockerd;
use super::report::Section;
use super::world::{World, output};

const ROOT: &str = "start";
/// Containers that `ps` lists.
const LISTED: usize = 1000;
/// Containers that are started together.
const CROWD: usize = 100;
/// What a container writes at full speed, in bytes.
const WRITTEN: u64 = 256 << 20;

/// All of it.
pub(crate) fn measure(world: &World, rounds: usize) -> Result<Vec<Section>> {
    super::start::pull(world)?;
    Ok(vec![exec(world, rounds)?, crowd(world, rounds)?, list(world, rounds)?, log(world)?])
}

fn exec(world: &World, rounds: usize) -> Result<Section> {
    const RUN: [&str; 8] =
        ["run", "--detach", "--name", "held", "--network", "none", "busybox", "sleep"];
    const EXEC: [&str; 3] = ["exec", "held", "true"];
    let dockerd = Dockerd::start(world)?;
    output(world.cais(ROOT).args(RUN).arg("100000"))?;
    let ours = |_| {
        let mut command = world.cais(ROOT);
        command.args(EXEC);
        Ok(command)
    };
    let mut all = vec![Contestant { name: "cais".into(), command: Box::new(ours), daemon: None }];
    if let Some(dockerd) = &dockerd {
        output(dockerd.client().args(RUN).arg("100000"))?;
        let theirs = |_| {
            let mut command = dockerd.client();
            command.args(EXEC);
            Ok(command)
        };
        let (name, daemon) = ("docker".to_owned(), Some(dockerd.group()));
        all.push(Contestant { name, command: Box::new(theirs), daemon });
    }
    let times = hold(&mut all, rounds)?;
    drop(all);
    output(world.cais(ROOT).args(["rm", "--force", "held"]))?;
    if let Some(dockerd) = &dockerd {
        output(dockerd.client().args(["rm", "--force", "held"]))?;
    }
    Ok(Section::new("`exec` of `true`", &times, Vec::new()))
}

/// Containers with a network and a published port, started by as many commands, eight at a time.
fn crowd(world: &World, rounds: usize) -> Result<Section> {
    let names: Vec<String> = (0..CROWD).map(|number| format!("one-{number}")).collect();
    let clear = || {
        let mut remove = world.cais(ROOT);
        remove.args(["rm", "--force"]).args(&names);
        output(&mut remove)
    };
    let start = |_| {
        clear()?;
        let cais = world.cais(ROOT);
        let mut command = Command::new("sh");
        command.args(["-c", CROWD_SCRIPT, "sh"]).arg(cais.get_program());
        let set = cais.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.envs(set);
        Ok(command)
    };
    let name = format!("cais: {CROWD} containers");
    let mut all = [Contestant { name, command: Box::new(start), daemon: None }];
    let times = hold(&mut all, rounds.div_ceil(10))?;
    drop(all);
    clear()?;
    let notes = vec![
        "`run --detach --publish` with the default bridge; until the last of them runs".into(),
    ];
    Ok(Section::new("a hundred containers with ports", &times, notes))
}

const CROWD_SCRIPT: &str = r#"
seq 0 99 | xargs -P 8 -I {} "$1" run --detach --name one-{} --publish 2{}:80 busybox sleep 1000
"#;

fn list(world: &World, rounds: usize) -> Result<Section> {
    let made = || -> Result<usize> {
        Ok(output(world.cais(ROOT).args(["ps", "--all", "--quiet"]))?.lines().count())
    };
    for _ in made()?..LISTED {
        output(world.cais(ROOT).args(["create", "--network", "none", "busybox", "true"]))?;
    }
    ensure!(made()? >= LISTED, "not all containers were made");
    let ps = |_| {
        let mut command = world.cais(ROOT);
        command.args(["ps", "--all"]);
        Ok(command)
    };
    let mut all = [Contestant { name: "cais".into(), command: Box::new(ps), daemon: None }];
    let times = hold(&mut all, rounds)?;
    drop(all);
    output(world.cais(ROOT).args(["container", "prune", "--force"]))?;
    Ok(Section::new("`ps --all` of 1,000 containers", &times, Vec::new()))
}

/// What the monitor computes for a container that writes as fast as it can.
fn log(world: &World) -> Result<Section> {
    let script = format!("yes {:0>99} | head -c {WRITTEN}; touch /written; exec sleep 100000", "x");
    let mut run = world.cais(ROOT);
    run.args(["run", "--detach", "--name", "writer", "--network", "none", "busybox", "sh", "-c"]);
    let id = output(run.arg(script))?;
    let wait = "until test -e /written; do sleep 0.1; done";
    output(world.cais(ROOT).args(["exec", "writer", "sh", "-c", wait]))?;
    let state = world.path(ROOT).join("containers").join(id.trim()).join("state.json");
    let state: serde_json::Value = serde_json::from_str(&fs::read_to_string(state)?)?;
    let pid = state["monitor_pid"].as_i64().context("find the monitor")?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("read the monitor's times")?.1;
    // utime and stime, in hundredths of a second (proc_pid_stat(5)).
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.sum::<std::result::Result<u64, _>>()?;
    output(world.cais(ROOT).args(["rm", "--force", "writer"]))?;
    let seconds = ticks as f64 / 100.0 * (1u64 << 30) as f64 / WRITTEN as f64;
    let facts =
        vec![("cais: monitor".to_owned(), format!("{seconds:.2} s of processor time for 1 GiB"))];
    Ok(Section::of_facts(
        "the log of a container that writes lines of 100 bytes at full speed",
        facts,
        Vec::new(),
    ))
}
