//! Digests as the protocol's clients write them: SHA-256 or SHA-512 (image-spec, descriptor.md).
//!
//! The store knows content by its SHA-256 alone; a repository keeps other names as aliases of that.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::str::FromStr;

use oci::Digest;
use sha2::Digest as _;

const SHA512_DIGITS: usize = 128;
const BUFFER_BYTES: usize = 256 << 10;

/// A digest by either algorithm.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum AnyDigest {
    Sha256(Digest),
    /// Lower-case hexadecimal digits.
    Sha512(String),
}

/// Why a text is no [`AnyDigest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoDigest(pub(super) String);

impl AnyDigest {
    /// The digest of `bytes` by the algorithm of `self`.
    pub(super) fn like(&self, bytes: &[u8]) -> Self {
        match self {
            Self::Sha256(_) => Self::Sha256(Digest::of(bytes)),
            Self::Sha512(_) => Self::Sha512(hex(&sha2::Sha512::digest(bytes))),
        }
    }

    /// The SHA-512 of the first `size` bytes of `file`.
    pub(super) fn sha512_of(file: &File, size: u64) -> io::Result<Self> {
        let mut hasher = sha2::Sha512::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut at = 0;
        while at < size {
            let wanted = usize::try_from(size - at).unwrap_or(usize::MAX).min(buffer.len());
            let n = file.read_at(&mut buffer[..wanted], at)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hasher.update(&buffer[..n]);
            at += n as u64;
        }
        Ok(Self::Sha512(hex(&hasher.finalize())))
    }

    /// As the name of a file.
    pub(super) fn file_name(&self) -> String {
        self.to_string().replace(':', "-")
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl From<Digest> for AnyDigest {
    fn from(digest: Digest) -> Self {
        Self::Sha256(digest)
    }
}

impl FromStr for AnyDigest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let lower_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        match text.split_once(':') {
            Some(("sha512", digits)) => {
                if digits.len() != SHA512_DIGITS || !digits.bytes().all(lower_hex) {
                    let why = "expected `sha512:` and 128 lower-case hexadecimal digits";
                    return Err(NoDigest(why.to_owned()));
                }
                Ok(Self::Sha512(digits.to_owned()))
            }
            Some((algorithm, _)) if algorithm != "sha256" => Err(NoDigest(
                "unsupported digest algorithm: sha256 and sha512 are supported".to_owned(),
            )),
            _ => text.parse().map(Self::Sha256).map_err(|_| {
                NoDigest("expected `sha256:` and 64 lower-case hexadecimal digits".to_owned())
            }),
        }
    }
}

impl fmt::Display for AnyDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => digest.fmt(out),
            Self::Sha512(digits) => write!(out, "sha512:{digits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_algorithms_are_read_and_written() {
        let empty = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c\
                     5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        let digest: AnyDigest = empty.parse().unwrap();
        assert_eq!(digest.to_string(), empty);
        assert_eq!(digest.like(b""), digest);
        let short = AnyDigest::from(Digest::of(b""));
        assert_eq!(short.to_string().parse(), Ok(short.clone()));
        assert_eq!(short.like(b""), short);
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for text in ["", "sha256", "sha256:", "sha512:00", "md5:00", "sha256:../../x", "uploads"] {
            assert!(text.parse::<AnyDigest>().is_err(), "{text}");
        }
        assert!(format!("sha512:{}", "A".repeat(128)).parse::<AnyDigest>().is_err());
    }
}
