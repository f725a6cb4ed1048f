//! Files that programs stamp with the time or with chance, and what becomes of them in a layer: a
//! table of rules, each with a name by which it can be switched off.
//!
//! Only what a command itself has written is looked at, which is the writable directory of its step;
//! what lies in the layers below stays as it is. What is dropped there shows as the base has it, if
//! it has it.

mod archive;
mod python;
mod text;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, openat, unlinkat};
use rustix::io::Errno;

use super::source::lstat;
use crate::error::{Doing, Error, Result};

/// Of the directories of a layer; deeper ones cannot be packed either.
const DEPTH_MAX: usize = 400;
/// What switches all rules off.
const ALL: &str = "all";

/// Something that is done to files of some kind.
#[derive(Debug)]
pub struct NormalizeRule {
    /// Its name.
    pub name: &'static str,
    /// What becomes of which files, for people.
    pub about: &'static str,
    /// Whether it is about a path, which is relative to the root.
    fits: fn(&str) -> bool,
    mend: Mend,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy)]
enum Mend {
    /// It is not part of the layer.
    Drop,
    /// It is left empty.
    Empty,
    /// Its stamps become those of the build.
    Edit(fn(&Written<'_>) -> std::io::Result<()>),
}

/// A file that a command has written.
struct Written<'a> {
    file: &'a File,
    name: &'a str,
    /// The directory that it is in, and the one above.
    at: BorrowedFd<'a>,
    above: Option<BorrowedFd<'a>>,
    time: &'a Window,
}

/// When a command ran, and the time that it should have been; in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    from_s: i64,
    until_s: i64,
    epoch_s: i64,
}

impl Window {
    /// From a time until now.
    pub(crate) fn since(from: SystemTime, epoch_s: i64) -> Self {
        let seconds = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        };
        Self { from_s: seconds(from), until_s: seconds(SystemTime::now()), epoch_s }
    }

    /// Whether a time is one at which the command ran; `slack_s` seconds more or less.
    fn has(&self, time_s: i64, slack_s: i64) -> bool {
        // Clocks of file systems lag behind by less than a second.
        (self.from_s - slack_s - 1..=self.until_s + slack_s + 1).contains(&time_s)
    }
}

fn ends(path: &str, ends: &[&str]) -> bool {
    ends.iter().any(|end| path.ends_with(end))
}

/// All rules; the first that fits a file is the one that counts.
pub const NORMALIZE_RULES: &[NormalizeRule] = &[
    NormalizeRule {
        name: "python-bytecode",
        about: "`*.pyc`: the time of the source in the header becomes the one that the source has in the layer, so that Python finds the module compiled",
        fits: |path| path.ends_with(".pyc"),
        mend: Mend::Edit(python::bytecode),
    },
    NormalizeRule {
        name: "ldconfig-cache",
        about: "`/var/cache/ldconfig/aux-cache` is dropped: inodes and times of libraries, which `ldconfig` finds out again",
        fits: |path| path == "var/cache/ldconfig/aux-cache",
        mend: Mend::Drop,
    },
    NormalizeRule {
        name: "dpkg-backups",
        about: "`/var/lib/dpkg/*-old` and `/var/cache/debconf/*-old` are dropped: what was before the last change",
        fits: |path| {
            let directories = ["var/lib/dpkg/", "var/cache/debconf/"];
            directories.iter().any(|directory| path.starts_with(directory))
                && path.ends_with("-old")
        },
        mend: Mend::Drop,
    },
    NormalizeRule {
        name: "apt-cache",
        about: "`/var/cache/apt/*.bin` and `/var/log/apt/eipp.log.xz` are dropped: indices with hash tables, and a problem for the solver, which apt makes again",
        fits: |path| {
            path.starts_with("var/cache/apt/") && path.ends_with(".bin")
                || path == "var/log/apt/eipp.log.xz"
        },
        mend: Mend::Drop,
    },
    NormalizeRule {
        name: "package-logs",
        about: "logs of dpkg, apt, apk and update-alternatives in `/var/log`: the time of each line that the command wrote becomes the build's",
        fits: |path| {
            matches!(
                path,
                "var/log/dpkg.log"
                    | "var/log/alternatives.log"
                    | "var/log/apk.log"
                    | "var/log/apt/history.log"
                    | "var/log/apt/term.log"
            )
        },
        mend: Mend::Edit(text::log),
    },
    NormalizeRule {
        name: "machine-id",
        about: "`/etc/machine-id` and `/var/lib/dbus/machine-id` are left empty: a machine that starts from the image makes its own",
        fits: |path| matches!(path, "etc/machine-id" | "var/lib/dbus/machine-id"),
        mend: Mend::Empty,
    },
    NormalizeRule {
        name: "shadow-day",
        about: "`/etc/shadow` and `/etc/shadow-`: the day on which a password was changed last becomes the build's, if it was the day of the command",
        fits: |path| matches!(path, "etc/shadow" | "etc/shadow-"),
        mend: Mend::Edit(text::shadow),
    },
    NormalizeRule {
        name: "fontconfig-cache",
        about: "`/var/cache/fontconfig/*.cache-*` is dropped: times of directories, which make it useless elsewhere",
        fits: |path| path.starts_with("var/cache/fontconfig/") && path.contains(".cache-"),
        mend: Mend::Drop,
    },
    NormalizeRule {
        name: "man-cache",
        about: "`/var/cache/man/**/index.db` is dropped: times of pages, which `mandb` reads again",
        fits: |path| path.starts_with("var/cache/man/") && path.ends_with("index.db"),
        mend: Mend::Drop,
    },
    NormalizeRule {
        name: "npm-cache",
        about: "`.npm/_cacache`, `.npm/_logs` and `.npm/_update-notifier-last-checked` are dropped: when what was got from where",
        fits: |path| path.starts_with("root/.npm/_") || path.contains("/.npm/_"),
        mend: Mend::Drop,
    },
    NormalizeRule {
        name: "pip-cache",
        about: "`.cache/pip` is dropped: when what was got from where",
        fits: |path| path.contains("/.cache/pip/"),
        mend: Mend::Drop,
    },
    NormalizeRule {
        name: "gzip-time",
        about: "`*.gz` and `*.tgz`: a time in the header at which the command ran becomes the build's",
        fits: |path| ends(path, &[".gz", ".tgz"]),
        mend: Mend::Edit(archive::gzip),
    },
    NormalizeRule {
        name: "zip-times",
        about: "`*.zip`, `*.jar`, `*.war`, `*.ear`, `*.whl` and `*.egg`: times of members at which the command ran become the build's",
        fits: |path| ends(path, &[".zip", ".jar", ".war", ".ear", ".whl", ".egg"]),
        mend: Mend::Edit(archive::zip),
    },
    NormalizeRule {
        name: "library-times",
        about: "`*.a`: times of members at which the command ran become the build's",
        fits: |path| path.ends_with(".a"),
        mend: Mend::Edit(archive::ar),
    },
];

/// The rules that are switched off, from what was asked: their names, or `all`.
///
/// # Errors
/// For a name that no rule has.
pub fn normalize_off(names: &[String]) -> Result<BTreeSet<String>> {
    let known = || NORMALIZE_RULES.iter().map(|rule| rule.name);
    let mut off = BTreeSet::new();
    for name in names {
        match name.as_str() {
            ALL => off.extend(known().map(str::to_owned)),
            name if known().any(|rule| rule == name) => drop(off.insert(name.to_owned())),
            name => {
                let rules = known().collect::<Vec<_>>().join(", ");
                return Err(Error::invalid(format!("no rule of normalisation is called {name:?}"))
                    .hint(format!("there are {rules}, and all")));
            }
        }
    }
    Ok(off)
}

/// Applies all rules but those that are `off` to what a command has written.
pub(crate) fn normalize(upper: &Path, time: &Window, off: &BTreeSet<String>) -> Result<()> {
    let rules: Vec<&NormalizeRule> =
        NORMALIZE_RULES.iter().filter(|rule| !off.contains(rule.name)).collect();
    if rules.is_empty() {
        return Ok(());
    }
    let root = File::open(upper).doing(|| format!("open {}", upper.display()))?;
    let mut walk = Walk { rules: &rules, time, path: String::new(), depth: 0 };
    walk.directory(root.as_fd(), None).doing(|| format!("normalise /{}", walk.path))
}

struct Walk<'a> {
    rules: &'a [&'a NormalizeRule],
    time: &'a Window,
    /// Of the directory that is looked at, with a slash at its end unless it is the root; once
    /// something fails, of that.
    path: String,
    depth: usize,
}

impl Walk<'_> {
    fn directory(&mut self, at: BorrowedFd<'_>, above: Option<BorrowedFd<'_>>) -> Outcome {
        for entry in Dir::read_from(at)? {
            let entry = entry?;
            // A name that is no text is none that a rule knows; directories are gone into anyway.
            let name = entry.file_name().to_string_lossy().into_owned();
            if matches!(name.as_str(), "." | "..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let stat = lstat(at, name.as_ref())?;
                    stat.map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
                }
                kind => kind,
            };
            let length = self.path.len();
            self.path.push_str(&name);
            match kind {
                FileType::Directory if self.depth < DEPTH_MAX => {
                    self.path.push('/');
                    self.depth += 1;
                    let flags =
                        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let opened = openat(at, entry.file_name(), flags, Mode::empty())?;
                    self.directory(opened.as_fd(), Some(at))?;
                    self.depth -= 1;
                }
                FileType::RegularFile => self.file(at, above, &name)?,
                _ => {}
            }
            self.path.truncate(length);
        }
        Ok(())
    }

    fn file(
        &self,
        at: BorrowedFd<'_>,
        above: Option<BorrowedFd<'_>>,
        name: &str,
    ) -> std::io::Result<()> {
        let Some(rule) = self.rules.iter().find(|rule| (rule.fits)(&self.path)) else {
            return Ok(());
        };
        if matches!(rule.mend, Mend::Drop) {
            return Ok(unlinkat(at, name, AtFlags::empty())?);
        }
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(at, name, flags, Mode::empty()) {
            // It is as it was copied up, and not to be changed: chattr(1).
            Err(Errno::PERM | Errno::ACCESS) => return Ok(()),
            file => File::from(file? as OwnedFd),
        };
        let stat = rustix::fs::fstat(&file)?;
        match rule.mend {
            Mend::Empty => file.set_len(0)?,
            Mend::Edit(edit) => {
                edit(&Written { file: &file, name, at, above, time: self.time })?;
            }
            Mend::Drop => {}
        }
        let time = |tv_sec, tv_nsec: u64| Timespec {
            tv_sec,
            tv_nsec: i64::try_from(tv_nsec).unwrap_or(0),
        };
        Ok(rustix::fs::futimens(
            &file,
            &Timestamps {
                last_access: time(stat.st_atime, stat.st_atime_nsec),
                last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
            },
        )?)
    }
}

type Outcome = std::io::Result<()>;
