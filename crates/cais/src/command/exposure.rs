//! `cais system exposure`

use std::net::SocketAddr;

use engine::{Exposure, Result, Wall};
use serde_json::json;

use crate::output::Row;
use crate::session::Session;

const TABLE: &str =
    "{{.Protocol}}\t{{.Address}}\t{{.Container}}\t{{.To}}\t{{.Process}}\t{{.Firewall}}";
const HEADERS: &[(&str, &str)] = &[
    ("Protocol", "PROTOCOL"),
    ("Address", "ADDRESS"),
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Way", "WAY"),
    ("To", "TO"),
    ("Process", "PROCESS"),
    ("PID", "PID"),
    ("Listening", "LISTENING"),
    ("Firewall", "FIREWALL"),
];

/// What `exposure` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show what only this host itself can reach, too
    #[arg(short, long)]
    all: bool,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let ways = session.engine()?.exposure(args.all)?;
    let rows: Vec<Row> = ways.iter().map(|way| row(way, args)).collect();
    crate::command::show(session, args.format.as_deref(), false, TABLE, HEADERS, &rows)
}

fn row(way: &Exposure, args: &Args) -> Row {
    let id =
        if args.no_trunc { &way.id[..] } else { &way.id[..engine::container::SHORT_ID_LENGTH] };
    let process = match (&way.process, way.is_heard) {
        (Some((_, name)), _) => name.clone(),
        (None, true) => "unknown".to_owned(),
        (None, false) => "nobody listens".to_owned(),
    };
    let fields = json!({
        "Protocol": way.protocol.name(),
        "Address": SocketAddr::new(way.address, way.port).to_string(),
        "Container": way.container,
        "ID": id,
        "Way": way.way.name(),
        "To": way.to.map(|(address, port)| SocketAddr::new(address, port).to_string()).unwrap_or_default(),
        "Process": process,
        "PID": way.process.as_ref().map_or(0, |(pid, _)| *pid),
        "Listening": way.is_heard,
        "Firewall": firewall(&way.walls, &way.unseeing),
    });
    Row { fields, labels: Default::default() }
}

/// What the host's own firewall has to do with it.
fn firewall(walls: &[Wall], unseeing: &[Wall]) -> String {
    let list = |walls: &[Wall]| {
        let one =
            |wall: &Wall| format!("table {} {}, chain {}", wall.family, wall.table, wall.chain);
        walls.iter().map(one).collect::<Vec<_>>().join("; ")
    };
    match (walls, unseeing) {
        ([], []) => String::new(),
        ([], unseeing) => format!("not seen by the host's firewall ({})", list(unseeing)),
        (walls, _) => format!("the host's firewall ({}) may drop it", list(walls)),
    }
}

#[cfg(test)]
mod tests {
    use engine::Hook;

    use super::*;

    #[test]
    fn what_the_firewall_does_is_said_in_words() {
        let wall = |chain: &str| Wall {
            hook: Hook::Input,
            family: "inet",
            table: "filter".into(),
            chain: chain.into(),
        };
        let check = |walls: &[&str], unseeing: &[&str], expected: &str| {
            let all = |names: &[&str]| names.iter().map(|name| wall(name)).collect::<Vec<_>>();
            assert_eq!(firewall(&all(walls), &all(unseeing)), expected);
        };
        check(&[], &[], "");
        check(&["a"], &["b"], "the host's firewall (table inet filter, chain a) may drop it");
        check(
            &[],
            &["a", "b"],
            "not seen by the host's firewall (table inet filter, chain a; table inet filter, chain b)",
        );
    }
}
