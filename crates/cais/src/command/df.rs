//! `cais system df`

use engine::{
    BuildCacheUsage, Container, DiskUsage, Engine, Error, Holding, ImageUsage, Result, Unfinished,
    VolumeUsage,
};
use jiff::Timestamp;
use oci::Reference;
use serde_json::{Value, json};

use super::ps;
use super::volume::ls as volume_ls;
use crate::output::{self, Format, Row, human_size};
use crate::session::Session;

const TABLE: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const HEADERS: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];
const WHY: &str = "{{.Type}}\t{{.Name}}\t{{.Size}}\t{{.HeldBy}}";
const WHY_HEADERS: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("Name", "NAME"),
    ("Size", "SIZE"),
    ("Bytes", "BYTES"),
    ("HeldBy", "HELD BY"),
];
/// Tables of `-v`: a title, a template, its headers.
const IMAGES: (&str, &str) = (
    "Images space usage:",
    "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
);
const CONTAINERS: (&str, &str) = (
    "Containers space usage:",
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
);
const VOLUMES: (&str, &str) = ("Local Volumes space usage:", "{{.Name}}\t{{.Links}}\t{{.Size}}");
const CACHE: (&str, &str) = (
    "Build cache usage: ",
    "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
);
const VERBOSE_HEADERS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("CreatedSince", "CREATED"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Names", "NAMES"),
    ("Name", "VOLUME NAME"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("CacheType", "CACHE TYPE"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
];

/// What `system df` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
    /// Show who holds every byte below the root, the largest first
    #[arg(long)]
    why: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    match (args.why, args.verbose) {
        (true, true) => {
            Err(Error::invalid("--why and --verbose are different outputs")
                .hint("choose one of them"))
        }
        (true, false) => why(session, &engine.holdings()?, args.format.as_deref()),
        (false, true) => verbose(session, engine, &engine.disk_usage()?, args.format.as_deref()),
        (false, false) => summary(session, &engine.disk_usage()?, args.format.as_deref()),
    }
}

fn summary(session: &Session, usage: &DiskUsage, format: Option<&str>) -> Result<i32> {
    let used = usage.images.iter().filter(|image| image.containers > 0);
    let images_used: u64 = used.clone().map(ImageUsage::unique_bytes).sum();
    let running = usage.containers.iter().filter(|(container, _)| container.is_running());
    let containers: u64 = usage.containers.iter().map(|(_, bytes)| bytes).sum();
    let containers_used: u64 = running.clone().map(|(_, bytes)| bytes).sum();
    let linked = usage.volumes.iter().filter(|volume| volume.links > 0);
    let volumes: u64 = usage.volumes.iter().map(|volume| volume.bytes).sum();
    let volumes_used: u64 = linked.clone().map(|volume| volume.bytes).sum();
    let rows = [
        row("Images", usage.images.len(), used.count(), usage.layers_bytes, images_used),
        row("Containers", usage.containers.len(), running.count(), containers, containers_used),
        row("Local Volumes", usage.volumes.len(), linked.count(), volumes, volumes_used),
        cache_row(&usage.build_cache),
    ];
    let rows = rows.into_iter().chain(unfinished_row(&usage.unfinished));
    super::show(session, format, false, TABLE, HEADERS, &rows.collect::<Vec<Row>>())
}

/// As Docker counts, without what images and containers have in any case.
fn cache_row(cache: &[BuildCacheUsage]) -> Row {
    let used = cache.iter().filter(|entry| entry.is_used);
    let bytes = |entries: &mut dyn Iterator<Item = &BuildCacheUsage>| {
        entries.filter(|entry| !entry.is_shared).map(|entry| entry.bytes).sum::<u64>()
    };
    let (all, active) = (bytes(&mut cache.iter()), bytes(&mut used.clone()));
    row("Build Cache", cache.len(), used.count(), all, active)
}

/// A row that Docker does not have, where there is anything to show.
fn unfinished_row(unfinished: &[Unfinished]) -> Option<Row> {
    let used = unfinished.iter().filter(|one| one.is_used);
    let all: u64 = unfinished.iter().map(|one| one.bytes).sum();
    let active: u64 = used.clone().map(|one| one.bytes).sum();
    let is_any = !unfinished.is_empty();
    is_any.then(|| row("Unfinished", unfinished.len(), used.count(), all, active))
}

fn row(kind: &str, total: usize, active: usize, size: u64, used: u64) -> Row {
    let free = size.saturating_sub(used);
    let share = match size {
        0 => String::new(),
        size => format!(" ({}%)", free * 100 / size),
    };
    Row::from(json!({
        "Type": kind,
        "TotalCount": total.to_string(),
        "Active": active.to_string(),
        "Size": human_size(size, 4),
        "Reclaimable": format!("{}{share}", human_size(free, 4)),
    }))
}

fn verbose(
    session: &Session,
    engine: &Engine,
    usage: &DiskUsage,
    format: Option<&str>,
) -> Result<i32> {
    let now = Timestamp::now();
    let images: Vec<Row> = usage.images.iter().map(|image| image_row(image, now)).collect();
    let container = |(container, bytes): &(Container, u64)| {
        let mut row = ps::row(engine, container, ps::Shown::default(), now)?;
        row.fields["Size"] = human_size(*bytes, 4).into();
        Ok(row)
    };
    let containers = usage.containers.iter().map(container).collect::<Result<Vec<Row>>>()?;
    let volumes: Vec<Row> = usage.volumes.iter().map(volume_row).collect();
    let cache: Vec<Row> = usage.build_cache.iter().map(|entry| entry_row(entry, now)).collect();
    if let Some(format) = format.filter(|format| *format != "table") {
        let fields =
            |rows: &[Row]| rows.iter().map(|row| row.fields.clone()).collect::<Vec<Value>>();
        let whole = Row::from(json!({
            "Images": fields(&images),
            "Containers": fields(&containers),
            "Volumes": fields(&volumes),
            "BuildCache": fields(&cache),
        }));
        return super::show(session, Some(format), false, "", &[], &[whole]);
    }
    table(session, IMAGES, "IMAGE ID", &images)?;
    session.print("\n")?;
    table(session, CONTAINERS, "CONTAINER ID", &containers)?;
    session.print("\n")?;
    table(session, VOLUMES, "", &volumes)?;
    session.print("\n")?;
    let bytes = usage.build_cache.iter().filter(|entry| !entry.is_shared).map(|entry| entry.bytes);
    let title = format!("{}{}", CACHE.0, human_size(bytes.sum(), 4));
    table(session, (&title, CACHE.1), "CACHE ID", &cache)?;
    Ok(0)
}

/// What builds keep; how often it was used nobody counts.
fn entry_row(usage: &BuildCacheUsage, now: Timestamp) -> Row {
    let age = super::age(&usage.used.to_string(), now);
    let id = usage.id.get(..12).unwrap_or(&usage.id);
    Row::from(json!({
        "ID": id,
        "CacheType": usage.kind,
        "Size": human_size(usage.bytes, 4),
        "CreatedSince": "N/A",
        "LastUsedSince": format!("{age} ago"),
        "UsageCount": "N/A",
        "Shared": usage.is_shared.to_string(),
        "InUse": usage.is_used.to_string(),
    }))
}

fn table(session: &Session, (title, template): (&str, &str), id: &str, rows: &[Row]) -> Result<()> {
    let headers: Vec<(&str, &str)> = VERBOSE_HEADERS.iter().copied().chain([("ID", id)]).collect();
    let mut text = format!("{title}\n\n").into_bytes();
    output::render(&mut text, &Format::Table(template.to_owned()), &headers, rows)
        .map_err(|error| Error::invalid(error.to_string()))?;
    session.print_bytes(&text)
}

fn image_row(usage: &ImageUsage, now: Timestamp) -> Row {
    let image = &usage.image;
    let tag = image.tags.first();
    let none = || "<none>".to_owned();
    let name = tag.or(image.repo_digests.first());
    let created = super::age(image.created.as_deref().unwrap_or_default(), now);
    Row::from(json!({
        "Repository": name.map_or_else(none, Reference::familiar_name),
        "Tag": tag.and_then(Reference::tag).map_or_else(none, str::to_owned),
        "ID": image.id.hex()[..12],
        "CreatedSince": if created.is_empty() { "N/A".to_owned() } else { format!("{created} ago") },
        "Size": human_size(image.size(), 4),
        "SharedSize": human_size(usage.shared_bytes, 4),
        "UniqueSize": human_size(usage.unique_bytes(), 4),
        "Containers": usage.containers.to_string(),
    }))
}

fn volume_row(usage: &VolumeUsage) -> Row {
    volume_ls::row(&usage.volume, &usage.links.to_string(), &human_size(usage.bytes, 4))
}

fn why(session: &Session, holdings: &[Holding], format: Option<&str>) -> Result<i32> {
    let row = |holding: &Holding| {
        let held = match holding.holders.is_empty() {
            true => "nobody".to_owned(),
            false => holding.holders.join(", "),
        };
        Row::from(json!({
            "Type": holding.kind,
            "Name": holding.name,
            "Size": human_size(holding.bytes, 4),
            "Bytes": holding.bytes,
            "HeldBy": held,
        }))
    };
    let rows: Vec<Row> = holdings.iter().map(row).collect();
    super::show(session, format, false, WHY, WHY_HEADERS, &rows)?;
    if matches!(Format::parse(format, WHY), Format::Table(_)) {
        let sum: u64 = holdings.iter().map(|holding| holding.bytes).sum();
        session.say(format!("{} in all", human_size(sum, 4)))?;
    }
    Ok(0)
}
