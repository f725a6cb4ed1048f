//! How long an image takes from the registry into a store.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::contest::{Contestant, hold};
use super::report::Section;
use super::world::{World, version};

/// Pulls 450 MB in 20,000 files into an empty store each time.
pub(crate) fn measure(world: &World, rounds: usize) -> Result<Section> {
    let cais = |round| {
        settle();
        let mut command = world.cais(&format!("pull-{round}"));
        command.args(["pull", "--quiet", "many-files"]);
        Ok(command)
    };
    let skopeo = |round| {
        let mut command = skopeo(world, round)?;
        settle();
        command.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]);
        command.arg(format!("docker://{}/library/many-files:latest", world.registry));
        command.arg("containers-storage:many-files:latest");
        Ok(command)
    };
    let mut contestants =
        vec![Contestant { name: "cais".into(), command: Box::new(cais), daemon: None }];
    let mut notes = vec![
        "four gzip layers from a docker-registry on this machine into an empty store; dirty pages of the turn before are written first".to_owned(),
        "the registry's own processor time is not counted".to_owned(),
    ];
    if version("skopeo").is_some() {
        contestants.push(Contestant {
            name: "skopeo".into(),
            command: Box::new(skopeo),
            daemon: None,
        });
        notes.push("skopeo: into containers-storage with the overlay driver".to_owned());
    }
    let times = hold(&mut contestants, rounds)?;
    drop(contestants);
    Ok(Section::new("`pull many-files`: 450 MB, 20,000 files", &times, notes))
}

/// Waits until the disk has everything, so that no turn pays for the one before.
fn settle() {
    rustix::fs::sync();
}

/// skopeo with a store of its own for each round.
fn skopeo(world: &World, round: usize) -> Result<Command> {
    let directory = world.path(&format!("storage-{round}"));
    fs::create_dir(&directory).context("make a directory for skopeo")?;
    let configuration = directory.join("storage.conf");
    let path = |name: &str| directory.join(name).display().to_string();
    let text = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = {:?}\nrunroot = {:?}\n",
        path("graph"),
        path("run")
    );
    fs::write(&configuration, text)?;
    let mut command = Command::new("skopeo");
    command.env("CONTAINERS_STORAGE_CONF", configuration);
    Ok(command)
}
