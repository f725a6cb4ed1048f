//! The place of one container: a bundle of busybox, and where it is saved.

use std::fs::{self, File};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

/// How long an event may take in a machine that is emulated.
const EVENT_MAX: Duration = Duration::from_secs(90);

/// How many lines of CRIU's log are shown when something went wrong.
const CRIU_LINES: usize = 40;

/// What counts in the container: two processes, a pipe between them, and open files. A program that
/// was started anew would say so in `/starts`.
pub(crate) const COUNTER: &str = "echo start >>/starts; exec 5>>/log; n=0; \
    while :; do echo tick; sleep 0.05; done | \
    while read x; do n=$((n+1)); echo $n >&5; echo $n >/new; mv /new /count; done";

/// One container's place; dropping it demands that nothing of it is left.
pub(crate) struct Host {
    directory: tempfile::TempDir,
    pub(crate) config: Value,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    /// What it printed.
    pub(crate) out: String,
    /// What it wrote into its log.
    pub(crate) log: String,
    /// The end of CRIU's log, if that is where to look.
    #[expect(dead_code, reason = "it is shown when a test fails")]
    criu: Vec<String>,
}

impl Ran {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Demands failure; gives what the log says.
    #[track_caller]
    pub(crate) fn fails(self) -> String {
        assert_eq!(self.code, 1, "{self:?}");
        self.log
    }
}

impl Host {
    /// A bundle that runs a script; `None` outside the virtual machine.
    pub(crate) fn new(script: &str) -> Option<Host> {
        std::env::var_os("CAIS_TEST_MACHINE")?;
        let directory = tempfile::Builder::new().prefix("cais-criu-").tempdir().unwrap();
        let rootfs = directory.path().join("rootfs");
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        copy(Path::new("/bin/busybox"), &rootfs.join("bin/busybox"));
        for applet in [
            "cat", "chmod", "echo", "grep", "ln", "ls", "mv", "rm", "sh", "sleep", "stat", "stty",
            "test", "touch", "true",
        ] {
            symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        let name = directory.path().file_name().unwrap().to_str().unwrap();
        let mount = |kind: &str, on: &str, options: &[&str]| json!({"destination": on, "type": kind, "source": kind, "options": options});
        let config = json!({
            "ociVersion": "1.2.0",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/bin/sh", "-c", script],
                "env": ["PATH=/bin", format!("PLACE={name}")],
                "cwd": "/",
            },
            "root": {"path": "rootfs"},
            "hostname": "box",
            "mounts": [
                mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
                mount("tmpfs", "/dev", &["nosuid", "mode=755"]),
                mount("devpts", "/dev/pts", &["newinstance", "ptmxmode=0666", "mode=0620"]),
                mount("tmpfs", "/dev/shm", &["nosuid", "mode=1777"]),
                mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
                mount("cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "ro"]),
            ],
            "linux": {
                "cgroupsPath": format!("/{name}/a"),
                "namespaces": [
                    {"type": "pid"}, {"type": "network"}, {"type": "ipc"},
                    {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"},
                ],
                "maskedPaths": ["/proc/keys", "/proc/timer_list", "/sys/firmware", "/nothing"],
                "readonlyPaths": ["/proc/sys"],
                "resources": {"pids": {"limit": 40}},
            },
        });
        Some(Host { directory, config })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn rootfs(&self, name: &str) -> PathBuf {
        self.path("rootfs").join(name)
    }

    /// Makes a directory beside the root.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        fs::create_dir_all(self.path(name)).unwrap();
        self.path(name)
    }

    pub(crate) fn add_mount(&mut self, source: &Path, on: &str, options: &[&str]) {
        let mount =
            json!({"type": "bind", "source": source, "destination": on, "options": options});
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// The group of the container.
    pub(crate) fn cgroup(&self) -> PathBuf {
        let path = self.config["linux"]["cgroupsPath"].as_str().unwrap();
        Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'))
    }

    /// `cais oci` with the words of `line`, in the directory; it has no streams.
    pub(crate) fn command(&self, line: &str) -> Command {
        fs::write(self.path("config.json"), self.config.to_string()).unwrap();
        let cais = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("cais");
        let _ = fs::remove_file(self.path("log"));
        let mut command = Command::new(cais);
        command.args(["oci", "--root", "state", "--log", "log"]).args(line.split_whitespace());
        command.current_dir(self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// The outcome of a [`Self::command`].
    pub(crate) fn ran(&self, output: &Output) -> Ran {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let named = log.split_once("(log file: ").and_then(|(_, rest)| rest.split_once(')'));
        let criu = named.and_then(|(path, _)| fs::read_to_string(path).ok()).unwrap_or_default();
        let criu: Vec<String> = criu.lines().map(str::to_owned).collect();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            log,
            criu: criu[criu.len().saturating_sub(CRIU_LINES)..].to_vec(),
        }
    }

    /// Runs what leaves a process, or nothing to read.
    pub(crate) fn line(&self, line: &str) -> Ran {
        let mut command = self.command(line);
        let status = command.status().unwrap();
        self.ran(&Output { status, stdout: Vec::new(), stderr: Vec::new() })
    }

    /// Runs what prints something.
    pub(crate) fn read(&self, line: &str) -> Ran {
        let output = self.command(line).stdout(Stdio::piped()).output().unwrap();
        self.ran(&output)
    }

    /// What runs in the container shows.
    #[track_caller]
    pub(crate) fn exec(&self, line: &str) -> String {
        self.read(&format!("exec a {line}")).ok()
    }

    #[track_caller]
    pub(crate) fn run(&self) {
        self.line("run --detach a").ok();
    }

    #[track_caller]
    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.read("state a").ok()).unwrap()
    }

    #[track_caller]
    pub(crate) fn is_running(&self) {
        assert_eq!(self.state()["status"], "running");
    }

    /// Nothing of the container is left, but for what was saved.
    #[track_caller]
    pub(crate) fn is_gone(&self) {
        let complaint = self.read("state a").fails();
        assert!(complaint.contains("container does not exist"), "{complaint}");
        let left = fs::read_dir(self.path("state")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "a record is left");
        assert!(!self.cgroup().exists(), "a cgroup is left");
        let place = self.directory.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(place), "a mount is left: {mounts}");
        let deadline = Instant::now() + EVENT_MAX;
        // One that was killed may take a moment to die.
        while self.has_processes() {
            assert!(Instant::now() < deadline, "a process is left");
            std::thread::yield_now();
        }
    }

    fn has_processes(&self) -> bool {
        let name = self.directory.path().file_name().unwrap().to_str().unwrap();
        let marker = format!("PLACE={name}");
        fs::read_dir("/proc").unwrap().any(|process| {
            let environment = fs::read(process.unwrap().path().join("environ"));
            let environment = environment.unwrap_or_default();
            environment.split(|&b| b == 0).any(|entry| entry == marker.as_bytes())
        })
    }

    /// How far the counter is.
    pub(crate) fn count(&self) -> u64 {
        let text = fs::read_to_string(self.rootfs("count")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Waits until the counter is beyond this.
    #[track_caller]
    pub(crate) fn counts_beyond(&self, count: u64) -> u64 {
        wait_until("the counter goes on", || self.count() > count);
        self.count()
    }

    /// The counter never began anew, and counted without a gap.
    #[track_caller]
    pub(crate) fn counted_in_order(&self) {
        assert_eq!(fs::read_to_string(self.rootfs("starts")).unwrap(), "start\n");
        let log = fs::read_to_string(self.rootfs("log")).unwrap();
        let numbers: Vec<u64> = log.lines().map(|line| line.parse().unwrap()).collect();
        let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, expected);
    }

    #[track_caller]
    pub(crate) fn delete(&self) {
        self.line("delete --force a").ok();
        self.is_gone();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if std::env::var_os("CAIS_TEST_MACHINE").is_some() {
                let _ = self.line("delete --force a");
            }
            return;
        }
        self.is_gone();
        let above = self.cgroup();
        let _ = fs::remove_dir(above.parent().unwrap());
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + EVENT_MAX;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// Copies in a process of its own: a descriptor that is open for writing here could be inherited
/// by a child of another test, and keep the program from being executed.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// Takes the terminal that is sent to the next client of `listener`.
pub(crate) fn receive(listener: &UnixListener) -> File {
    let (client, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 64];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    recvmsg(&client, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    let found: Option<OwnedFd> = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    found.expect("a descriptor is sent").into()
}
