//! Debian's `docker-registry`, serving the pool.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::fake_host::only_child;

use crate::host;
use crate::layout::Layout;
use crate::pool::Pool;

/// How long a registry may take until it answers.
const READY_MAX: Duration = Duration::from_secs(30);

/// Time between two questions whether it answers yet.
const POLL: Duration = Duration::from_millis(5);

/// Where a registry keeps its images.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Storage<'a> {
    /// A directory that it only reads.
    Fixed(&'a Path),
    /// A directory that pushes add to.
    Growing(&'a Path),
}

/// A registry on 127.0.0.1. It ends with this value, or with the thread that started it.
#[derive(Debug)]
pub struct RegistryServer {
    process: Child,
    address: SocketAddr,
    settings: tempfile::TempDir,
}

impl RegistryServer {
    /// Serves what the pool holds, read-only, on a free port.
    ///
    /// # Errors
    /// No `docker-registry` can be had, or it does not answer in time.
    pub fn start(pool: &Pool) -> Result<Self> {
        let launcher = dying_with_this_thread();
        Self::launch(launcher, &program(pool)?, free_port()?, Storage::Fixed(&pool.storage()))?
            .ready()
    }

    /// Serves the pool's storage so that it can be filled.
    pub(crate) fn start_writable(pool: &Pool) -> Result<Self> {
        let launcher = dying_with_this_thread();
        Self::launch(launcher, &program(pool)?, free_port()?, Storage::Growing(&pool.storage()))?
            .ready()
    }

    /// Starts the registry `program` through `launcher`, a command that runs its arguments, without waiting
    /// until it answers.
    pub(crate) fn launch(
        mut launcher: Command,
        program: &Path,
        address: SocketAddr,
        storage: Storage<'_>,
    ) -> Result<Self> {
        let settings = tempfile::tempdir().context("make a directory for a registry")?;
        let path = settings.path().join("registry.yml");
        fs::write(&path, configuration(address, storage))?;
        let log = fs::File::create(settings.path().join("log"))?;
        launcher.arg(program).arg("serve").arg(&path);
        launcher.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = launcher.spawn().context("start docker-registry")?;
        Ok(Self { process, address, settings })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A configuration file for cais that has this registry stand in for Docker Hub, as a user
    /// would write it.
    #[must_use]
    pub fn mirror_configuration(&self) -> String {
        format!("[registry.\"docker.io\"]\nmirrors = [\"http://{}\"]\n", self.address)
    }

    /// Waits until it answers.
    pub(crate) fn ready(mut self) -> Result<Self> {
        let deadline = Instant::now() + READY_MAX;
        while !answers(self.address) {
            if let Some(status) = self.process.try_wait()? {
                let log = fs::read_to_string(self.settings.path().join("log")).unwrap_or_default();
                bail!("docker-registry ended with {status}: {log}");
            }
            if Instant::now() > deadline {
                bail!("docker-registry does not answer on {} in {READY_MAX:?}", self.address);
            }
            thread::sleep(POLL);
        }
        Ok(self)
    }
}

impl Drop for RegistryServer {
    fn drop(&mut self) {
        // In a fake host the registry is the child of the program that entered it.
        let inner = only_child(self.process.id()).and_then(|pid| Pid::from_raw(pid.cast_signed()));
        for pid in inner.into_iter().chain([Pid::from_child(&self.process)]) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        let _ = self.process.wait();
    }
}

/// A command that runs its arguments as a process that the kernel kills when this thread ends,
/// however it ends.
fn dying_with_this_thread() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    command
}

/// docker-registry's own configuration, for this address and storage.
fn configuration(address: SocketAddr, storage: Storage<'_>) -> String {
    let (path, read_only) = match storage {
        Storage::Fixed(path) => (path, true),
        Storage::Growing(path) => (path, false),
    };
    format!(
        "version: 0.1
log:
  level: error
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: {}
  maintenance:
    readonly:
      enabled: {read_only}
http:
  addr: {address}
",
        path.display()
    )
}

/// The machine's `docker-registry`, or one unpacked into the cache: installing the package would
/// start a service that nobody asked for.
pub(crate) fn program(pool: &Pool) -> Result<PathBuf> {
    let name = "usr/bin/docker-registry";
    let installed = Path::new("/").join(name);
    if installed.exists() {
        return Ok(installed);
    }
    let unpacked = pool.path().join("programs");
    if !unpacked.join(name).exists() {
        let unfinished = tempfile::tempdir_in(pool.path()).context("make a directory")?;
        host::unpack_package("docker-registry", unfinished.path())?;
        // One that was killed has left half of it.
        let _ = std::fs::remove_dir_all(&unpacked);
        std::fs::rename(unfinished.keep(), &unpacked).context("keep the registry's program")?;
    }
    Ok(unpacked.join(name))
}

/// Whether a registry answers there.
fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /v2/ HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut head = [0_u8; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

fn free_port() -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}

/// Copies the image `from` of the layout into the registry as `library/<to>`.
pub(crate) fn copy(
    layout: &Layout,
    server: &RegistryServer,
    from: &str,
    to: &str,
    options: &[&str],
) -> Result<()> {
    let source = format!("oci:{}:{from}", layout.path().display());
    let target = format!("docker://{}/library/{to}", server.address());
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
    skopeo.args(options).args([source, target]);
    host::finish(&mut skopeo).map(drop)
}
