//! Where a build's files come from: a directory, standard input, a git repository, or an address.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use build::{GitSource, Ignore};
use engine::{ContextArchive, Engine, Error, GitAccess, Kind, Received, Result};

use super::Args;
use super::secret::Secrets;
use super::ssh::Agents;

/// Of a Dockerfile, in bytes.
const DOCKERFILE_BYTES_MAX: u64 = 16 << 20;
const NAME: &str = "Dockerfile";

/// What a build is made from.
pub(super) struct Input {
    pub(super) dockerfile: String,
    /// What it is called in messages.
    pub(super) dockerfile_name: String,
    /// Where it lies, if it is a file.
    pub(super) dockerfile_path: Option<PathBuf>,
    pub(super) ignore: Ignore,
    place: Place,
}

enum Place {
    Directory(PathBuf),
    /// It came as an archive, which is removed with this.
    Archive(ContextArchive),
    /// A Dockerfile alone.
    Nowhere,
}

impl Input {
    pub(super) fn open(engine: &Engine, args: &Args, from: &Remote<'_>) -> Result<Self> {
        let from_stdin = args.file.as_deref() == Some("-");
        if args.path == "-" && from_stdin {
            let message = "invalid argument: can't use stdin for both build context and dockerfile";
            return Err(Error::invalid(message));
        }
        let received = match args.path.as_str() {
            "-" => Some(engine.receive_context(&mut std::io::stdin())?),
            path => from.get(engine, path)?,
        };
        let mut piped = None;
        let place = match received {
            Some(Received::Archive(archive)) => Place::Archive(archive),
            Some(Received::Text(text)) => {
                piped = Some(text);
                Place::Nowhere
            }
            None => Place::Directory(directory(&args.path)?),
        };
        let root = match &place {
            Place::Directory(path) => Some(path.clone()),
            Place::Archive(archive) => Some(archive.path().to_owned()),
            Place::Nowhere => None,
        };
        let (dockerfile, dockerfile_name, path) = match (piped, &args.file, &root) {
            _ if args.dockerfile_inline.is_some() => {
                let text = args.dockerfile_inline.clone().unwrap_or_default();
                (text.into_bytes(), NAME.to_owned(), None)
            }
            (Some(text), ..) => (text, NAME.to_owned(), None),
            (None, Some(file), _) if file == "-" => {
                let mut text = Vec::new();
                let read = std::io::stdin().take(DOCKERFILE_BYTES_MAX).read_to_end(&mut text);
                read.map_err(|error| Error::caused(Kind::Invalid, "read standard input", error))?;
                (text, NAME.to_owned(), None)
            }
            (None, Some(file), _) if is_url(file) => match engine.download_context(file)? {
                Received::Text(text) => (text, name(Path::new(file)), None),
                Received::Archive(_) => {
                    return Err(Error::invalid(format!("{file} is an archive, and no Dockerfile")));
                }
            },
            (None, file, Some(root)) => {
                let path = dockerfile_path(&place, root, file.as_deref());
                let text = read(&place, &path)?.ok_or_else(|| missing(&path))?;
                (text, name(&path), Some(path))
            }
            (None, _, None) => return Err(Error::invalid("there is no Dockerfile")),
        };
        let dockerfile = String::from_utf8(dockerfile).map_err(|error| {
            Error::caused(Kind::Invalid, format!("read {dockerfile_name}"), error)
        })?;
        let ignore = ignore(&place, root.as_deref(), path.as_deref())?;
        let dockerfile_path = path;
        Ok(Self { dockerfile, dockerfile_name, dockerfile_path, ignore, place })
    }

    /// Whether its files are the user's own.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.place, Place::Directory(_))
    }

    /// When what it is of was committed, in seconds since 1970, if it is of a git repository.
    pub(super) fn committed_s(&self) -> Option<i64> {
        match &self.place {
            Place::Directory(path) => engine::commit_time(path),
            Place::Archive(archive) => archive.committed_s(),
            Place::Nowhere => None,
        }
    }

    pub(super) fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory(path) => Some(path),
            Place::Archive(archive) => Some(archive.path()),
            Place::Nowhere => None,
        }
    }
}

fn is_url(place: &str) -> bool {
    place.starts_with("http://") || place.starts_with("https://")
}

/// How contexts are got from elsewhere.
pub(super) struct Remote<'a> {
    pub(super) secrets: &'a Secrets,
    pub(super) agents: &'a Agents,
    /// BuildKit's argument `BUILDKIT_CONTEXT_KEEP_GIT_DIR`.
    pub(super) keeps_git_dir: bool,
}

impl Remote<'_> {
    /// What is at a place; `None` for a directory here.
    pub(super) fn get(&self, engine: &Engine, place: &str) -> Result<Option<Received>> {
        if Path::new(place).is_dir() {
            return Ok(None);
        }
        if let Some(source) = GitSource::parse(place) {
            let source = source.map_err(|error| Error::invalid(error.to_string()))?;
            let access = GitAccess {
                keeps_git_dir: self.keeps_git_dir,
                is_own: true,
                ..GitAccess::new(&source, self.secrets, &self.agents.sockets())
            };
            let (context, _) = engine.fetch_context(&source, &access)?;
            return Ok(Some(Received::Archive(context)));
        }
        if is_url(place) {
            return engine.download_context(place).map(Some);
        }
        match place.split_once("://") {
            Some((scheme, _)) => {
                let message = format!("contexts from {scheme}:// are not supported");
                Err(Error::new(Kind::Unsupported, message)
                    .hint("there are directories, -, git repositories, http:// and https://"))
            }
            None => Ok(None),
        }
    }
}

/// A directory that exists, by a path that stays right.
pub(super) fn directory(path: &str) -> Result<PathBuf> {
    let refuse = |error| {
        let message = format!("unable to prepare context: path {path:?}");
        Error::caused(Kind::Invalid, message, error)
    };
    let real = fs::canonicalize(path).map_err(refuse)?;
    match real.is_dir() {
        true => Ok(real),
        false => Err(refuse(std::io::ErrorKind::NotADirectory.into())),
    }
}

/// The file that is meant: of what came as an archive, one in it.
fn dockerfile_path(place: &Place, root: &Path, file: Option<&str>) -> PathBuf {
    match file {
        Some(file) if matches!(place, Place::Archive(_)) => root.join(file.trim_start_matches('/')),
        Some(file) => PathBuf::from(file),
        None => {
            let usual = root.join(NAME);
            let lower = root.join(NAME.to_lowercase());
            if !usual.exists() && lower.exists() { lower } else { usual }
        }
    }
}

/// Reads a file of a context; `None` where there is none. What is in a context is somebody else's, so
/// that no link in it leads out.
fn read(place: &Place, path: &Path) -> Result<Option<Vec<u8>>> {
    let refuse = |error: std::io::Error| {
        Error::caused(Kind::Invalid, format!("read {}", path.display()), error)
    };
    let opened = match place {
        Place::Archive(archive) => archive.open(path),
        Place::Directory(root) => match below(root, path) {
            Some(below) => engine::open_below(root, &below),
            None => open_named(path),
        },
        Place::Nowhere => open_named(path),
    };
    let file = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(refuse)?,
    };
    let mut text = Vec::new();
    file.take(DOCKERFILE_BYTES_MAX).read_to_end(&mut text).map_err(refuse)?;
    Ok(Some(text))
}

/// The place of a file inside a context, if its directory is in there.
fn below(root: &Path, path: &Path) -> Option<PathBuf> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = fs::canonicalize(directory.unwrap_or(Path::new("."))).ok()?;
    Some(directory.strip_prefix(root).ok()?.join(path.file_name()?))
}

/// Opens what the user named, of whatever kind: it may be a pipe.
fn open_named(path: &Path) -> std::io::Result<fs::File> {
    fs::File::open(path)
}

fn missing(path: &Path) -> Error {
    let message = format!("failed to read dockerfile: there is no {}", path.display());
    Error::new(Kind::NotFound, message).hint("-f names it, if it is another file")
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| NAME.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The patterns of `<Dockerfile>.dockerignore`, else of `.dockerignore`.
fn ignore(place: &Place, root: Option<&Path>, dockerfile: Option<&Path>) -> Result<Ignore> {
    let Some(root) = root else { return Ok(Ignore::default()) };
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in own.into_iter().chain([root.join(".dockerignore")]) {
        let Some(text) = read(place, &path)? else { continue };
        return Ignore::parse(&String::from_utf8_lossy(&text)).map_err(|error| {
            Error::caused(Kind::Invalid, format!("read {}", path.display()), error)
        });
    }
    Ok(Ignore::default())
}
