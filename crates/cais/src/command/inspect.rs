//! `cais inspect`

use std::io::IsTerminal as _;

use engine::{Engine, Error, Kind, Result};
use serde_json::Value;

use crate::output;
use crate::session::Session;

/// What `inspect` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template
    #[arg(short, long)]
    format: Option<String>,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "container|image")]
    kind: Option<String>,
    /// The objects, by name or id
    #[arg(required = true)]
    names: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    inspect(session, args, args.kind.as_deref())
}

/// `cais image inspect`
pub(super) fn run_image(session: &Session, args: &Args) -> Result<i32> {
    inspect(session, args, Some("image"))
}

/// `cais container inspect`
pub(super) fn run_container(session: &Session, args: &Args) -> Result<i32> {
    inspect(session, args, Some("container"))
}

fn inspect(session: &Session, args: &Args, kind: Option<&str>) -> Result<i32> {
    let engine = session.engine()?;
    let mut found = Vec::new();
    let code = super::each(&args.names, |name| {
        found.push(object(engine, name, kind)?);
        Ok(())
    })?;
    if !matches!(args.format.as_deref(), None | Some("" | "json")) {
        found.iter_mut().for_each(complete);
    }
    let mut text = Vec::new();
    let shown = output::inspect(&mut text, args.format.as_deref(), &found);
    match std::io::stdout().is_terminal() {
        true => session.print(&output::printable(&String::from_utf8_lossy(&text)))?,
        false => session.print_bytes(&text)?,
    }
    shown.map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
    Ok(code)
}

/// Adds what Docker leaves out of the JSON where there is none, and knows in templates all the same:
/// `{{if .State.Health}}`.
fn complete(value: &mut Value) {
    if let Some(Value::Object(state)) = value.get_mut("State") {
        state.entry("Health").or_insert(Value::Null);
    }
}

/// Containers first, then images, as in Docker.
fn object(engine: &Engine, name: &str, kind: Option<&str>) -> Result<Value> {
    let missing = |what: &str| {
        Error::new(Kind::NotFound, format!("No such {what}: {name}"))
            .hint("`cais ps -a` and `cais images` list what there is")
    };
    if !matches!(kind, None | Some("container" | "image")) {
        return Err(Error::invalid(format!(
            "{:?} is not a valid value for --type",
            kind.unwrap_or_default()
        ))
        .hint("container or image"));
    }
    if kind != Some("image") {
        match engine.find(name) {
            Err(error) if error.kind() == Kind::NotFound => {
                if kind.is_some() {
                    return Err(missing("container"));
                }
            }
            outcome => return docker::container(engine, &outcome?),
        }
    }
    match engine.image(name) {
        Err(error) if error.kind() == Kind::NotFound => {
            Err(missing(if kind.is_some() { "image" } else { "object" }))
        }
        outcome => docker::image(engine, &outcome?),
    }
}
