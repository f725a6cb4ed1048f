//! What ADD gets from the network, kept by its digest until builds are pruned.

use std::fs::{self, File};
use std::io::{self, Write};

use oci::{Digest, Hasher};

use crate::Engine;
use crate::error::{Doing, Error, Kind, Result};

/// Computes a digest of what is written.
struct Digesting<'a> {
    file: &'a mut File,
    hasher: Hasher,
}

impl Write for Digesting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Engine {
    /// Gets a file; one whose digest is given is not got twice.
    ///
    /// # Errors
    /// If it cannot be had, or is another one.
    pub(crate) fn download(&self, url: &str, checksum: Option<&str>) -> Result<Digest> {
        let wanted = checksum.map(str::parse::<Digest>).transpose();
        let shown = oci::redacted(url);
        let wanted = wanted.map_err(|error| {
            Error::caused(Kind::Invalid, format!("read the checksum of {shown}"), error)
        })?;
        let dir = self.build_dir("downloads")?;
        if let Some(wanted) = wanted.filter(|wanted| dir.join(wanted.hex()).exists()) {
            return Ok(wanted);
        }
        let doing = || format!("keep {shown}");
        let path = dir.join(format!(".{}", crate::id::fresh()?));
        let mut file = File::create_new(&path).doing(doing)?;
        let got = {
            let mut out = Digesting { file: &mut file, hasher: Hasher::default() };
            registry::download(&self.registry, url, &mut out).map(|_| out.hasher.finish())
        };
        let kept = got.map_err(crate::image::from_registry).and_then(|digest| match wanted {
            Some(wanted) if wanted != digest => {
                let message = format!("{shown} does not match: expected {wanted}, got {digest}");
                Err(Error::new(Kind::Invalid, message).hint("it was changed, or tampered with"))
            }
            _ => fs::rename(&path, dir.join(digest.hex())).doing(doing).map(|()| digest),
        });
        kept.inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })
    }

    pub(crate) fn open_download(&self, digest: &Digest) -> Result<File> {
        let path = self.build_dir("downloads")?.join(digest.hex());
        File::open(&path).doing(|| format!("open {}", path.display()))
    }
}
