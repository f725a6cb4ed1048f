//! How long an image takes from the registry into a store.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::contest::{Contestant, hold};
use super::report::Section;
use super::world::{World, output, version};

/// The directory of the file system that is made for this benchmark.
pub(crate) const DISK: &str = "disk";
/// Its size, most of which is never used.
const DISK_BYTES: u64 = 48 << 30;

/// Pulls 450 MB in 20,000 files into an empty store each time.
pub(crate) fn measure(world: &World, rounds: usize) -> Result<Section> {
    make_disk(world)?;
    let cais = |round| {
        settle();
        let mut command = world.cais(&format!("{DISK}/pull-{round}"));
        command.args(["pull", "--quiet", "many-files"]);
        Ok(command)
    };
    let skopeo = |round| {
        let mut command = skopeo(world, &format!("storage-{round}"))?;
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
        "both write to a file system of their own that is new: for a minute, ext4 passes by every inode that was deleted, which can double the time of whoever comes next".to_owned(),
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

/// An ext4 file system on which nothing was ever deleted, in a sparse file; the one that is there
/// already.
pub(crate) fn make_disk(world: &World) -> Result<()> {
    let (image, directory) = (world.path("disk.img"), world.path(DISK));
    if directory.exists() {
        return Ok(());
    }
    let file = fs::File::create(&image).context("make a disk")?;
    file.set_len(DISK_BYTES).context("make a disk")?;
    output(
        Command::new("mkfs.ext4")
            .args(["-q", "-i", "65536", "-E", "lazy_itable_init=0"])
            .arg(&image),
    )?;
    fs::create_dir(&directory).context("make a directory for a disk")?;
    // Without the cache of the file below it: who syncs would wait for two caches, and everything
    // would be in memory twice.
    let device =
        output(Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(image))?;
    let device = device.trim();
    let mounted = output(Command::new("mount").arg(device).arg(directory));
    // It goes with the mount.
    output(Command::new("losetup").args(["--detach", device]))?;
    mounted.map(drop)
}

/// Waits until the disk has everything, so that no turn pays for the one before.
pub(crate) fn settle() {
    rustix::fs::sync();
}

/// skopeo with a store of its own, in a new directory of this name on the disk.
pub(crate) fn skopeo(world: &World, name: &str) -> Result<Command> {
    let directory = world.path(DISK).join(name);
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
