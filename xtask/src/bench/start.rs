//! How long a container takes from the command to its end.

use anyhow::Result;

use super::contest::{Contestant, hold};
use super::dockerd::Dockerd;
use super::engine::{Engine, profile};
use super::report::Section;
use super::world::{World, output};

const ROOT: &str = "start";

/// Without a network, beside the programs that only run a bundle.
pub(crate) fn alone(world: &World, rounds: usize) -> Result<Section> {
    pull(world)?;
    let mut notes = vec![
        "cais: the whole command, from the name of the image to the removal of the container, with Docker's default seccomp profile".to_owned(),
        "runc and crun: `run` of a bundle that `runc spec` wrote (pid, net, ipc, uts, mnt and cgroup namespaces, read-only root) over unpacked files of the same image: no image store, no overlay, no log, no attach socket".to_owned(),
    ];
    let profile = profile(world, &mut notes)?;
    let others = Engine::others(world, &mut notes)?;
    let mut contestants = vec![cais(world, &["--network", "none"])];
    for engine in &others {
        for profile in [None].into_iter().chain(profile.as_ref().map(Some)) {
            contestants.push(engine.runs(world, profile)?);
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
