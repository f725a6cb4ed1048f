//! `cais create`

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use engine::{Attached, Container, Error, Kind, Lazily, RemoveOptions, Result, Settings};

use super::create_options::CreateOptions;
use crate::progress;
use crate::session::Session;

/// What `create` takes.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cais create [OPTIONS] IMAGE [COMMAND] [ARG...]")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) create: CreateOptions,
    /// The image, by name or id; then the command and its arguments, or arguments for what the
    /// image runs
    // One argument, so that every word behind the image is the container's, even `--name`.
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    #[arg(num_args = 1..)]
    pub(super) image_and_command: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let attached = args.create.attached()?;
    let container = create(session, &args.create, attached, &args.image_and_command)?;
    session.say(&container.record.id).map(|()| 0)
}

/// Creates a container that is run `attached`, pulling its image first where `--pull` says so.
pub(super) fn create(
    session: &Session,
    options: &CreateOptions,
    attached: Attached,
    image_and_command: &[String],
) -> Result<Container> {
    let (image, command) = image_and_command.split_first().expect("an image is required");
    let settings =
        Settings { attached, ..options.settings(image, command).map_err(Error::in_usage)? };
    let platform = super::platform(options.platform.as_deref())?;
    let engine = session.engine()?;
    let id_file = options.cidfile.as_deref().map(IdFile::create).transpose()?;
    let pull = || {
        let reference = super::reference(image)?;
        session.relieve()?;
        progress::pull(engine, &reference, platform.as_ref(), progress::To::Stderr, options.quiet)
    };
    if options.pull == "always" {
        pull()?;
    }
    let created = match engine.create(settings.clone()) {
        Err(error)
            if error.kind() == Kind::NotFound && engine.lacks_image(image, platform.as_ref()) =>
        {
            let note = || -> Result<()> {
                if !options.quiet {
                    let name = super::reference(image)?.familiar();
                    progress::note(&format!("Unable to find image '{name}' locally"));
                }
                Ok(())
            };
            match options.pull.as_str() {
                "missing" => {
                    note()?;
                    pull()?;
                    engine.create(settings)
                }
                "lazy" => {
                    note()?;
                    session.relieve()?;
                    let reference = super::reference(image)?;
                    let (platform, quiet) = (platform.as_ref(), options.quiet);
                    match progress::pull_lazily(engine, &reference, platform, quiet)? {
                        Lazily::Whole(_) => engine.create(settings),
                        Lazily::Arriving(arriving) => engine.create_arriving(settings, *arriving),
                    }
                }
                _ => Err(error.hint("`cais pull` gets it, or leave out --pull never")),
            }
        }
        outcome => outcome,
    }?;
    if let Some(file) = id_file {
        file.write(&created.record.id).inspect_err(|_| {
            // Nobody would know its id.
            let _ = engine.remove(&created, RemoveOptions { force: true, volumes: true });
        })?;
    }
    Ok(created)
}

/// The file of `--cidfile`, made before the container and removed if there comes to be none.
pub(super) struct IdFile {
    path: PathBuf,
    file: File,
    written: bool,
}

impl IdFile {
    pub(super) fn create(path: &Path) -> Result<Self> {
        match File::options().write(true).create_new(true).open(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file, written: false }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::new(
                Kind::Exists,
                format!(
                    "container ID file found, make sure the other container isn't running or delete {}",
                    path.display()
                ),
            )),
            Err(error) => {
                let doing = format!("failed to create the container ID file {}", path.display());
                Err(Error::caused(Kind::Invalid, doing, error).hint("choose another --cidfile"))
            }
        }
    }

    pub(super) fn write(mut self, id: &str) -> Result<()> {
        let doing = || format!("write {}", self.path.display());
        let written = self.file.write_all(id.as_bytes());
        written.map_err(|error| Error::caused(Kind::Internal, doing(), error))?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            // It is empty, and in nobody's way but ours the next time.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_file_stays_only_with_an_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        drop(IdFile::create(&path).unwrap());
        assert!(!path.exists());
        IdFile::create(&path).unwrap().write("abc").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "abc");
        assert!(IdFile::create(&path).is_err());
        assert!(path.exists());
        assert!(IdFile::create(&dir.path().join("no/such")).is_err());
    }
}
