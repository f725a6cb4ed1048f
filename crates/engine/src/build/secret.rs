//! Values of secrets where they must not be: in files that a step has written, in an image's
//! configuration, and in what is shown.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use memchr::memmem::Finder;
use oci::{ImageConfig, Rootfs};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, openat};
use rustix::io::Errno;

use super::source::lstat;
use crate::error::{Doing, Error, Kind, Result};

/// A shorter value may be anywhere by chance, in bytes.
const VALUE_BYTES_MIN: usize = 8;
/// What of a file is in memory at once, besides the length of a secret.
const READ_BYTES: usize = 1 << 20;
/// Of directories that are open at the same time.
const DEPTH_MAX: usize = 400;
/// What is shown in the place of a secret; BuildKit's frontends and most others do the same.
const MASK: &[u8] = b"*****";
const HINT: &str = "read it where --mount=type=secret puts it, and write it nowhere else";

/// The ids of secrets that are too short to be looked for: in files that are written, in what commands
/// say, in an image's configuration.
pub fn unsearched_secrets(secrets: &BTreeMap<String, Vec<u8>>) -> impl Iterator<Item = &str> {
    let is_short = |value: &[u8]| (1..VALUE_BYTES_MIN).contains(&value.trim_ascii().len());
    secrets.iter().filter(move |(_, value)| is_short(value)).map(|(id, _)| id.as_str())
}

/// The values of secrets, to be looked for.
#[derive(Debug, Default)]
pub(crate) struct Values {
    found_by: Vec<(String, Finder<'static>)>,
    /// Each line of those that have several: output comes by lines.
    lines: Vec<Finder<'static>>,
}

impl Values {
    /// Those that are long enough to be found by nothing but themselves.
    pub(crate) fn new(secrets: &BTreeMap<String, Vec<u8>>) -> Self {
        let values = secrets.iter().filter_map(|(id, value)| {
            let value = value.trim_ascii();
            (value.len() >= VALUE_BYTES_MIN).then(|| (id.clone(), Finder::new(value).into_owned()))
        });
        let lines = secrets.values().map(|value| value.trim_ascii());
        let lines = lines.filter(|value| value.contains(&b'\n'));
        let lines = lines.flat_map(|value| value.split(|byte| *byte == b'\n'));
        let lines = lines.map(<[u8]>::trim_ascii).filter(|line| line.len() >= VALUE_BYTES_MIN);
        let lines = lines.map(|line| Finder::new(line).into_owned()).collect();
        Self { found_by: values.collect(), lines }
    }

    /// The id of a secret whose value is in there.
    fn find(&self, bytes: &[u8]) -> Option<&str> {
        let found = self.found_by.iter().find(|(_, finder)| finder.find(bytes).is_some());
        found.map(|(id, _)| id.as_str())
    }

    /// A line without the values of secrets.
    pub(crate) fn masked<'a>(&self, line: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
        let mut line = std::borrow::Cow::Borrowed(line);
        for finder in self.found_by.iter().map(|(_, finder)| finder).chain(&self.lines) {
            while let Some(at) = finder.find(&line) {
                let end = at + finder.needle().len();
                line = [&line[..at], MASK, &line[end..]].concat().into();
            }
        }
        line
    }

    /// Refuses what a step has written if it has a secret in it.
    ///
    /// # Errors
    /// [`Kind::Denied`], with the file and the secret's name; if a file cannot be read.
    pub(crate) fn check_files(&self, rootfs: &Rootfs) -> Result<()> {
        let Rootfs::Overlay { upper, .. } = rootfs else { return Ok(()) };
        match self.find_below(upper)? {
            None => Ok(()),
            Some((id, path)) => {
                let message = format!("the step has written the secret {id} to {}", path.display());
                Err(Error::new(Kind::Denied, message).hint(HINT))
            }
        }
    }

    /// The id of a secret whose value is in or on a file below a directory, and the file's path from
    /// there.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn find_below(&self, directory: &Path) -> Result<Option<(&str, PathBuf)>> {
        if self.found_by.is_empty() {
            return Ok(None);
        }
        let root = File::open(directory).doing(|| format!("open {}", directory.display()))?;
        let mut path = PathBuf::from("/");
        let found = self.look_below(root.as_fd(), &mut path, 0);
        let found = found.doing(|| format!("look for secrets in {}", path.display()))?;
        Ok(found.map(|id| (id, path)))
    }

    /// Looks at what is in a directory; `path` is then what it was found in, or could not be read.
    fn look_below(
        &self,
        at: BorrowedFd<'_>,
        path: &mut PathBuf,
        depth: usize,
    ) -> io::Result<Option<&str>> {
        let mut entries = Dir::read_from(at)?;
        while let Some(entry) = entries.read() {
            let name = entry?.file_name().to_owned();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let name = std::ffi::OsStr::from_bytes(name.to_bytes());
            path.push(name);
            if let Some(id) = self.find(name.as_bytes()) {
                return Ok(Some(id));
            }
            let Some(stat) = lstat(at, name)? else { continue };
            let found = match FileType::from_raw_mode(stat.st_mode) {
                // The layer will be refused for that.
                FileType::Directory if depth == DEPTH_MAX => None,
                FileType::Directory => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                    let below = openat(at, name, flags | OFlags::CLOEXEC, Mode::empty())?;
                    self.look_below(below.as_fd(), path, depth + 1)?
                }
                FileType::RegularFile => self.look_into(at, Path::new(name))?,
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(at, name, Vec::new())?;
                    self.find(target.as_bytes())
                }
                _ => None,
            };
            if found.is_some() {
                return Ok(found);
            }
            path.pop();
        }
        Ok(None)
    }

    fn look_into(&self, at: BorrowedFd<'_>, name: &Path) -> io::Result<Option<&str>> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let mut file = match store::open_regular(at, name, resolve) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened?,
        };
        let longest = self.found_by.iter().map(|(_, finder)| finder.needle().len()).max();
        let overlap = longest.unwrap_or(1) - 1;
        let mut window = vec![0; READ_BYTES + overlap];
        let mut kept = 0;
        loop {
            let n = match file.read(&mut window[kept..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            let filled = kept + n;
            if n == 0 {
                return Ok(None);
            }
            if let Some(id) = self.find(&window[..filled]) {
                return Ok(Some(id));
            }
            // A value may go on in what comes next.
            let rest = filled.saturating_sub(overlap);
            window.copy_within(rest..filled, 0);
            kept = filled - rest;
        }
    }

    /// Refuses a configuration that has a secret in it.
    ///
    /// # Errors
    /// [`Kind::Denied`], with the field and the secret's name.
    pub(crate) fn check_config(&self, config: &ImageConfig) -> Result<()> {
        if self.found_by.is_empty() {
            return Ok(());
        }
        let value = serde_json::to_value(config).unwrap_or_default();
        match self.look_at("", &value) {
            None => Ok(()),
            Some((field, id)) => {
                let message = format!("the image's {field} would have the secret {id} in it");
                Err(Error::new(Kind::Denied, message).hint(HINT))
            }
        }
    }

    fn look_at(&self, path: &str, value: &serde_json::Value) -> Option<(String, &str)> {
        use serde_json::Value;
        let below = |name: &str| match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        match value {
            Value::String(text) => self.find(text.as_bytes()).map(|id| (path.to_owned(), id)),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .find_map(|(index, item)| self.look_at(&format!("{path}[{index}]"), item)),
            Value::Object(fields) => fields.iter().find_map(|(name, item)| {
                match self.find(name.as_bytes()) {
                    // Its name is what must not be told.
                    Some(id) => Some((path.to_owned(), id)),
                    None => self.look_at(&below(name), item),
                }
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(value: &[u8]) -> Values {
        Values::new(&BTreeMap::from([("id".to_owned(), value.to_vec())]))
    }

    #[test]
    fn values_are_found_across_reads() {
        let directory = tempfile::tempdir().unwrap();
        let upper = directory.path().join("upper");
        std::fs::create_dir_all(upper.join("d")).unwrap();
        let rootfs = Rootfs::Overlay {
            lower: Vec::new(),
            upper: upper.clone(),
            work: directory.path().join("work"),
            volatile: true,
        };
        let values = values(b"the-value-of-it\n");
        let mut text = vec![b'x'; READ_BYTES - 5];
        text.extend(b"the-value-of-i");
        std::fs::write(upper.join("d/f"), &text).unwrap();
        values.check_files(&rootfs).unwrap();
        text.extend(b"t and more");
        std::fs::write(upper.join("d/f"), &text).unwrap();
        let error = values.check_files(&rootfs).unwrap_err().to_string();
        assert_eq!(error, "the step has written the secret id to /d/f");
        std::fs::remove_file(upper.join("d/f")).unwrap();
        std::os::unix::fs::symlink("a/the-value-of-it", upper.join("d/l")).unwrap();
        assert!(values.check_files(&rootfs).unwrap_err().to_string().ends_with("/d/l"));
    }

    #[test]
    fn lines_and_configurations_have_none() {
        let secret = values(b"the-value-of-it");
        assert_eq!(&*secret.masked(b"a the-value-of-it b"), b"a ***** b");
        assert_eq!(&*values(b"short").masked(b"a short b"), b"a short b");
        let secrets = [("a", "short\n"), ("b", ""), ("c", "the-value-of-it")];
        let secrets = secrets.map(|(id, value)| (id.to_owned(), value.into())).into();
        assert_eq!(unsearched_secrets(&secrets).collect::<Vec<_>>(), ["a"]);
        let mut config = ImageConfig::default();
        secret.check_config(&config).unwrap();
        config.config.env = vec!["PATH=/".into(), "T=the-value-of-it".into()];
        let error = secret.check_config(&config).unwrap_err().to_string();
        assert_eq!(error, "the image's config.Env[1] would have the secret id in it");
    }
}
