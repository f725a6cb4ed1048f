//! Files whose content this process makes when they are read: file systems of one file, in the
//! kernel's protocol for file systems in user space (Linux, include/uapi/linux/fuse.h).
//!
//! Each file is a file system of its own whose root is no directory. So nothing has to be looked up
//! in it to mount it where it belongs, and nobody waits for an answer of this process until a
//! program opens it. [`ServedFile`] is one whose content is small and made anew; what is in a
//! [`FileDevice`] is read in parts.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Doing, Error};
use crate::mount::filesystem::Description;

/// What a request may be at most, in bytes: `FUSE_MIN_READ_BUFFER`.
const REQUEST_BYTES: usize = 8192;
/// `struct fuse_in_header`.
const HEAD_BYTES: usize = 40;
/// The version that is spoken; the kernel speaks older ones too.
const VERSION: [u32; 2] = [7, 31];
/// What is written at most, in bytes: nothing is.
const WRITE_BYTES: u32 = 4096;
/// `S_IFREG`, readable by all.
const MODE: u32 = 0o100_444;
/// `FOPEN_DIRECT_IO`: each read(2) is asked for, and no size is believed.
const DIRECT_IO: u32 = 1;

/// How long content is good for: whoever reads faster gets it again.
const FRESH: Duration = Duration::from_millis(10);
/// How many requests are answered in one go.
const REQUESTS_MAX: usize = 16;

/// `enum fuse_opcode`.
mod opcode {
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const STATFS: u32 = 17;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const INIT: u32 = 26;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const BATCH_FORGET: u32 = 42;
}

/// What a file holds.
pub trait Source {
    /// Bytes.
    fn size(&mut self) -> u64;

    /// At most `length` bytes from `offset` on; fewer at the end.
    ///
    /// # Errors
    /// What the reader gets.
    fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, Errno>;
}

/// Where requests about one file come from; its mount is dead when this is dropped.
#[derive(Debug)]
pub struct FileDevice(OwnedFd);

impl FileDevice {
    /// Makes a file, and its mount, which is attached nowhere.
    ///
    /// # Errors
    /// When this kernel has no FUSE, or `/dev/fuse` cannot be opened.
    pub fn make() -> Result<(OwnedFd, FileDevice), Error> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let device =
            rustix::fs::open("/dev/fuse", flags, Mode::empty()).doing(|| "open /dev/fuse")?;
        let described = Description::new("fuse")?;
        described.set("source", Some("cais"))?;
        described.set("fd", Some(&device.as_raw_fd().to_string()))?;
        described.set("rootmode", Some(&format!("{MODE:o}")))?;
        for id in ["user_id", "group_id"] {
            described.set(id, Some("0"))?;
        }
        described.set("allow_other", None)?;
        // With it, the kernel asks for the file's size whenever it is opened.
        described.set("default_permissions", None)?;
        let mount = described
            .mount(libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV)?;
        Ok((mount, FileDevice(device)))
    }

    /// Answers one request, if there is one: several threads may do so. Whether there was.
    ///
    /// # Errors
    /// [`Errno::NODEV`] once nobody has the file mounted or open.
    pub fn answer(&self, source: &mut dyn Source) -> Result<bool, Errno> {
        let mut request = [0; REQUEST_BYTES];
        let length = match rustix::io::read(&self.0, &mut request) {
            // It was taken back, or somebody else was faster.
            Err(Errno::AGAIN | Errno::INTR | Errno::NOENT) => return Ok(false),
            read => read?,
        };
        if let Some(answer) = reply(&request[..length], source) {
            // Whoever asked may have been killed meanwhile.
            let _ = rustix::io::write(&self.0, &answer);
        }
        Ok(true)
    }
}

impl AsFd for FileDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The answer to a request, if it gets one.
fn reply(request: &[u8], source: &mut dyn Source) -> Option<Vec<u8>> {
    let number = |at: usize| {
        let bytes = request.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let unique = request.get(8..16)?;
    let body = match number(4)? {
        opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => return None,
        opcode::INIT => Ok(init()),
        opcode::GETATTR => Ok(attributes(source.size())),
        // Nobody but readers: the first bits are O_RDONLY, O_WRONLY and O_RDWR.
        opcode::OPEN if number(HEAD_BYTES)? & 3 == 0 => Ok(words(&[0, 0, DIRECT_IO, 0])),
        opcode::OPEN => Err(Errno::ACCESS),
        opcode::READ => {
            let offset =
                u64::from(number(HEAD_BYTES + 8)?) | u64::from(number(HEAD_BYTES + 12)?) << 32;
            source.read(offset, number(HEAD_BYTES + 16)? as usize)
        }
        opcode::RELEASE => Ok(Vec::new()),
        opcode::STATFS => Ok(vec![0; 80]),
        _ => Err(Errno::NOSYS),
    };
    let (error, body) = match body {
        Ok(body) => (0, body),
        Err(errno) => (-errno.raw_os_error(), Vec::new()),
    };
    let length = u32::try_from(16 + body.len()).ok()?;
    let head = [&length.to_le_bytes()[..], &error.to_le_bytes(), unique];
    Some([&head.concat()[..], &body].concat())
}

/// A file whose content this process makes when it is read from its beginning.
#[derive(Debug)]
pub struct ServedFile {
    device: FileDevice,
    content: Content,
}

/// What was made last.
#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    made: Option<Instant>,
}

impl ServedFile {
    /// Makes a file, and its mount, which is attached nowhere.
    ///
    /// # Errors
    /// As of [`FileDevice::make`].
    pub fn make() -> Result<(OwnedFd, ServedFile), Error> {
        let (mount, device) = FileDevice::make()?;
        Ok((mount, ServedFile { device, content: Content::default() }))
    }

    /// Answers what was asked; `make` makes the content anew.
    pub fn answer(&mut self, make: &mut dyn FnMut() -> Vec<u8>) {
        let mut source = Made { content: &mut self.content, make };
        for _ in 0..REQUESTS_MAX {
            if self.device.answer(&mut source) != Ok(true) {
                return;
            }
        }
    }
}

/// Content, and how it is made.
struct Made<'a> {
    content: &'a mut Content,
    make: &'a mut dyn FnMut() -> Vec<u8>,
}

impl Made<'_> {
    fn refresh(&mut self) {
        if self.content.made.is_none_or(|made| made.elapsed() >= FRESH) {
            *self.content = Content { bytes: (self.make)(), made: Some(Instant::now()) };
        }
    }
}

impl Source for Made<'_> {
    fn size(&mut self) -> u64 {
        self.refresh();
        self.content.bytes.len() as u64
    }

    fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
        if offset == 0 {
            self.refresh();
        }
        let bytes = &self.content.bytes;
        let start = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
        let end = start.saturating_add(length).min(bytes.len());
        Ok(bytes[start..end].to_vec())
    }
}

impl AsFd for ServedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// `struct fuse_init_out`, of 64 bytes: nothing beyond the plain protocol.
fn init() -> Vec<u8> {
    let [major, minor] = VERSION;
    let mut out = words(&[major, minor, 0, 0, 0, WRITE_BYTES, 1]);
    out.resize(64, 0);
    out
}

/// `struct fuse_attr_out`, which is not to be remembered: sendfile(2) believes the size.
fn attributes(size: u64) -> Vec<u8> {
    let mut out = vec![0; 16];
    // Inode, size, blocks, and three times.
    out.extend([1, size].iter().flat_map(|number: &u64| number.to_le_bytes()));
    out.resize(out.len() + 32, 0);
    // Nanoseconds of the times; mode, links, owner, group, device, size of a block, flags.
    out.extend(words(&[0, 0, 0, MODE, 1, 0, 0, 0, 4096, 0]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(content: &mut Content, opcode: u32, body: &[u32]) -> Option<(i32, Vec<u8>)> {
        let mut request = words(&[0, opcode, 7, 0]);
        request.resize(HEAD_BYTES, 0);
        request.extend(words(body));
        let answer = reply(&request, &mut Made { content, make: &mut || b"content".to_vec() })?;
        assert_eq!(answer.len(), u32::from_le_bytes(answer[..4].try_into().unwrap()) as usize);
        assert_eq!(&answer[8..16], &7_u64.to_le_bytes());
        Some((i32::from_le_bytes(answer[4..8].try_into().unwrap()), answer[16..].to_vec()))
    }

    #[test]
    fn requests_get_their_answers() {
        let mut content = Content::default();
        let content = &mut content;
        assert_eq!(ask(content, opcode::INIT, &[7, 40]).unwrap().1.len(), 64);
        assert_eq!(ask(content, opcode::GETATTR, &[]).unwrap().1.len(), 104);
        assert_eq!(ask(content, opcode::OPEN, &[0]).unwrap().0, 0);
        assert_eq!(ask(content, opcode::OPEN, &[1]).unwrap().0, -libc::EACCES);
        let mut read =
            |offset, size| ask(content, opcode::READ, &[0, 0, offset, 0, size]).unwrap().1;
        assert_eq!(read(0, 4), b"cont");
        assert_eq!(read(4, 100), b"ent");
        assert_eq!(read(100, 100), b"");
        assert_eq!(ask(content, opcode::FORGET, &[]), None);
        assert_eq!(ask(content, 1, &[]).unwrap().0, -libc::ENOSYS);
        // What is too short to be a request is none.
        assert_eq!(reply(&[0; 5], &mut Made { content, make: &mut Vec::new }), None);
    }
}
