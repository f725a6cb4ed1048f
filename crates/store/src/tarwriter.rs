//! Writes tar archives in one canonical form: ustar, with pax headers where that is too narrow
//! (POSIX.1-2017 pax "Interchange Format"; sparse files in GNU's format 1.0).
//!
//! The same entries make the same bytes, on any machine.

use std::io::{self, Read, Write};

use crate::tarball::{Entry, Kind};

const BLOCK: usize = 512;
const NAME_MAX: usize = 100;
/// What eleven octal digits hold.
const SIZE_MAX: u64 = (1 << 33) - 1;
/// What seven octal digits hold.
const OWNER_MAX: u32 = (1 << 21) - 1;
const COPY_BUFFER_BYTES: usize = 256 * 1024;

/// Writes the entries of an archive.
#[derive(Debug)]
pub(crate) struct TarWriter<W> {
    out: W,
}

/// The entry of a file or directory with nothing particular about it.
pub(crate) fn plain_entry(kind: Kind, name: &[u8], mode: u32, size: u64) -> Entry {
    Entry {
        kind,
        name: name.to_vec(),
        link: Vec::new(),
        mode,
        uid: 0,
        gid: 0,
        mtime_s: 0,
        mtime_ns: 0,
        major: 0,
        minor: 0,
        size,
        xattrs: Vec::new(),
        sparse: None,
    }
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes an entry; of a file, `data` gives as many bytes as it says, or the segments of a
    /// sparse one.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if `data` ends before.
    pub(crate) fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        let map = entry.sparse.as_deref().map(sparse_map);
        let stored = match (&entry.sparse, &map) {
            (Some(segments), Some(map)) => {
                map.len() as u64 + segments.iter().map(|(_, length)| length).sum::<u64>()
            }
            _ if entry.kind == Kind::File => entry.size,
            _ => 0,
        };
        let records = pax_records(entry, stored);
        if !records.is_empty() {
            let header = plain_header(b'x', b"PaxHeaders.0/extended", records.len() as u64);
            self.out.write_all(&header)?;
            self.out.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.out.write_all(&header(entry, stored))?;
        let mut left = stored;
        if let Some(map) = &map {
            self.out.write_all(map)?;
            left -= map.len() as u64;
        }
        self.copy(data, left)?;
        self.pad(stored)
    }

    /// Writes the end of the archive, and gives back what it was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn copy(&mut self, data: &mut dyn Read, mut left: u64) -> io::Result<()> {
        let mut buffer =
            vec![0; COPY_BUFFER_BYTES.min(usize::try_from(left).unwrap_or(usize::MAX))];
        while left > 0 {
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = data.read(&mut buffer[..wanted])?;
            if n == 0 {
                let why = "content is shorter than it was said to be";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
            }
            self.out.write_all(&buffer[..n])?;
            left -= n as u64;
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = (size.wrapping_neg() % BLOCK as u64) as usize;
        self.out.write_all(&[0; BLOCK][..padding])
    }
}

/// The number of segments, then offset and length of each, on lines; padded to a block.
fn sparse_map(segments: &[(u64, u64)]) -> Vec<u8> {
    let mut map = format!("{}\n", segments.len());
    for (offset, length) in segments {
        map += &format!("{offset}\n{length}\n");
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// What the header has no room for, in a fixed order.
fn pax_records(entry: &Entry, stored: u64) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| pax_record(&mut records, key, value);
    if entry.sparse.is_some() {
        add(b"GNU.sparse.major", b"1");
        add(b"GNU.sparse.minor", b"0");
        add(b"GNU.sparse.name", &entry.name);
        add(b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
    } else if entry.name.len() > NAME_MAX {
        add(b"path", &entry.name);
    }
    if entry.link.len() > NAME_MAX {
        add(b"linkpath", &entry.link);
    }
    if stored > SIZE_MAX {
        add(b"size", stored.to_string().as_bytes());
    }
    for (key, id) in [(b"uid", entry.uid), (b"gid", entry.gid)] {
        if id > OWNER_MAX {
            add(key, id.to_string().as_bytes());
        }
    }
    let fits = u64::try_from(entry.mtime_s).is_ok_and(|s| s <= SIZE_MAX);
    if !fits || entry.mtime_ns != 0 {
        add(b"mtime", time(entry.mtime_s, entry.mtime_ns).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        add(&[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    records
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn pax_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Seconds since 1970 with a fraction. Before 1970, the fraction counts away from it.
fn time(s: i64, ns: u32) -> String {
    let (sign, whole, ns) = match (s < 0, ns) {
        (true, 0) => ("-", s.unsigned_abs(), 0),
        (true, ns) => ("-", (s + 1).unsigned_abs(), 1_000_000_000 - ns),
        (false, ns) => ("", s.unsigned_abs(), ns),
    };
    match ns {
        0 => format!("{sign}{whole}"),
        ns => format!("{sign}{whole}.{ns:09}").trim_end_matches('0').to_owned(),
    }
}

fn header(entry: &Entry, stored: u64) -> [u8; BLOCK] {
    let flag = match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    };
    // Readers that know the format take the name from the pax header.
    let name = match entry.sparse {
        Some(_) => [b"GNUSparseFile.0/", base(&entry.name)].concat(),
        None => entry.name.clone(),
    };
    let mut block = plain_header(flag, &name, stored.min(SIZE_MAX));
    octal(&mut block[100..108], u64::from(entry.mode));
    octal(&mut block[108..116], u64::from(entry.uid.min(OWNER_MAX)));
    octal(&mut block[116..124], u64::from(entry.gid.min(OWNER_MAX)));
    octal(&mut block[136..148], u64::try_from(entry.mtime_s).unwrap_or(0).min(SIZE_MAX));
    let link = &entry.link[..entry.link.len().min(NAME_MAX)];
    block[157..157 + link.len()].copy_from_slice(link);
    octal(&mut block[329..337], u64::from(entry.major));
    octal(&mut block[337..345], u64::from(entry.minor));
    sum(&mut block);
    block
}

fn base(name: &[u8]) -> &[u8] {
    name.rsplit(|&b| b == b'/').next().unwrap_or_default()
}

fn plain_header(flag: u8, name: &[u8], size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let short = &name[..name.len().min(NAME_MAX)];
    block[..short.len()].copy_from_slice(short);
    octal(&mut block[100..108], 0o644);
    octal(&mut block[108..116], 0);
    octal(&mut block[116..124], 0);
    octal(&mut block[124..136], size);
    octal(&mut block[136..148], 0);
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], 0);
    octal(&mut block[337..345], 0);
    sum(&mut block);
    block
}

/// Digits, with zeros before them and a zero byte behind.
fn octal(field: &mut [u8], number: u64) {
    let (last, digits) = field.split_last_mut().expect("every field has room");
    *last = 0;
    let text = format!("{number:0width$o}", width = digits.len());
    digits.copy_from_slice(&text.as_bytes()[text.len() - digits.len()..]);
}

fn sum(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    let text = format!("{sum:06o}\0 ");
    block[148..156].copy_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tarball::Tar;
    use proptest::prelude::*;

    fn written(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
        let mut tar = TarWriter::new(Vec::new());
        for (entry, data) in entries {
            tar.append(entry, &mut &data[..]).unwrap();
        }
        tar.finish().unwrap()
    }

    fn read(archive: &[u8]) -> Vec<(Entry, Vec<u8>)> {
        let mut tar = Tar::new(archive);
        let mut all = Vec::new();
        while let Some(entry) = tar.next().unwrap() {
            let mut data = Vec::new();
            crate::tarball::copy_data(&mut tar, &mut data).unwrap();
            all.push((entry, data));
        }
        all
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::File),
            Just(Kind::Directory),
            Just(Kind::Symlink),
            Just(Kind::HardLink),
            Just(Kind::CharDevice),
            Just(Kind::BlockDevice),
            Just(Kind::Fifo),
        ]
    }

    prop_compose! {
        fn entries()(
            kind in kinds(),
            name in proptest::collection::vec(1u8.., 1..300),
            link in proptest::collection::vec(1u8.., 1..300),
            data in proptest::collection::vec(any::<u8>(), 0..2000),
            (mode, uid, gid) in (0u32..0o10000, 0u32..=i32::MAX as u32, 0u32..=i32::MAX as u32),
            (mtime_s, mtime_ns) in (-(1i64 << 40)..1 << 40, 0u32..1_000_000_000),
            (major, minor) in (0u32..1 << 12, 0u32..1 << 20),
            xattrs in proptest::collection::btree_map(
                "[a-z.]{1,20}", proptest::collection::vec(any::<u8>(), 0..50), 0..3),
        ) -> (Entry, Vec<u8>) {
            let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
            let data = if kind == Kind::File { data } else { Vec::new() };
            // A name that ends in a slash is a directory's.
            let name = [&name[..], b"n"].concat();
            let entry = Entry {
                kind,
                name: if kind == Kind::Directory { [&name[..], b"/"].concat() } else { name },
                link: if matches!(kind, Kind::Symlink | Kind::HardLink) { link } else { Vec::new() },
                mode, uid, gid, mtime_s, mtime_ns,
                major: if is_device { major } else { 0 },
                minor: if is_device { minor } else { 0 },
                size: data.len() as u64,
                xattrs: xattrs.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect(),
                sparse: None,
            };
            (entry, data)
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(all in proptest::collection::vec(entries(), 0..4)) {
            let archive = written(&all);
            prop_assert_eq!(archive.len() % BLOCK, 0);
            let again = read(&archive);
            prop_assert_eq!(again.len(), all.len());
            for ((a, a_data), (b, b_data)) in all.iter().zip(&again) {
                prop_assert_eq!(format!("{a:?}"), format!("{b:?}"));
                prop_assert_eq!(a_data, b_data);
            }
        }
    }

    #[test]
    fn a_sparse_file_keeps_its_holes() {
        let mut entry = plain_entry(Kind::File, b"a/sparse", 0o600, 1 << 40);
        entry.sparse = Some(vec![(4096, 3), (1 << 39, 5)]);
        let again = read(&written(&[(entry.clone(), b"abcdefgh".to_vec())]));
        assert_eq!(format!("{:?}", again[0].0), format!("{entry:?}"));
        assert_eq!(again[0].1, b"abcdefgh");
    }

    #[test]
    fn content_that_is_short_is_an_error() {
        let entry = plain_entry(Kind::File, b"a", 0o600, 10);
        let error = TarWriter::new(Vec::new()).append(&entry, &mut &b"abc"[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
