//! How long a container takes from the command to its end.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::bundle;
use super::contest::{Contestant, hold};
use super::dockerd::Dockerd;
use super::report::Section;
use super::world::{RUN, World, has_cgroup1, output, version};

const ROOT: &str = "start";

/// Without a network, beside the programs that only run a bundle.
pub(crate) fn alone(world: &World, rounds: usize) -> Result<Section> {
    pull(world)?;
    let mut notes = vec![
        "cais: the whole command, from the name of the image to the removal of the container, with Docker's default seccomp profile".to_owned(),
        "runc and crun: `run` of a bundle that `runc spec` wrote (pid, net, ipc, uts, mnt and cgroup namespaces, read-only root) over unpacked files of the same image: no image store, no overlay, no log, no attach socket".to_owned(),
    ];
    let mut contestants = vec![cais(world, &["--network", "none"])];
    let profile = profile(world, &mut notes)?;
    let crun = crun(world, &mut notes)?;
    let runc = version("runc").map(|_| ("runc", Vec::new()));
    for (program, launcher) in runc.into_iter().chain(crun.as_ref().map(Host::launcher)) {
        for profile in [None].into_iter().chain(profile.as_ref().map(Some)) {
            contestants.push(runs(world, program, &launcher, profile)?);
        }
    }
    let times = hold(&mut contestants, rounds)?;
    drop(contestants);
    Ok(Section::new("`run --rm --network none busybox true`", &times, notes))
}

/// With the default network, beside Docker.
pub(crate) fn bridge(world: &World, rounds: usize) -> Result<Section> {
    pull(world)?;
    let mut notes = Vec::new();
    let dockerd = Dockerd::start(world)?;
    let bridged = dockerd.as_ref().is_none_or(Dockerd::has_bridge);
    let network: &[&str] = if bridged { &[] } else { &["--network", "none"] };
    let title = ["run", "--rm"].iter().chain(network).chain(&["busybox", "true"]);
    let title = title.copied().collect::<Vec<_>>().join(" ");
    if !bridged {
        notes.push("dockerd cannot make its bridge here: both without a network".to_owned());
    }
    let mut contestants = vec![cais(world, network)];
    match &dockerd {
        Some(dockerd) => {
            notes.push("docker: its processor time is that of the client, and of dockerd, containerd, shims and runc while the client runs".to_owned());
            let command = |_| {
                let mut command = dockerd.client();
                command.args(["run", "--rm"]).args(network).args(["busybox", "true"]);
                Ok(command)
            };
            let (name, daemon) = ("docker".to_owned(), Some(dockerd.group()));
            contestants.push(Contestant { name, command: Box::new(command), daemon });
        }
        None => notes.push("no dockerd on this machine".to_owned()),
    }
    let times = hold(&mut contestants, rounds)?;
    drop(contestants);
    Ok(Section::new(&format!("`{title}`"), &times, notes))
}

/// Brings busybox into the root of these benchmarks.
pub(crate) fn pull(world: &World) -> Result<()> {
    output(world.cais(ROOT).args(["pull", "--quiet", "busybox"])).map(drop)
}

fn cais<'a>(world: &'a World, network: &'a [&str]) -> Contestant<'a> {
    let command = move |_| {
        let mut command = world.cais(ROOT);
        command.args(["run", "--rm"]).args(network).args(["busybox", "true"]);
        Ok(command)
    };
    Contestant { name: "cais".into(), command: Box::new(command), daemon: None }
}

/// `PROGRAM run`, through a launcher that may be nothing.
fn runs<'a>(
    world: &World,
    program: &'a str,
    launcher: &[String],
    seccomp: Option<&Value>,
) -> Result<Contestant<'a>> {
    let (name, title) = match seccomp {
        None => (program.to_owned(), format!("{program}, without seccomp")),
        Some(_) => (format!("{program}-seccomp"), format!("{program}, Docker's seccomp profile")),
    };
    let bundle = bundle::make(world, &name, seccomp)?;
    if program == "crun" {
        bundle::without_resources(&bundle)?;
    }
    let state = world.path(RUN).join(program);
    let words: Vec<String> = launcher.iter().cloned().chain([program.to_owned()]).collect();
    let command = move |round| {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("--root").arg(&state).arg("run").arg("--bundle");
        command.arg(&bundle).arg(format!("bench-{round}"));
        Ok(command)
    };
    Ok(Contestant { name: title, command: Box::new(command), daemon: None })
}

/// Docker's default seccomp profile, out of a container that Docker runs.
fn profile(world: &World, notes: &mut Vec<String>) -> Result<Option<Value>> {
    let Some(dockerd) = Dockerd::start(world)? else {
        notes.push("no dockerd to take its seccomp profile from".to_owned());
        return Ok(None);
    };
    let mut run = dockerd.client();
    run.args(["run", "--detach", "--network", "none", "busybox", "sleep", "1000"]);
    let container = output(&mut run)?;
    let profile = bundle::seccomp_of_docker(&dockerd.state(), container.trim())?;
    output(dockerd.client().args(["rm", "--force", container.trim()]))?;
    notes.push("the seccomp profile is what dockerd wrote into a container's bundle".to_owned());
    Ok(Some(profile))
}

/// A mount namespace in which control groups are of version 2 alone.
struct Host {
    process: Child,
    enter: Vec<String>,
}

impl Host {
    fn launcher(&self) -> (&'static str, Vec<String>) {
        ("crun", self.enter.clone())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Where crun can run: it refuses hosts that have both versions of control groups.
fn crun(world: &World, notes: &mut Vec<String>) -> Result<Option<Host>> {
    if version("crun").is_none() {
        notes.push("no crun on this machine".to_owned());
        return Ok(None);
    }
    notes.push(
        "crun: without device rules, for which it wants to lock more memory than root may here"
            .to_owned(),
    );
    let hide = "umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup; ";
    let hide = if has_cgroup1() { hide } else { "" };
    let mut process = Command::new("unshare")
        .args(["--mount", "sh", "-c", &format!("{hide} echo ready; exec cat")])
        .current_dir(world.directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start unshare")?;
    let mut line = String::new();
    let said = process.stdout.take().context("read from unshare")?;
    BufReader::new(said).read_line(&mut line)?;
    let mut enter = Vec::new();
    if has_cgroup1() {
        notes.push("crun: this host has both versions of control groups, which crun refuses; it sees version 2 alone, through nsenter, whose start (about 1 ms) is counted, and so it has one group to join where the others have nine".to_owned());
        enter =
            vec!["nsenter".into(), format!("--mount=/proc/{}/ns/mnt", process.id()), "--".into()];
    }
    Ok(Some(Host { process, enter }))
}
