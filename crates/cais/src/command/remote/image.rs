//! Images.

use std::io::{BufRead as _, BufReader, Read};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use engine::{Error, Kind, Result};
use oci::Reference;
use remote::{Answer, Request};
use serde_json::{Value, json};

use super::Remote;
use super::list::text;
use crate::command::{self, each, open, reference, to_output};
use crate::progress;

/// Who we are for the registry of an image: `X-Registry-Auth`.
fn credentials(reference: &Reference) -> Result<String> {
    let registry = reference.registry();
    let known = registry::logged_in(registry).map_err(|error| {
        Error::caused(Kind::Invalid, format!("look up the login at {registry}"), error)
    })?;
    let document = match known {
        Some((user, password)) => json!({
            "username": user,
            "password": password,
            "serveraddress": registry::registry_key(registry),
        }),
        None => json!({}),
    };
    Ok(URL_SAFE.encode(document.to_string()))
}

/// Who we are for all registries that are named, as a build is told: `X-Registry-Config`.
pub(super) fn all_credentials(references: &[Reference]) -> Result<String> {
    let mut all = serde_json::Map::new();
    for reference in references {
        let registry = reference.registry();
        if let Ok(Some((user, password))) = registry::logged_in(registry) {
            let key = registry::registry_key(registry).to_owned();
            all.insert(key, json!({ "username": user, "password": password }));
        }
    }
    Ok(URL_SAFE.encode(Value::Object(all).to_string()))
}

/// Shows the lines in which the engine tells how it gets on. The last document that has something
/// for programs is given back.
pub(super) fn follow(
    remote: &Remote<'_>,
    answer: Answer,
    mut show: impl FnMut(&str) -> Result<()>,
) -> Result<Value> {
    let mut aux = Value::Null;
    let mut states = std::collections::HashMap::new();
    let mut lines = BufReader::new(answer.into_body());
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).map_err(|error| remote.broken(error))? == 0 {
            return Ok(aux);
        }
        let Ok(news) = serde_json::from_slice::<Value>(&line) else { continue };
        if let Some(error) = news["error"].as_str() {
            let code = news["errorDetail"]["code"].as_i64();
            let kind = if code.is_some() { Kind::Invalid } else { Kind::Unavailable };
            return Err(Error::new(kind, error.to_owned()));
        }
        if !news["aux"].is_null() {
            aux = news["aux"].clone();
        }
        match (news["stream"].as_str(), news["status"].as_str(), news["id"].as_str()) {
            (Some(output), ..) => show(output)?,
            (None, Some(status), Some(id)) => {
                // Bars are for terminals: what is said once is enough.
                let known = states.insert(id.to_owned(), status.to_owned());
                if known.as_deref() != Some(status) {
                    show(&format!("{id}: {status}\n"))?;
                }
            }
            (None, Some(status), None) => show(&format!("{status}\n"))?,
            _ => {}
        }
    }
}

pub(super) fn pull(remote: &Remote<'_>, args: &command::pull::Args) -> Result<i32> {
    let platform = args.platform.as_deref().unwrap_or_default();
    let reference = reference(&args.image)?;
    let tag = match args.all_tags {
        true if reference.has_tag() || reference.digest().is_some() => {
            return Err(Error::invalid("tag can't be used with --all-tags/-a"));
        }
        true => String::new(),
        false => tag(&reference),
    };
    if !args.quiet && !args.all_tags && !reference.has_tag() && reference.digest().is_none() {
        remote.session.say("Using default tag: latest")?;
    }
    fetch(remote, &reference, &tag, platform, |text| match args.quiet {
        true => Ok(()),
        false => remote.session.print(text),
    })?;
    remote.session.say(reference.to_string()).map(|()| 0)
}

/// The tag or the digest that a name asks for.
fn tag(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

fn fetch(
    remote: &Remote<'_>,
    reference: &Reference,
    tag: &str,
    platform: &str,
    show: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let request = Request::new("POST", &["images", "create"]);
    let request = request.with("fromImage", reference.familiar_name()).with_some("tag", tag);
    let request = request.with_some("platform", platform);
    let request = request.header("X-Registry-Auth", credentials(reference)?);
    follow(remote, remote.ask(request)?, show).map(drop)
}

/// Pulls an image on the way to something else, and says so where that is no output.
pub(super) fn pull_for(
    remote: &Remote<'_>,
    image: &str,
    platform: &str,
    quiet: bool,
) -> Result<()> {
    let reference = reference(image)?;
    fetch(remote, &reference, &tag(&reference), platform, |text| {
        if !quiet {
            progress::note(text.trim_end_matches('\n'));
        }
        Ok(())
    })
}

pub(super) fn push(remote: &Remote<'_>, args: &command::push::Args) -> Result<i32> {
    let reference = reference(&args.image)?;
    let request = Request::new("POST", &["images", &reference.familiar_name(), "push"]);
    let tag = if args.all_tags { "" } else { reference.tag().unwrap_or("latest") };
    let request = request.with_some("tag", tag);
    let request = match &args.platform {
        None => request,
        Some(text) => {
            let platform = command::platform(Some(text))?.map(|platform| {
                json!({
                    "os": platform.os,
                    "architecture": platform.architecture,
                    "variant": platform.variant.unwrap_or_default(),
                })
            });
            request.with("platform", platform.unwrap_or_default().to_string())
        }
    };
    let request = request.header("X-Registry-Auth", credentials(&reference)?);
    follow(remote, remote.ask(request)?, |text| match args.quiet {
        true => Ok(()),
        false => remote.session.print(text),
    })?;
    match args.quiet {
        true => remote.session.say(reference.to_string()).map(|()| 0),
        false => Ok(0),
    }
}

pub(super) fn tag_image(remote: &Remote<'_>, args: &command::tag::Args) -> Result<i32> {
    let target = reference(&args.target_image)?;
    let request = Request::new("POST", &["images", &args.source_image, "tag"]);
    let request = request.with("repo", target.familiar_name());
    remote.act(request.with("tag", target.tag().unwrap_or("latest"))).map(|()| 0)
}

pub(super) fn rm(remote: &Remote<'_>, args: &command::rmi::Args) -> Result<i32> {
    if args.platform.is_some() {
        let message = "rmi --platform is not supported for an engine elsewhere";
        return Err(Error::new(Kind::Unsupported, message));
    }
    each(&args.images, |name| {
        let request = Request::new("DELETE", &["images", name]).with_flag("force", args.force);
        let removed = match remote.json(request.with_flag("noprune", args.no_prune)) {
            Err(error) if args.force && error.kind() == Kind::NotFound => return Ok(()),
            removed => removed?,
        };
        for what in removed.as_array().into_iter().flatten() {
            for word in ["Untagged", "Deleted"] {
                if let Some(name) = what[word].as_str() {
                    remote.session.say(format!("{word}: {name}"))?;
                }
            }
        }
        Ok(())
    })
}

/// Copies what the engine answers to a file or to standard output.
fn download(
    remote: &Remote<'_>,
    request: Request<'_>,
    to: Option<&std::path::Path>,
    doing: &str,
) -> Result<i32> {
    let mut body = remote.ask(request)?.into_body();
    to_output(to, doing, |out| {
        let copied = std::io::copy(&mut body, out).and_then(|_| out.flush());
        copied.map_err(|error| remote.broken(error))
    })
}

pub(super) fn save(remote: &Remote<'_>, args: &command::save::Args) -> Result<i32> {
    if args.platform.is_some() {
        let message = "save --platform is not supported for an engine elsewhere";
        return Err(Error::new(Kind::Unsupported, message));
    }
    let request = Request::new("GET", &["images", "get"]);
    let request = args.images.iter().fold(request, |request, name| request.with("names", name));
    download(remote, request, args.output.as_deref(), "save image")
}

pub(super) fn export(remote: &Remote<'_>, args: &command::export::Args) -> Result<i32> {
    let request = Request::new("GET", &["containers", &args.container, "export"]);
    download(remote, request, args.output.as_deref(), "export container")
}

pub(super) fn load(remote: &Remote<'_>, args: &command::load::Args) -> Result<i32> {
    if args.platform.is_some() {
        let message = "load --platform is not supported for an engine elsewhere";
        return Err(Error::new(Kind::Unsupported, message));
    }
    let mut archive: Box<dyn Read> = match &args.input {
        Some(path) => Box::new(open(path)?),
        None => Box::new(std::io::stdin()),
    };
    let request = Request::new("POST", &["images", "load"]).with("quiet", "1");
    let answer = remote.ask(request.stream("application/x-tar", &mut *archive))?;
    follow(remote, answer, |text| match args.quiet && !text.starts_with("Loaded") {
        true => Ok(()),
        false => remote.session.print(text),
    })
    .map(|_| 0)
}

pub(super) fn commit(remote: &Remote<'_>, args: &command::commit::Args) -> Result<i32> {
    let request = Request::new("POST", &["commit"]).with("container", &args.container);
    let request = match args.repository.as_deref().map(reference).transpose()? {
        None => request,
        Some(name) => {
            let tag = name.tag().unwrap_or("latest").to_owned();
            request.with("repo", name.familiar_name()).with("tag", tag)
        }
    };
    let request = request.with_some("author", &args.author).with_some("comment", &args.message);
    let request = request.with("pause", if args.pause { "1" } else { "0" });
    let request =
        args.change.iter().fold(request, |request, change| request.with("changes", change));
    let made = remote.json(request.json(json!({})))?;
    remote.session.say(text(&made, "Id")).map(|()| 0)
}
