//! What may not be on the disk yet.
//!
//! Blobs and layers get their names when they are complete, and the kernel writes them to the disk
//! when it likes: one syncfs(2) for a whole image costs less than a sync of each of its files. Until
//! then a loss of power may leave a name of an empty file. So an empty file in `unsynced/` says, before
//! the name appears, that this may happen: `<boot id>.<part>.<hex>`. It goes when what it names is on
//! the disk. Whoever comes after another start of the machine finds the notes that were left, and takes
//! nothing they name at its word: a blob becomes a partial one, which is hashed when it is received
//! again, and a layer is unpacked again (docs/decisions/0027-what-is-not-synced-is-noted.md).

use std::fs::{self, File};
use std::io;
use std::path::Path;

use oci::Digest;

use crate::disk::{Part, Store, names, remove_if_there};
use crate::error::{Doing as _, Error};

/// Names this start of the machine (proc_sys_kernel(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Store {
    /// Says that `name` of `part`, a blob or a layer that is complete and about to get its name, may
    /// be lost with the power.
    pub(crate) fn note_unsynced(&self, part: Part, name: &str) -> Result<(), Error> {
        if !self.syncs {
            return Ok(());
        }
        let path = self.made(Part::Unsynced)?.join(note(&boot()?, part, name));
        match File::create_new(&path) {
            // Somebody else has the same, and is not done either.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map(drop).doing(|| format!("create `{}`", path.display())),
        }
    }

    /// Waits until everything that is noted is on the disk.
    ///
    /// The caller holds a [`crate::Lease`]: nothing that is noted is made a second time meanwhile.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        // What is noted later may have been written later.
        let noted = names(&self.part(Part::Unsynced))?;
        if !self.syncs || noted.is_empty() {
            return Ok(());
        }
        self.sync()?;
        self.strike(&noted)
    }

    /// Takes back the note of something that was written to the disk by itself.
    pub(crate) fn strike_one(&self, part: Part, name: &str) -> Result<(), Error> {
        let note = note(&boot()?, part, name);
        match self.part(Part::Unsynced).join(&note).exists() {
            true => self.strike(&[note]),
            false => Ok(()),
        }
    }

    /// Takes notes back: before anything relies on that, which may be on the disk earlier otherwise.
    fn strike(&self, notes: &[String]) -> Result<(), Error> {
        let directory = self.part(Part::Unsynced);
        notes.iter().try_for_each(|note| remove_if_there(&directory.join(note)))?;
        let synced = File::open(&directory).and_then(|directory| directory.sync_all());
        synced.doing(|| format!("write `{}` to disk", directory.display()))
    }

    /// Takes away what earlier starts of the machine may not have written to the disk.
    pub(crate) fn distrust_unsynced(&self) -> Result<(), Error> {
        let directory = self.part(Part::Unsynced);
        if names(&directory)?.is_empty() {
            return Ok(());
        }
        let boot = boot()?;
        let of_before = || -> Result<Vec<String>, Error> {
            Ok(names(&directory)?.into_iter().filter(|note| !note.starts_with(&boot)).collect())
        };
        if of_before()?.is_empty() {
            return Ok(());
        }
        // Nobody takes away what another has made again after doing the same.
        let _changing = self.change(Part::Unsynced)?;
        for note in of_before()? {
            match noted(&note) {
                Some((Part::Blobs, digest)) => {
                    let partial = self.made(Part::Ingest)?.join(digest.hex());
                    rename_if_there(&self.blob_path(&digest), &partial)?;
                }
                Some((_, digest)) => {
                    self.forget_bases_where(|_, base| base.layers.contains(&digest))?;
                    self.hide(&self.layer_path(&digest))?;
                }
                None => {}
            }
            remove_if_there(&directory.join(note))?;
        }
        Ok(())
    }

    /// Takes back the notes of what is not there any more. Nobody adds anything now.
    pub(crate) fn sweep_notes(&self) -> Result<(), Error> {
        let directory = self.part(Part::Unsynced);
        for note in names(&directory)? {
            let is_there = noted(&note).is_some_and(|(part, digest)| match part {
                Part::Blobs => self.has_blob(&digest),
                _ => self.has_layer(&digest),
            });
            if !is_there {
                remove_if_there(&directory.join(note))?;
            }
        }
        Ok(())
    }
}

fn boot() -> Result<String, Error> {
    let text = fs::read_to_string(BOOT_ID).doing(|| format!("read `{BOOT_ID}`"))?;
    Ok(text.trim().to_owned())
}

fn note(boot: &str, part: Part, name: &str) -> String {
    let kind = if part == Part::Blobs { "blob" } else { "layer" };
    format!("{boot}.{kind}.{name}")
}

/// What a note is about.
fn noted(note: &str) -> Option<(Part, Digest)> {
    let mut words = note.split('.').skip(1);
    let part = match words.next()? {
        "blob" => Part::Blobs,
        "layer" => Part::Layers,
        _ => return None,
    };
    Some((part, Digest::from_hex(words.next()?).ok()?))
}

fn rename_if_there(from: &Path, to: &Path) -> Result<(), Error> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed.doing(|| format!("move `{}`", from.display())),
    }
}
