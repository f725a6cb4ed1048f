//! Files that survive a loss of power once a function here has returned: content is written to disk
//! before its name, and the name before the caller goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::rand::GetRandomFlags;

const ID_BYTES: usize = 16;

/// 32 random hexadecimal digits: an id that cannot be guessed.
pub(super) fn random_id() -> io::Result<String> {
    let mut random = [0; ID_BYTES];
    // So few bytes come at once (random(7)).
    rustix::rand::getrandom(&mut random, GetRandomFlags::empty())?;
    Ok(format!("{:032x}", u128::from_ne_bytes(random)))
}

/// Writes the entries of a directory to disk.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// A directory that exists, and what leads to it below `root`.
pub(super) fn directory(root: &Path, path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().unwrap_or(root);
    if path != root {
        directory(root, above)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    sync(above)
}

/// Makes `bytes` appear as `name` in `folder`, whole or not at all.
pub(super) fn publish(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let hidden = folder.join(format!(".{}", random_id()?));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&hidden)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&hidden, folder.join(name))
    };
    if let Err(error) = write() {
        // The first failure is the one to report; what is left is hidden and collected later.
        let _ = fs::remove_file(&hidden);
        return Err(error);
    }
    sync(folder)
}

/// Makes the empty file `name` in `folder`, or makes it new if it is there.
pub(super) fn mark(folder: &Path, name: &str) -> io::Result<()> {
    let path = folder.join(name);
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => touch(&path),
        made => made.and_then(|_| sync(folder)),
    }
}

/// Makes a file new.
pub(super) fn touch(path: &Path) -> io::Result<()> {
    File::open(path)?.set_modified(std::time::SystemTime::now())
}

/// Removes `name` from `folder`: whether it was there.
pub(super) fn remove(folder: &Path, name: &str) -> io::Result<bool> {
    match fs::remove_file(folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.and_then(|()| sync(folder)).map(|()| true),
    }
}

/// The names in a directory that are text and not hidden, sorted; none if it does not exist.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let mut names = Vec::new();
    for entry in listed {
        names.extend(entry?.file_name().into_string().ok().filter(|name| !name.starts_with('.')));
    }
    names.sort_unstable();
    Ok(names)
}

/// The bytes of a file; none if it does not exist.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}
