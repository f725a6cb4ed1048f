//! The programs that run a bundle: which there are, and how each is called.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::bundle;
use super::contest::Contestant;
use super::dockerd::Dockerd;
use super::world::{RUN, World, has_cgroup1, output, version};

/// An OCI runtime.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    /// The program, behind what must be started before it.
    words: Vec<String>,
    /// Where it keeps its state.
    state: PathBuf,
    /// Whether it cannot have device rules here.
    without_resources: bool,
    _host: Option<Host>,
}

impl Engine {
    /// The binary under test.
    pub(crate) fn cais(world: &World) -> Self {
        Self::new(world, "cais", vec![world.cais.display().to_string(), "oci".into()])
    }

    /// Those of other people that this machine has.
    ///
    /// # Errors
    /// If a namespace for crun cannot be made.
    pub(crate) fn others(world: &World, notes: &mut Vec<String>) -> Result<Vec<Self>> {
        let mut engines = Vec::new();
        for (name, path) in [("runc", "runc"), ("youki", world.youki.as_str())] {
            if version(path).is_some() {
                engines.push(Self::new(world, name, vec![path.into()]));
            } else {
                notes.push(format!("no {name} on this machine"));
            }
        }
        if let Some(host) = crun(world, notes)? {
            let words = host.enter.iter().cloned().chain(["crun".to_owned()]).collect();
            let crun = Self::new(world, "crun", words);
            engines.insert(1, Self { without_resources: true, _host: Some(host), ..crun });
        }
        Ok(engines)
    }

    fn new(world: &World, name: &'static str, words: Vec<String>) -> Self {
        let state = world.path(RUN).join(name);
        Self { name, words, state, without_resources: false, _host: None }
    }

    /// A command line of this runtime.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).arg("--root").arg(&self.state).args(args);
        command
    }

    /// The same, as text for a shell.
    pub(crate) fn shell(&self, args: &str) -> String {
        format!("{} --root {} {args}", self.words.join(" "), self.state.display())
    }

    /// Makes a bundle that this runtime can run.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn bundle(
        &self,
        world: &World,
        kind: &str,
        change: &dyn Fn(&mut Value),
    ) -> Result<PathBuf> {
        let bundle = bundle::make(world, &format!("{}-{kind}", self.name))?;
        bundle::change(&bundle, |spec| {
            if self.without_resources {
                bundle::remove_resources(spec);
            }
            change(spec);
        })?;
        Ok(bundle)
    }

    /// `run` of a bundle, to its end.
    ///
    /// # Errors
    /// If the bundle cannot be written.
    pub(crate) fn runs(&self, world: &World, seccomp: Option<&Value>) -> Result<Contestant<'_>> {
        match seccomp {
            None => self.runs_changed(world, ("plain", "without seccomp"), &|_| {}),
            Some(profile) => {
                self.runs_changed(world, ("seccomp", "Docker's seccomp profile"), &|spec| {
                    spec["linux"]["seccomp"] = profile.clone();
                })
            }
        }
    }

    /// The same without seccomp and with every device, which is what others have without rules for
    /// them.
    ///
    /// # Errors
    /// If the bundle cannot be written.
    pub(crate) fn runs_with_devices(&self, world: &World) -> Result<Contestant<'_>> {
        self.runs_changed(world, ("devices", "without seccomp, with every device"), &|spec| {
            spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
        })
    }

    fn runs_changed<'a>(
        &'a self,
        world: &World,
        (kind, what): (&'a str, &str),
        change: &dyn Fn(&mut Value),
    ) -> Result<Contestant<'a>> {
        let title = format!("{}, {what}", self.name);
        let bundle = self.bundle(world, kind, change)?;
        let bundle = bundle.display().to_string();
        let command = move |round| {
            Ok(self.command(&["run", "--bundle", &bundle, &format!("bench-{kind}-{round}")]))
        };
        Ok(Contestant { name: title, command: Box::new(command), daemon: None })
    }
}

/// Docker's default seccomp profile, out of a container that Docker runs.
pub(crate) fn profile(world: &World, notes: &mut Vec<String>) -> Result<Option<Value>> {
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
