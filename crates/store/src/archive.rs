//! Archives that are no layers: those that a build unpacks.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use oci::Compression;

use crate::disk::Store;
use crate::driver::dir::DirSink;
use crate::error::{Doing as _, Error};
use crate::extract::{self, ENTRIES_MAX};
use crate::stream::{self, EXPANSION_MAX, Packing};
use crate::tarball::Tar;

/// Of the header of an entry.
const BLOCK_BYTES: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Whether a file is a tar archive, plain or compressed, by its content; it is read from its
/// beginning, and left there.
///
/// # Errors
/// [`Error::Io`].
pub fn is_archive(file: &mut File) -> Result<bool, Error> {
    let doing = || "look for an archive".to_owned();
    let mut head = Vec::new();
    Read::by_ref(file).take(BLOCK_BYTES as u64).read_to_end(&mut head).doing(doing)?;
    file.seek(SeekFrom::Start(0)).doing(doing)?;
    let block = match Packing::detect(&head) {
        Packing::Layer(Compression::None) => head,
        Packing::Layer(Compression::Gzip) => first_block(MultiGzDecoder::new(&*file)),
        Packing::Layer(Compression::Zstd) => {
            zstd::Decoder::new(&*file).map_or_else(|_| Vec::new(), first_block)
        }
        Packing::Bzip2 => first_block(bzip2::read::MultiBzDecoder::new(&*file)),
        Packing::Xz => first_block(stream::xz(&*file)),
    };
    file.seek(SeekFrom::Start(0)).doing(doing)?;
    Ok(is_header(&block))
}

/// What cannot be decompressed is no archive.
fn first_block(content: impl Read) -> Vec<u8> {
    let mut block = Vec::new();
    let read = content.take(BLOCK_BYTES as u64).read_to_end(&mut block);
    read.map_or_else(|_: io::Error| Vec::new(), |_| block)
}

/// Whether a block has the checksum of a header (POSIX pax, "ustar Interchange Format").
fn is_header(block: &[u8]) -> bool {
    if block.len() < BLOCK_BYTES {
        return false;
    }
    let said = String::from_utf8_lossy(&block[CHECKSUM]);
    let said = u32::from_str_radix(said.trim_matches(['\0', ' ']), 8);
    let byte = |(at, byte): (usize, &u8)| if CHECKSUM.contains(&at) { b' ' } else { *byte };
    let sum: u32 = block.iter().enumerate().map(|each| u32::from(byte(each))).sum();
    said == Ok(sum)
}

impl Store {
    /// Unpacks an archive, plain or compressed, into `tree` in a directory that exists, which is on
    /// the store's file system. Nothing leads out of it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is malformed, leads outside or exceeds a limit; [`Error::Io`].
    pub fn unpack_files(&self, archive: &mut dyn Read, directory: &Path) -> Result<(), Error> {
        let doing = || format!("unpack into `{}`", directory.display());
        let site = File::open(directory).doing(doing)?;
        stream::consume(archive, EXPANSION_MAX, &mut |_| {}, move |content| {
            let mut tar = Tar::new(content);
            let sink = DirSink::new(site.into()).doing(doing)?;
            extract::extract(&mut tar, sink, ENTRIES_MAX)?;
            tar.drain()
        })
    }
}
