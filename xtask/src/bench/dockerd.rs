//! A Docker daemon for the benchmark alone, with its own state and control group.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::world::{RUN, World, cgroup2, output};

const READY_MAX: Duration = Duration::from_secs(60);
const GONE_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
const GROUP: &str = "cais-bench-dockerd";
/// Where Debian keeps the command line of its `docker.io`; another one may come first in PATH.
const CLIENTS: [&str; 2] = ["/usr/bin/docker", "docker"];

/// Dropping it ends the daemon, its containers and its control group.
pub(crate) struct Dockerd {
    daemon: Child,
    directory: PathBuf,
    run: PathBuf,
    group: PathBuf,
}

impl Dockerd {
    /// Starts a daemon and loads `busybox:latest`; `None` where there is no Docker.
    pub(crate) fn start(world: &World) -> Result<Option<Self>> {
        if super::world::version("dockerd").is_none() {
            return Ok(None);
        }
        let directory = world.path("docker");
        let run = world.path(RUN).join("docker");
        fs::create_dir_all(&directory)?;
        fs::create_dir_all(&run)?;
        let group = cgroup2()?.join(GROUP);
        fs::create_dir_all(&group)?;
        let log = fs::File::create(directory.join("log"))?;
        let inside = "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", inside, "sh"]).arg(&group).arg("dockerd").args(flags(&directory, &run));
        let daemon = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut dockerd = Self { daemon, directory, run, group };
        dockerd.wait()?;
        dockerd.load(world)?;
        Ok(Some(dockerd))
    }

    /// The command line, talking to this daemon.
    pub(crate) fn client(&self) -> Command {
        let client = CLIENTS.iter().find(|path| Path::new(path).exists()).unwrap_or(&"docker");
        let mut command = Command::new(client);
        command.arg("--host").arg(format!("unix://{}", self.run.join("socket").display()));
        command.env("DOCKER_CONFIG", &self.directory);
        command
    }

    /// The group of the daemon, of containerd and of the shims.
    pub(crate) fn group(&self) -> PathBuf {
        self.group.clone()
    }

    /// Where bundles lie while their containers run.
    pub(crate) fn state(&self) -> PathBuf {
        self.run.clone()
    }

    /// Whether containers of this daemon can have its bridge.
    pub(crate) fn has_bridge(&self) -> bool {
        output(self.client().args(["run", "--rm", "busybox", "true"])).is_ok()
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_MAX;
        while output(self.client().arg("version")).is_err() {
            if self.daemon.try_wait()?.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                bail!("dockerd does not start: {}", log.lines().last().unwrap_or_default());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn load(&self, world: &World) -> Result<()> {
        let archive = self.directory.join("busybox.tar");
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--quiet"]);
        skopeo.arg(format!("oci:{}:busybox:latest", world.layout.display()));
        skopeo.arg(format!("docker-archive:{}:busybox:latest", archive.display()));
        output(&mut skopeo)?;
        output(self.client().arg("load").arg("--input").arg(archive)).map(drop)
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.daemon.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.daemon.wait();
        let _ = fs::write(self.group.join("cgroup.kill"), "1");
        // What the daemon leaves: its group is removed once all that was in it has ended.
        let deadline = Instant::now() + GONE_MAX;
        while fs::remove_dir(&self.group).is_err() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        // Version 1 has a directory of that name for each controller.
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(hierarchy.path().join(GROUP));
        }
        // What cannot be removed goes with the directory of all benchmarks.
        let _ = fs::remove_dir_all(&self.directory).and_then(|()| fs::remove_dir_all(&self.run));
    }
}

fn flags(directory: &Path, run: &Path) -> Vec<String> {
    let path = |name: &str| directory.join(name).display().to_string();
    let named = [
        ("--data-root", path("data")),
        ("--exec-root", run.display().to_string()),
        ("--pidfile", path("pid")),
        ("--host", format!("unix://{}", run.join("socket").display())),
        ("--cgroup-parent", format!("/{GROUP}")),
        ("--config-file", path("daemon.json")),
    ];
    let _ = fs::write(directory.join("daemon.json"), "{}");
    named.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
}
