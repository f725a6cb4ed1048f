//! Containers that are made, and run.

use engine::{Attached, Error, Kind, RemoveOptions, Result};
use remote::Request;
use serde_json::Value;

use super::list::text;
use super::{Remote, image, stream};
use crate::command;
use crate::command::create::IdFile;
use crate::command::create_options::CreateOptions;
use crate::progress;

pub(super) fn create(remote: &Remote<'_>, args: &command::create::Args) -> Result<i32> {
    let attached = args.create.attached()?;
    let id = make(remote, &args.create, attached, &args.image_and_command)?;
    remote.session.say(id).map(|()| 0)
}

/// Creates a container, pulling its image first where `--pull` says so; its id.
fn make(
    remote: &Remote<'_>,
    options: &CreateOptions,
    attached: Attached,
    image_and_command: &[String],
) -> Result<String> {
    let (name, words) = image_and_command.split_first().expect("an image is required");
    let mut settings = options.settings(name, words).map_err(Error::in_usage)?;
    settings.attached = attached;
    let platform = options.platform.as_deref().unwrap_or_default();
    let document = docker::create_body(&settings)?;
    let id_file = options.cidfile.as_deref().map(IdFile::create).transpose()?;
    match options.pull.as_str() {
        "always" => image::pull_for(remote, name, platform, options.quiet)?,
        "lazy" => {
            let message = "--pull lazy is not supported for an engine elsewhere";
            return Err(Error::new(Kind::Unsupported, message).hint("--pull missing pulls first"));
        }
        _ => {}
    }
    let request = || {
        let request = Request::new("POST", &["containers", "create"]);
        let request = request.with_some("name", &settings.name).with_some("platform", platform);
        request.json(document.clone())
    };
    let made = match remote.json(request()) {
        Err(error) if error.kind() == Kind::NotFound && is_image(&error) => {
            if options.pull != "missing" {
                return Err(error);
            }
            if !options.quiet {
                let name = command::reference(name)?.familiar();
                progress::note(&format!("Unable to find image '{name}' locally"));
            }
            image::pull_for(remote, name, platform, options.quiet)?;
            remote.json(request())
        }
        made => made,
    }?;
    for warning in made["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        progress::note(&format!("WARNING: {warning}"));
    }
    let id = text(&made, "Id").to_owned();
    if let Some(file) = id_file {
        file.write(&id).inspect_err(|_| {
            // Nobody would know its id.
            let _ = remove(remote, &id, RemoveOptions { force: true, volumes: true });
        })?;
    }
    Ok(id)
}

fn is_image(error: &Error) -> bool {
    error.to_string().contains("No such image")
}

fn remove(remote: &Remote<'_>, id: &str, options: RemoveOptions) -> Result<()> {
    let request = Request::new("DELETE", &["containers", id]).with_flag("force", options.force);
    remote.act(request.with_flag("v", options.volumes))
}

pub(super) fn run(remote: &Remote<'_>, args: &command::run::Args) -> Result<i32> {
    let options = &args.create;
    command::detach_keys(&args.detach_keys)?;
    if !args.detach && options.tty && options.interactive {
        command::run::needs_terminal("leave out -t where standard input is not a terminal")?;
    }
    if args.detach && options.is_attached() {
        let message = "conflicting options: cannot specify both --attach and --detach";
        return Err(Error::invalid(message));
    }
    let streams = if args.detach { Attached::default() } else { options.attached()? };
    let id = make(remote, options, streams, &args.image_and_command)?;
    let is_removed = options.is_removed();
    // A container that was to be removed when it exits is removed when it cannot even start.
    let undo = |error: &Error| {
        let never_ran = matches!(
            error.kind(),
            Kind::CommandNotFound | Kind::CommandNotExecutable | Kind::Invalid | Kind::Internal
        );
        if is_removed && never_ran {
            let _ = remove(remote, &id, RemoveOptions { force: true, volumes: true });
        }
    };
    if args.detach {
        let start = Request::new("POST", &["containers", &id, "start"]);
        remote.act(start).inspect_err(undo)?;
        return remote.session.say(&id).map(|()| 0);
    }
    let talk = stream::Talk {
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
        is_terminal: options.tty,
        signals: args.sig_proxy,
        keys: &args.detach_keys,
    };
    stream::start_attached(remote, &id, is_removed, &talk).inspect_err(undo)
}
