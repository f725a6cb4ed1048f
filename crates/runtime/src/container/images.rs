//! Where CRIU keeps a container, and what saving and restoring have in common.

use std::fs::{DirBuilder, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Error;
use super::criu::{Failed, Message, option};
use crate::error::Doing;
use crate::mount::external::External;

/// The file with what the first process has as its input and output, beside CRIU's own; runc's.
pub(super) const DESCRIPTORS: &str = "descriptors.json";
/// The annotation that names a file with options for CRIU; runc's.
const CONFIG_ANNOTATION: &str = "org.criu.config";
/// That file unless an annotation says otherwise; runc's.
const CONFIG: &str = "/etc/criu/runc.conf";
/// Debug messages.
const LOG_LEVEL: i64 = 4;
/// How many of a log's complaints become part of an error.
const COMPLAINTS_MAX: usize = 4;

/// What CRIU is allowed, or asked, to do beyond the usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// TCP connections are saved and restored.
    TcpEstablished,
    /// TCP connections that are not established yet are left out.
    TcpSkipInFlight,
    /// Files without a name get one while they are saved.
    LinkRemap,
    /// Unix sockets may be connected with others outside.
    ExtUnixSk,
    /// The container's session and terminal may be the caller's.
    ShellJob,
    /// File locks are saved and restored.
    FileLocks,
    /// Pages that a later checkpoint replaces are cut out of the earlier ones.
    AutoDedup,
    /// Memory pages are moved when they are needed (userfaultfd(2)).
    LazyPages,
}

impl Switch {
    fn field(self) -> u32 {
        match self {
            Switch::TcpEstablished => option::TCP_ESTABLISHED,
            Switch::TcpSkipInFlight => option::TCP_SKIP_IN_FLIGHT,
            Switch::LinkRemap => option::LINK_REMAP,
            Switch::ExtUnixSk => option::EXT_UNIX_SK,
            Switch::ShellJob => option::SHELL_JOB,
            Switch::FileLocks => option::FILE_LOCKS,
            Switch::AutoDedup => option::AUTO_DEDUP,
            Switch::LazyPages => option::LAZY_PAGES,
        }
    }
}

/// What CRIU does about control groups (<https://criu.org/CGroups>).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupMode {
    /// Nothing.
    Ignore,
    /// Makes what is missing, with its properties.
    Soft,
    /// Makes what is missing, and gives all of them their properties.
    Full,
    /// Nothing may be there before.
    Strict,
    /// CRIU's own choice, `Soft`.
    #[default]
    Default,
}

impl CgroupMode {
    /// By runc's word for it; an empty one is the default.
    #[must_use]
    pub fn of(word: &str) -> Option<CgroupMode> {
        Some(match word {
            "" => CgroupMode::Default,
            "ignore" => CgroupMode::Ignore,
            "soft" => CgroupMode::Soft,
            "full" => CgroupMode::Full,
            "strict" => CgroupMode::Strict,
            _ => return None,
        })
    }

    /// `criu_cg_mode` of `rpc.proto`.
    fn number(self) -> i64 {
        match self {
            CgroupMode::Ignore => 0,
            CgroupMode::Soft => 3,
            CgroupMode::Full => 4,
            CgroupMode::Strict => 5,
            CgroupMode::Default => 6,
        }
    }
}

/// The files of a checkpoint, and how they are written or read.
#[derive(Debug, Clone)]
pub struct Images<'a> {
    /// The CRIU to use, in the place of the one in `PATH`.
    pub criu: Option<&'a Path>,
    /// The directory of the files.
    pub directory: &'a Path,
    /// Where logs and the like go, in the place of that.
    pub work: Option<&'a Path>,
    /// What is on.
    pub switches: &'a [Switch],
    /// What is done about control groups.
    pub cgroups: CgroupMode,
}

/// The directories, open: CRIU looks for their numbers among this process' descriptors.
#[derive(Debug)]
pub(super) struct Open {
    directory: OwnedFd,
    work: Option<OwnedFd>,
    log: PathBuf,
}

impl Images<'_> {
    pub(super) fn is_on(&self, switch: Switch) -> bool {
        self.switches.contains(&switch)
    }

    /// Opens the directories; that of the logs is made if it is missing.
    pub(super) fn open(&self, log: &str) -> Result<Open, Error> {
        let directory = open(self.directory)?;
        let work = match self.work {
            None => None,
            Some(work) => {
                make(work, false)?;
                Some(open(work)?)
            }
        };
        let place = self.work.unwrap_or(self.directory);
        let place = std::path::absolute(place).unwrap_or_else(|_| place.to_owned());
        Ok(Open { directory, work, log: place.join(log) })
    }

    /// The options that both directions have.
    pub(super) fn options(&self, open: &Open) -> Message {
        let mut options = Message::default();
        options.number(option::IMAGES_DIR_FD, open.directory.as_raw_fd().into());
        if let Some(work) = &open.work {
            options.number(option::WORK_DIR_FD, work.as_raw_fd().into());
        }
        let log = open.log.file_name().unwrap_or_default().as_encoded_bytes();
        options.number(option::LOG_LEVEL, LOG_LEVEL).text(option::LOG_FILE, log);
        for switch in self.switches {
            options.flag(switch.field(), true);
        }
        options
            .flag(option::MANAGE_CGROUPS, true)
            .number(option::MANAGE_CGROUPS_MODE, self.cgroups.number())
            .flag(option::NOTIFY_SCRIPTS, true)
            .flag(option::ORPHAN_PTS_MASTER, true)
            // What is in a network namespace is whose who made it: links are not saved.
            .number(option::EMPTY_NS, libc::CLONE_NEWNET.into());
        options
    }
}

/// Which file CRIU reads further options from; none where the annotation is empty.
pub(super) fn add_config(
    options: &mut Message,
    annotations: &std::collections::HashMap<String, String>,
) {
    let config = annotations.get(CONFIG_ANNOTATION).map_or(CONFIG, String::as_str);
    if !config.is_empty() {
        options.text(option::CONFIG_FILE, config);
    }
}

/// Mounts that CRIU neither saves nor makes by itself: `key` and `value` of each.
pub(super) fn add_mounts<'a>(
    options: &mut Message,
    mounts: impl IntoIterator<Item = (&'a Path, &'a Path)>,
) {
    for (key, value) in mounts {
        let [key, value] = [key, value].map(|path| path.as_os_str().as_encoded_bytes());
        options.message(option::EXT_MNT, &Message::pair(key, value));
    }
}

/// In the order of [`add_mounts`].
pub(super) fn pair(mount: &External) -> (&Path, &Path) {
    (&mount.at, &mount.source)
}

impl Open {
    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// What becomes of a failed request: CRIU's log says more.
    pub(super) fn explain(&self, failed: Failed) -> Error {
        match failed {
            Failed::Else(error) => error,
            Failed::Criu(text, error) => {
                let cause = complaints(&self.log).or(error);
                let cause = cause.unwrap_or_else(|| "there is no error in it".into());
                Error::Criu { text, log: self.log.clone(), source: cause.into() }
            }
        }
    }
}

/// Makes the directory of the images, with those above it, or of the logs, alone.
///
/// # Errors
/// Names it.
pub(super) fn make(path: &Path, recursive: bool) -> Result<(), Error> {
    match DirBuilder::new().recursive(recursive).mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).doing(|| format!("make the directory `{}`", path.display()))?
        }
        _ => Ok(()),
    }
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, path, flags, Mode::empty());
    Ok(directory.doing(|| format!("open the directory `{}`", path.display()))?)
}

/// The last errors in a log of CRIU's, without their times; `None` without any.
fn complaints(log: &Path) -> Option<String> {
    let file = File::open(log).ok()?;
    let mut found: Vec<String> = Vec::new();
    for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let plain = line.rsplit_once("Error").map(|(_, text)| format!("Error{text}"));
        found.extend(plain.filter(|text| !found.contains(text)));
    }
    let last = found.split_off(found.len().saturating_sub(COMPLAINTS_MAX));
    (!last.is_empty()).then(|| last.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_errors_of_a_log_are_quoted() {
        let log = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(complaints(log.path()), None);
        let line =
            |n: u32| format!("(00.00{n}) Error (criu/x.c:{n}): {n} failed\n(00.1) pie: 1: y\n");
        let text: String = (1..=6).map(line).collect();
        std::fs::write(log.path(), text).unwrap();
        let expected = "Error (criu/x.c:3): 3 failed; Error (criu/x.c:4): 4 failed; \
                        Error (criu/x.c:5): 5 failed; Error (criu/x.c:6): 6 failed";
        assert_eq!(complaints(log.path()).as_deref(), Some(expected));
        assert_eq!(complaints(Path::new("/nonexistent")), None);
    }

    #[test]
    fn modes_are_runcs_words() {
        for (word, number) in [("", 6), ("ignore", 0), ("soft", 3), ("full", 4), ("strict", 5)] {
            assert_eq!(CgroupMode::of(word).unwrap().number(), number, "{word}");
        }
        assert_eq!(CgroupMode::of("Soft"), None);
    }
}
