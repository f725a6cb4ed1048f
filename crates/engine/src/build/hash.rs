//! The digests of files that a build copies: of what they say, and not of when.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use oci::{Digest, Hasher};
use rustix::fs::{FileType, Stat};

use super::copy::{Attributes, attributes};
use super::source::{Entry, Picked, Source};
use super::why::FILES_MAX;
use crate::error::{Doing, Result};
use crate::file::create_dir;

const READ_BYTES: usize = 256 << 10;
/// A file that was changed later than this may be changed again without a later time of change.
const SETTLED_S: i64 = 2;

/// How a file with the digests of a context's files begins.
const HEAD: &[u8] = b"cais: files of a context, 1\n";
const NUMBERS: usize = 7;

/// What a file looked like when it was read: its device, inode and size, and when it was modified
/// and changed, in seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look([i64; NUMBERS]);

impl Look {
    fn of(stat: &Stat) -> Self {
        let (modified, changed) = (stat.st_mtime_nsec, stat.st_ctime_nsec);
        Self([
            stat.st_dev.cast_signed(),
            stat.st_ino.cast_signed(),
            stat.st_size,
            stat.st_mtime,
            i64::try_from(modified).unwrap_or(0),
            stat.st_ctime,
            i64::try_from(changed).unwrap_or(0),
        ])
    }

    fn changed_s(&self) -> i64 {
        self.0[5]
    }
}

type Files = HashMap<PathBuf, (Look, Digest)>;

/// Of each file its path behind the path's length, what it looked like, and its digest: many numbers,
/// which are read before anything else is done.
fn encoded(files: &Files) -> Vec<u8> {
    let mut bytes = HEAD.to_vec();
    for (path, (look, digest)) in files {
        let path = path.as_os_str().as_bytes();
        bytes.extend((path.len() as u64).to_le_bytes());
        bytes.extend(path);
        look.0.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        bytes.extend(digest.as_bytes());
    }
    bytes
}

/// `None` for what is nothing of the kind.
fn decoded(bytes: &[u8]) -> Option<Files> {
    let mut rest = bytes.strip_prefix(HEAD)?;
    let mut files = Files::new();
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (path, mut tail) = tail.split_at_checked(length)?;
        let mut look = Look([0; NUMBERS]);
        for number in &mut look.0 {
            let (bytes, behind) = tail.split_first_chunk()?;
            *number = i64::from_le_bytes(*bytes);
            tail = behind;
        }
        let (digest, behind) = tail.split_first_chunk::<32>()?;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
        files.insert(path, (look, Digest::from(*digest)));
        rest = behind;
    }
    Some(files)
}

/// The digests of a context's files, so that those that are as they were are not read again.
#[derive(Debug)]
pub(crate) struct Known {
    dir: PathBuf,
    name: String,
    files: Files,
    is_changed: bool,
}

impl Known {
    /// Those of the context at `place`, kept in `dir`.
    pub(crate) fn load(dir: PathBuf, place: &Path) -> Self {
        let name = Digest::of(place.as_os_str().as_bytes()).hex();
        // What cannot be read is not known.
        let bytes = std::fs::read(dir.join(&name)).unwrap_or_default();
        let files = decoded(&bytes).unwrap_or_default();
        Self { dir, name, files, is_changed: false }
    }

    /// Keeps them for the next build.
    pub(crate) fn save(&self) -> Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        let doing = || format!("write {}", self.name);
        create_dir(&self.dir)?;
        // Another build may write the same at the same time.
        let mut fresh = store::Fresh::create(&self.dir.join(&self.name), 0o600)?;
        fresh.write_all(&encoded(&self.files)).doing(doing)?;
        Ok(fresh.keep()?)
    }

    fn get(&mut self, source: &Source, entry: &Entry) -> Result<Digest> {
        let look = Look::of(&entry.stat);
        if let Some((known, digest)) = self.files.get(&entry.path)
            && *known == look
        {
            return Ok(*digest);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let (digest, after) = digest_of(source, entry)?;
        // What changed while it was read is not known.
        if after == look && look.changed_s() + SETTLED_S < i64::try_from(now).unwrap_or(0) {
            self.files.insert(entry.path.clone(), (look, digest));
            self.is_changed = true;
        }
        Ok(digest)
    }
}

/// The digest of a file, and what it looked like once it was read.
fn digest_of(source: &Source, entry: &Entry) -> Result<(Digest, Look)> {
    let doing = || format!("read {}", entry.path.display());
    let mut file: File = source.open_file(&entry.path)?;
    let digest = copy_hashed(&mut file, &mut std::io::sink()).doing(doing)?;
    let look = Look::of(&rustix::fs::fstat(&file).doing(doing)?);
    Ok((digest, look))
}

/// Copies what can be read, and gives its digest: of what was copied, whatever happens meanwhile.
pub(crate) fn copy_hashed(from: &mut dyn Read, to: &mut dyn Write) -> std::io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                to.write_all(&buffer[..n])?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The digest of a file of ours, and its size in bytes.
pub(crate) fn digest_of_file(path: &Path) -> std::io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((copy_hashed(&mut file, &mut std::io::sink())?, size))
}

/// What a file has in it.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// The digest of its data, and its extended attributes where they are its own.
    Data(Digest, Attributes),
    /// What a symbolic link says.
    Link(PathBuf),
    /// Nothing but what its inode says.
    Nothing,
}

/// The digest of files, which is made one by one: when they are looked at, or when they are copied.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    hasher: Hasher,
    keeps_owners: bool,
}

impl Tally {
    pub(crate) fn new(source: &Source) -> Self {
        Self { hasher: Hasher::default(), keeps_owners: source.keeps_owners }
    }

    fn field(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    /// Begins with what one source comes to.
    pub(crate) fn begin(&mut self, picked: &Picked) {
        self.field(picked.name.as_bytes());
        self.field(&[u8::from(picked.is_directory), u8::from(picked.with_parents)]);
    }

    pub(crate) fn entry(&mut self, entry: &Entry, content: &Content) {
        let stat = &entry.stat;
        self.field(entry.below.as_os_str().as_bytes());
        self.field(&stat.st_mode.to_le_bytes());
        if self.keeps_owners {
            self.field(&stat.st_uid.to_le_bytes());
            self.field(&stat.st_gid.to_le_bytes());
        }
        match content {
            Content::Data(digest, attributes) => {
                self.field(digest.hex().as_bytes());
                for (key, value) in attributes {
                    self.field(key);
                    self.field(value);
                }
            }
            Content::Link(target) => self.field(target.as_os_str().as_bytes()),
            Content::Nothing => match FileType::from_raw_mode(stat.st_mode) {
                FileType::CharacterDevice | FileType::BlockDevice => {
                    self.field(&stat.st_rdev.to_le_bytes());
                }
                _ => {}
            },
        }
    }

    pub(crate) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

/// The digest of everything that was picked; `files` gets the digest of each file, if there are few.
pub(crate) fn digest(
    source: &Source,
    picked: &[Picked],
    known: Option<&mut Known>,
    files: &mut BTreeMap<String, String>,
) -> Result<Digest> {
    let mut known = known;
    let mut tally = Tally::new(source);
    for pick in picked {
        tally.begin(pick);
        for entry in &pick.entries {
            let content = look_into(source, entry, &mut known)?;
            if let (Content::Data(digest, _), true) = (&content, files.len() < FILES_MAX) {
                let name = entry.path.to_string_lossy().into_owned();
                files.insert(name, format!("{:o} {}", entry.stat.st_mode, digest.hex()));
            }
            tally.entry(entry, &content);
        }
    }
    Ok(tally.finish())
}

fn look_into(source: &Source, entry: &Entry, known: &mut Option<&mut Known>) -> Result<Content> {
    Ok(match FileType::from_raw_mode(entry.stat.st_mode) {
        FileType::RegularFile => {
            let digest = match known {
                Some(known) => known.get(source, entry)?,
                None => digest_of(source, entry)?.0,
            };
            let attributes = match source.keeps_owners {
                true => {
                    let file = source.open_file(&entry.path)?;
                    attributes(&file)
                        .doing(|| format!("read the attributes of {}", entry.path.display()))?
                }
                false => Attributes::new(),
            };
            Content::Data(digest, attributes)
        }
        FileType::Symlink => Content::Link(source.link(&entry.path)?),
        _ => Content::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_files_is_read_again() {
        let look = |number| Look([number, -1, 2, i64::MAX, 4, i64::MIN, 6]);
        let files: Files = (0..3)
            .map(|number| (PathBuf::from(format!("d/{number}")), (look(number), Digest::of(b"x"))))
            .collect();
        let bytes = encoded(&files);
        assert_eq!(decoded(&bytes), Some(files));
        assert_eq!(decoded(&bytes[..bytes.len() - 1]), None);
        assert_eq!(decoded(b"[]"), None);
        assert_eq!(decoded(HEAD), Some(Files::new()));
    }
}
