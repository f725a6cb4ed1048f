//! Members of an archive, or of a directory, on their way to becoming blobs.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci::{Compression, Descriptor, Digest, Hasher, media_type};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::disk::{Part, Scratch, Store};
use crate::error::{Doing as _, Error, invalid};
use crate::extract::{ENTRIES_MAX, components};
use crate::regular::open_regular;
use crate::stream::{self, EXPANSION_MAX};
use crate::tarball::{Kind, Tar, copy_data, shown};

/// Links from one name in an archive to another; legacy layouts have one.
const LINKS_MAX: usize = 8;

/// Files by their names, spooled next to the blobs.
#[derive(Debug)]
pub(crate) struct Spool<'a> {
    store: &'a Store,
    scratch: Scratch,
    members: HashMap<Vec<u8>, Member>,
    /// Where members come from when they are asked for, if not from an archive.
    directory: Option<OwnedFd>,
}

#[derive(Debug, Clone)]
enum Member {
    File(Spooled),
    /// Another name.
    Link(Vec<u8>),
}

/// A file with its digest.
#[derive(Debug, Clone)]
pub(crate) struct Spooled {
    path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl<'a> Spool<'a> {
    /// Spools all files of an archive, which may be compressed and is read to its end.
    pub(crate) fn of_archive(
        store: &'a Store,
        archive: &mut dyn Read,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, Error> {
        let scratch = store.scratch(Part::Ingest)?;
        let directory = scratch.path();
        let members = stream::consume(archive, EXPANSION_MAX, progress, |content| {
            let mut tar = Tar::new(content);
            let mut members = HashMap::new();
            while let Some(entry) = tar.next()? {
                if members.len() as u64 == ENTRIES_MAX {
                    return invalid(format!("archive has more than {ENTRIES_MAX} entries"));
                }
                let name = components(&entry.name)?;
                let member = match entry.kind {
                    Kind::File if entry.sparse.is_some() => {
                        return invalid(format!("`{}` is a sparse file", shown(&entry.name)));
                    }
                    Kind::File => {
                        let mut file = Sink::create(directory.join(members.len().to_string()))?;
                        copy_data(&mut tar, &mut file)?;
                        Member::File(file.finish())
                    }
                    Kind::Symlink => Member::Link(beside(&name, &entry.link)?),
                    Kind::HardLink => Member::Link(components(&entry.link)?.join(&b'/')),
                    _ => continue,
                };
                members.insert(name.join(&b'/'), member);
            }
            tar.drain()?;
            Ok(members)
        })?;
        Ok(Self { store, scratch, members, directory: None })
    }

    /// Members are taken from a directory as they are needed.
    pub(crate) fn of_directory(store: &'a Store, directory: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, flags, Mode::empty())
            .doing(|| format!("open `{}`", directory.display()))?;
        let scratch = store.scratch(Part::Ingest)?;
        Ok(Self { store, scratch, members: HashMap::new(), directory: Some(opened) })
    }

    /// The file of this name, if there is one.
    pub(crate) fn find(&mut self, name: &str) -> Result<Option<Spooled>, Error> {
        let mut name = components(name.as_bytes())?.join(&b'/');
        for _ in 0..LINKS_MAX {
            match self.members.get(&name) {
                Some(Member::File(file)) => return Ok(Some(file.clone())),
                Some(Member::Link(target)) => name.clone_from(target),
                None => return self.fetch(name),
            }
        }
        invalid(format!("`{}` is a chain of links", shown(&name)))
    }

    /// The file of this name.
    pub(crate) fn get(&mut self, name: &str) -> Result<Spooled, Error> {
        match self.find(name)? {
            Some(file) => Ok(file),
            None => invalid(format!("archive has no `{name}`")),
        }
    }

    /// The file that an OCI layout keeps for a descriptor, verified.
    pub(crate) fn blob(&mut self, descriptor: &Descriptor) -> Result<Spooled, Error> {
        let name = format!("blobs/sha256/{}", descriptor.digest.hex());
        let file = self.get(&name)?;
        if file.digest != descriptor.digest {
            let (expected, actual) = (descriptor.digest, file.digest);
            return Err(Error::Digest { what: format!("`{name}`"), expected, actual });
        }
        check_size(descriptor, file.size)?;
        Ok(file)
    }

    /// Opens a blob of an OCI layout where it is; what is in it was not verified.
    pub(crate) fn open(&mut self, descriptor: &Descriptor) -> Result<File, Error> {
        let name = format!("blobs/sha256/{}", descriptor.digest.hex());
        match &self.directory {
            Some(directory) => match open_member(directory, name.as_bytes())? {
                Some(file) => Ok(file),
                None => invalid(format!("there is no `{name}`")),
            },
            None => {
                let path = self.get(&name)?.path;
                File::open(&path).doing(|| format!("open `{}`", path.display()))
            }
        }
    }

    /// Copies a member from the directory. It is not ours: what it links to stays below it.
    fn fetch(&mut self, name: Vec<u8>) -> Result<Option<Spooled>, Error> {
        let Some(directory) = &self.directory else {
            return Ok(None);
        };
        let doing = || format!("read `{}`", shown(&name));
        let Some(mut file) = open_member(directory, &name)? else { return Ok(None) };
        let mut sink = Sink::create(self.scratch.path().join(self.members.len().to_string()))?;
        io::copy(&mut file, &mut sink).doing(doing)?;
        let spooled = sink.finish();
        self.members.insert(name, Member::File(spooled.clone()));
        Ok(Some(spooled))
    }

    /// Keeps a file as a blob.
    pub(crate) fn adopt(&self, file: &Spooled) -> Result<(), Error> {
        file.adopt(self.store)
    }
}

impl Spooled {
    /// Its content, which is at most `limit` bytes long.
    pub(crate) fn read(&self, limit: u64) -> Result<Vec<u8>, Error> {
        if self.size > limit {
            return invalid(format!("document {} is longer than {limit} bytes", self.digest));
        }
        fs::read(&self.path).doing(|| format!("read `{}`", self.path.display()))
    }

    /// Opens it for reading.
    pub(crate) fn open(&self) -> Result<File, Error> {
        File::open(&self.path).doing(|| format!("open `{}`", self.path.display()))
    }

    /// Keeps it as a blob; several members may be the same one.
    pub(crate) fn adopt(&self, store: &Store) -> Result<(), Error> {
        let place = store.made(Part::Blobs)?.join(self.digest.hex());
        store.note_unsynced(Part::Blobs, &self.digest.hex())?;
        match fs::hard_link(&self.path, &place) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked.doing(|| format!("keep blob {}", self.digest)),
        }
    }

    /// Describes it as a layer, by its first bytes.
    pub(crate) fn layer_descriptor(&self) -> Result<Descriptor, Error> {
        let doing = || format!("read `{}`", self.path.display());
        let mut head = Vec::new();
        File::open(&self.path).doing(doing)?.take(4).read_to_end(&mut head).doing(doing)?;
        let suffix = match Compression::detect(&head) {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        Ok(self.descriptor(&format!("{}{suffix}", media_type::OCI_LAYER)))
    }

    pub(crate) fn descriptor(&self, media_type: &str) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: self.digest,
            size: self.size,
            platform: None,
            annotations: Default::default(),
        }
    }
}

/// Opens a file below a directory of somebody else's: what it links to stays below, too.
fn open_member(directory: &OwnedFd, name: &[u8]) -> Result<Option<File>, Error> {
    let doing = || format!("read `{}`", shown(name));
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match open_regular(directory, name, resolve) {
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::INVAL) => invalid(format!("`{}` is not a file", shown(name))),
        opened => opened.map(Some).doing(doing),
    }
}

/// Content that is not as long as its descriptor says must not be used (image-spec, descriptor.md).
pub(crate) fn check_size(descriptor: &Descriptor, actual: u64) -> Result<(), Error> {
    let Descriptor { digest, size, .. } = descriptor;
    if actual == *size {
        return Ok(());
    }
    invalid(format!("blob {digest} is {actual} bytes long, not {size}"))
}

/// A file that is hashed while it is written.
pub(crate) struct Sink {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    size: u64,
}

impl Sink {
    pub(crate) fn create(path: PathBuf) -> Result<Self, Error> {
        let file = File::create_new(&path).doing(|| format!("create `{}`", path.display()))?;
        Ok(Self { file, path, hasher: Hasher::default(), size: 0 })
    }

    pub(crate) fn finish(self) -> Spooled {
        Spooled { path: self.path, digest: self.hasher.finish(), size: self.size }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a symbolic link in an archive points, as a name in it.
fn beside(name: &[&[u8]], target: &[u8]) -> Result<Vec<u8>, Error> {
    if target.starts_with(b"/") {
        return Ok(components(target)?.join(&b'/'));
    }
    let above = name.split_last().map_or(&[][..], |(_, above)| above);
    let whole = [above.join(&b'/'), target.to_vec()].join(&b'/');
    Ok(components(&whole)?.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FileType, makedev, mknodat};

    use super::*;

    #[test]
    fn a_device_among_the_members_is_refused_unopened() {
        let directory = tempfile::tempdir().unwrap();
        let at = OwnedFd::from(File::open(directory.path()).unwrap());
        // No driver has this number: to open it is another error.
        let number = makedev(4095, 4095);
        mknodat(&at, "blob", FileType::CharacterDevice, Mode::RUSR, number).unwrap();
        let why = open_member(&at, b"blob").unwrap_err().to_string();
        assert_eq!(why, "`blob` is not a file");
        assert!(open_member(&at, b"other").unwrap().is_none());
    }
}
