//! `cais images`

use std::cmp::Reverse;

use engine::{Error, Kind, Result};
use jiff::Timestamp;
use oci::Reference;
use serde_json::json;
use store::Image;

use super::filter::{Filters, has_label};
use crate::output::{self, Row};
use crate::session::Session;

const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_DIGESTS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const HEADERS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
];
const FILTERS: &[&str] = &["before", "dangling", "label", "reference", "since"];

/// What `images` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show all images (default hides intermediate images, of which Cais has none)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Only this repository, or this tag of it
    repository: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let mut conditions = args.filter.clone();
    conditions.extend(args.repository.iter().map(|name| format!("reference={name}")));
    let filters = Filters::parse(&conditions, FILTERS)?;
    let created = |key: &str| {
        let find = |name| engine.image(name).map(|image| time(&image));
        filters.values(key).map(find).collect::<Result<Vec<_>>>()
    };
    let (before, since) = (created("before")?, created("since")?);
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for image in sorted(engine.images()?) {
        let made = time(&image);
        if before.iter().any(|time| made >= *time) || since.iter().any(|time| made <= *time) {
            continue;
        }
        if filters.has("label") {
            let labels = image.config(engine.store())?.config.labels;
            if !filters.all("label", |label| has_label(&labels, label)) {
                continue;
            }
        }
        for name in names(&image) {
            if wanted(&name, &filters)? {
                rows.push(row(&image, &name, args, now));
            }
        }
    }
    if args.quiet {
        rows.dedup_by(|a, b| a.fields["ID"] == b.fields["ID"]);
    }
    let table = if args.digests { TABLE_DIGESTS } else { TABLE };
    super::show(session, args.format.as_deref(), args.quiet, table, HEADERS, &rows)
}

/// The newest first; those of one time by their names.
fn sorted(mut images: Vec<Image>) -> Vec<Image> {
    images.sort_by_cached_key(|image| {
        (Reverse(time(image)), image.tags.iter().map(Reference::familiar).collect::<Vec<_>>())
    });
    images
}

/// When an image was made; one that does not say is older than all others.
fn time(image: &Image) -> Option<Timestamp> {
    image.created.as_deref()?.parse().ok()
}

/// One line of the list: a tag, a digest without a tag, or nothing.
struct Name {
    tag: Option<Reference>,
    pin: Option<Reference>,
}

fn names(image: &Image) -> Vec<Name> {
    let pin_of = |tag: &Reference| image.repo_digests.iter().find(|pin| pin.name() == tag.name());
    let mut names: Vec<Name> = image
        .tags
        .iter()
        .map(|tag| Name { pin: pin_of(tag).cloned(), tag: Some(tag.clone()) })
        .collect();
    for pin in &image.repo_digests {
        if !image.tags.iter().any(|tag| tag.name() == pin.name()) {
            names.push(Name { tag: None, pin: Some(pin.clone()) });
        }
    }
    if names.is_empty() {
        names.push(Name { tag: None, pin: None });
    }
    names
}

fn wanted(name: &Name, filters: &Filters) -> Result<bool> {
    for value in filters.values("dangling") {
        let dangling = name.tag.is_none();
        let asked: bool = value.parse().map_err(|_| {
            Error::new(Kind::Invalid, format!("invalid filter 'dangling={value}'"))
                .hint("true or false")
        })?;
        if asked != dangling {
            return Ok(false);
        }
    }
    let shown = name.tag.as_ref().or(name.pin.as_ref());
    Ok(filters.any("reference", |pattern| shown.is_some_and(|name| matches(pattern, name))))
}

/// Whether a pattern with `*` and `?` fits the name with its tag, or without.
fn matches(pattern: &str, name: &Reference) -> bool {
    let normal = pattern.parse::<Reference>().map(|pattern| pattern.familiar_name());
    let tagged = format!("{}:{}", name.familiar_name(), name.tag().unwrap_or_default());
    glob(pattern, &name.familiar_name())
        || glob(pattern, &tagged)
        || normal.is_ok_and(|normal| normal == name.familiar_name() && !pattern.contains(':'))
}

/// `*` is anything but a slash, `?` one character but a slash.
fn glob(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, end) => end.is_none(),
        (Some('*'), next) => {
            glob(&pattern[1..], text)
                || next.is_some_and(|c| c != '/' && glob(pattern, &text[c.len_utf8()..]))
        }
        (Some('?'), Some(c)) if c != '/' => glob(&pattern[1..], &text[c.len_utf8()..]),
        (Some(p), Some(c)) if p == c => glob(&pattern[p.len_utf8()..], &text[c.len_utf8()..]),
        _ => false,
    }
}

fn row(image: &Image, name: &Name, args: &Args, now: Timestamp) -> Row {
    let none = || "<none>".to_owned();
    let shown = name.tag.as_ref().or(name.pin.as_ref());
    let digest = name.pin.as_ref().and_then(Reference::digest).map(ToString::to_string);
    let id = image.id.to_string();
    let created = image.created.as_deref().unwrap_or_default();
    let since = match super::age(created, now) {
        age if age.is_empty() => "N/A".to_owned(),
        age => format!("{age} ago"),
    };
    Row::from(json!({
        "Repository": shown.map_or_else(none, Reference::familiar_name),
        "Tag": name.tag.as_ref().and_then(Reference::tag).map_or_else(none, str::to_owned),
        "Digest": digest.unwrap_or_else(none),
        "ID": if args.no_trunc { id } else { id["sha256:".len()..][..12].to_owned() },
        "CreatedSince": since,
        "CreatedAt": super::local_time(created),
        "Size": output::human_size(image.size(), 3),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names_and_tags() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(matches(pattern, &name.parse().unwrap()), expected, "{pattern} {name}");
        };
        check("ubuntu", "ubuntu:24.04", true);
        check("ubuntu:24*", "ubuntu:24.04", true);
        check("ubuntu:22.04", "ubuntu:24.04", false);
        check("bus*", "busybox", true);
        check("*", "a/b", false);
        check("*/*", "a/b", true);
        check("docker.io/library/ubuntu", "ubuntu", true);
    }
}
