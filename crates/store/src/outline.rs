//! Tables of contents of layers: what is in a layer, and where in its blob each piece of it lies.
//!
//! Two formats have one, in JSON, and are ordinary layers otherwise. Each piece of a file begins a
//! compressed stream of its own, and has a digest; so has the table, in an annotation of the layer's
//! descriptor.
//!
//! - zstd:chunked (containers/storage, pkg/chunked/toc and pkg/chunked/internal/minimal): another
//!   annotation says where the table is.
//! - eStargz (containerd/stargz-snapshotter, docs/estargz.md): by gzip; the last bytes of the layer say
//!   where the table is, which is a file in the layer, too. Behind a piece, its stream goes on with
//!   what follows in the archive; small files may share one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::{Bound, Range};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use oci::{Descriptor, Digest};
use serde::Deserialize;

use crate::error::{Error, invalid};
use crate::tarball::{Entry, Kind, Tar};

/// Of all tables of contents of one image, in bytes, as they are stored and as they are read.
pub const TABLES_BYTES_MAX: u64 = 128 << 20;
/// Objects in all tables of one image: what is made of one in memory is larger than its text.
const OBJECTS_MAX: usize = 1_000_000;
/// What precedes the names of the annotations: now, and in older versions.
const PREFIXES: [&str; 2] = ["io.github.containers.zstd-chunked.", "io.containers.zstd-chunked."];
/// The annotation with the digest of the text of eStargz's table.
const STARGZ_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";
/// The end of a layer in the format eStargz: a member of gzip without data.
const STARGZ_FOOTER_BYTES: u64 = 51;
/// What begins it: its flags, and an extra field of 26 bytes by the name `SG`, of 22 bytes (RFC 1952).
const STARGZ_FOOTER: [u8; 16] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0, b'S', b'G', 22, 0];
const STARGZ_TABLE: &[u8] = b"stargz.index.json";
/// Bytes of other files before a piece in its stream.
const INNER_BYTES_MAX: u64 = 64 << 20;
/// The version of the formats, and the type of table, that is understood.
const VERSION: u32 = 1;

/// Where a layer's table of contents lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentsPlace {
    /// Bytes of the blob.
    pub range: Range<u64>,
    format: Format,
    /// The digest of these bytes, or of the text.
    digest: Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// With the length of the text, in bytes.
    Chunked(u64),
    Stargz,
}

impl ContentsPlace {
    /// Where the descriptor of a layer says that it is; `None` if it has none that is understood.
    #[must_use]
    pub fn of(layer: &Descriptor) -> Option<Self> {
        let find = |name: &str| {
            PREFIXES.iter().find_map(|prefix| layer.annotations.get(&format!("{prefix}{name}")))
        };
        let digest = find("manifest-checksum")?.parse().ok()?;
        let numbers: Vec<u64> =
            find("manifest-position")?.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [offset, stored, length, 1] = numbers[..] else { return None };
        let end = offset.checked_add(stored)?;
        let format = Format::Chunked(length);
        (end <= layer.size).then_some(Self { range: offset..end, format, digest })
    }

    /// The bytes of a layer in the format eStargz that say where its table of contents is.
    #[must_use]
    pub fn footer(layer: &Descriptor) -> Option<Range<u64>> {
        layer.annotations.get(STARGZ_DIGEST)?.parse::<Digest>().ok()?;
        Some(layer.size.checked_sub(STARGZ_FOOTER_BYTES)?..layer.size)
    }

    fn check(&self, bytes: &[u8]) -> Result<(), Error> {
        match Digest::of(bytes) == self.digest {
            true => Ok(()),
            false => invalid("its digest is another one"),
        }
    }

    /// Where the table of contents is, by the bytes that [`ContentsPlace::footer`] asks for.
    ///
    /// # Errors
    /// [`Error::Invalid`] if they do not say it.
    pub fn by_footer(layer: &Descriptor, footer: &[u8]) -> Result<Self, Error> {
        let place = || {
            let digest = layer.annotations.get(STARGZ_DIGEST)?.parse().ok()?;
            let place = footer.strip_prefix(&STARGZ_FOOTER)?.get(..22)?.strip_suffix(b"STARGZ")?;
            let start = u64::from_str_radix(std::str::from_utf8(place).ok()?, 16).ok()?;
            let end = layer.size.checked_sub(STARGZ_FOOTER_BYTES)?;
            (start < end).then_some(Self { range: start..end, format: Format::Stargz, digest })
        };
        let what = || {
            let digest = layer.digest;
            Error::Invalid(format!("layer {digest} does not say where its table of contents is"))
        };
        place().ok_or_else(what)
    }
}

/// What the tables of contents of one image may still take of memory.
#[derive(Debug)]
pub struct Allowance {
    bytes: u64,
    objects: usize,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { bytes: TABLES_BYTES_MAX, objects: OBJECTS_MAX }
    }
}

impl Allowance {
    /// Sets room aside for a table, before it is fetched.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is not as much left.
    pub fn reserve(&mut self, place: &ContentsPlace) -> Result<(), Error> {
        self.take_bytes(place.range.end - place.range.start)
    }

    fn take_bytes(&mut self, bytes: u64) -> Result<(), Error> {
        match self.bytes.checked_sub(bytes) {
            Some(left) => {
                self.bytes = left;
                Ok(())
            }
            None => invalid(format!(
                "the tables of contents of the image's layers are longer than {} MiB",
                TABLES_BYTES_MAX >> 20
            )),
        }
    }

    /// Reads a text to its end.
    fn read(&mut self, from: impl Read) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        let read = from.take(self.bytes + 1).read_to_end(&mut text);
        read.map_err(|error| Error::Invalid(error.to_string()))?;
        self.take_bytes(text.len() as u64)?;
        Ok(text)
    }

    fn take_objects(&mut self, text: &[u8]) -> Result<(), Error> {
        let count = text.iter().filter(|byte| **byte == b'{').count();
        match self.objects.checked_sub(count) {
            Some(left) => {
                self.objects = left;
                Ok(())
            }
            None => invalid(format!("the image has more than {OBJECTS_MAX} entries")),
        }
    }
}

/// What is in a layer, and where.
#[derive(Debug, Clone)]
pub struct Outline {
    pub(crate) entries: Vec<Outlined>,
}

#[derive(Debug, Clone)]
pub(crate) struct Outlined {
    pub(crate) entry: Entry,
    /// The data of a file: all of it, in order.
    pub(crate) pieces: Vec<Piece>,
}

/// A part of a file's data, which can be got alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where its data goes: in the file, or in the image that the file is in.
    pub at: Range<u64>,
    /// The bytes of the blob that it is compressed in.
    pub blob: Range<u64>,
    /// Bytes before it in what these are when they are not compressed.
    pub inner: u64,
    /// The digest of the data.
    pub digest: Digest,
}

#[derive(Deserialize)]
struct Table {
    version: u32,
    entries: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    #[serde(default)]
    link_name: String,
    #[serde(default)]
    mode: u32,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    modtime: Option<String>,
    #[serde(default)]
    dev_major: u32,
    #[serde(default)]
    dev_minor: u32,
    #[serde(default)]
    xattrs: BTreeMap<String, String>,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    end_offset: u64,
    #[serde(default)]
    chunk_size: u64,
    #[serde(default)]
    chunk_offset: u64,
    #[serde(default)]
    chunk_digest: String,
    #[serde(default)]
    chunk_type: String,
    #[serde(default)]
    inner_offset: u64,
}

impl Outline {
    /// Understands a table of contents as it lies in the blob of `layer`, for which room was
    /// [reserved](Allowance::reserve).
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is malformed or says what cannot be, or what cannot be written in
    /// one, like names that are not UTF-8.
    pub fn parse(
        stored: &[u8],
        place: &ContentsPlace,
        layer: &Descriptor,
        allowance: &mut Allowance,
    ) -> Result<Self, Error> {
        let outline = match place.format {
            Format::Chunked(length) => Self::chunked((stored, length), place, layer, allowance),
            Format::Stargz => Self::stargz(stored, place, layer, allowance),
        };
        outline.map_err(|error| {
            Error::Invalid(format!("table of contents of layer {}: {error}", layer.digest))
        })
    }

    fn chunked(
        (stored, length): (&[u8], u64),
        place: &ContentsPlace,
        layer: &Descriptor,
        allowance: &mut Allowance,
    ) -> Result<Self, Error> {
        place.check(stored)?;
        let decoder = zstd::Decoder::new(stored);
        let text = allowance.read(decoder.map_err(|e| Error::Invalid(e.to_string()))?)?;
        if text.len() as u64 != length {
            return invalid("it has another length than was announced");
        }
        allowance.take_objects(&text)?;
        Self::of(&text, layer.size, None)
    }

    /// The table is the only file of an archive of its own; it is a file of the layer, too, but not in
    /// the table.
    fn stargz(
        stored: &[u8],
        place: &ContentsPlace,
        layer: &Descriptor,
        allowance: &mut Allowance,
    ) -> Result<Self, Error> {
        let text = allowance.read(flate2::read::GzDecoder::new(stored))?;
        let mut archive = Tar::new(&text[..]);
        let own = archive.next()?.filter(|own| own.name == STARGZ_TABLE && own.kind == Kind::File);
        let own = own.ok_or_else(|| Error::Invalid("it is not there".to_owned()))?;
        let rest = archive.into_input();
        let json = usize::try_from(own.size).ok().and_then(|size| rest.get(..size));
        let json = json.ok_or_else(|| Error::Invalid("it is too short".to_owned()))?;
        place.check(json)?;
        allowance.take_objects(json)?;
        let mut outline = Self::of(json, layer.size, Some(place.range.start))?;
        let (blob, digest) = (place.range.clone(), place.digest);
        let inner = (text.len() - rest.len()) as u64;
        let pieces = vec![Piece { at: 0..own.size, blob, inner, digest }];
        outline.entries.push(Outlined { entry: own, pieces });
        Ok(outline)
    }

    /// `shared_end` is where streams end at the latest that go on until the next one begins.
    fn of(text: &[u8], blob_size: u64, shared_end: Option<u64>) -> Result<Self, Error> {
        let table: Table =
            serde_json::from_slice(text).map_err(|error| Error::Invalid(error.to_string()))?;
        if table.version != VERSION {
            return invalid(format!("version {} is not known", table.version));
        }
        let starts = shared_end.map(|end| {
            let starts = table.entries.iter().map(|row| row.offset);
            starts.chain([end]).collect::<BTreeSet<u64>>()
        });
        let mut entries: Vec<Outlined> = Vec::with_capacity(table.entries.len());
        let mut rows = table.entries.into_iter().peekable();
        while let Some(row) = rows.next() {
            let mut chunks = Vec::new();
            while let Some(next) = rows.next_if(|next| next.kind == "chunk") {
                chunks.push(next);
            }
            let pieces = match row.kind.as_str() {
                "reg" if row.size > 0 => pieces(&row, &chunks, blob_size, starts.as_ref())?,
                _ if chunks.is_empty() => Vec::new(),
                _ => return invalid("data of what is no file"),
            };
            entries.push(Outlined { entry: entry(row)?, pieces });
        }
        Ok(Self { entries })
    }
}

/// The pieces of a file: its first one stands in its own row. With `starts`, each stream goes on until
/// the next one begins.
fn pieces(
    row: &Row,
    chunks: &[Row],
    blob_size: u64,
    starts: Option<&BTreeSet<u64>>,
) -> Result<Vec<Piece>, Error> {
    let wrong = || Error::Invalid(format!("pieces of `{}` do not fit", row.name.escape_debug()));
    let all: Vec<&Row> = [row].into_iter().chain(chunks).collect();
    let mut pieces = Vec::with_capacity(all.len());
    let mut at = 0;
    for (number, chunk) in all.iter().enumerate() {
        if !matches!(chunk.chunk_type.as_str(), "" | "zeros") {
            return invalid(format!("unknown type of piece `{}`", chunk.chunk_type.escape_debug()));
        }
        let end = match starts {
            None => all.get(number + 1).map_or(row.end_offset, |next| next.offset),
            Some(starts) => {
                let behind = (Bound::Excluded(chunk.offset), Bound::Unbounded);
                starts.range(behind).next().copied().ok_or_else(wrong)?
            }
        };
        let size = match chunk.chunk_size {
            _ if all.len() == 1 => row.size,
            // The last one takes what is left.
            0 => row.size - at,
            size => size,
        };
        let digest =
            if chunk.chunk_digest.is_empty() { &chunk.digest } else { &chunk.chunk_digest };
        let next = u64::checked_add(at, size).filter(|next| *next <= row.size).ok_or_else(wrong)?;
        let follows = chunk.chunk_offset == at && size > 0;
        let is_near = chunk.inner_offset <= INNER_BYTES_MAX;
        if !follows || !is_near || chunk.offset > end || end > blob_size {
            return Err(wrong());
        }
        // What is not there reads as zeros in any case.
        if chunk.chunk_type.is_empty() {
            let digest = digest.parse().map_err(|_| wrong())?;
            let (blob, inner) = (chunk.offset..end, chunk.inner_offset);
            pieces.push(Piece { at: at..next, blob, inner, digest });
        }
        at = next;
    }
    if at == row.size { Ok(pieces) } else { Err(wrong()) }
}

fn entry(row: Row) -> Result<Entry, Error> {
    let kind = match row.kind.as_str() {
        "reg" => Kind::File,
        "hardlink" => Kind::HardLink,
        "symlink" => Kind::Symlink,
        "char" => Kind::CharDevice,
        "block" => Kind::BlockDevice,
        "dir" => Kind::Directory,
        "fifo" => Kind::Fifo,
        other => return invalid(format!("unknown type of entry `{}`", other.escape_debug())),
    };
    // Who wrote the table has put this in the place of bytes that are not UTF-8.
    if [&row.name, &row.link_name].iter().any(|name| name.contains('\u{fffd}')) {
        return invalid("a name is not UTF-8");
    }
    let decode = |(name, value): (String, String)| match BASE64_STANDARD.decode(value) {
        Ok(value) => Ok((name.into_bytes(), value)),
        Err(error) => invalid(format!("attribute `{}`: {error}", name.escape_debug())),
    };
    let xattrs = row.xattrs.into_iter().map(decode).collect::<Result<_, _>>()?;
    let time = match row.modtime.as_deref().map(str::parse::<Timestamp>) {
        None => 0,
        Some(Ok(time)) => time.as_nanosecond(),
        Some(Err(error)) => return invalid(format!("malformed time: {error}")),
    };
    let (seconds, nanoseconds) = (time.div_euclid(1_000_000_000), time.rem_euclid(1_000_000_000));
    Ok(Entry {
        kind,
        name: row.name.into_bytes(),
        link: row.link_name.into_bytes(),
        mode: row.mode & 0o7777,
        uid: row.uid,
        gid: row.gid,
        mtime_s: seconds as i64,
        mtime_ns: nanoseconds as u32,
        major: row.dev_major,
        minor: row.dev_minor,
        size: row.size,
        xattrs,
        sparse: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(table: &str) -> (Vec<u8>, Descriptor) {
        let stored = zstd::encode_all(table.as_bytes(), 1).unwrap();
        let position = format!("100:{}:{}:1", stored.len(), table.len());
        let annotations = [
            ("io.github.containers.zstd-chunked.manifest-position".to_owned(), position),
            (
                "io.github.containers.zstd-chunked.manifest-checksum".to_owned(),
                Digest::of(&stored).to_string(),
            ),
        ];
        let descriptor = Descriptor {
            media_type: "application/vnd.oci.image.layer.v1.tar+zstd".to_owned(),
            digest: Digest::of(b"layer"),
            size: 1000,
            platform: None,
            annotations: annotations.into(),
        };
        (stored, descriptor)
    }

    fn parse(entries: &str) -> Result<Outline, String> {
        let (stored, layer) = layer(&format!(r#"{{"version":1,"entries":[{entries}]}}"#));
        let place = ContentsPlace::of(&layer).unwrap();
        let allowance = &mut Allowance::default();
        Outline::parse(&stored, &place, &layer, allowance).map_err(|error| error.to_string())
    }

    const A: &str = "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";

    fn refused(entries: &str, why: &str) {
        let error = parse(entries).unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn pieces_follow_each_other() {
        let outline = parse(&format!(
            r#"{{"type":"reg","name":"f","size":10,"mode":420,"modtime":"2023-11-14T22:13:20.5Z",
                 "offset":10,"endOffset":40,"chunkSize":4,"chunkDigest":"{A}","xattrs":{{"user.a":"eA=="}}}},
               {{"type":"chunk","name":"f","offset":20,"chunkSize":4,"chunkOffset":4,"chunkType":"zeros"}},
               {{"type":"chunk","name":"f","offset":30,"chunkSize":2,"chunkOffset":8,"chunkDigest":"{A}"}},
               {{"type":"reg","name":"g","size":3,"offset":50,"endOffset":60,"digest":"{A}"}}"#
        ))
        .unwrap();
        let [f, g] = &outline.entries[..] else { panic!("{outline:?}") };
        let places = |one: &Outlined| {
            one.pieces.iter().map(|p| (p.at.clone(), p.blob.clone())).collect::<Vec<_>>()
        };
        assert_eq!(places(f), [(0..4, 10..20), (8..10, 30..40)]);
        assert_eq!(places(g), [(0..3, 50..60)]);
        assert_eq!((f.entry.mtime_s, f.entry.mtime_ns), (1_700_000_000, 500_000_000));
        assert_eq!(f.entry.xattrs, [(b"user.a".to_vec(), b"x".to_vec())]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let file = |rest: &str| format!(r#"{{"type":"reg","name":"f","size":10,{rest}}}"#);
        let digest = format!(r#""digest":"{A}""#);
        refused(&file(&format!(r#""offset":10,"endOffset":1001,{digest}"#)), "do not fit");
        refused(&file(&format!(r#""offset":20,"endOffset":10,{digest}"#)), "do not fit");
        refused(&file(r#""offset":10,"endOffset":20"#), "do not fit");
        let chunked = |second: &str| {
            let first = format!(r#""offset":1,"endOffset":9,"chunkSize":4,"chunkDigest":"{A}""#);
            format!(
                r#"{},{{"type":"chunk","name":"f","chunkDigest":"{A}",{second}}}"#,
                file(&first)
            )
        };
        refused(&chunked(r#""offset":5,"chunkSize":7,"chunkOffset":4"#), "do not fit");
        refused(&chunked(r#""offset":5,"chunkSize":5,"chunkOffset":4"#), "do not fit");
        refused(&chunked(r#""offset":5,"chunkSize":6,"chunkOffset":5"#), "do not fit");
        refused(&chunked(r#""offset":12,"chunkSize":6,"chunkOffset":4"#), "do not fit");
        assert!(parse(&chunked(r#""offset":5,"chunkSize":6,"chunkOffset":4"#)).is_ok());
        refused(r#"{"type":"chunk","name":"f"}"#, "unknown type of entry");
        refused(r#"{"type":"socket","name":"f"}"#, "unknown type of entry");
        refused(r#"{"type":"reg","name":"a\ufffd"}"#, "not UTF-8");
    }

    #[test]
    fn another_table_than_the_annotation_names_is_refused() {
        let (mut stored, layer) = layer(r#"{"version":1,"entries":[]}"#);
        let place = ContentsPlace::of(&layer).unwrap();
        assert_eq!(place.range, 100..100 + stored.len() as u64);
        let parse =
            |stored: &[u8]| Outline::parse(stored, &place, &layer, &mut Allowance::default());
        parse(&stored).unwrap();
        stored[4] ^= 1;
        let error = parse(&stored).unwrap_err().to_string();
        assert!(error.contains("another one"), "{error}");
        let mut beyond = layer;
        beyond.size = 110;
        assert_eq!(ContentsPlace::of(&beyond), None);
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packer, bytes).unwrap();
        packer.finish().unwrap()
    }

    /// The end of a layer in the format eStargz of 1,000 bytes and that, and its descriptor.
    fn stargz(table: &str) -> (Vec<u8>, Descriptor) {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(table.len() as u64);
        archive.append_data(&mut header, "stargz.index.json", table.as_bytes()).unwrap();
        let mut end = gzip(&archive.into_inner().unwrap());
        end.extend(STARGZ_FOOTER);
        end.extend(format!("{:016x}STARGZ", 1000).bytes());
        end.extend([1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
        let digest = Digest::of(table.as_bytes()).to_string();
        let (_, descriptor) = layer("");
        let layer = Descriptor {
            size: 1000 + end.len() as u64,
            annotations: [(STARGZ_DIGEST.to_owned(), digest)].into(),
            ..descriptor
        };
        (end, layer)
    }

    fn parse_stargz(end: &[u8], layer: &Descriptor) -> Result<Outline, Error> {
        let at = |range: Range<u64>| &end[range.start as usize - 1000..range.end as usize - 1000];
        let footer = ContentsPlace::footer(layer).unwrap();
        assert_eq!(ContentsPlace::of(layer), None);
        let place = ContentsPlace::by_footer(layer, at(footer))?;
        Outline::parse(at(place.range.clone()), &place, layer, &mut Allowance::default())
    }

    #[test]
    fn pieces_may_share_a_stream() {
        let (end, layer) = stargz(&format!(
            r#"{{"version":1,"entries":[
                {{"type":"dir","name":"d/"}},
                {{"type":"reg","name":"d/f","size":10,"offset":100,"chunkSize":4,"chunkDigest":"{A}"}},
                {{"type":"chunk","name":"d/f","offset":200,"chunkOffset":4,"chunkDigest":"{A}"}},
                {{"type":"reg","name":"d/g","size":3,"offset":200,"innerOffset":1024,"digest":"{A}"}},
                {{"type":"reg","name":"empty","size":0}}]}}"#
        ));
        let outline = parse_stargz(&end, &layer).unwrap();
        let places = |one: &Outlined| {
            let place = |p: &Piece| (p.at.clone(), p.blob.clone(), p.inner);
            one.pieces.iter().map(place).collect::<Vec<_>>()
        };
        let [_, f, g, empty, own] = &outline.entries[..] else { panic!("{outline:?}") };
        assert_eq!(places(f), [(0..4, 100..200, 0), (4..10, 200..1000, 0)]);
        assert_eq!(places(g), [(0..3, 200..1000, 1024)]);
        assert_eq!((places(empty), &own.entry.name[..]), (vec![], STARGZ_TABLE));
        let table = 1000..layer.size - STARGZ_FOOTER_BYTES;
        assert_eq!(places(own), [(0..own.entry.size, table, 512)]);
    }

    #[test]
    fn another_table_of_estargz_is_refused() {
        let (end, layer) = stargz(r#"{"version":1,"entries":[]}"#);
        parse_stargz(&end, &layer).unwrap();
        let refused = |end: &[u8], layer: &Descriptor, why: &str| {
            let error = parse_stargz(end, layer).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        let mut other = layer.clone();
        other.annotations.insert(STARGZ_DIGEST.to_owned(), A.to_owned());
        refused(&end, &other, "another one");
        let mut lost = end.clone();
        let place = end.len() - 51;
        lost[place + 16] = b'f';
        refused(&lost, &layer, "does not say where");
        lost[place] = 0;
        refused(&lost, &layer, "does not say where");
        let inner = format!(
            r#"{{"type":"reg","name":"f","size":1,"offset":1,"innerOffset":99999999,"digest":"{A}"}}"#
        );
        let (end, layer) = stargz(&format!(r#"{{"version":1,"entries":[{inner}]}}"#));
        refused(&end, &layer, "do not fit");
    }

    #[test]
    fn all_tables_of_an_image_are_bounded_together() {
        let mut allowance = Allowance::default();
        let place = |stored: u64| ContentsPlace {
            range: 7..7 + stored,
            format: Format::Stargz,
            digest: A.parse().unwrap(),
        };
        let half = TABLES_BYTES_MAX / 2;
        allowance.reserve(&place(half)).unwrap();
        let error = allowance.reserve(&place(half + 1)).unwrap_err().to_string();
        assert!(error.contains("longer than 128 MiB"), "{error}");
        let zeros = std::io::repeat(0).take(half + 1);
        assert!(allowance.read(zeros).unwrap_err().to_string().contains("longer than"));

        let table = |count: usize| {
            let row = r#"{"type":"dir","name":"d"}"#;
            layer(&format!(r#"{{"version":1,"entries":[{}]}}"#, vec![row; count].join(",")))
        };
        let mut parse = |count: usize| {
            let (stored, mut layer) = table(count);
            layer.size = 1 << 30;
            let place = ContentsPlace::of(&layer).unwrap();
            Outline::parse(&stored, &place, &layer, &mut allowance)
        };
        parse(600_000).unwrap();
        let error = parse(400_000).unwrap_err().to_string();
        assert!(error.contains("more than 1000000 entries"), "{error}");
        parse(399_998).unwrap();
    }
}
