//! What all `prune` commands share, and `cais system prune`.

use std::io::{BufRead as _, Write as _};

use engine::{Error, Kind, Result};
use store::Removed;

use crate::output;
use crate::session::Session;
use docker::Filters;

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
    let filter = docker::prune_filter(&filters)?;
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
    // What is kept of builds has no labels and no names.
    if args.filter.is_empty() {
        let builds = engine.prune_builds(args.all)?;
        bytes += builds.bytes;
        text.push_str(&list("Deleted build cache objects:", &builds.removed));
        let unfinished = engine.prune_unfinished(args.all)?;
        bytes += unfinished.bytes;
        let digests: Vec<String> = unfinished.removed.iter().map(ToString::to_string).collect();
        text.push_str(&list("Deleted unfinished downloads:", &digests));
    }
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

/// Whether to go on: it was asked for, or confirmed.
pub(super) fn goes_on(session: &Session, force: bool, what: &str) -> Result<bool> {
    if force {
        return Ok(true);
    }
    let question = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    confirm(session, &question)
}
