//! `cais images`

use std::cmp::Reverse;
use std::collections::HashSet;

use engine::{Error, Kind, Result};
use jiff::Timestamp;
use oci::{Digest, Platform, Reference};
use serde_json::json;
use store::Image;

use crate::output::{self, Row};
use crate::session::Session;
use docker::{Filters, has_label};

pub(super) const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
pub(super) const TABLE_DIGESTS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
pub(super) const HEADERS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
];
const TREE: &str = "{{.Image}}\t{{.ID}}\t{{.DiskUsage}}\t{{.ContentSize}}\t{{.Extra}}";
const TREE_HEADERS: &[(&str, &str)] = &[
    ("Image", "IMAGE"),
    ("ID", "ID"),
    ("DiskUsage", "DISK USAGE"),
    ("ContentSize", "CONTENT SIZE"),
    ("Extra", "EXTRA"),
];
const FILTERS: &[&str] = &["before", "dangling", "label", "reference", "since"];

/// What `images` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show all images (default hides intermediate images, of which Cais has none)
    #[arg(short, long)]
    pub(super) all: bool,
    /// Show digests
    #[arg(long)]
    pub(super) digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(super) filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    pub(super) format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// List images with their platforms, as a tree
    #[arg(long)]
    pub(super) tree: bool,
    /// Only this repository, or this tag of it
    pub(super) repository: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let others = [
        (args.quiet, "--quiet"),
        (args.no_trunc, "--no-trunc"),
        (args.digests, "--show-digest"),
        (args.format.is_some(), "--format"),
    ];
    if let Some((_, other)) = others.iter().find(|(given, _)| *given && args.tree) {
        return Err(Error::new(Kind::Invalid, format!("{other} is not yet supported with --tree"))
            .hint("leave one of the two out"));
    }
    let engine = session.engine()?;
    let used: HashSet<Digest> = if args.tree {
        engine.list()?.iter().map(|c| c.record.image_id).collect()
    } else {
        HashSet::new()
    };
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
        let mut shown = Vec::new();
        for name in names(&image) {
            if wanted(&name, &filters)? {
                shown.push(name);
            }
        }
        if args.tree && !shown.is_empty() {
            rows.extend(branch(session, &image, &shown, used.contains(&image.id))?);
        } else {
            rows.extend(shown.iter().map(|name| row(&image, name, args, now)));
        }
    }
    if args.tree {
        return super::show(session, None, false, TREE, TREE_HEADERS, &rows);
    }
    if args.quiet {
        rows.dedup_by(|a, b| a.fields["ID"] == b.fields["ID"]);
    }
    let table = if args.digests { TABLE_DIGESTS } else { TABLE };
    super::show(session, args.format.as_deref(), args.quiet, table, HEADERS, &rows)
}

/// An image in the tree: its names, and the platform that it is for.
fn branch(session: &Session, image: &Image, names: &[Name], is_used: bool) -> Result<Vec<Row>> {
    let store = session.engine()?.store();
    let blobs = image.layers.iter().filter(|layer| store.has_blob(&layer.blob.digest));
    let content: u64 = blobs.map(|layer| layer.blob.size).sum();
    let config = image.config(store)?;
    let variant = Some(config.variant).filter(|variant| !variant.is_empty());
    let platform = Platform { os: config.os, architecture: config.architecture, variant };
    let id = &image.id.hex()[..12];
    let line = |title: String, extra: &str| {
        Row::from(json!({
            "Image": title,
            "ID": id,
            "DiskUsage": output::human_size(image.size() + content, 3),
            "ContentSize": output::human_size(content, 3),
            "Extra": extra,
        }))
    };
    let title = |name: &Name| match name.tag.as_ref() {
        Some(tag) => tag.familiar(),
        None => "<untagged>".to_owned(),
    };
    let blank = |name: &Name| {
        let (id, sizes) = ("", "");
        Row::from(json!({
            "Image": title(name), "ID": id, "DiskUsage": sizes, "ContentSize": sizes, "Extra": "",
        }))
    };
    let (last, before) = names.split_last().expect("an image that is shown has a name");
    let extra = if is_used { "U" } else { "" };
    let mut rows: Vec<Row> = before.iter().map(blank).collect();
    rows.push(line(title(last), extra));
    rows.push(line(format!("└─ {platform}"), ""));
    Ok(rows)
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
    Ok(filters.any("reference", |pattern| {
        shown.is_some_and(|name| docker::reference_matches(pattern, name))
    }))
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
