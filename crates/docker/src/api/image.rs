//! Images.

use std::io::{self, Read};

use engine::{CommitOptions, Engine};
use httpd::Reply;
use oci::{ContainerConfig, Reference};
use serde_json::{Value, json};
use store::Image;

use super::call::{Answer, Call, json};
use super::failure::Failure;
use super::progress::Lines;
use super::pull::{changes, parse, platform};
use crate::filter::{Filters, has_label, switch};
use crate::list::reference_matches;

const FILTERS: &[&str] = &["before", "dangling", "label", "reference", "since", "until"];
/// Before this version, images had what was called their virtual size.
const VIRTUAL_SIZE_UNTIL: u32 = 44;
/// Found repositories, unless another number is asked for.
const SEARCH_LIMIT: usize = 25;

/// `GET /images/json`
pub(super) fn list(call: &mut Call<'_, '_>) -> Answer {
    let engine = call.engine();
    let filters = call.filters(FILTERS)?;
    let wanted = Wanted::new(engine, &filters)?;
    let mut found = Vec::new();
    for image in engine.images()? {
        let Some(image) = wanted.of(engine, image)? else { continue };
        let mut summary = summary(engine, &image, call.version)?;
        if call.flag("shared-size") {
            summary["SharedSize"] = 0.into();
        }
        found.push(summary);
    }
    json(200, &found.into())
}

/// The images that filters leave, each with those of its names that they leave.
struct Wanted<'a> {
    filters: &'a Filters,
    before: Vec<Option<jiff::Timestamp>>,
    since: Vec<Option<jiff::Timestamp>>,
    until: Option<jiff::Timestamp>,
}

impl<'a> Wanted<'a> {
    fn new(engine: &Engine, filters: &'a Filters) -> Result<Self, Failure> {
        let created = |key: &str| {
            let find = |name| engine.image(name).map(|image| time(&image));
            filters.values(key).map(find).collect::<engine::Result<Vec<_>>>()
        };
        let (before, since) = (created("before")?, created("since")?);
        let until = crate::filter::prune_filter(filters)?.until;
        Ok(Self { filters, before, since, until })
    }

    fn of(&self, engine: &Engine, mut image: Image) -> Result<Option<Image>, Failure> {
        let filters = self.filters;
        let made = time(&image);
        let is_dangling = image.tags.is_empty();
        if self.before.iter().any(|time| made >= *time)
            || self.since.iter().any(|time| made <= *time)
            || self.until.is_some_and(|until| made > Some(until))
            || filters.has("dangling") && switch(filters, "dangling", true)? != is_dangling
        {
            return Ok(None);
        }
        if filters.has("label") {
            let config = image.config(engine.store()).map_err(engine::Error::from)?;
            if !filters.all("label", |label| has_label(&config.config.labels, label)) {
                return Ok(None);
            }
        }
        if filters.has("reference") {
            let fits = |name: &Reference| {
                filters.any("reference", |pattern| reference_matches(pattern, name))
            };
            image.tags.retain(fits);
            image.repo_digests.retain(fits);
            if image.tags.is_empty() && image.repo_digests.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(image))
    }
}

/// When an image was made; one that does not say is older than all others.
fn time(image: &Image) -> Option<jiff::Timestamp> {
    image.created.as_deref()?.parse().ok()
}

/// An image as lists have it.
pub(super) fn summary(engine: &Engine, image: &Image, version: u32) -> Result<Value, Failure> {
    let familiar = |references: &[Reference]| -> Vec<String> {
        references.iter().map(Reference::familiar).collect()
    };
    let config = image.config(engine.store()).map_err(engine::Error::from)?;
    let labels = match config.config.labels.is_empty() {
        true => Value::Null,
        false => json!(config.config.labels),
    };
    let mut tags = familiar(&image.tags);
    let mut digests = familiar(&image.repo_digests);
    if version < VIRTUAL_SIZE_UNTIL - 1 && tags.is_empty() {
        tags.push("<none>:<none>".to_owned());
        if digests.is_empty() {
            digests.push("<none>@<none>".to_owned());
        }
    }
    let mut summary = json!({
        "Containers": -1,
        "Created": time(image).map_or(0, jiff::Timestamp::as_second),
        "Id": image.id.to_string(),
        "Labels": labels,
        "ParentId": "",
        "RepoDigests": digests,
        "RepoTags": tags,
        "SharedSize": -1,
        "Size": image.size(),
    });
    if version < VIRTUAL_SIZE_UNTIL {
        summary["VirtualSize"] = image.size().into();
    }
    Ok(summary)
}

/// `GET /images/{name}/json`
pub(super) fn inspect(call: &mut Call<'_, '_>) -> Answer {
    let engine = call.engine();
    let mut view = crate::image(engine, &engine.image(call.name())?)?;
    if call.version < VIRTUAL_SIZE_UNTIL {
        view["VirtualSize"] = view["Size"].clone();
    }
    json(200, &view)
}

/// `GET /images/{name}/history`
pub(super) fn history(call: &mut Call<'_, '_>) -> Answer {
    let engine = call.engine();
    let image = engine.image(call.name())?;
    let history = image.config(engine.store()).map_err(engine::Error::from)?.history;
    let mut sizes = image.layers.iter().map(|layer| layer.size);
    let last = history.len().saturating_sub(1);
    let tags: Vec<String> = image.tags.iter().map(Reference::familiar).collect();
    let mut rows = Vec::new();
    for (index, entry) in history.iter().enumerate() {
        let size = if entry.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
        let created = entry.created.as_deref().and_then(|time| time.parse().ok());
        let id = if index == last { image.id.to_string() } else { "<missing>".to_owned() };
        rows.push(json!({
            "Id": id,
            "Created": created.map_or(0, jiff::Timestamp::as_second),
            "CreatedBy": entry.created_by,
            "Tags": if index == last && !tags.is_empty() { json!(tags) } else { Value::Null },
            "Size": size,
            "Comment": entry.comment,
        }));
    }
    rows.reverse();
    json(200, &rows.into())
}

/// `POST /images/{name}/tag`
pub(super) fn tag(call: &mut Call<'_, '_>) -> Answer {
    let (repository, tag) = (call.text("repo"), call.text("tag"));
    let text = match tag {
        "" => repository.to_owned(),
        tag => format!("{repository}:{tag}"),
    };
    call.engine().tag(call.name(), &parse(&text)?)?;
    Ok(Some(Reply::new(201)))
}

/// `DELETE /images/{name}`
pub(super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    let removed = call.engine().remove_image(call.name(), call.flag("force"))?;
    let removed: Vec<Value> = removed.iter().map(super::prune::removed).collect();
    json(200, &removed.into())
}

/// `GET /images/search`
pub(super) fn search(call: &mut Call<'_, '_>) -> Answer {
    let filters = call.filters(&["is-automated", "is-official", "stars"])?;
    let limit = call.number("limit")?.filter(|limit| *limit > 0).unwrap_or(SEARCH_LIMIT);
    let found = call.engine().search(call.text("term"), limit)?;
    let stars = filters.values("stars").next().map(str::parse::<u64>).transpose();
    let stars = stars.map_err(|_| Failure::bad("invalid filter 'stars'"))?.unwrap_or(0);
    let official = switch(&filters, "is-official", false)?;
    let automated = switch(&filters, "is-automated", false)?;
    let found = found.iter().filter(|found| {
        found.star_count >= stars
            && (!filters.has("is-official") || found.is_official == official)
            && (!filters.has("is-automated") || found.is_automated == automated)
    });
    let rows = found.map(|found| {
        json!({
            "star_count": found.star_count,
            "is_official": found.is_official,
            "name": found.name,
            "is_automated": found.is_automated,
            "description": found.description,
        })
    });
    json(200, &rows.collect())
}

/// `GET /images/get` and `GET /images/{name}/get`
pub(super) fn save(call: &mut Call<'_, '_>) -> Answer {
    let names: Vec<String> = match call.names.is_empty() {
        false => call.names.clone(),
        true => {
            let all = call.exchange.head().parameters("names");
            all.flat_map(|names| names.split(',')).map(str::to_owned).collect()
        }
    };
    if names.is_empty() {
        return Err(Failure::bad("no images are named"));
    }
    let platform = platform(call.text("platform"))?;
    let engine = call.engine();
    for name in &names {
        // A failure is an answer as long as nothing was sent.
        if engine.lacks_image(name, platform.as_ref()) && !is_repository(engine, name)? {
            return Err(Failure::new(404, format!("No such image: {name}")));
        }
    }
    let Ok(out) = call.stream("application/x-tar") else { return Ok(None) };
    let out = io::BufWriter::with_capacity(64 << 10, out);
    // What is not whole has no end, which clients see.
    if let Ok(out) = engine.save(&names, platform.as_ref(), out)
        && let Ok(out) = out.into_inner()
    {
        let _ = out.end();
    }
    Ok(None)
}

/// Whether a name stands for all tags of a repository.
fn is_repository(engine: &Engine, name: &str) -> Result<bool, Failure> {
    let Ok(reference) = name.parse::<Reference>() else { return Ok(false) };
    let images = engine.images()?;
    let mut tags = images.iter().flat_map(|image| &image.tags);
    Ok(!reference.has_tag() && tags.any(|tag| tag.name() == reference.name()))
}

/// `POST /images/load`
pub(super) fn load(call: &mut Call<'_, '_>) -> Answer {
    call.api.relieve()?;
    let platform = platform(call.text("platform"))?;
    let engine = call.engine();
    let body = &mut call.exchange.body() as &mut dyn Read;
    let loaded = engine.load(body, platform.as_ref(), &mut |_| {})?;
    let mut lines = Lines::new(call);
    for loaded in &loaded {
        if loaded.references.is_empty() {
            let id = loaded.image.id.to_string();
            lines.say(&json!({ "stream": format!("Loaded image ID: {id}\n") }));
        }
        for name in &loaded.references {
            let name = name.familiar();
            lines.say(&json!({ "stream": format!("Loaded image: {name}\n") }));
        }
    }
    lines.end(Ok(()))
}

/// `POST /commit`
pub(super) fn commit(call: &mut Call<'_, '_>) -> Answer {
    let container = call.engine().find(call.text("container"))?;
    let reference = match call.text("repo") {
        "" => None,
        repository => Some(match call.text("tag") {
            "" => parse(repository)?,
            tag => parse(&format!("{repository}:{tag}"))?,
        }),
    };
    let document = call.document()?;
    let mut config = container.record.config.clone();
    if let Some(fields) = document.as_object().filter(|fields| !fields.is_empty()) {
        overlay(&mut config, fields)?;
    }
    crate::apply_changes(&changes(call), &mut config)?;
    call.api.relieve()?;
    let options = CommitOptions {
        author: call.text("author").to_owned(),
        message: call.text("comment").to_owned(),
        pause: call.text("pause").is_empty() || call.flag("pause"),
        config,
        reference,
    };
    let id = call.api.spawner.commit(&container, options)?;
    json(201, &json!({ "Id": id }))
}

/// Lays a configuration that was sent over the container's.
fn overlay(
    config: &mut ContainerConfig,
    fields: &serde_json::Map<String, Value>,
) -> Result<(), Failure> {
    let mut whole = json!(config);
    let set = fields.iter().filter(|(_, value)| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    });
    for (key, value) in set {
        whole[key] = value.clone();
    }
    *config = serde_json::from_value(whole)
        .map_err(|error| Failure::bad(format!("invalid configuration: {error}")))?;
    Ok(())
}
