//! What a path at either end of `cp` asks for: Docker's rules, which are those of `cp -a` but for
//! a few. A path that ends with `/` or `/.` asks for a directory; `/.` for what is in it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use engine::{Error, Kind, Result, clean_path};

/// Links that are followed to the destination; Docker's limit.
const LINKS_MAX: u32 = 10;

/// What is to be copied.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) is_directory: bool,
    /// What it is called instead, because the name that was given is that of a link.
    pub(super) title: Option<OsString>,
}

/// Where it is to be.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) path: PathBuf,
    pub(super) exists: bool,
    pub(super) is_directory: bool,
}

/// `CONTAINER:PATH`, or a path of this machine's: one that is absolute, or begins with a dot.
pub(super) fn split_container(text: &OsStr) -> (Option<String>, PathBuf) {
    let bytes = text.as_bytes();
    let colon = bytes.iter().position(|&b| b == b':');
    match colon.map(|at| (&bytes[..at], &bytes[at + 1..])) {
        Some((name, path)) if !matches!(name, [] | [b'/' | b'.', ..]) => {
            let name = String::from_utf8_lossy(name).into_owned();
            (Some(name), PathBuf::from(OsStr::from_bytes(path)))
        }
        _ => (None, PathBuf::from(text)),
    }
}

/// A path of this machine's from its root.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    let here = std::env::current_dir();
    let here = here.map_err(|error| Error::caused(Kind::Internal, "find the directory", error))?;
    Ok(clean_path(&here.join(path)))
}

/// Also of an empty path, as in Docker.
fn asks_for_content(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    matches!(bytes, b"" | b".") || bytes.ends_with(b"/.")
}

fn ends_with_slash(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// The directory that something is in, and its name there; `.` for the content of the directory.
pub(super) fn split(path: &Path) -> (PathBuf, OsString) {
    let clean = clean_path(path);
    if asks_for_content(&clean) {
        let directory = clean.as_os_str().as_bytes();
        return (OsStr::from_bytes(&directory[..directory.len() - 1]).into(), ".".into());
    }
    match (clean.parent(), clean.file_name()) {
        (Some(directory), Some(name)) => (directory.to_owned(), name.to_owned()),
        _ => (PathBuf::from("/"), OsString::new()),
    }
}

/// The last part of a path, with a dot for content and a slash for the root.
pub(super) fn base(path: &Path) -> OsString {
    match split(path) {
        (_, name) if name.is_empty() => "/".into(),
        (_, name) => name,
    }
}

/// `target`, found for the link `path`, with the same request at its end; and the name that was
/// asked for if it is another.
pub(super) fn renamed(path: &Path, target: &Path) -> (PathBuf, Option<OsString>) {
    let mut found = target.as_os_str().to_owned().into_vec();
    if asks_for_content(path) && !asks_for_content(target) {
        found.extend_from_slice(b"/.");
    }
    if ends_with_slash(path) && !found.ends_with(b"/") {
        found.push(b'/');
    }
    let found = PathBuf::from(OsString::from_vec(found));
    let title = (base(path) != base(&found)).then(|| base(path));
    (found, title)
}

/// Where a link leads, of which `target` is the text.
pub(super) fn beside(link: &Path, target: &Path) -> PathBuf {
    split(link).0.join(target)
}

/// What is to be copied from this machine.
pub(super) fn source(path: &Path, follow: bool) -> io::Result<Source> {
    let (path, title) = match (follow, ends_with_slash(path)) {
        (true, _) => renamed(path, &fs::canonicalize(path)?),
        (false, true) => renamed(path, &fs::canonicalize(path)?),
        (false, false) => {
            let (directory, name) = split(path);
            (fs::canonicalize(directory)?.join(name), None)
        }
    };
    let is_directory = fs::symlink_metadata(&path)?.is_dir();
    Ok(Source { path, is_directory, title })
}

/// Where something is to be on this machine: links are followed, also one that leads to nothing.
pub(super) fn destination(path: &Path) -> Result<Destination> {
    let failed = |path: &Path, error: io::Error| {
        Error::caused(Kind::Invalid, format!("copy to {}", path.display()), error)
    };
    let mut at = path.to_owned();
    for _ in 0..=LINKS_MAX {
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(&at).map_err(|error| failed(path, error))?;
                at = clean_path(&beside(&at, &target));
            }
            Ok(found) => {
                return Ok(Destination { path: at, exists: true, is_directory: found.is_dir() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = fs::metadata(split(&at).0).map_err(|error| failed(path, error))?;
                if !parent.is_dir() {
                    return Err(failed(path, io::ErrorKind::NotADirectory.into()));
                }
                return Ok(Destination { path: at, ..Destination::default() });
            }
            Err(error) => return Err(failed(path, error)),
        }
    }
    Err(Error::invalid(format!("too many symlinks in {}", path.display())))
}

/// The directory that the source is unpacked in, and what it is called there.
pub(super) fn place(source: &Source, destination: &Destination) -> Result<(PathBuf, OsString)> {
    let (directory, name) = split(&destination.path);
    match (destination.exists, destination.is_directory, source.is_directory) {
        (true, true, _) => {
            let title = source.title.clone().unwrap_or_else(|| base(&source.path));
            Ok((destination.path.clone(), title))
        }
        (true, false, true) => Err(Error::invalid("cannot copy directory")
            .hint("the destination is a file: give a directory, or a name that is free")),
        (false, _, false)
            if ends_with_slash(&destination.path) || asks_for_content(&destination.path) =>
        {
            Err(Error::invalid("no such directory")
                .hint("a path that ends with / is a directory, which must exist"))
        }
        _ => Ok((directory, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_from_files() {
        let check = |text: &str, container: Option<&str>, path: &str| {
            let expected = (container.map(str::to_owned), PathBuf::from(path));
            assert_eq!(split_container(OsStr::new(text)), expected, "{text}");
        };
        check("web:/etc", Some("web"), "/etc");
        check("web:", Some("web"), "");
        check("web:a:b", Some("web"), "a:b");
        check("./a:b", None, "./a:b");
        check("/a:b", None, "/a:b");
        check("-", None, "-");
    }

    #[test]
    fn a_name_and_its_directory() {
        let check = |path: &str, directory: &str, name: &str| {
            assert_eq!(split(Path::new(path)), (directory.into(), name.into()), "{path}");
        };
        check("/a/b", "/a", "b");
        check("/a/b/", "/a", "b");
        check("/a/b/.", "/a/b/", ".");
        check("/", "/", "");
        check("/a/../b", "/", "b");
        assert_eq!(base(Path::new("/")), "/");
    }

    #[test]
    fn the_table_of_places() {
        let source = |is_directory| Source { path: "/s/x".into(), is_directory, title: None };
        let at = |path: &str, exists, is_directory| Destination {
            path: path.into(),
            exists,
            is_directory,
        };
        let to = |source: Source, destination| {
            let placed = place(&source, &destination);
            placed.map(|(path, name)| format!("{} {}", path.display(), name.display()))
        };
        for is_directory in [false, true] {
            assert_eq!(to(source(is_directory), at("/d", true, true)).unwrap(), "/d x");
            assert_eq!(to(source(is_directory), at("/d", false, false)).unwrap(), "/ d");
        }
        assert_eq!(to(source(false), at("/d", true, false)).unwrap(), "/ d");
        assert_eq!(to(source(true), at("/d/", false, false)).unwrap(), "/ d");
        to(source(true), at("/d", true, false)).unwrap_err();
        to(source(false), at("/d/", false, false)).unwrap_err();
        let content = Source { path: "/s/x/.".into(), ..source(true) };
        assert_eq!(to(content.clone(), at("/d", true, true)).unwrap(), "/d .");
        assert_eq!(to(content, at("/d/e", false, false)).unwrap(), "/d e");
    }
}
