//! Images on their way from and to registries.

use std::sync::{Mutex, PoisonError};

use engine::PullJob;
use oci::{ContainerConfig, Document, Platform, Reference};
use registry::Event;
use serde_json::{Value, json};

use super::call::{Answer, Call, json};
use super::failure::{Failure, told};
use super::progress::{Lines, document};
use super::registry_auth::{engine_as, login};

/// `POST /images/create`: a pull, or an import.
pub(super) fn create(call: &mut Call<'_, '_>) -> Answer {
    if !call.text("fromSrc").is_empty() {
        return import(call);
    }
    let name = call.text("fromImage");
    if name.is_empty() {
        return Err(Failure::bad("one of fromImage and fromSrc is required"));
    }
    let reference = joined(name, call.text("tag"))?;
    let platform = platform(call.text("platform"))?;
    call.api.relieve()?;
    let engine = engine_as(call, &reference)?;
    let references = match reference.has_tag() || reference.digest().is_some() {
        true => vec![reference],
        false => {
            let tags = engine.tags_of(&reference)?;
            let tagged = tags.iter().map(|tag| reference.with_tag(tag));
            tagged.collect::<Result<_, _>>().map_err(|error| Failure::bad(error.to_string()))?
        }
    };
    let login = login(call)?;
    let spawner = &call.api.spawner;
    let mut lines = Lines::new(call);
    let mut pull = |reference: &Reference| {
        let (reference, platform, login) = (reference.clone(), platform.clone(), login.clone());
        let name = reference.familiar();
        // That it begins is said once something has come: a registry that cannot be reached is an
        // answer of its own.
        let mut begun = None;
        let pulled = spawner.pull(PullJob { reference, platform, login }, &mut |event| {
            match event {
                None => {}
                Some(event @ Event::Pulling { .. }) => begun = Some(document(event)),
                Some(event) => {
                    begun.take().into_iter().chain([document(event)]).for_each(|d| lines.say(&d));
                }
            }
            !lines.is_gone()
        })?;
        match pulled {
            Some(true) => {
                lines.say(&json!({ "status": format!("Status: Image is up to date for {name}") }));
            }
            Some(false) => {
                let status = format!("Status: Downloaded newer image for {name}");
                lines.say(&json!({ "status": status }));
            }
            // The client has gone.
            None => return Err(Failure::bad("the pull was given up")),
        }
        Ok::<_, Failure>(())
    };
    let outcome = references.iter().try_for_each(&mut pull);
    lines.end(outcome)
}

/// A name with a tag or a digest that stands beside it; in a pull, without either, all tags are
/// meant.
fn joined(name: &str, tag: &str) -> Result<Reference, Failure> {
    let text = match tag {
        "" => name.to_owned(),
        digest if digest.contains(':') => format!("{name}@{digest}"),
        tag => format!("{name}:{tag}"),
    };
    parse(&text)
}

/// A reference.
pub(super) fn parse(text: &str) -> Result<Reference, Failure> {
    text.parse().map_err(|error| Failure::bad(format!("invalid reference format: {error}")))
}

/// A platform: `linux/arm64`, or JSON.
pub(super) fn platform(text: &str) -> Result<Option<Platform>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.starts_with('{') {
        let platform = text.parse::<Platform>();
        return platform.map(Some).map_err(|error| Failure::bad(error.to_string()));
    }
    let platform = serde_json::from_str(text);
    platform.map(Some).map_err(|error| Failure::bad(format!("invalid platform: {error}")))
}

fn import(call: &mut Call<'_, '_>) -> Answer {
    let source = call.text("fromSrc");
    if source != "-" {
        return Err(Failure::unsupported("import from a URL is not supported"));
    }
    let reference = match call.text("repo") {
        "" => None,
        repo => Some(joined(repo, call.text("tag"))?),
    };
    let platform = platform(call.text("platform"))?;
    let mut config = ContainerConfig::default();
    crate::apply_changes(&changes(call), &mut config)?;
    let message = match call.text("message") {
        "" => "Imported from -".to_owned(),
        message => message.to_owned(),
    };
    call.api.relieve()?;
    let engine = call.engine();
    let image = engine.import(
        call.exchange.body(),
        config,
        &message,
        platform.as_ref(),
        reference.as_ref(),
    )?;
    let mut lines = Lines::new(call);
    lines.say(&json!({ "status": image.id.to_string() }));
    lines.end(Ok(()))
}

/// Instructions that change a configuration.
pub(super) fn changes(call: &Call<'_, '_>) -> Vec<String> {
    call.exchange.head().parameters("changes").map(str::to_owned).collect()
}

/// `POST /images/{name}/push`
pub(super) fn push(call: &mut Call<'_, '_>) -> Answer {
    let name = call.name().to_owned();
    let tag = call.text("tag");
    let platform = platform(call.text("platform"))?;
    let references = match tag {
        // All tags of the repository.
        "" => all_tags(call, &parse(&name)?)?,
        tag => vec![joined(&name, tag)?],
    };
    let first = parse(&name)?;
    let engine = engine_as(call, &first)?;
    let lines = Mutex::new(Lines::new(call));
    let say = |value: &Value| lines.lock().unwrap_or_else(PoisonError::into_inner).say(value);
    let refers = format!("The push refers to repository [{}]", first.name());
    say(&json!({ "status": refers }));
    let mut outcome = Ok(());
    for reference in &references {
        let pushed = engine.push(reference, platform.as_ref(), &|event| say(&document(event)));
        match pushed {
            Ok(pushed) => {
                let tag = reference.tag().unwrap_or_default();
                let (digest, size) = (pushed.digest.to_string(), pushed.size);
                say(&json!({ "status": format!("{tag}: digest: {digest} size: {size}") }));
                let aux = json!({ "Tag": tag, "Digest": digest, "Size": size });
                say(&json!({ "progressDetail": {}, "aux": aux }));
            }
            Err(error) => {
                outcome = Err(Failure::from(error));
                break;
            }
        }
    }
    let lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    lines.end(outcome)
}

fn all_tags(call: &Call<'_, '_>, repository: &Reference) -> Result<Vec<Reference>, Failure> {
    let images = call.engine().images()?;
    let tags = images.iter().flat_map(|image| &image.tags);
    let own: Vec<Reference> = tags.filter(|tag| tag.name() == repository.name()).cloned().collect();
    match own.is_empty() {
        false => Ok(own),
        true => Err(Failure::new(
            404,
            format!("An image does not exist locally with the tag: {}", repository.familiar_name()),
        )),
    }
}

/// `GET /distribution/{name}/json`: what a registry has of a name.
pub(super) fn distribution(call: &mut Call<'_, '_>) -> Answer {
    let reference = parse(call.name())?;
    let engine = engine_as(call, &reference)?;
    let fetched = engine.remote_manifest(&reference).map_err(|error| match error.kind() {
        // Docker's clients take both for the same.
        engine::Kind::NotFound => Failure::new(404, told(&error)),
        engine::Kind::Denied => Failure::new(401, told(&error)),
        _ => error.into(),
    })?;
    let platforms: Vec<Value> = match Document::parse(&fetched.bytes, &fetched.media_type) {
        Ok(Document::Index(index)) => {
            let platforms = index.manifests.iter().filter_map(|entry| entry.platform.as_ref());
            platforms.map(|platform| json!(platform)).collect()
        }
        _ => vec![json!(Platform::host())],
    };
    json(
        200,
        &json!({
            "Descriptor": {
                "mediaType": fetched.media_type,
                "digest": fetched.digest.to_string(),
                "size": fetched.bytes.len(),
            },
            "Platforms": platforms,
        }),
    )
}
