//! `cais search`

use engine::{Error, Kind, Result};
use registry::FoundRepository;

use crate::output::{Row, ellipsis};
use crate::session::Session;

const TABLE: &str = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
const HEADERS: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
    ("IsAutomated", "AUTOMATED"),
];
/// Results unless said otherwise, and at most; Docker Hub's.
const LIMIT: i64 = 25;
const LIMIT_MAX: i64 = 100;
const DESCRIPTION_LENGTH: usize = 45;

/// What `search` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Filter output based on conditions provided
    #[arg(short, long)]
    filter: Vec<String>,
    /// Pretty-print search using a Go template
    #[arg(long)]
    format: Option<String>,
    /// Max number of search results
    #[arg(long, value_name = "INT", default_value_t = 0, hide_default_value = true)]
    limit: i64,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// What to look for; begun by a registry's name, there instead of in Docker Hub
    term: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let limit = match args.limit {
        0 => LIMIT,
        limit if (1..=LIMIT_MAX).contains(&limit) => limit,
        limit => {
            let text = format!("Limit {limit} is outside the range of [1, {LIMIT_MAX}]");
            return Err(Error::invalid(text));
        }
    };
    let wanted = Wanted::read(&args.filter)?;
    let limit = usize::try_from(limit).unwrap_or_default();
    let found = engine::search(session.registry(), &args.term, limit)?;
    let found = found.iter().filter(|one| wanted.takes(one));
    let rows: Vec<Row> = found.map(|one| row(one, args.no_trunc)).collect();
    super::show(session, args.format.as_deref(), false, TABLE, HEADERS, &rows)
}

fn row(found: &FoundRepository, whole: bool) -> Row {
    let description = found.description.replace(['\n', '\r'], " ");
    let description = match whole {
        true => description,
        false => ellipsis(&description, DESCRIPTION_LENGTH),
    };
    let mark = |yes| if yes { "[OK]" } else { "" };
    Row::from(serde_json::json!({
        "Name": found.name,
        "Description": description,
        "StarCount": found.star_count.to_string(),
        "IsOfficial": mark(found.is_official),
        "IsAutomated": mark(found.is_automated),
    }))
}

/// What the filters ask for.
#[derive(Debug, Default)]
struct Wanted {
    official: Option<bool>,
    automated: Option<bool>,
    stars: u64,
}

impl Wanted {
    fn read(filters: &[String]) -> Result<Self> {
        let mut wanted = Self::default();
        for filter in filters {
            let invalid =
                |why: &str| Error::new(Kind::Invalid, format!("invalid filter '{filter}'{why}"));
            let (key, value) = filter
                .split_once('=')
                .ok_or_else(|| invalid(": expected NAME=VALUE").hint("as in --filter stars=3"))?;
            let flag = || match value {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(invalid(": expected true or false")),
            };
            match key.trim().to_lowercase().as_str() {
                "is-official" => wanted.official = flag()?,
                "is-automated" => wanted.automated = flag()?,
                "stars" => {
                    wanted.stars = value.parse().map_err(|_| invalid(": expected a number"))?;
                }
                _ => return Err(invalid("").hint("is-official, is-automated or stars")),
            }
        }
        Ok(wanted)
    }

    fn takes(&self, found: &FoundRepository) -> bool {
        self.official.is_none_or(|wanted| wanted == found.is_official)
            && self.automated.is_none_or(|wanted| wanted == found.is_automated)
            && found.star_count >= self.stars
    }
}
