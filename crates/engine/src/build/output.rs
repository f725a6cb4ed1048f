//! The files of an image, outside of the store.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use build::Ignore;
use rustix::fs::{FileType, Stat};
use store::Image;

use super::copy::Target;
use super::source::{Source, Wanted};
use crate::Engine;
use crate::error::{Doing, Result};

/// Of a directory that is made for the files; BuildKit's.
const DIRECTORY_MODE: u32 = 0o700;

fn is_device(stat: &Stat) -> bool {
    let kind = FileType::from_raw_mode(stat.st_mode);
    matches!(kind, FileType::CharacterDevice | FileType::BlockDevice)
}

impl Engine {
    /// Writes an image as an archive that `cais load` and `docker load` take, which is also an OCI
    /// layout; `names` are what it is called there.
    ///
    /// # Errors
    /// If a layer cannot be read, or the archive not be written.
    pub fn save_image<W: Write>(
        &self,
        image: &Image,
        names: &[oci::Reference],
        out: W,
    ) -> Result<W> {
        let named = store::ToSave { image: image.clone(), names: names.to_vec() };
        Ok(self.store.save(&[named], out)?)
    }

    /// Writes the files of an image as an archive.
    ///
    /// # Errors
    /// As of [`Engine::save_image`].
    pub fn export_image<W: Write>(&self, image: &Image, out: W) -> Result<W> {
        Ok(self.store.export_chain(&image.diff_ids(), out)?)
    }

    /// Copies the files of an image into a directory, as the files of whoever asks; devices are left
    /// out, since they would be the machine's own.
    ///
    /// # Errors
    /// If something is in the way there, or a file cannot be read or written.
    pub fn copy_image(&self, image: &Image, into: &Path, epoch_s: i64) -> Result<()> {
        let files = Source::tree(self.store.open_chain(&image.diff_ids())?);
        let doing = || format!("write to {}", into.display());
        let mut directory = std::fs::DirBuilder::new();
        directory.recursive(true).mode(DIRECTORY_MODE).create(into).doing(doing)?;
        let root = File::open(into).doing(doing)?;
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let mut target = Target { owner: Some(own), ..Target::new(root.as_fd(), "/", epoch_s) };
        let all = Wanted { path: "/", parents: None, exclude: &Ignore::default() };
        for mut picked in files.pick(&all)? {
            picked.entries.retain(|entry| !is_device(&entry.stat));
            target.copy(&files, &picked)?;
        }
        Ok(())
    }
}
