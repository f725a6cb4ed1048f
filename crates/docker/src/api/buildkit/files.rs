//! Files on their way between a client and us: fsutil's protocol.
//!
//! One side lists everything it has, in order, with the number of each as its place in the list; the
//! other asks for the content of what it wants by number, and says when it has everything.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use grpc::proto::{Message, fields};
use grpc::{Code, Connection, Status, Stream};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Outcome, PIECE_BYTES, invalid, unsupported};

/// Files that are asked for and not whole, at most: a client queues 128 before it stops listening.
const ASKED_MAX: usize = 64;
/// Entries of one directory tree.
const ENTRIES_MAX: u32 = 4_000_000;

/// Kinds of packets.
const STAT: u64 = 0;
const REQUEST: u64 = 1;
const DATA: u64 = 2;
const FINISH: u64 = 3;
const ERROR: u64 = 4;

/// Bits of Go's `os.FileMode`, which modes are written as.
mod go {
    pub(super) const DIRECTORY: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const PIPE: u32 = 1 << 25;
    pub(super) const SET_UID: u32 = 1 << 23;
    pub(super) const SET_GID: u32 = 1 << 22;
    pub(super) const STICKY: u32 = 1 << 20;
    /// All kinds of files, of which a regular one has none.
    pub(super) const KIND: u32 = 0x8f28_0000;
    /// Those bits that Unix has elsewhere.
    pub(super) const SPECIAL: [(u32, u32); 3] =
        [(SET_UID, 0o4000), (SET_GID, 0o2000), (STICKY, 0o1000)];
}

/// What is asked of a client.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// The name that it has a directory by.
    pub(super) name: &'a str,
    /// What it is, for people.
    pub(super) what: &'a str,
    /// The only paths that are wanted, with what they lead to; all where there are none.
    pub(super) follow: &'a [&'a str],
    /// Patterns of what is not wanted.
    pub(super) exclude: &'a [String],
}

/// Something in the list.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    path: String,
    mode: u32,
    link: String,
}

/// Receives files into a directory of ours: how many bytes came, of which `tell` hears.
pub(super) fn receive(
    session: &Connection,
    request: &Request<'_>,
    into: &Path,
    tell: &mut dyn FnMut(u64),
) -> Outcome<u64> {
    let mut metadata: Vec<(&str, String)> = vec![("dir-name", request.name.to_owned())];
    let exclude: Vec<&str> = request.exclude.iter().map(String::as_str).collect();
    for (key, flag, values) in [
        ("followpaths", "followpaths-encoded", request.follow),
        ("exclude-patterns", "exclude-patterns-encoded", &exclude),
    ] {
        // Fields of headers are in ASCII.
        let is_encoded = values.iter().any(|value| !value.is_ascii());
        if is_encoded {
            metadata.push((flag, "1".to_owned()));
        }
        let encode =
            |value: &&str| if is_encoded { httpd::encode(value) } else { (*value).to_owned() };
        metadata.extend(values.iter().map(|value| (key, encode(value))));
    }
    let metadata: Vec<(&str, &str)> =
        metadata.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let stream = session.call("/moby.filesync.v1.FileSync/DiffCopy", &metadata)?;
    let root = File::open(into).map_err(|error| broken("open the context", &error))?;
    let mut receiver = Receiver {
        stream,
        root,
        listed: 0,
        wanted: VecDeque::new(),
        asked: HashMap::new(),
        bytes: 0,
    };
    let received = receiver.run(tell);
    if let Err(status) = &received {
        // The other side says what we say, if anybody asks.
        let _ = receiver.stream.send(&packet(ERROR).bytes(4, status.message.as_bytes()));
    }
    received.map(|()| receiver.bytes)
}

fn packet(kind: u64) -> Message {
    Message::new().number(1, kind)
}

fn broken(doing: &str, error: &std::io::Error) -> Status {
    Status::new(Code::Internal, format!("{doing}: {error}"))
}

struct Receiver {
    stream: Stream,
    root: File,
    listed: u32,
    /// Files that were listed and not asked for: number, path, and permissions.
    wanted: VecDeque<(u32, String, u32)>,
    /// Files that were asked for and are not whole.
    asked: HashMap<u32, File>,
    bytes: u64,
}

impl Receiver {
    fn run(&mut self, tell: &mut dyn FnMut(u64)) -> Outcome {
        let mut is_listed = false;
        let mut told = 0;
        loop {
            while self.asked.len() < ASKED_MAX
                && let Some((number, path, mode)) = self.wanted.pop_front()
            {
                self.ask(number, &path, mode)?;
            }
            if is_listed && self.asked.is_empty() {
                break;
            }
            let message = self.stream.receive()?;
            let message = message.ok_or_else(|| invalid("the client stopped sending files"))?;
            let (mut kind, mut entry, mut number, mut data) = (STAT, None, 0, &[][..]);
            for field in fields(&message) {
                match field? {
                    (1, value) => kind = value.number(),
                    (2, value) => entry = Some(read_entry(value.bytes())?),
                    (3, value) => number = value.number() as u32,
                    (4, value) => data = value.bytes(),
                    _ => {}
                }
            }
            match (kind, entry) {
                (STAT, Some(entry)) => self.list(entry)?,
                (STAT, None) => is_listed = true,
                (DATA, _) => self.take(number, data)?,
                (ERROR, _) => {
                    let why = String::from_utf8_lossy(data);
                    return Err(Status::new(Code::Unknown, format!("error from sender: {why}")));
                }
                _ => return Err(invalid("the client sends packets of an unknown kind")),
            }
            if self.bytes - told > PIECE_BYTES as u64 {
                told = self.bytes;
                tell(told);
            }
        }
        self.stream.send(&packet(FINISH))?;
        // The other side finishes, too.
        while self.stream.receive()?.is_some() {}
        Ok(())
    }

    fn list(&mut self, entry: Entry) -> Outcome {
        let number = self.listed;
        self.listed += 1;
        if number >= ENTRIES_MAX {
            return Err(invalid(format!("the context has more than {ENTRIES_MAX} files")));
        }
        let Entry { path, mode, link } = entry;
        if !is_plain(&path) {
            return Err(invalid(format!("invalid path {path:?} in the context")));
        }
        let doing = |error: Errno| broken(&format!("receive {path}"), &error.into());
        let (parent, name) = self.parent(&path).map_err(doing)?;
        let permissions = permissions(mode);
        match mode & go::KIND {
            go::DIRECTORY => {
                rustix::fs::mkdirat(&parent, name, Mode::RWXU).map_err(doing)?;
                rustix::fs::chmodat(&parent, name, permissions, AtFlags::empty()).map_err(doing)?;
            }
            go::SYMLINK => rustix::fs::symlinkat(&*link, &parent, name).map_err(doing)?,
            0 if !link.is_empty() => {
                if !is_plain(&link) {
                    return Err(invalid(format!("invalid link to {link:?} in the context")));
                }
                let (other, old) = self.parent(&link).map_err(doing)?;
                rustix::fs::linkat(&other, old, &parent, name, AtFlags::empty()).map_err(doing)?;
            }
            0 => {
                // So that links to it can be made before its content is here.
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR).map_err(doing)?;
                self.wanted.push_back((number, path, permissions.as_raw_mode()));
            }
            go::PIPE => {
                let kind = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(&parent, name, kind, permissions, 0).map_err(doing)?;
            }
            _ => return Err(unsupported(format!("{path} in the context is a device or a socket"))),
        }
        Ok(())
    }

    /// The directory that a path lies in, without following links, and its name there.
    fn parent<'p>(&self, path: &'p str) -> Result<(std::os::fd::OwnedFd, &'p str), Errno> {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let parent = rustix::fs::openat2(&self.root, parent, flags, Mode::empty(), resolve)?;
        Ok((parent, name))
    }

    fn ask(&mut self, number: u32, path: &str, mode: u32) -> Outcome {
        let doing = |error: Errno| broken(&format!("receive {path}"), &error.into());
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve);
        let file = file.map_err(doing)?;
        rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(mode)).map_err(doing)?;
        self.asked.insert(number, file.into());
        self.stream.send(&packet(REQUEST).number(3, number.into()))
    }

    fn take(&mut self, number: u32, data: &[u8]) -> Outcome {
        let Some(file) = self.asked.get_mut(&number) else {
            return Err(invalid(format!("the client sends file {number}, which nobody asked for")));
        };
        if data.is_empty() {
            self.asked.remove(&number);
            return Ok(());
        }
        file.write_all(data).map_err(|error| broken("write a file of the context", &error))?;
        self.bytes += data.len() as u64;
        Ok(())
    }
}

/// Reads `fsutil.types.Stat`.
fn read_entry(message: &[u8]) -> Outcome<Entry> {
    let mut entry = Entry::default();
    for field in fields(message) {
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).map_err(|_| {
                let name = String::from_utf8_lossy(bytes);
                unsupported(format!("{name:?} in the context is not named in UTF-8"))
            })
        };
        match field? {
            (1, value) => entry.path = text(value.bytes())?,
            (2, value) => entry.mode = value.number() as u32,
            (7, value) => entry.link = text(value.bytes())?,
            // Whose files they are, and when they were changed, does not count in a build.
            _ => {}
        }
    }
    Ok(entry)
}

/// Whether a path goes down only.
fn is_plain(path: &str) -> bool {
    let is_normal = |part: Component<'_>| matches!(part, Component::Normal(_));
    !path.is_empty()
        && !path.contains('\0')
        && !path.ends_with('/')
        && Path::new(path).components().all(is_normal)
}

fn permissions(mode: u32) -> Mode {
    let special = go::SPECIAL.iter().filter(|(theirs, _)| mode & theirs != 0);
    let bits = special.fold(mode & 0o777, |bits, (_, ours)| bits | ours);
    Mode::from_raw_mode(bits)
}

/// Sends the files below a directory of ours to a client's exporter of this number.
pub(super) fn send(session: &Connection, exporter: usize, from: &Path) -> Outcome {
    let number = exporter.to_string();
    let metadata = [("buildkit-attachable-exporter-id", &*number)];
    let stream = session.call("/moby.filesync.v1.FileSend/DiffCopy", &metadata)?;
    let mut paths = Vec::new();
    list(&stream, from, Path::new(""), &mut paths)?;
    stream.send(&packet(STAT))?;
    loop {
        let message = stream.receive()?;
        let message = message.ok_or_else(|| invalid("the client stopped taking files"))?;
        let (mut kind, mut number, mut data) = (STAT, 0, &[][..]);
        for field in fields(&message) {
            match field? {
                (1, value) => kind = value.number(),
                (3, value) => number = value.number(),
                (4, value) => data = value.bytes(),
                _ => {}
            }
        }
        match kind {
            REQUEST => {
                let path = usize::try_from(number).ok().and_then(|number| paths.get(number));
                let path = path.ok_or_else(|| invalid("the client asks for what is not listed"))?;
                send_file(&stream, number, &from.join(path))?;
            }
            FINISH => break,
            _ => {
                let why = String::from_utf8_lossy(data);
                return Err(Status::new(Code::Unknown, format!("error from receiver: {why}")));
            }
        }
    }
    stream.send(&packet(FINISH))?;
    stream.end()?;
    while stream.receive()?.is_some() {}
    Ok(())
}

/// Lists what is in a directory, sorted, each directory before what is in it.
fn list(stream: &Stream, root: &Path, below: &Path, paths: &mut Vec<PathBuf>) -> Outcome {
    let doing = |error: std::io::Error| broken("list the files of the image", &error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root.join(below)).map_err(doing)? {
        names.push(entry.map_err(doing)?.file_name());
    }
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    for name in names {
        let path = below.join(name);
        let place = root.join(&path);
        let facts = std::fs::symlink_metadata(&place).map_err(doing)?;
        let kind = facts.file_type();
        let mut link = PathBuf::new();
        let mode = if kind.is_dir() {
            go::DIRECTORY
        } else if kind.is_symlink() {
            link = std::fs::read_link(&place).map_err(doing)?;
            go::SYMLINK
        } else if kind.is_file() {
            0
        } else {
            go::PIPE
        };
        let special = go::SPECIAL.iter().filter(|(_, ours)| facts.mode() & ours != 0);
        let mode = special.fold(mode | facts.mode() & 0o777, |mode, (theirs, _)| mode | theirs);
        let size = if kind.is_file() { facts.len() } else { 0 };
        let nanoseconds = facts.mtime() * 1_000_000_000 + facts.mtime_nsec();
        let stat = Message::new().bytes(1, path.as_os_str().as_bytes()).number(2, mode.into());
        let stat = stat.number(3, facts.uid().into()).number(4, facts.gid().into());
        let stat = stat.number(5, size).number(6, nanoseconds.cast_unsigned());
        let stat = stat.bytes(7, link.as_os_str().as_bytes());
        stream.send(&packet(STAT).message(2, &stat))?;
        paths.push(path.clone());
        if kind.is_dir() {
            list(stream, root, &path, paths)?;
        }
    }
    Ok(())
}

fn send_file(stream: &Stream, number: u64, path: &Path) -> Outcome {
    let doing = |error: std::io::Error| broken("read a file of the image", &error);
    let mut file = File::open(path).map_err(doing)?;
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let length = file.read(&mut buffer).map_err(doing)?;
        // An empty piece is the end.
        stream.send(&packet(DATA).number(3, number).bytes(4, &buffer[..length]))?;
        if length == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_down_only() {
        for plain in ["a", "a/b", "a/..b", "ü"] {
            assert!(is_plain(plain), "{plain}");
        }
        for other in ["", "/a", "a/../b", "..", ".", "a/", "a\0b", "./a"] {
            assert!(!is_plain(other), "{other}");
        }
    }

    #[test]
    fn modes_are_translated() {
        let mode = permissions(go::DIRECTORY | go::SET_UID | go::STICKY | 0o755);
        assert_eq!(mode.as_raw_mode(), 0o5755);
        let all = go::DIRECTORY | go::SYMLINK | go::PIPE;
        assert_eq!(all & go::KIND, all);
        assert_eq!((go::SET_UID | go::SET_GID | go::STICKY | 0o777) & go::KIND, 0);
    }
}
