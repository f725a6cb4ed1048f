//! The reference: a real Docker daemon in a sandbox's fake host, beside the binary under test.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::host;
use crate::pool::Pool;
use crate::process::{Outcome, Running};
use crate::sandbox::{PATH, Sandbox};

/// How long the daemon may take until it answers.
const READY_MAX: Duration = Duration::from_secs(60);

/// Time between two questions whether it answers yet.
const POLL: Duration = Duration::from_millis(20);

/// What Debian and Ubuntu have of Docker, with what its daemon is linked with that minimal systems
/// lack. `runc` comes from the machine, since other tests need it, too.
const PACKAGES: &[&str] = &["docker.io", "containerd", "tini", "libdevmapper1.02.1"];

/// A Docker daemon with state of its own and without networks other than `none` and `host`.
///
/// It lives in the fake host of a [`Sandbox`], whose oracle demands that nothing of it is left
/// when both are dropped.
#[derive(Debug)]
pub struct Dockerd<'a> {
    sandbox: &'a Sandbox,
    process: Option<Running>,
    directory: PathBuf,
    /// The control group that holds its containers, below each hierarchy.
    group: String,
}

impl<'a> Dockerd<'a> {
    /// Starts the machine's Docker, or one unpacked into the cache.
    ///
    /// # Panics
    /// It cannot be had, or it does not answer in time; the message has its log.
    #[must_use]
    pub fn start(sandbox: &'a Sandbox) -> Self {
        Self::start_with(sandbox, "")
    }

    /// As [`Self::start`], with further flags of the daemon's, as the shell reads them.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_with(sandbox: &'a Sandbox, flags: &str) -> Self {
        let directory = sandbox.work().with_file_name("docker");
        fs::create_dir(&directory).expect("a sandbox has one daemon");
        let group = format!("cais-test-docker-{}", sandbox.name());
        let mut daemon = Self { sandbox, process: None, directory, group };
        let own = |name: &str| daemon.directory.join(name).display().to_string();
        let script = format!(
            // It warns of what the machine may or may not have.
            "echo 1 >/proc/sys/net/ipv4/ip_forward; exec dockerd --data-root {} --exec-root {} --pidfile {} --host unix://{} \
             --cgroup-parent /{} --bridge none --iptables=false --ip6tables=false \
             --ip-forward=false --ip-masq=false --log-level warn {flags} >{} 2>&1",
            own("data"),
            own("exec"),
            own("pid"),
            own("socket"),
            daemon.group,
            own("log"),
        );
        daemon.process = Some(daemon.begin(&script));
        daemon.wait_until_ready();
        daemon
    }

    /// Runs a script of the shell in which `$E` is the `docker` command, as
    /// [`Sandbox::shell`] runs one in which it is `cais`.
    ///
    /// # Panics
    /// It does not end within a minute.
    #[track_caller]
    #[must_use]
    pub fn shell(&self, script: &str) -> Outcome {
        self.begin(script).finish()
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    fn begin(&self, script: &str) -> Running {
        let programs = programs();
        let mut environment = vec![
            format!("HOME={}", self.directory.display()),
            format!("DOCKER_HOST=unix://{}", self.directory.join("socket").display()),
            "E=docker".to_owned(),
        ];
        environment.extend(programs.iter().cloned());
        self.sandbox.start_shell(&environment, script)
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + READY_MAX;
        while !answers(&self.directory.join("socket")) {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                panic!("dockerd does not answer within {READY_MAX:?}:\n{log}");
            }
            thread::sleep(POLL);
        }
    }

    /// Removes all containers and volumes, and ends the daemon and its containerd.
    fn clear(&mut self) -> Outcome {
        let remove = "ids=$(docker ps -aq) && { [ -z \"$ids\" ] || docker rm -fv $ids; } && \
                      docker volume prune --force";
        let removed = self.shell(remove);
        if let Some(process) = self.process.take() {
            process.signal(Signal::TERM);
            let _ = process.finish();
        }
        remove_groups(&self.group);
        removed
    }
}

impl Drop for Dockerd<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = self.clear().ok();
            return;
        }
        // A failing test has its own message, but control groups outlive its fake host.
        let clear = std::panic::AssertUnwindSafe(|| self.clear());
        let _ = std::panic::catch_unwind(clear);
    }
}

/// Whether a daemon answers there (Docker Engine API, `/_ping`).
pub(crate) fn answers(socket: &Path) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
        let mut head = [0_u8; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// Removes a control group and what is below it from every hierarchy.
fn remove_groups(name: &str) {
    let mount = Path::new("/sys/fs/cgroup");
    let mut hierarchies = vec![mount.to_owned()];
    hierarchies.extend(host::directories(mount));
    for hierarchy in hierarchies.iter().filter(|path| !path.is_symlink()) {
        remove_group(&hierarchy.join(name));
    }
}

fn remove_group(path: &Path) {
    for child in host::directories(path) {
        remove_group(&child);
    }
    // What is not there or still in use is the oracle's to report.
    let _ = fs::remove_dir(path);
}

/// The environment by which Docker's programs are found.
pub(crate) fn programs() -> &'static [String] {
    static FOUND: OnceLock<Vec<String>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let installed =
            ["usr/bin", "usr/sbin"].iter().any(|d| Path::new("/").join(d).join("dockerd").exists());
        if installed {
            return vec![PATH.to_owned()];
        }
        let place = Pool::open().path().join("docker");
        unpack(&place).expect("Docker can be had; hint: run apt-get update");
        let below = |path: &str| place.join(path).display().to_string();
        let libraries = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
        vec![
            format!("{PATH}:{}:{}", below("usr/sbin"), below("usr/bin")),
            format!("LD_LIBRARY_PATH={}:{}", below(&libraries), below(&format!("usr/{libraries}"))),
        ]
    })
}

/// Debian's `docker` command, where the machine has another one, too.
///
/// # Panics
/// It cannot be had.
#[must_use]
pub fn debian_client() -> String {
    let _ = programs();
    let installed = Path::new("/usr/bin/docker");
    match installed.exists() && Path::new("/usr/sbin/dockerd").exists() {
        true => installed.display().to_string(),
        false => Pool::open().path().join("docker/usr/bin/docker").display().to_string(),
    }
}

/// Unpacks Docker without installing it, since installing would start it.
fn unpack(place: &Path) -> Result<()> {
    if place.exists() {
        return Ok(());
    }
    let parent = place.parent().context("the cache is a directory")?;
    fs::create_dir_all(parent)?;
    let unfinished = tempfile::tempdir_in(parent).context("make a directory for Docker")?;
    for package in PACKAGES {
        host::unpack_package(package, unfinished.path())?;
    }
    match fs::rename(unfinished.path(), place) {
        // Another process was faster.
        Err(_) if place.exists() => Ok(()),
        renamed => renamed.context("keep Docker in the cache"),
    }
}
