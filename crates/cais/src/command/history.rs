//! `cais history`

use engine::Result;
use jiff::Timestamp;
use serde_json::json;

use crate::output::{self, Row};
use crate::session::Session;

pub(super) const TABLE: &str =
    "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
pub(super) const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];
/// Characters of an instruction that a table shows.
pub(super) const INSTRUCTION_WIDTH: usize = 45;

/// What `history` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    pub(super) format: Option<String>,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pub(super) human: bool,
    /// Don't truncate output
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// Show history for the given platform; fails where the image here is for another one
    #[arg(long, value_name = "OS/ARCH")]
    pub(super) platform: Option<String>,
    /// Only show image IDs
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// The image, by name or id
    pub(super) image: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let platform = super::platform(args.platform.as_deref())?;
    let image = engine.image_for(&args.image, platform.as_ref())?;
    let history = image.config(engine.store())?.history;
    let id = image.id.to_string();
    let id = if args.no_trunc { id } else { id["sha256:".len()..][..12].to_owned() };
    let mut sizes = image.layers.iter().map(|layer| layer.size);
    let now = Timestamp::now();
    let last = history.len().saturating_sub(1);
    let mut rows = Vec::new();
    for (index, entry) in history.iter().enumerate() {
        let size = if entry.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
        let created = entry.created.as_deref().unwrap_or_default();
        let by = entry.created_by.replace('\t', " ");
        let age = match super::age(created, now) {
            age if age.is_empty() => "N/A".to_owned(),
            age if args.human => format!("{age} ago"),
            _ => created.to_owned(),
        };
        rows.push(Row::from(json!({
            "ID": if index == last { id.as_str() } else { "<missing>" },
            "CreatedSince": age,
            "CreatedAt": created,
            "CreatedBy": if args.no_trunc { by } else { output::ellipsis(&by, INSTRUCTION_WIDTH) },
            "Size": if args.human { output::human_size(size, 3) } else { size.to_string() },
            "Comment": entry.comment,
        })));
    }
    rows.reverse();
    super::show(session, args.format.as_deref(), args.quiet, TABLE, HEADERS, &rows)
}
