//! The options of a mount, as the words of mount(8) that OCI specifications use
//! (runtime-spec, config.md, "Linux mount options").

use crate::error::Error;
use crate::sys::MountAttr;

/// `MOUNT_ATTR__ATIME`: the bits that hold the access-time mode, which is one value.
const ATIME: u64 = libc::MOUNT_ATTR__ATIME;

/// What the options of one mount ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Attributes of the mount itself.
    pub(crate) attr: MountAttr,
    /// Attributes of it and of all mounts below it.
    pub(crate) recursive: MountAttr,
    /// `bind` or `rbind`.
    pub(crate) bind: Option<Bind>,
    /// `idmap` or `ridmap`: the files belong to the ids of the container's user namespace.
    pub(crate) mapped: Option<Bind>,
    /// Fill a new tmpfs with what the image has at its place.
    pub(crate) copy_up: bool,
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

/// What one word does to the attributes.
#[derive(Clone, Copy)]
enum Change {
    Set(u64),
    Clear(u64),
    Atime(u64),
}

impl Options {
    /// Reads the words of one mount.
    ///
    /// # Errors
    /// For `remount`, which is not supported.
    pub(crate) fn parse(words: &[String]) -> Result<Options, Error> {
        let mut options = Options::default();
        for word in words {
            options.add(word)?;
        }
        Ok(options)
    }

    /// Whether the mount is to be read-only.
    pub(crate) fn read_only(&self) -> bool {
        self.attr.set & libc::MOUNT_ATTR_RDONLY != 0
    }

    /// Whether a word says what the mount exchanges with its copies.
    pub(crate) fn propagates(&self) -> bool {
        self.attr.propagation | self.recursive.propagation != 0
    }

    fn add(&mut self, word: &str) -> Result<(), Error> {
        if let Some(propagation) = propagation(word) {
            self.attr.propagation = propagation;
        } else if let Some(propagation) = word.strip_prefix('r').and_then(propagation) {
            self.recursive.propagation = propagation;
        } else if let Some(change) = change(word) {
            apply(&mut self.attr, change);
        } else if let Some(change) = word.strip_prefix('r').and_then(change) {
            apply(&mut self.recursive, change);
        } else {
            self.add_other(word)?;
        }
        Ok(())
    }

    fn add_other(&mut self, word: &str) -> Result<(), Error> {
        match word {
            "defaults" | "norelatime" | "nostrictatime" | "notmpcopyup" | "silent" | "loud"
            | "async" | "nomand" | "noiversion" | "nolazytime" => {}
            "bind" => self.bind = Some(Bind::Single),
            "rbind" => self.bind = Some(Bind::Recursive),
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.mapped = Some(Bind::Single),
            "ridmap" => self.mapped = Some(Bind::Recursive),
            "remount" => {
                return Err(Error::Unsupported(format!("the mount option `{word}`")));
            }
            _ => self.parameters.push(match word.split_once('=') {
                Some((key, value)) => (key.into(), Some(value.into())),
                None => (word.into(), None),
            }),
        }
        Ok(())
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
    use Change::{Atime, Clear, Set};
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
        "relatime" | "atime" => Atime(libc::MOUNT_ATTR_RELATIME),
        "noatime" => Atime(libc::MOUNT_ATTR_NOATIME),
        "strictatime" => Atime(libc::MOUNT_ATTR_STRICTATIME),
        _ => return None,
    })
}

fn apply(attr: &mut MountAttr, change: Change) {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Options {
        let words: Vec<String> = words.split(',').map(String::from).collect();
        Options::parse(&words).unwrap()
    }

    #[test]
    fn words_become_attributes() {
        let attr = |set, clear| MountAttr { set, clear, propagation: 0 };
        let ro = libc::MOUNT_ATTR_RDONLY;
        let cases = [
            ("defaults", attr(0, 0)),
            ("ro", attr(ro, 0)),
            ("ro,rw", attr(0, ro)),
            ("rw,ro", attr(ro, 0)),
            ("nosuid,nodev", attr(libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, 0)),
            ("noatime,strictatime", attr(libc::MOUNT_ATTR_STRICTATIME, ATIME)),
            ("strictatime,relatime", attr(0, ATIME)),
        ];
        for (words, expected) in cases {
            assert_eq!(parse(words).attr, expected, "{words}");
        }
    }

    #[test]
    fn an_r_in_front_means_recursively() {
        let options = parse("rbind,rro,rslave");
        assert_eq!(options.bind, Some(Bind::Recursive));
        assert_eq!(options.attr, MountAttr::default());
        assert_eq!(options.recursive.set, libc::MOUNT_ATTR_RDONLY);
        assert_eq!(options.recursive.propagation, libc::MS_SLAVE);
        assert_eq!(parse("relatime").recursive, MountAttr::default());
    }

    #[test]
    fn the_rest_belongs_to_the_file_system() {
        let options = parse("size=64k,mode=755,newinstance");
        let expected = [("size", Some("64k")), ("mode", Some("755")), ("newinstance", None)];
        let expected = expected.map(|(k, v): (&str, Option<&str>)| (k.into(), v.map(String::from)));
        assert_eq!(options.parameters, expected);
        Options::parse(&["remount".into()]).unwrap_err();
    }
}
