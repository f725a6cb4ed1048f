//! `cais network ls`

use std::collections::BTreeMap;

use engine::{Engine, Network, Result};
use serde_json::json;

use crate::output::Row;
use crate::session::Session;
use docker::{Filters, has_label};

pub(in crate::command) const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
pub(in crate::command) const HEADERS: &[(&str, &str)] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];
const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// What `ls` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(in crate::command) filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    pub(in crate::command) format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    pub(in crate::command) no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    pub(in crate::command) quiet: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let filters = Filters::parse(&args.filter, FILTERS)?;
    filters.only("type", &["custom", "builtin"])?;
    filters.only("dangling", &["true", "false", "1", "0"])?;
    let mut rows = Vec::new();
    for network in engine.networks()? {
        if wanted(engine, &filters, &network)? {
            rows.push(row(&network, args));
        }
    }
    let format = args.format.as_deref();
    crate::command::show(session, format, args.quiet, TABLE, HEADERS, &rows)
}

fn wanted(engine: &Engine, filters: &Filters, network: &Network) -> Result<bool> {
    let kind = if network.is_predefined() { "builtin" } else { "custom" };
    let dangling = |word: &str| -> Result<bool> {
        let unused = !network.is_predefined() && engine.network_users(network)?.is_empty();
        Ok(unused == matches!(word, "true" | "1"))
    };
    let mut danglings = filters.values("dangling").map(dangling);
    Ok(filters.any("driver", |driver| driver == network.driver)
        && filters.any("id", |id| network.id.contains(id))
        && filters.any("name", |name| network.name.contains(name))
        && filters.all("label", |label| has_label(&network.labels, label))
        && filters.any("scope", |scope| scope == "local")
        && filters.any("type", |wanted| wanted == kind)
        && danglings.try_fold(true, |all, one| one.map(|one| all && one))?)
}

fn row(network: &Network, args: &Args) -> Row {
    let Network { id, name, driver, labels, created, bridge, .. } = network;
    let all: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let ipv6 = bridge.as_ref().is_some_and(|bridge| bridge.v6.is_some());
    let internal = bridge.as_ref().is_some_and(|bridge| bridge.internal);
    let fields = json!({
        "ID": if args.no_trunc { id } else { &id[..engine::container::SHORT_ID_LENGTH] },
        "Name": name,
        "Driver": driver,
        "Scope": "local",
        "IPv6": ipv6.to_string(),
        "Internal": internal.to_string(),
        "Labels": all.join(","),
        "CreatedAt": crate::command::local_time(created),
    });
    Row { fields, labels: labels.clone().into_iter().collect::<BTreeMap<_, _>>() }
}
