//! What all `prune` commands share, and `cais system prune`.

use std::io::{BufRead as _, Write as _};

use engine::{Error, Kind, PruneFilter, Result};
use jiff::tz::TimeZone;
use store::Removed;

use super::filter::Filters;
use crate::output;
use crate::session::Session;

/// What `system prune` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. 'label=<key>=<value>', 'until=24h')
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let filters = Filters::parse(&args.filter, &["label", "label!", "until"])?;
    if args.volumes && filters.has("until") {
        return Err(Error::invalid("the \"until\" filter is not supported with \"--volumes\"")
            .hint("volumes do not know when they were used last"));
    }
    let filter = filter(&filters)?;
    if !args.force && !confirm(session, &warning(args))? {
        return Ok(0);
    }
    let engine = session.engine()?;
    let mut bytes = 0;
    let containers = engine.prune_containers(&filter)?;
    bytes += containers.bytes;
    let mut text = list("Deleted Containers:", &containers.removed);
    text.push_str(&list("Deleted Networks:", &engine.prune_networks(&filter)?));
    if args.volumes {
        let volumes = engine.prune_volumes(false, &filter)?;
        bytes += volumes.bytes;
        text.push_str(&list("Deleted Volumes:", &volumes.removed));
    }
    let images = engine.prune_images(args.all, &filter)?;
    bytes += images.bytes;
    text.push_str(&list("Deleted Images:", &image_lines(&images.removed)));
    // Each list is followed by an empty line here, also between two of them.
    session.print(&text)?;
    report(session, "", bytes)
}

/// What is going to be removed, in Docker's words.
fn warning(args: &Args) -> String {
    let mut lines =
        vec!["all stopped containers", "all networks not used by at least one container"];
    if args.volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(match args.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    });
    lines.push(if args.all { "all build cache" } else { "unused build cache" });
    let mut text = "WARNING! This will remove:\n".to_owned();
    lines.iter().for_each(|line| text.push_str(&format!("  - {line}\n")));
    if !args.filter.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        let mut filters = args.filter.clone();
        filters.sort();
        filters.iter().for_each(|filter| text.push_str(&format!("  - {filter}\n")));
    }
    text + "\nAre you sure you want to continue?"
}

/// A title with a line for each, and an empty one.
pub(super) fn list(title: &str, removed: &[String]) -> String {
    match removed.is_empty() {
        true => String::new(),
        false => format!("{title}\n{}\n\n", removed.join("\n")),
    }
}

/// Lines as `image prune` has them.
pub(super) fn image_lines(removed: &[Removed]) -> Vec<String> {
    let line = |removed: &Removed| match removed {
        Removed::Untagged(name) => format!("untagged: {name}"),
        Removed::Deleted(digest) => format!("deleted: {digest}"),
    };
    removed.iter().map(line).collect()
}

/// Asks on standard output and reads the answer; anything but `y` is no.
pub(super) fn confirm(session: &Session, question: &str) -> Result<bool> {
    session.print(&format!("{question} [y/N] "))?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Error::caused(Kind::Internal, "read the answer", error))?;
    let _ = std::io::stdout().flush();
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

/// What was removed, and how much that was.
pub(super) fn finish(
    session: &Session,
    title: &str,
    removed: &[String],
    bytes: u64,
) -> Result<i32> {
    report(session, &list(title, removed), bytes)
}

fn report(session: &Session, text: &str, bytes: u64) -> Result<i32> {
    session.print(text)?;
    session.say(format!("Total reclaimed space: {}", output::human_size(bytes, 4)))?;
    Ok(0)
}

/// The conditions that all kinds have in common.
pub(super) fn filter(filters: &Filters) -> Result<PruneFilter> {
    let now = jiff::Timestamp::now();
    let zone = TimeZone::system().to_offset(now);
    let mut until = None;
    for text in filters.values("until") {
        if until.is_some() {
            return Err(Error::invalid("more than one until filter specified")
                .hint("name the earliest of them"));
        }
        let time = output::parse_timestamp(text, now, zone).map_err(|error| {
            Error::caused(Kind::Invalid, format!("invalid filter 'until={text}'"), error)
                .hint("an age as in 24h, or a time as in 2026-01-02T03:04:05Z")
        });
        until = Some(time?);
    }
    let own = |key| filters.values(key).map(str::to_owned).collect();
    Ok(PruneFilter { until, labels: own("label"), not_labels: own("label!") })
}

/// A condition that is true or false, in Go's words; `default` where it is not given.
pub(super) fn switch(filters: &Filters, key: &str, default: bool) -> Result<bool> {
    let mut value = default;
    for text in filters.values(key) {
        value = match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => {
                return Err(
                    Error::invalid(format!("invalid filter '{key}={text}'")).hint("true or false")
                );
            }
        };
    }
    Ok(value)
}

/// Whether to go on: it was asked for, or confirmed.
pub(super) fn goes_on(session: &Session, force: bool, what: &str) -> Result<bool> {
    if force {
        return Ok(true);
    }
    let question = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    confirm(session, &question)
}
