//! Headers of streams, which are compressed: all blocks of a direction are one stream of zlib's, and
//! that of clients begins with a dictionary (SPDY/3, section 2.6.10).

use std::io::{self, ErrorKind};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The longest block, in bytes.
const BLOCK_BYTES_MAX: usize = 64 << 10;

/// Words that the dictionary begins with, each behind its length.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding \
    accept-language accept-ranges age allow authorization cache-control connection content-base \
    content-encoding content-language content-length content-location content-md5 content-range \
    content-type date etag expect expires from host if-match if-modified-since if-none-match if-range \
    if-unmodified-since last-modified location max-forwards pragma proxy-authenticate \
    proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status";
/// The words after them, which may have spaces.
const MORE_WORDS: [&str; 8] =
    ["200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"];
/// What follows.
const REST: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417\
    502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 \
    Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service \
    UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, \
    Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,\
    text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
    utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in WORDS.split(' ').chain(MORE_WORDS) {
        bytes.extend((word.len() as u32).to_be_bytes());
        bytes.extend(word.as_bytes());
    }
    bytes.extend(REST.as_bytes());
    bytes
}

/// The blocks of both directions.
pub(super) struct Blocks {
    theirs: Decompress,
    ours: Compress,
}

impl Blocks {
    pub(super) fn new() -> Self {
        // Ours are empty: it is not worth a dictionary.
        Self { theirs: Decompress::new(true), ours: Compress::new(Compression::none(), true) }
    }

    /// Reads a block of the client's.
    pub(super) fn read(&mut self, block: &[u8]) -> io::Result<Vec<(String, String)>> {
        headers(&self.inflate(block)?).ok_or_else(|| ErrorKind::InvalidData.into())
    }

    fn inflate(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = vec![0; BLOCK_BYTES_MAX];
        let (began_in, began_out) = (self.theirs.total_in(), self.theirs.total_out());
        loop {
            let read = (self.theirs.total_in() - began_in) as usize;
            let written = (self.theirs.total_out() - began_out) as usize;
            let rest = &block[read.min(block.len())..];
            let done = self.theirs.decompress(rest, &mut plain[written..], FlushDecompress::Sync);
            match done {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.theirs.set_dictionary(&dictionary()).map_err(io::Error::other)?;
                    continue;
                }
                Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
                Ok(Status::Ok | Status::BufError | Status::StreamEnd) => {}
            }
            let (now_read, now_written) = (
                (self.theirs.total_in() - began_in) as usize,
                (self.theirs.total_out() - began_out) as usize,
            );
            if now_read >= block.len() && now_written < plain.len() {
                plain.truncate(now_written);
                return Ok(plain);
            }
            if (now_read, now_written) == (read, written) {
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }

    /// A block of ours, without headers.
    pub(super) fn write_none(&mut self) -> io::Result<Vec<u8>> {
        let mut block = Vec::with_capacity(64);
        self.ours.compress_vec(&0_u32.to_be_bytes(), &mut block, FlushCompress::Sync)?;
        Ok(block)
    }
}

/// What a block says; none if it is no block.
fn headers(mut rest: &[u8]) -> Option<Vec<(String, String)>> {
    let number = |rest: &mut &[u8]| -> Option<usize> {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        *rest = tail;
        usize::try_from(u32::from_be_bytes(*head)).ok()
    };
    let word = |rest: &mut &[u8]| -> Option<String> {
        let length = number(rest)?;
        let (head, tail) = rest.split_at_checked(length)?;
        *rest = tail;
        String::from_utf8(head.to_vec()).ok()
    };
    let count = number(&mut rest)?;
    (0..count).map(|_| Some((word(&mut rest)?, word(&mut rest)?))).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As a client writes the first block of a connection.
    pub(crate) fn deflated(headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for word in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend((word.len() as u32).to_be_bytes());
            plain.extend(word.as_bytes());
        }
        let mut theirs = Compress::new(Compression::best(), true);
        theirs.set_dictionary(&dictionary()).unwrap();
        let mut block = Vec::with_capacity(4096);
        theirs.compress_vec(&plain, &mut block, FlushCompress::Sync).unwrap();
        block
    }

    #[test]
    fn the_dictionary_is_the_one_that_clients_have() {
        // What every first block of SPDY/3 begins with: zlib's head, and the sum of the dictionary.
        let block = deflated(&[("a", "b")]);
        assert_eq!(block[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
        let read = Blocks::new().read(&block).unwrap();
        assert_eq!(read, [("a".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn blocks_that_are_none_are_refused() {
        let mut blocks = Blocks::new();
        assert!(blocks.read(b"nonsense").is_err());
        assert_eq!(headers(&[0, 0, 0, 1, 0, 0, 0, 9, b'a']), None);
        assert_eq!(headers(&[0xff, 0xff, 0xff, 0xff]), None);
    }
}
