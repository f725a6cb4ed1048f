//! The options of a mount, as the words of mount(8) that OCI specifications use
//! (runtime-spec, config.md, "Linux mount options").

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;

use crate::sys::{MountAttr, mount_setattr};

/// `MOUNT_ATTR__ATIME`: the bits that hold the access-time mode, which is one value.
const ATIME: u64 = libc::MOUNT_ATTR__ATIME;

/// What the options of one mount ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Attributes of the mount to set; of the access-time mode only [`Options::atime`] says.
    set: u64,
    /// Those to clear.
    clear: u64,
    /// The access-time mode.
    atime: Option<u64>,
    /// Whether any word spoke of attributes or of flags of the file system.
    flagged: bool,
    /// Attributes of it and of all mounts below it.
    pub(crate) recursive: MountAttr,
    /// What the mount exchanges with its copies, one after the other.
    pub(crate) propagation: Vec<Propagation>,
    /// `bind` or `rbind`.
    pub(crate) bind: Option<Bind>,
    /// Change the mount that is there.
    pub(crate) remount: bool,
    /// `idmap` or `ridmap`: the files belong to other ids than on disk.
    pub(crate) mapped: Option<Bind>,
    /// Fill a new tmpfs with what the image has at its place.
    pub(crate) copy_up: bool,
    /// Flags that every file system knows. A bind mount shares the file system with others, so
    /// that they mean nothing there, as in mount(8).
    pub(crate) superblock: Vec<&'static str>,
    /// Parameters of the file system: `key=value`, or a bare key.
    pub(crate) parameters: Vec<(String, Option<String>)>,
}

/// How much of a tree a bind mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bind {
    /// One mount.
    Single,
    /// It and those below it.
    Recursive,
}

/// One change of what a mount exchanges with its copies (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Propagation {
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`.
    pub(crate) kind: u64,
    /// Whether the mounts below change as well.
    pub(crate) recursive: bool,
}

impl Propagation {
    /// Changes a mount.
    ///
    /// # Errors
    /// Those of mount_setattr(2).
    pub(crate) fn apply(self, mount: BorrowedFd<'_>) -> io::Result<()> {
        let attr = MountAttr { propagation: self.kind, ..MountAttr::default() };
        mount_setattr(mount, attr, self.recursive)
    }
}

/// What one word does to the attributes.
#[derive(Clone, Copy)]
enum Change {
    Set(u64),
    Clear(u64),
    Atime(u64),
    /// Not this access-time mode, if it was asked for.
    NotAtime(u64),
}

/// Attributes that a mount copied into a less privileged user namespace keeps
/// (mount_namespaces(7), "locked"); the access-time mode is locked as a whole.
const LOCKED: u64 = libc::MOUNT_ATTR_RDONLY
    | libc::MOUNT_ATTR_NODEV
    | libc::MOUNT_ATTR_NOSUID
    | libc::MOUNT_ATTR_NOEXEC;

/// Attributes that words set one by one.
const SINGLE: u64 = LOCKED | libc::MOUNT_ATTR_NOSYMFOLLOW;

/// Everything about access times.
const TIMES: u64 = ATIME | libc::MOUNT_ATTR_NODIRATIME;

impl Options {
    /// Reads the words of one mount.
    pub(crate) fn parse(words: &[String]) -> Options {
        let mut options = Options::default();
        for word in words {
            options.add(word);
        }
        options
    }

    /// Whether the mount is to be read-only.
    pub(crate) fn read_only(&self) -> bool {
        self.set & libc::MOUNT_ATTR_RDONLY != 0
    }

    /// The attributes of a new file system's mount.
    pub(crate) fn attr(&self) -> MountAttr {
        let times = if self.atime.is_some() { ATIME } else { 0 };
        let set = self.set | self.atime.unwrap_or(0);
        MountAttr { set, clear: self.clear | times, propagation: 0 }
    }

    /// The attributes of a bind mount, whose source has the attributes `source`.
    ///
    /// As soon as one flag is asked for, the others are cleared; without any, the source's are
    /// kept. The access-time mode is kept until a word sets one. Where the source's are `locked`,
    /// they are kept too, and words against them are refused. This is what runc does with mount(2).
    ///
    /// # Errors
    /// `EPERM` for a word against a locked attribute.
    pub(crate) fn bind_attr(&self, source: u64, locked: bool) -> io::Result<MountAttr> {
        if !self.flagged {
            return Ok(MountAttr::default());
        }
        let times = self.set & libc::MOUNT_ATTR_NODIRATIME | self.atime.unwrap_or(0);
        let timed = self.atime.is_some() || times != 0;
        let kept = if locked { source & LOCKED } else { 0 };
        if locked && (self.clear & kept != 0 || timed && times != source & TIMES) {
            return Err(Errno::PERM.into());
        }
        let set = self.set & SINGLE | kept;
        let clear = SINGLE & !set;
        Ok(match timed {
            true => MountAttr {
                set: set | times,
                clear: clear | ATIME | TIMES & !times,
                propagation: 0,
            },
            false => MountAttr { set, clear, propagation: 0 },
        })
    }

    fn add(&mut self, word: &str) {
        let recursive = word.strip_prefix('r');
        if let Some(kind) = propagation(word) {
            self.propagation.push(Propagation { kind, recursive: false });
        } else if let Some(kind) = recursive.and_then(propagation) {
            self.propagation.push(Propagation { kind, recursive: true });
        } else if let Some(change) = change(word) {
            self.flagged = true;
            self.apply(change);
        } else if let Some(change) = recursive.and_then(change) {
            apply_recursively(&mut self.recursive, change);
        } else if let Some((word, on)) = superblock_flag(word) {
            self.flagged = true;
            self.superblock.retain(|other| *other != word);
            if on {
                self.superblock.push(word);
            }
        } else {
            self.add_other(word);
        }
    }

    fn add_other(&mut self, word: &str) {
        match word {
            "defaults" | "notmpcopyup" => {}
            // They ask the kernel to log less.
            "silent" | "loud" => self.flagged = true,
            "bind" => self.bind = self.bind.or(Some(Bind::Single)),
            "rbind" => self.bind = Some(Bind::Recursive),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.mapped = Some(Bind::Single),
            "ridmap" => self.mapped = Some(Bind::Recursive),
            _ => self.parameters.push(match word.split_once('=') {
                Some((key, value)) => (key.into(), Some(value.into())),
                None => (word.into(), None),
            }),
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Set(bits) => {
                self.set |= bits;
                self.clear &= !bits;
            }
            Change::Clear(bits) => {
                self.clear |= bits;
                self.set &= !bits;
            }
            Change::Atime(mode) => self.atime = Some(mode),
            Change::NotAtime(mode) => self.atime = self.atime.filter(|other| *other != mode),
        }
    }
}

/// The propagation that a word names (mount_namespaces(7)), without the `r` of recursion.
pub(crate) fn propagation(word: &str) -> Option<u64> {
    match word {
        "private" => Some(libc::MS_PRIVATE),
        "shared" => Some(libc::MS_SHARED),
        "slave" => Some(libc::MS_SLAVE),
        "unbindable" => Some(libc::MS_UNBINDABLE),
        _ => None,
    }
}

fn change(word: &str) -> Option<Change> {
    use Change::{Atime, Clear, NotAtime, Set};
    Some(match word {
        "ro" => Set(libc::MOUNT_ATTR_RDONLY),
        "rw" => Clear(libc::MOUNT_ATTR_RDONLY),
        "nosuid" => Set(libc::MOUNT_ATTR_NOSUID),
        "suid" => Clear(libc::MOUNT_ATTR_NOSUID),
        "nodev" => Set(libc::MOUNT_ATTR_NODEV),
        "dev" => Clear(libc::MOUNT_ATTR_NODEV),
        "noexec" => Set(libc::MOUNT_ATTR_NOEXEC),
        "exec" => Clear(libc::MOUNT_ATTR_NOEXEC),
        "nosymfollow" => Set(libc::MOUNT_ATTR_NOSYMFOLLOW),
        "symfollow" => Clear(libc::MOUNT_ATTR_NOSYMFOLLOW),
        "nodiratime" => Set(libc::MOUNT_ATTR_NODIRATIME),
        "diratime" => Clear(libc::MOUNT_ATTR_NODIRATIME),
        "relatime" => Atime(libc::MOUNT_ATTR_RELATIME),
        "noatime" => Atime(libc::MOUNT_ATTR_NOATIME),
        "strictatime" => Atime(libc::MOUNT_ATTR_STRICTATIME),
        "atime" => NotAtime(libc::MOUNT_ATTR_NOATIME),
        "norelatime" => NotAtime(libc::MOUNT_ATTR_RELATIME),
        "nostrictatime" => NotAtime(libc::MOUNT_ATTR_STRICTATIME),
        _ => return None,
    })
}

/// A flag of the file system, and whether the word sets it.
fn superblock_flag(word: &str) -> Option<(&'static str, bool)> {
    Some(match word {
        "sync" => ("sync", true),
        "async" => ("sync", false),
        "dirsync" => ("dirsync", true),
        "mand" => ("mand", true),
        "nomand" => ("mand", false),
        "lazytime" => ("lazytime", true),
        "nolazytime" => ("lazytime", false),
        "iversion" => ("iversion", true),
        "noiversion" => ("iversion", false),
        _ => return None,
    })
}

/// Below the mount, clearing any access-time mode leads back to the kernel's own.
fn apply_recursively(attr: &mut MountAttr, change: Change) {
    match change {
        Change::Set(bits) => {
            attr.set |= bits;
            attr.clear &= !bits;
        }
        Change::Clear(bits) => {
            attr.clear |= bits;
            attr.set &= !bits;
        }
        Change::Atime(mode) => {
            attr.clear |= ATIME;
            attr.set = attr.set & !ATIME | mode;
        }
        Change::NotAtime(_) => {
            attr.clear |= ATIME;
            attr.set &= !ATIME;
        }
    }
}

/// The attributes of the mount that a descriptor is in (statvfs(3)).
///
/// # Errors
/// Those of fstatvfs(3).
pub(crate) fn attributes_of(file: BorrowedFd<'_>) -> io::Result<u64> {
    use StatVfsMountFlags as Flag;
    /// `ST_NOSYMFOLLOW` of <linux/statfs.h>.
    const NOSYMFOLLOW: Flag = Flag::from_bits_retain(0x2000);
    let flags = fstatvfs(file)?.f_flag;
    let table = [
        (Flag::RDONLY, libc::MOUNT_ATTR_RDONLY),
        (Flag::NOSUID, libc::MOUNT_ATTR_NOSUID),
        (Flag::NODEV, libc::MOUNT_ATTR_NODEV),
        (Flag::NOEXEC, libc::MOUNT_ATTR_NOEXEC),
        (Flag::NOATIME, libc::MOUNT_ATTR_NOATIME),
        (Flag::NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
        (NOSYMFOLLOW, libc::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let set = table.iter().filter(|(flag, _)| flags.contains(*flag));
    let attributes = set.fold(0, |all, (_, attribute)| all | attribute);
    // There is no flag for it: it is what is left.
    let strict = !flags.intersects(Flag::NOATIME | Flag::RELATIME);
    Ok(if strict { attributes | libc::MOUNT_ATTR_STRICTATIME } else { attributes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RO: u64 = libc::MOUNT_ATTR_RDONLY;
    const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
    const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
    const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
    const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
    const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
    const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
    const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;

    fn parse(words: &str) -> Options {
        let words: Vec<String> = words.split(',').map(String::from).collect();
        Options::parse(&words)
    }

    fn attr(set: u64, clear: u64) -> MountAttr {
        MountAttr { set, clear, propagation: 0 }
    }

    #[test]
    fn words_become_attributes() {
        let cases = [
            ("defaults", attr(0, 0)),
            ("ro", attr(RO, 0)),
            ("ro,rw", attr(0, RO)),
            ("rw,ro", attr(RO, 0)),
            ("nosuid,nodev", attr(NOSUID | NODEV, 0)),
            ("noatime,strictatime", attr(STRICTATIME, ATIME)),
            ("strictatime,relatime", attr(0, ATIME)),
            ("strictatime,nostrictatime", attr(0, 0)),
            ("noatime,norelatime", attr(NOATIME, ATIME)),
            ("noatime,atime", attr(0, 0)),
        ];
        for (words, expected) in cases {
            assert_eq!(parse(words).attr(), expected, "{words}");
        }
    }

    #[test]
    fn an_r_in_front_means_recursively() {
        let options = parse("rbind,rro,rslave");
        assert_eq!(options.bind, Some(Bind::Recursive));
        assert_eq!(options.attr(), MountAttr::default());
        assert_eq!(options.recursive.set, RO);
        assert_eq!(parse("relatime").recursive, MountAttr::default());
        for word in ["ratime", "rrelatime", "rnorelatime", "rnostrictatime"] {
            assert_eq!(parse(word).recursive, attr(0, ATIME), "{word}");
            assert!(parse(word).parameters.is_empty(), "{word}");
        }
        assert_eq!(parse("rnoatime").recursive, attr(NOATIME, ATIME));
        assert_eq!(parse("rstrictatime").recursive, attr(STRICTATIME, ATIME));
        for word in ["rrw", "rsuid", "rdev", "rexec", "rdiratime", "rsymfollow"] {
            let recursive = parse(word).recursive;
            assert!(recursive.set == 0 && recursive.clear != 0, "{word}");
        }
    }

    #[test]
    fn propagation_keeps_its_order() {
        let recursive = |kind| Propagation { kind, recursive: true };
        let single = |kind| Propagation { kind, recursive: false };
        let expected = [recursive(libc::MS_SLAVE), single(libc::MS_SHARED)];
        assert_eq!(parse("rslave,shared").propagation, expected);
        assert_eq!(parse("unbindable").propagation, [single(libc::MS_UNBINDABLE)]);
    }

    #[test]
    fn a_bind_is_recursive_once_one_word_says_so() {
        assert_eq!(parse("rbind,bind").bind, Some(Bind::Recursive));
        assert_eq!(parse("bind").bind, Some(Bind::Single));
    }

    #[test]
    fn the_rest_belongs_to_the_file_system() {
        let options = parse("size=64k,mode=755,newinstance,sync,lazytime,silent");
        let expected = [("size", Some("64k")), ("mode", Some("755")), ("newinstance", None)];
        let expected = expected.map(|(k, v): (&str, Option<&str>)| (k.into(), v.map(String::from)));
        assert_eq!(options.parameters, expected);
        assert_eq!(options.superblock, ["sync", "lazytime"]);
        assert!(parse("remount,ro").remount);
        assert!(parse("sync,async,dirsync,nolazytime").superblock == ["dirsync"]);
    }

    /// What a bind mount ends with.
    fn bound(source: u64, words: &str, locked: bool) -> Option<u64> {
        let attr = parse(words).bind_attr(source, locked).ok()?;
        Some(source & !attr.clear | attr.set)
    }

    #[test]
    fn a_bind_keeps_the_sources_flags_until_a_word_says_otherwise() {
        let source = RO | NOEXEC | NOSYMFOLLOW | NODIRATIME;
        for locked in [false, true] {
            assert_eq!(bound(source, "rbind,rprivate,defaults", locked), Some(source));
        }
        assert_eq!(bound(source, "bind,dev", false), Some(NODIRATIME));
        assert_eq!(bound(RO, "bind,nosuid,nodev", false), Some(NOSUID | NODEV));
        assert_eq!(bound(NOSUID | NODEV | NOATIME, "bind,ro", false), Some(RO | NOATIME));
        assert_eq!(bound(NOATIME, "bind,atime", false), Some(NOATIME));
        assert_eq!(bound(NOATIME, "bind,norelatime", false), Some(NOATIME));
        assert_eq!(bound(NOATIME, "bind,relatime", false), Some(0));
        assert_eq!(bound(NOATIME, "bind,nodiratime", false), Some(NODIRATIME));
        assert_eq!(bound(NODIRATIME, "bind,strictatime", false), Some(STRICTATIME));
        let both = bound(NOATIME, "bind,nodiratime,strictatime", false);
        assert_eq!(both, Some(NODIRATIME | STRICTATIME));
    }

    #[test]
    fn what_a_user_namespace_locks_is_kept_or_refused() {
        let source = RO | NOEXEC | NOSYMFOLLOW | NODIRATIME;
        assert_eq!(bound(source, "bind,dev", true), Some(RO | NOEXEC | NODIRATIME));
        assert_eq!(bound(RO, "bind,nosuid", true), Some(RO | NOSUID));
        assert_eq!(bound(NODEV | NOSYMFOLLOW, "bind,rw", true), Some(NODEV));
        assert_eq!(bound(RO, "bind,rw", true), None);
        assert_eq!(bound(NODEV, "bind,dev", true), None);
        assert_eq!(bound(NOATIME, "bind,relatime", true), None);
        assert_eq!(bound(NOATIME, "bind,noatime", true), Some(NOATIME));
        assert_eq!(bound(STRICTATIME, "bind,nodiratime,strictatime", true), None);
    }
}
