//! `cais system fsck`

use engine::{Finding, Result};
use serde_json::json;

use crate::output::{Format, Row};
use crate::session::Session;

const TABLE: &str = "{{.Type}}\t{{.Name}}\t{{.Problem}}\t{{.Remedy}}";
const HEADERS: &[(&str, &str)] =
    &[("Type", "TYPE"), ("Name", "NAME"), ("Problem", "PROBLEM"), ("Remedy", "REMEDY")];

/// What `system fsck` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Unpack every layer anew and compare it with the one that is kept
    #[arg(long)]
    deep: bool,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'
    #[arg(long)]
    format: Option<String>,
    /// Take away what is broken, and get it again where that is possible
    #[arg(long)]
    repair: bool,
}

/// 1 if something is wrong, and still is.
pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let findings = match args.repair {
        true => engine.repair(args.deep, &|_| {})?,
        false => engine.check(args.deep)?,
    };
    let left = findings.iter().filter(|finding| finding.remedy.is_none()).count();
    let is_table = matches!(Format::parse(args.format.as_deref(), TABLE), Format::Table(_));
    if findings.is_empty() && is_table {
        session.say("Everything is as it should be")?;
        return Ok(0);
    }
    let rows: Vec<Row> = findings.iter().map(|finding| row(finding, args.repair)).collect();
    super::show(session, args.format.as_deref(), false, TABLE, HEADERS, &rows)?;
    Ok(i32::from(left > 0))
}

fn row(finding: &Finding, repairs: bool) -> Row {
    let planned = finding.planned.as_deref().filter(|_| !repairs);
    Row::from(json!({
        "Type": finding.kind,
        "Name": finding.name,
        "Problem": finding.why,
        "Remedy": finding.remedy.as_deref().or(planned).unwrap_or("none"),
    }))
}
