//! `cais create`

use engine::{Container, Error, Kind, Result};

use super::create_options::CreateOptions;
use crate::progress;
use crate::session::Session;

/// What `create` takes.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cais create [OPTIONS] IMAGE [COMMAND] [ARG...]")]
pub(crate) struct Args {
    #[command(flatten)]
    create: CreateOptions,
    /// The image, by name or id; then the command and its arguments, or arguments for what the
    /// image runs
    // One argument, so that every word behind the image is the container's, even `--name`.
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    #[arg(num_args = 1..)]
    image_and_command: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let container = create(session, &args.create, &args.image_and_command)?;
    session.say(&container.record.id).map(|()| 0)
}

/// Creates a container, pulling its image first where `--pull` says so.
pub(super) fn create(
    session: &Session,
    options: &CreateOptions,
    image_and_command: &[String],
) -> Result<Container> {
    let (image, command) = image_and_command.split_first().expect("an image is required");
    let settings = options.settings(image, command)?;
    let platform = super::platform(options.platform.as_deref())?;
    let engine = session.engine()?;
    let id_file = options.cidfile.as_ref();
    if let Some(file) = id_file.filter(|file| file.exists()) {
        return Err(Error::new(
            Kind::Exists,
            format!(
                "container ID file found, make sure the other container isn't running or delete {}",
                file.display()
            ),
        ));
    }
    let pull = || {
        let reference = super::reference(image)?;
        progress::pull(engine, &reference, platform.as_ref(), progress::To::Stderr, options.quiet)
    };
    if options.pull == "always" {
        pull()?;
    }
    let created = match engine.create(settings.clone()) {
        Err(error)
            if error.kind() == Kind::NotFound && engine.lacks_image(image, platform.as_ref()) =>
        {
            match options.pull.as_str() {
                "missing" => {
                    if !options.quiet {
                        let name = super::reference(image)?.familiar();
                        progress::note(&format!("Unable to find image '{name}' locally"));
                    }
                    pull()?;
                    engine.create(settings)
                }
                _ => Err(error.hint("`cais pull` gets it, or leave out --pull never")),
            }
        }
        outcome => outcome,
    }?;
    if let Some(file) = id_file {
        std::fs::write(file, &created.record.id).map_err(|error| {
            Error::caused(Kind::Internal, format!("write {}", file.display()), error)
        })?;
    }
    Ok(created)
}
