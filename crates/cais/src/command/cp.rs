//! `cais cp`

mod path;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, PipeReader, PipeWriter, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use engine::{Error, Extract, Files, Kind, PathStat, Result};
use store::{Live, Owner, Unpack};

use crate::output::human_size;
use crate::session::Session;
use path::{Destination, Source};

/// The file type bits of stat(2), and some of their values.
const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const REGULAR: u32 = 0o100_000;

/// What `cp` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    pub(super) archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    pub(super) follow_link: bool,
    /// Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// CONTAINER:PATH, a path of this machine's, or `-` for an archive from standard input
    #[arg(value_name = "[CONTAINER:]SRC_PATH|-")]
    pub(super) source: OsString,
    /// The same, with an archive to standard output
    #[arg(value_name = "[CONTAINER:]DEST_PATH|-")]
    pub(super) destination: OsString,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    copy(args, |container| {
        let engine = session.engine()?;
        Ok(Box::new(engine.files(&engine.find(container)?)?))
    })
}

/// The files of a container, wherever that is.
pub(super) trait There {
    /// What is at a path; a link is not followed.
    fn stat(&self, path: &Path) -> Result<PathStat>;

    /// Writes what is at a path as an archive, in which it is called `title`.
    fn archive(&self, path: &Path, title: Option<&[u8]>, out: &mut dyn Write) -> Result<()>;

    /// Unpacks an archive below a directory.
    fn extract(&self, path: &Path, options: Extract, archive: &mut (dyn Read + Send))
    -> Result<()>;
}

impl There for Files<'_> {
    fn stat(&self, path: &Path) -> Result<PathStat> {
        Files::stat(self, path)
    }

    fn archive(&self, path: &Path, title: Option<&[u8]>, out: &mut dyn Write) -> Result<()> {
        Files::archive(self, path, title, out).map(drop)
    }

    fn extract(
        &self,
        path: &Path,
        options: Extract,
        archive: &mut (dyn Read + Send),
    ) -> Result<()> {
        Files::extract(self, path, options, archive)
    }
}

/// Copies between this machine and a container, whose files `open` finds.
pub(super) fn copy<'a>(
    args: &Args,
    open: impl FnOnce(&str) -> Result<Box<dyn There + 'a>>,
) -> Result<i32> {
    for (text, what) in [(&args.source, "source"), (&args.destination, "destination")] {
        if text.is_empty() {
            return Err(Error::invalid(format!("{what} can not be empty")));
        }
    }
    let (from, source) = path::split_container(&args.source);
    let (to, destination) = path::split_container(&args.destination);
    let (container, copy): (_, Copy) = match (&from, &to) {
        (Some(container), None) => (container, take_out),
        (None, Some(container)) => (container, put_in),
        (Some(_), Some(_)) => {
            return Err(Error::new(
                Kind::Unsupported,
                "copying between containers is not supported",
            )
            .hint("cais cp A:PATH - | cais cp - B:PATH"));
        }
        (None, None) => {
            return Err(Error::invalid("must specify at least one container source")
                .hint("as in cais cp web:/etc/nginx ."));
        }
    };
    let files = open(container)?;
    let (bytes, target) = copy(&*files, args, &source, &destination)?;
    if !args.quiet && io::stdout().is_terminal() && target.as_os_str() != "-" {
        let size = human_size(bytes, 3);
        let place = to.map_or_else(String::new, |container| format!("{container}:"));
        crate::progress::note(&format!(
            "Successfully copied {size} to {place}{}",
            target.display()
        ));
    }
    Ok(0)
}

/// Copies; how many bytes of archive that were, and where it is now.
type Copy = fn(&dyn There, &Args, &Path, &Path) -> Result<(u64, PathBuf)>;

fn take_out(
    files: &dyn There,
    args: &Args,
    source: &Path,
    target: &Path,
) -> Result<(u64, PathBuf)> {
    let to_output = target.as_os_str() == "-";
    let target = if to_output { target.to_owned() } else { path::absolute(target)? };
    if !to_output {
        check_target(&target)?;
    }
    let mut source = Source { path: source.to_owned(), ..Source::default() };
    let mut found = files.stat(&source.path);
    if let (true, Ok(link)) = (args.follow_link, &found)
        && link.mode & TYPE == LINK
    {
        let target = path::beside(&engine::clean_path(&source.path), &link.link_target);
        (source.path, source.title) = path::renamed(&source.path, &target);
        found = files.stat(&source.path);
    }
    source.is_directory = found?.mode & TYPE == DIRECTORY;
    if to_output {
        let mut out = io::BufWriter::new(io::stdout().lock());
        files.archive(&source.path, None, &mut out)?;
        out.flush().map_err(|error| Error::caused(Kind::Internal, "write the archive", error))?;
        return Ok((0, target));
    }
    let (directory, name) = path::place(&source, &path::destination(&target)?)?;
    let live = Live::at(&directory)?;
    let owner = if args.archive { Owner::Archive } else { Owner::Caller };
    let unpack = Unpack { path: Path::new("/"), owner, keeps_kinds: true };
    let (archive, out) = pipe()?;
    let (packed, unpacked) = beside(
        || {
            let mut out = out;
            files.archive(&source.path, Some(name.as_bytes()), &mut out)
        },
        || -> Result<u64> {
            // Closed at the end, however that comes: nobody shall wait for a reader who has gone.
            let mut archive = archive;
            live.unpack(unpack, &mut archive)?;
            Ok(archive.bytes)
        },
    );
    outcome(packed, unpacked).map(|bytes| (bytes, target))
}

fn put_in(files: &dyn There, args: &Args, source: &Path, target: &Path) -> Result<(u64, PathBuf)> {
    let from_input = source.as_os_str() == "-";
    let shown = target.display();
    let mut destination = Destination { path: target.to_owned(), ..Destination::default() };
    let mut found = files.stat(target);
    if let Ok(link) = &found
        && link.mode & TYPE == LINK
    {
        destination.path = path::beside(&engine::clean_path(target), &link.link_target);
        found = files.stat(&destination.path);
    }
    if let Ok(there) = &found {
        (destination.exists, destination.is_directory) = (true, there.mode & TYPE == DIRECTORY);
        if !matches!(there.mode & TYPE, DIRECTORY | REGULAR) {
            let why = format!("destination \"{shown}\" must be a directory or a regular file");
            return Err(Error::invalid(why));
        }
    }
    let options = Extract { keeps_kinds: true, own_user: args.archive };
    if from_input {
        if !destination.is_directory {
            return Err(Error::invalid(format!("destination \"{shown}\" must be a directory")));
        }
        let mut archive = Counted { inner: io::stdin(), bytes: 0 };
        files.extract(&destination.path, options, &mut archive)?;
        return Ok((archive.bytes, destination.path));
    }
    let source = path::absolute(source)?;
    let missing = |error: io::Error| {
        Error::caused(Kind::NotFound, format!("lstat {}", source.display()), error)
    };
    let found = path::source(&source, args.follow_link).map_err(missing)?;
    let (directory, name) = path::place(&found, &destination)?;
    let (above, entry) = path::split(&found.path);
    let live = Live::at(&above)?;
    let entry = if entry.is_empty() { OsString::from(".") } else { entry };
    let (archive, out) = pipe()?;
    let entry = Path::new("/").join(&entry);
    let (unpacked, packed) = beside(
        || -> Result<u64> {
            let mut archive = archive;
            files.extract(&directory, options, &mut archive)?;
            Ok(archive.bytes)
        },
        || Ok(live.pack(&entry, Some(name.as_bytes()), out).map(drop)?),
    );
    outcome(packed, unpacked).map(|bytes| (bytes, destination.path))
}

/// From whoever packs to whoever unpacks.
fn pipe() -> Result<(Counted<PipeReader>, PipeWriter)> {
    let pipe = io::pipe();
    let (inner, out) = pipe.map_err(|error| Error::caused(Kind::Internal, "make a pipe", error))?;
    Ok((Counted { inner, bytes: 0 }, out))
}

/// Does both at the same time, the second on another thread.
fn beside<A, B: Send>(
    own: impl FnOnce() -> Result<A>,
    other: impl FnOnce() -> Result<B> + Send,
) -> (Result<A>, Result<B>) {
    thread::scope(|scope| {
        let other = scope.spawn(other);
        let own = own();
        (own, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// What came of it: the failure of one side makes the other fail, too.
fn outcome(packed: Result<()>, unpacked: Result<u64>) -> Result<u64> {
    match (packed, unpacked) {
        (Ok(()), unpacked) => unpacked,
        (Err(packed), Err(unpacked)) if is_broken_pipe(&packed) => Err(unpacked),
        (Err(packed), _) => Err(packed),
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    let mut causes =
        std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        kind == Some(io::ErrorKind::BrokenPipe)
    })
}

/// Whether something can be copied to a path of this machine's, in Docker's words.
fn check_target(target: &Path) -> Result<()> {
    let (directory, _) = path::split(&engine::clean_path(&plain(target)));
    if !directory.exists() {
        let why = format!("invalid output path: directory {directory:?} does not exist");
        return Err(Error::invalid(why));
    }
    match std::fs::metadata(target) {
        Ok(found) if !found.is_dir() && !found.is_file() => {
            let target = target.display();
            Err(Error::invalid(format!(
                "invalid output path: \"{target}\" must be a directory or a regular file"
            )))
        }
        _ => Ok(()),
    }
}

/// Without what asks for a directory at its end.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Bytes that were read.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
