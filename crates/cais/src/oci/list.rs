//! `list`.

use std::os::unix::fs::MetadataExt as _;

use anyhow::{Result, bail};
use runtime::container::{self, Container, Error};

use super::flag::Flag;
use super::state::Shown;
use super::{Args, Call, Verb, print, words};

pub(super) const FORMAT: Flag = Flag::value("format", "select one of: table or json").short('f');

pub(super) const VERB: Verb = Verb {
    name: "list",
    about: "lists containers started by this runtime with the given root",
    usage: "",
    flags: &[FORMAT, Flag::switch("quiet", "display only container IDs").short('q')],
    args: Args::Exactly(0),
    sealed: false,
    run,
};

/// The narrowest a column is, and what lies between two (Go's tabwriter as runc calls it).
const CELL_MIN: usize = 12;
const PADDING: usize = 3;

fn run(call: &Call<'_>) -> Result<i32> {
    let containers = containers(call)?;
    if call.own.is_on("quiet") {
        return Ok(print(&containers.iter().map(|c| format!("{}\n", c.id)).collect::<String>()));
    }
    match call.own.value("format").unwrap_or("table") {
        "table" => Ok(print(&table(&containers))),
        // As Go shows a list that was never made.
        "json" if containers.is_empty() => Ok(print("null\n")),
        "json" => Ok(print(&format!("{}\n", serde_json::to_string(&containers)?))),
        _ => bail!("invalid format option"),
    }
}

fn containers(call: &Call<'_>) -> Result<Vec<Shown>> {
    let ids = match container::ids(call.root) {
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                && call.global.value("root").is_none() =>
        {
            return Ok(Vec::new());
        }
        other => other.map_err(|error| {
            anyhow::Error::new(error).context(format!("open {}", call.root.display()))
        })?,
    };
    let mut containers = Vec::new();
    for id in ids {
        let shown = Container::open(call.root, &id).map_err(anyhow::Error::from);
        match shown.and_then(|container| Shown::of(&container)) {
            Ok(mut shown) => {
                shown.owner = owner(call, &id);
                containers.push(shown);
            }
            // It was deleted meanwhile.
            Err(error) if gone(call, &id, &error) => {}
            Err(error) => call.log.warn(&format!("load container {id}: {}", words(&error))),
        }
    }
    Ok(containers)
}

fn gone(call: &Call<'_>, id: &str, error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::NotExist)) && !call.root.join(id).exists()
}

/// Who owns the container's directory, by name where there is one.
fn owner(call: &Call<'_>, id: &str) -> String {
    let Ok(metadata) = std::fs::metadata(call.root.join(id)) else { return String::new() };
    let uid = metadata.uid().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

fn table(containers: &[Shown]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |c: &Shown| {
        let bundle = c.bundle.display().to_string();
        [
            c.id.clone(),
            c.pid.to_string(),
            c.status.into(),
            bundle,
            c.created.clone(),
            c.owner.clone(),
        ]
    };
    let rows: Vec<[String; 6]> =
        std::iter::once(header).chain(containers.iter().map(row)).collect();
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (widest + PADDING).max(CELL_MIN)
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.chain([row[5].clone(), "\n".into()]).collect::<String>()
    };
    rows.iter().map(line).collect()
}
