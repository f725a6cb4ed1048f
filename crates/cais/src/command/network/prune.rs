//! `cais network prune`

use std::io::{BufRead, Write};

use engine::{Error, Kind, Result};
use jiff::Timestamp;

use crate::command::filter::{Filters, has_label};
use crate::output;
use crate::session::Session;

const WARNING: &str =
    "WARNING! This will remove all custom networks not used by at least one container.";

/// What `prune` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let filters = Filters::parse(&args.filter, &["label", "label!", "until"])?;
    let now = Timestamp::now();
    let zone = jiff::tz::TimeZone::system().to_offset(now);
    let until: Vec<Timestamp> = filters
        .values("until")
        .map(|text| output::parse_timestamp(text, now, zone))
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| Error::caused(Kind::Invalid, "read the filter until", error))?;
    if !args.force && !agreed(session)? {
        return Ok(0);
    }
    let mut removed = Vec::new();
    let networks = engine.networks()?;
    for network in networks.iter().filter(|network| !network.is_predefined()) {
        let made: Option<Timestamp> = network.created.parse().ok();
        let old = until.iter().all(|until| made.is_some_and(|made| made < *until));
        let labels = filters.all("label", |label| has_label(&network.labels, label))
            && filters.all("label!", |label| !has_label(&network.labels, label));
        // One that a container which does not run is to be on is in use, too.
        let used = || -> Result<bool> {
            let on = |container: &engine::Container| {
                let all = container.record.settings.networks();
                all.iter().any(|membership| membership.network == network.name)
            };
            Ok(engine.list()?.iter().any(on))
        };
        if old && labels && !used()? {
            engine.remove_network(network)?;
            removed.push(network.name.as_str());
        }
    }
    if removed.is_empty() {
        return Ok(0);
    }
    session.say(format!("Deleted Networks:\n{}\n", removed.join("\n"))).map(|()| 0)
}

fn agreed(session: &Session) -> Result<bool> {
    session.print(&format!("{WARNING}\nAre you sure you want to continue? [y/N] "))?;
    let doing = |error| Error::caused(Kind::Internal, "read the answer", error);
    std::io::stdout().flush().map_err(doing)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(doing)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
