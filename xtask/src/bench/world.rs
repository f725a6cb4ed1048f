//! What all benchmarks share: the binary with its own roots, the registry, versions.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// The environment variable with the directory for all files.
pub(crate) const PLACE: &str = "CAIS_BENCH_PLACE";

/// For what a program keeps in /run, which is in memory on most machines: it is here, too.
pub(crate) const RUN: &str = "run";

/// Dropping it ends the registry and removes the files.
pub(crate) struct World {
    pub(crate) cais: PathBuf,
    /// An OCI layout with all images of the pool.
    pub(crate) layout: PathBuf,
    /// Where the registry listens: `127.0.0.1:PORT`.
    pub(crate) registry: String,
    /// Where youki is, if it is anywhere.
    pub(crate) youki: String,
    /// For whatever a benchmark writes.
    pub(crate) directory: tempfile::TempDir,
    server: Child,
}

impl World {
    /// Starts the registry.
    pub(crate) fn make(cais: &Path, pool: &Path, youki: &str) -> Result<Self> {
        let place = std::env::var_os(PLACE).context("find the place for files")?;
        let directory = tempfile::Builder::new().prefix("w").tempdir_in(place)?;
        let run = directory.path().join(RUN);
        fs::create_dir(&run)?;
        output(Command::new("mount").args(["-t", "tmpfs", "cais-bench"]).arg(run))?;
        let path = output(Command::new(pool).arg("path"))?;
        let mut server = Command::new(pool);
        let mut server =
            server.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (configuration, registry) = served(&mut server)?;
        fs::write(directory.path().join("config.toml"), configuration)?;
        let layout = Path::new(path.trim()).join("layout");
        let (cais, youki) = (cais.to_owned(), youki.to_owned());
        Ok(Self { cais, layout, registry, youki, directory, server })
    }

    /// A path below the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The binary with `root`, a name below the directory, as its state.
    pub(crate) fn cais(&self, root: &str) -> Command {
        let mut command = Command::new(&self.cais);
        command
            .env("CAIS_ROOT", self.path(root))
            .env("CAIS_RUN", self.path(RUN).join(root.replace('/', "-")));
        command.env("CAIS_CONFIG", self.path("config.toml"));
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _ = self.server.wait();
        unmount_below(self.directory.path());
    }
}

/// Unmounts what engines left mounted below `directory`, so that it can be removed.
fn unmount_below(directory: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let points: Vec<&str> = points.filter(|p| Path::new(p).starts_with(directory)).collect();
    for point in points.into_iter().rev() {
        // What stays mounted ends with this mount namespace.
        let _ = output(Command::new("umount").args(["--lazy", point]));
    }
}

/// What the pool's server says before the empty line, and the address in it.
fn served(server: &mut Child) -> Result<(String, String)> {
    let mut text = String::new();
    let output = server.stdout.take().context("read from the pool's server")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        text += &line;
        text.push('\n');
    }
    let address = text.split("http://").nth(1).and_then(|rest| rest.split('"').next());
    let address = address.context("find the registry's address")?.to_owned();
    Ok((text, address))
}

/// Runs a command to its end and gives what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {complaint}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program's version, in its own words; `None` where there is no such program.
pub(crate) fn version(program: &str) -> Option<String> {
    let said = output(Command::new(program).arg("--version")).ok()?;
    let line = said.lines().next()?.replace("version ", "");
    Some(line.split(", build").next()?.to_owned())
}

/// The mount point of version 2 of control groups.
pub(crate) fn cgroup2() -> Result<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let line = table.lines().find(|line| line.contains(" - cgroup2 "));
    let point = line.and_then(|line| line.split(' ').nth(4));
    Ok(PathBuf::from(point.context("find cgroup2 among the mounts")?))
}

/// Shows this process and its children control groups of version 2 alone, for good: crun refuses to
/// see both versions. Not for what comes later and needs controllers.
///
/// # Errors
/// If the kernel refuses.
pub(crate) fn version_2_alone() -> Result<()> {
    let script = "umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup";
    if has_cgroup1() {
        output(Command::new("sh").args(["-c", script]))?;
    }
    Ok(())
}

/// Whether controllers of version 1 are mounted.
pub(crate) fn has_cgroup1() -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.contains(" - cgroup ")
}
