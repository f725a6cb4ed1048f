//! Programs of this machine, run with errors that say what failed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `program` to its end and gives what it printed.
///
/// # Errors
/// It cannot be started, or it fails; the message carries the last lines of its complaint.
pub(crate) fn run<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(&mut command)
}

/// Runs a prepared command to its end and gives what it printed.
pub(crate) fn finish(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| {
        format!("start {name}; hint: ./test installs the programs that the tests need")
    })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        bail!("{shown}: {}\n{tail}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One `deb` line for each of this machine's package sources of its own release.
///
/// Sources of other vendors are left out: an image holds packages of the distribution alone.
pub(crate) fn package_sources() -> Result<String> {
    let release = release()?;
    let format = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(SIGNED_BY)";
    let targets = run("apt-get", ["indextargets", "--format", format, "Created-By: Packages"])?;
    let mut lines: Vec<String> =
        targets.lines().filter_map(|line| source_line(line, &release)).collect();
    lines.sort();
    lines.dedup();
    if lines.is_empty() {
        bail!("no package list of {release} on this machine; hint: run apt-get update");
    }
    Ok(lines.join("\n") + "\n")
}

/// `URI RELEASE COMPONENT [KEYRING]` of apt, as a line of sources.list.
fn source_line(target: &str, release: &str) -> Option<String> {
    let fields: Vec<&str> = target.split_whitespace().collect();
    let [uri, suite, component, rest @ ..] = fields.as_slice() else { return None };
    if suite.split('-').next() != Some(release) {
        return None;
    }
    let options = match rest.first() {
        Some(keyring) if keyring.starts_with('/') => format!("[signed-by={keyring}] "),
        _ => String::new(),
    };
    Some(format!("deb {options}{uri} {suite} {component}"))
}

/// What two userlands need beside each other, twice over.
const MEMORY_MIN: u64 = 1 << 30;

/// A directory to make a userland in: in memory where there is enough, since package tools wait
/// for the disk after every file. Its name starts with what `CAIS_TEST_MARK` says, so that whoever
/// kills us can remove it.
pub(crate) fn work_directory() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |s| s.f_bavail * s.f_frsize);
    let mark = std::env::var("CAIS_TEST_MARK").unwrap_or_else(|_| "cais-pool".into());
    let prefix = format!("{mark}-");
    let mut directory = tempfile::Builder::new();
    let made = match free >= MEMORY_MIN {
        true => directory.prefix(&prefix).tempdir_in(memory),
        false => directory.prefix(&prefix).tempdir(),
    };
    made.context("make a directory for a userland")
}

/// The code name of this machine's release: `bookworm`, `noble`, …
pub(crate) fn release() -> Result<String> {
    let text = std::fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("find VERSION_CODENAME in /etc/os-release; hint: Debian or Ubuntu is needed")
}

/// Downloads one package, without installing it, and unpacks it into `target`.
pub(crate) fn unpack_package(name: &str, target: &Path) -> Result<()> {
    let download = tempfile::tempdir().context("make a directory for a package")?;
    let mut apt = Command::new("apt-get");
    let options = ["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"];
    apt.arg("-q").args(options).args(["download", name]);
    finish(apt.current_dir(download.path()))?;
    for package in std::fs::read_dir(download.path())? {
        let package = package?.path();
        run("dpkg-deb", [OsStr::new("-x"), package.as_os_str(), target.as_os_str()])?;
    }
    Ok(())
}

/// The directories in a directory; none where there is none.
pub(crate) fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_other_vendors_are_left_out() {
        let line = |target: &str| source_line(target, "bookworm");
        assert_eq!(
            line("http://m/debian/ bookworm-updates main $(SIGNED_BY)").as_deref(),
            Some("deb http://m/debian/ bookworm-updates main")
        );
        assert_eq!(
            line("http://m/debian/ bookworm main /k.gpg").as_deref(),
            Some("deb [signed-by=/k.gpg] http://m/debian/ bookworm main")
        );
        assert_eq!(line("http://other/ nodistro main /k.gpg"), None);
        assert_eq!(line("http://other/ cloud-sdk-bookworm main"), None);
        assert_eq!(line(""), None);
    }
}
