//! `cais diff`

mod content;
mod item;
mod report;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use engine::{Error, Result};
use store::{ChangeKind, Comparison};

use crate::output;
use crate::session::Session;

/// What `diff` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show what differs in text files as a patch, and what differs otherwise in lines that patch(1) passes over
    #[arg(long)]
    pub(super) content: bool,
    /// With --content: the whole of other files, too, for `git apply`
    #[arg(long)]
    pub(super) binary: bool,
    /// With --content: a file that was moved as one, rather than as one removed and one added
    #[arg(long)]
    pub(super) renames: bool,
    /// Show how many lines of which files differ
    #[arg(long)]
    pub(super) stat: bool,
    /// Show every difference as an object of JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Only this layer of an image, as `image tree` numbers them
    #[arg(long, value_name = "NUMBER")]
    pub(super) layer: Option<usize>,
    /// When to use colours: auto, always or never
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(super) color: String,
    /// A container, an image, a layer's digest, oci:DIR[:NAME] or dir:PATH
    #[arg(value_name = "A")]
    pub(super) a: String,
    /// What to compare it with (default: what it was made from)
    #[arg(value_name = "B")]
    pub(super) b: Option<String>,
    /// Only what is at or below these paths
    #[arg(last = true, value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let is_patch = args.content || args.binary || args.renames;
    if usize::from(is_patch) + usize::from(args.stat) + usize::from(args.json) > 1 {
        return Err(Error::invalid("--content, --stat and --json are different outputs")
            .hint("choose one of them"));
    }
    let is_colour = colour(&args.color)?;
    let a = engine.operand(&args.a)?;
    let b = args.b.as_deref().map(|b| engine.operand(b)).transpose()?;
    let comparison = match &b {
        Some(b) => engine.compare(Some(&a), b, args.layer)?,
        None => engine.compare(None, &a, args.layer)?,
    };
    let within = within(&args.paths)?;
    if args.stat {
        return report::stat(session, &comparison, &within, args.renames);
    }
    if args.json {
        return report::json(session, &comparison, &within);
    }
    if is_patch {
        let options = content::Options { binary: args.binary, renames: args.renames };
        return content::show(session, &comparison, &within, options, is_colour);
    }
    letters(session, &comparison, &within)
}

/// Docker's lines.
pub(in crate::command) fn letters(
    session: &Session,
    comparison: &Comparison,
    within: &[PathBuf],
) -> Result<i32> {
    use std::os::unix::ffi::OsStrExt;
    let mut text = Vec::new();
    for change in comparison.changes(within)? {
        text.extend_from_slice(&[letter(change.kind), b' ']);
        text.extend_from_slice(change.path.as_os_str().as_bytes());
        text.push(b'\n');
    }
    if std::io::stdout().is_terminal() {
        return session.print(&output::printable(&String::from_utf8_lossy(&text))).map(|()| 0);
    }
    session.print_bytes(&text).map(|()| 0)
}

/// Docker's letters.
fn letter(kind: ChangeKind) -> u8 {
    match kind {
        ChangeKind::Added => b'A',
        ChangeKind::Changed => b'C',
        ChangeKind::Deleted => b'D',
    }
}

fn colour(when: &str) -> Result<bool> {
    match when {
        "always" => Ok(true),
        "never" => Ok(false),
        "auto" => {
            let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            Ok(std::io::stdout().is_terminal() && !is_plain)
        }
        _ => Err(Error::invalid(format!("invalid value '{when}' of --color"))
            .hint("it is auto, always or never")),
    }
}

/// Paths as they are below the root; the root itself is no limit.
fn within(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    use std::path::Component;
    let mut relative = Vec::new();
    for path in paths {
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(Error::invalid(format!(
                "{} leads out of what is compared",
                path.display()
            ))
            .hint("paths after -- are those in the container or image"));
        }
        let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
        relative.push(parts.collect::<PathBuf>());
    }
    if relative.iter().any(|path| path.as_os_str().is_empty()) {
        relative.clear();
    }
    Ok(relative)
}
