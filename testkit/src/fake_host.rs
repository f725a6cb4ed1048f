//! A fake host: network, mount, PID and IPC namespaces of its own, with nothing but a loopback
//! device.
//!
//! Whatever the binary makes there (bridges, rules, mounts, processes) touches neither this
//! machine nor other tests, and the kernel takes all of it down when the host's first process
//! ends. That process is `cat` on a pipe from the test: it ends when the test does, however the
//! test ends. Only control groups are shared with the machine.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::host;

/// Makes the loopback device work, says so, and waits for the end of its input. Orphans are reaped
/// by the kernel, since their signal is ignored.
const FIRST: &str = "ip link set lo up && echo up && exec env --ignore-signal=CHLD cat";

/// A running fake host; dropping it ends everything in it.
#[derive(Debug)]
pub(crate) struct FakeHost {
    unshare: Child,
    /// The first process, as this machine numbers it.
    first: u32,
}

impl FakeHost {
    pub(crate) fn start() -> Result<Self> {
        let mut unshare = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--ipc", "--fork", "--mount-proc"])
            .args(["sh", "-c", FIRST])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start unshare for a fake host")?;
        let mut line = String::new();
        let output = unshare.stdout.take().context("read from the fake host")?;
        BufReader::new(output).read_line(&mut line)?;
        anyhow::ensure!(line == "up\n", "a fake host does not start; hint: this needs root");
        let pid = unshare.id();
        let first = only_child(pid).with_context(|| format!("find the child of {pid}"))?;
        Ok(Self { unshare, first })
    }

    /// A command that runs its arguments in this host, in `directory`.
    pub(crate) fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--net", "--pid", "--ipc", "--target"]);
        command.arg(self.first.to_string()).args(["--", "env", "--chdir"]).arg(directory);
        command
    }

    /// Makes a cable from this host to another: at this end an interface `name`, at the other `eth0`.
    pub(crate) fn cable(&self, name: &str, other: &Self) -> Result<()> {
        let (own, other) = (self.first.to_string(), other.first.to_string());
        let words = ["--net", "--target", &own, "--", "ip", "link", "add", name, "type", "veth"];
        let peer = ["peer", "name", "eth0", "netns", &other];
        host::run("nsenter", words.into_iter().chain(peer)).map(drop)
    }

    /// Runs a script of the shell in this host.
    pub(crate) fn script(&self, script: &str) -> Result<()> {
        let mut command = self.command(Path::new("/"));
        host::finish(command.args(["sh", "-ec", script])).map(drop)
    }

    /// A path of this host, as this machine sees it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first))
    }

    /// The host's mount table.
    pub(crate) fn mounts(&self) -> Result<String> {
        let path = format!("/proc/{}/mountinfo", self.first);
        fs::read_to_string(&path).with_context(|| format!("read {path}"))
    }

    /// Does `work` in this host's network.
    pub(crate) fn in_network<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.first))
            .context("open the fake host's network")?;
        // A network namespace belongs to a thread, so a thread of its own enters it and ends there.
        let inside = move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                .context("enter the fake host's network")?;
            work()
        };
        thread::scope(|scope| {
            scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        drop(self.unshare.stdin.take());
        let _ = self.unshare.wait();
    }
}

/// The one child of a process.
pub(crate) fn only_child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
