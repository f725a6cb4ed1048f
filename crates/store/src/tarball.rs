//! Reads tar archives: ustar, pax and GNU, as a stream (POSIX.1-2017 pax "Interchange Format";
//! GNU tar manual, "Tar Internals"). Only headers are understood here; nothing touches the disk.

mod sparse;

use std::io::{self, BufRead};

use self::sparse::{DecimalLines, SEGMENTS_MAX, check_segments, gnu_segment_slots, pairs};
use crate::error::{Doing as _, Error, invalid};

const BLOCK: usize = 512;
/// Of one pax header or GNU long name; Go's limit.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// Extended attributes of one entry; file systems hold fewer.
const XATTRS_MAX: usize = 256;
/// Of the name of an extended attribute (kernel, `XATTR_NAME_MAX`).
const XATTR_NAME_MAX: usize = 255;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One member of an archive: its header, with the extensions before it applied.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// As written: not normalised, not trusted.
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    /// The twelve permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime_s: i64,
    pub(crate) mtime_ns: u32,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// The size of the file that results, in bytes.
    pub(crate) size: u64,
    /// Extended attributes.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data goes in a sparse file: offset and length, ascending.
    pub(crate) sparse: Option<Vec<(u64, u64)>>,
}

/// Walks over the entries of an archive.
#[derive(Debug)]
pub(crate) struct Tar<R> {
    input: R,
    /// Data of the current entry that was not read yet.
    data: u64,
    padding: u64,
    /// Whether a header was read.
    begun: bool,
    ended: bool,
}

/// What extension headers say about the next entry.
#[derive(Debug, Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    gnu_name: Option<Vec<u8>>,
    gnu_link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: PaxSparse,
}

/// GNU's sparse files in pax headers, formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
struct PaxSparse {
    is_1_0: bool,
    real_size: Option<u64>,
    name: Option<Vec<u8>>,
    /// Offsets and lengths in turn.
    map: Option<Vec<u64>>,
}

impl<R: BufRead> Tar<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, data: 0, padding: 0, begun: false, ended: false }
    }

    /// The next entry; `None` at the end. Data that was not read is passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut extensions = Extensions::default();
        let mut extended = false;
        loop {
            self.skip_data()?;
            let Some(header) = self.header()? else {
                return if extended {
                    invalid("archive ends after an extension header")
                } else {
                    Ok(None)
                };
            };
            let size = number(&header[124..136], "size")?;
            match header[156] {
                b'x' => pax_records(&self.extension(size)?, &mut extensions)?,
                // Global headers carry a comment of git; Docker ignores them, too.
                b'g' => drop(self.extension(size)?),
                b'L' => extensions.gnu_name = Some(until_nul(&self.extension(size)?)),
                b'K' => extensions.gnu_link = Some(until_nul(&self.extension(size)?)),
                _ => return self.entry(&header, extensions).map(Some),
            }
            extended = header[156] != b'g';
        }
    }

    /// Some of the current entry's data; empty when there is no more.
    pub(crate) fn data(&mut self) -> Result<&[u8], Error> {
        if self.data == 0 {
            return Ok(&[]);
        }
        let chunk = fill(&mut self.input)?;
        let n = chunk.len().min(usize::try_from(self.data).unwrap_or(usize::MAX));
        Ok(&chunk[..n])
    }

    /// Marks `n` bytes of what [`Tar::data`] gave as read.
    pub(crate) fn consume(&mut self, n: usize) {
        self.input.consume(n);
        self.data -= n as u64;
    }

    /// Reads what follows the end of the archive, to the end of the stream.
    pub(crate) fn drain(&mut self) -> Result<(), Error> {
        loop {
            let n = self.input.fill_buf().map_err(from_stream)?.len();
            if n == 0 {
                return Ok(());
            }
            self.input.consume(n);
        }
    }

    pub(crate) fn into_input(self) -> R {
        self.input
    }

    fn skip_data(&mut self) -> Result<(), Error> {
        let mut left = self.data + self.padding;
        while left > 0 {
            let n = fill(&mut self.input)?.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.input.consume(n);
            left -= n as u64;
        }
        (self.data, self.padding) = (0, 0);
        Ok(())
    }

    /// The next block that is a header, or `None` at the end: two blocks of zeros, as GNU and POSIX
    /// write, or the end of the stream between two entries, as Go's reader accepts.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        if self.ended {
            return Ok(None);
        }
        let first = self.block_or_end().map_err(|error| match error {
            Error::Invalid(_) if !self.begun => {
                Error::Invalid("this is no tar archive: it is shorter than a header".into())
            }
            error => error,
        })?;
        self.begun = true;
        if let Some(block) = first
            && block.iter().any(|&b| b != 0)
        {
            check_sum(&block)?;
            return Ok(Some(block));
        }
        self.ended = true;
        match first {
            Some(_) if self.block_or_end()?.is_some_and(|b| b.iter().any(|&b| b != 0)) => {
                invalid("malformed archive: data after a lone block of zeros")
            }
            _ => Ok(None),
        }
    }

    fn block_or_end(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        if self.input.fill_buf().map_err(from_stream)?.is_empty() {
            return Ok(None);
        }
        self.block().map(Some)
    }

    fn block(&mut self) -> Result<[u8; BLOCK], Error> {
        let mut block = [0; BLOCK];
        let mut at = 0;
        while at < BLOCK {
            let chunk = fill(&mut self.input)?;
            let n = chunk.len().min(BLOCK - at);
            block[at..at + n].copy_from_slice(&chunk[..n]);
            self.input.consume(n);
            at += n;
        }
        Ok(block)
    }

    /// Reads the whole data of an extension header.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > EXTENSION_BYTES_MAX {
            return invalid(format!("archive has an extension header of {size} bytes"));
        }
        self.data_follows(size);
        let mut bytes = Vec::with_capacity(size as usize);
        while self.data > 0 {
            let chunk = self.data()?;
            bytes.extend_from_slice(chunk);
            let n = chunk.len();
            self.consume(n);
        }
        Ok(bytes)
    }

    fn data_follows(&mut self, size: u64) {
        self.data = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn entry(&mut self, header: &[u8; BLOCK], ext: Extensions) -> Result<Entry, Error> {
        let mut name = ext.name.or(ext.gnu_name).unwrap_or_else(|| header_name(header));
        let kind = kind(header[156], &name)?;
        let mut stored = match ext.size {
            Some(size) => size,
            None => number(&header[124..136], "size")?,
        };
        // A directory of version 7 may have data; the other kinds have none, whatever they say.
        if matches!(header[156], b'1'..=b'6') {
            stored = 0;
        }
        self.data_follows(stored);
        let (mut size, mut sparse) = (stored, None);
        if header[156] == b'S' {
            size = number(&header[483..495], "size")?;
            sparse = Some(self.gnu_segments(header)?);
        } else if kind == Kind::File && (ext.sparse.is_1_0 || ext.sparse.map.is_some()) {
            size = match ext.sparse.real_size {
                Some(size) => size,
                None => return invalid("sparse archive entry without a size"),
            };
            name = ext.sparse.name.unwrap_or(name);
            sparse = Some(match ext.sparse.map {
                Some(map) if !ext.sparse.is_1_0 => pairs(&map)?,
                _ => self.map_in_data()?,
            });
        }
        if let Some(segments) = &sparse {
            check_segments(segments, size, self.data)?;
        }
        let mtime = match ext.mtime {
            Some(mtime) => mtime,
            None => (signed_number(&header[136..148], "modification time")?, 0),
        };
        let link = ext.link.or(ext.gnu_link).unwrap_or_else(|| until_nul(&header[157..257]));
        if link.contains(&0) {
            return invalid(format!("archive entry `{}` links to a name with a NUL", shown(&name)));
        }
        Ok(Entry {
            kind,
            name,
            link,
            mode: (number(&header[100..108], "mode")? & 0o7777) as u32,
            uid: owner(ext.uid, &header[108..116])?,
            gid: owner(ext.gid, &header[116..124])?,
            mtime_s: mtime.0,
            mtime_ns: mtime.1,
            major: device(kind, &header[329..337])?,
            minor: device(kind, &header[337..345])?,
            size,
            xattrs: ext.xattrs,
            sparse,
        })
    }

    /// The map of an old GNU sparse entry: four segments in the header, 21 in each further block.
    fn gnu_segments(&mut self, header: &[u8; BLOCK]) -> Result<Vec<(u64, u64)>, Error> {
        let mut segments = Vec::new();
        gnu_segment_slots(&header[386..482], &mut segments)?;
        let mut more = header[482] != 0;
        while more {
            let block = self.block()?;
            gnu_segment_slots(&block[..504], &mut segments)?;
            more = block[504] != 0;
            if segments.len() > SEGMENTS_MAX {
                return invalid("sparse archive entry with too many segments");
            }
        }
        Ok(segments)
    }

    /// The map of format 1.0: decimal lines at the start of the data, padded to a block.
    fn map_in_data(&mut self) -> Result<Vec<(u64, u64)>, Error> {
        let mut lines = DecimalLines::default();
        loop {
            if self.data < BLOCK as u64 {
                return invalid("sparse archive entry with a truncated map");
            }
            let block = self.block()?;
            self.data -= BLOCK as u64;
            if lines.take(&block)? {
                return pairs(&lines.numbers[1..]);
            }
        }
    }
}

/// Reads more, and says so if the archive is cut off.
fn fill<R: BufRead>(input: &mut R) -> Result<&[u8], Error> {
    let chunk = input.fill_buf().map_err(from_stream)?;
    if chunk.is_empty() {
        return invalid("archive is truncated");
    }
    Ok(chunk)
}

fn from_stream(source: io::Error) -> Error {
    Error::Io { doing: "read archive".into(), source }
}

/// The sum over the header with its own field as spaces; some old programs summed signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), Error> {
    let expected = number(&block[148..156], "checksum")?;
    let others = || block[..148].iter().chain(&block[156..]);
    let unsigned: u64 = others().map(|&b| u64::from(b)).sum::<u64>() + 8 * 32;
    let signed: i64 = others().map(|&b| i64::from(b.cast_signed())).sum::<i64>() + 8 * 32;
    if expected == unsigned || i64::try_from(expected) == Ok(signed) {
        return Ok(());
    }
    invalid("malformed archive: a header's checksum does not match")
}

fn kind(flag: u8, name: &[u8]) -> Result<Kind, Error> {
    Ok(match flag {
        // Version 7 had no directories but names that end in a slash.
        b'0' | 0 if name.ends_with(b"/") => Kind::Directory,
        b'0' | 0 | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => {
            return invalid(format!(
                "unsupported archive entry type `{}` of `{}`",
                other.escape_ascii(),
                name.escape_ascii()
            ));
        }
    })
}

/// Only POSIX headers have a prefix; GNU's keep other things there.
fn header_name(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    if &header[257..263] != b"ustar\0" || header[345] == 0 {
        return name;
    }
    let mut whole = until_nul(&header[345..500]);
    whole.push(b'/');
    whole.extend_from_slice(&name);
    whole
}

fn until_nul(field: &[u8]) -> Vec<u8> {
    field.split(|&b| b == 0).next().unwrap_or_default().to_vec()
}

/// Octal digits between blanks and zeros, or base 256 if the first bit is set.
fn number(field: &[u8], what: &str) -> Result<u64, Error> {
    u64::try_from(signed_number(field, what)?)
        .or_else(|_| invalid(format!("archive entry with a negative {what}")))
}

fn signed_number(field: &[u8], what: &str) -> Result<i64, Error> {
    let bad = || Error::Invalid(format!("archive entry with a malformed {what}"));
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let first = if negative { -1 } else { 0 } << 6 | i64::from(field[0] & 0x3f);
        return field[1..].iter().try_fold(first, |sum, &byte| {
            sum.checked_mul(256).map(|sum| sum + i64::from(byte)).ok_or_else(bad)
        });
    }
    let text = field.trim_ascii_start().split(|&b| b == 0 || b == b' ').next().unwrap_or_default();
    text.iter().try_fold(0i64, |sum, &digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8).map(|sum| sum + i64::from(digit - b'0')).ok_or_else(bad),
        _ => Err(bad()),
    })
}

/// User and group ids beyond 31 bits wrap to root somewhere (CVE-2024-40635).
fn owner(extended: Option<u64>, field: &[u8]) -> Result<u32, Error> {
    let id = match extended {
        Some(id) => id,
        None => number(field, "owner")?,
    };
    match i32::try_from(id) {
        Ok(id) => Ok(id.unsigned_abs()),
        Err(_) => invalid(format!("archive entry with owner {id}, out of range")),
    }
}

fn device(kind: Kind, field: &[u8]) -> Result<u32, Error> {
    if !matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        return Ok(0);
    }
    u32::try_from(number(field, "device number")?)
        .or_else(|_| invalid("archive entry with a device number out of range"))
}

/// `LENGTH KEY=VALUE\n`, where the length counts the whole record.
fn pax_records(mut bytes: &[u8], ext: &mut Extensions) -> Result<(), Error> {
    let bad = || Error::Invalid("archive with a malformed pax header".into());
    while !bytes.is_empty() {
        let space = bytes.iter().position(|&b| b == b' ').ok_or_else(bad)?;
        let length = usize::try_from(decimal(&bytes[..space])?).map_err(|_| bad())?;
        let record = bytes.get(space + 1..length).ok_or_else(bad)?;
        let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
        let equals = record.iter().position(|&b| b == b'=').ok_or_else(bad)?;
        pax_record(&record[..equals], &record[equals + 1..], ext)?;
        bytes = &bytes[length..];
    }
    Ok(())
}

/// An empty value takes back what was said before, except that an attribute may be empty.
fn pax_record(key: &[u8], value: &[u8], ext: &mut Extensions) -> Result<(), Error> {
    let text = || (!value.is_empty()).then(|| value.to_vec());
    let count = || if value.is_empty() { Ok(None) } else { decimal(value).map(Some) };
    let sparse = &mut ext.sparse;
    match key {
        b"path" => ext.name = text(),
        b"linkpath" => ext.link = text(),
        b"size" => ext.size = count()?,
        b"uid" => ext.uid = count()?,
        b"gid" => ext.gid = count()?,
        b"mtime" if value.is_empty() => ext.mtime = None,
        b"mtime" => ext.mtime = Some(time(value)?),
        b"GNU.sparse.major" => sparse.is_1_0 = value == b"1",
        b"GNU.sparse.name" => sparse.name = text(),
        b"GNU.sparse.size" | b"GNU.sparse.realsize" => sparse.real_size = count()?,
        b"GNU.sparse.numblocks" => {
            sparse.map.get_or_insert_default();
        }
        b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
            sparse.map.get_or_insert_default().extend(count()?);
        }
        b"GNU.sparse.map" => {
            let numbers = value.split(|&b| b == b',').filter(|n| !n.is_empty()).map(decimal);
            sparse.map = Some(numbers.collect::<Result<_, _>>()?);
        }
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                if ext.xattrs.len() == XATTRS_MAX {
                    return invalid("archive entry with too many extended attributes");
                }
                // Neither can be given to the kernel, which would see another name.
                if name.len() > XATTR_NAME_MAX || name.contains(&0) {
                    return invalid(format!(
                        "archive entry with an invalid extended attribute `{}`",
                        shown(&name[..name.len().min(XATTR_NAME_MAX)])
                    ));
                }
                ext.xattrs.retain(|(known, _)| known != name);
                ext.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

fn decimal(text: &[u8]) -> Result<u64, Error> {
    let number = std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    number
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| Error::Invalid("archive with a malformed number in a pax header".into()))
}

/// Seconds since 1970 with a sign and a fraction, to nanoseconds since the second below.
fn time(text: &[u8]) -> Result<(i64, u32), Error> {
    let bad = || Error::Invalid("archive with a malformed time".into());
    let negative = text.starts_with(b"-");
    let digits = if negative { &text[1..] } else { text };
    let mut parts = digits.splitn(2, |&b| b == b'.');
    let whole = decimal(parts.next().unwrap_or_default())?;
    let whole = i64::try_from(whole).map_err(|_| bad())?;
    let mut ns = 0;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    for place in 0..9 {
        ns = ns * 10 + u32::from(fraction.get(place).map_or(0, |d| d - b'0'));
    }
    Ok(match (negative, ns) {
        (false, _) => (whole, ns),
        (true, 0) => (-whole, 0),
        (true, _) => (-whole - 1, 1_000_000_000 - ns),
    })
}

/// For errors in the middle of an archive: whose data could not be kept.
pub(crate) fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

/// Copies the data of the current entry.
pub(crate) fn copy_data<R: BufRead>(
    tar: &mut Tar<R>,
    to: &mut dyn io::Write,
) -> Result<u64, Error> {
    let mut copied = 0;
    loop {
        let chunk = tar.data()?;
        let n = chunk.len();
        if n == 0 {
            return Ok(copied);
        }
        to.write_all(chunk).doing(|| "spool archive entry")?;
        copied += n as u64;
        tar.consume(n);
    }
}
