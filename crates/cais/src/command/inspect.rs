//! `cais inspect`

use std::io::IsTerminal as _;

use engine::{Container, Engine, Error, Kind, Result};
use serde_json::Value;

use crate::output;
use crate::session::Session;

/// What `inspect` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template
    #[arg(short, long)]
    pub(super) format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    pub(super) size: bool,
    /// Only inspect objects of the given type: container, image, network or volume
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) kind: Option<String>,
    /// The objects, by name or id
    #[arg(required = true)]
    pub(super) names: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    inspect(session, args, args.kind.as_deref())
}

/// What `image inspect` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageArgs {
    /// Format output using a custom template
    #[arg(short, long)]
    pub(super) format: Option<String>,
    /// Inspect the given platform; fails where an image here is for another one
    #[arg(long, value_name = "OS/ARCH")]
    pub(super) platform: Option<String>,
    /// The images, by name or id
    #[arg(required = true)]
    pub(super) names: Vec<String>,
}

/// `cais image inspect`
pub(super) fn run_image(session: &Session, args: &ImageArgs) -> Result<i32> {
    let platform = super::platform(args.platform.as_deref())?;
    if platform.is_some() {
        let engine = session.engine()?;
        args.names
            .iter()
            .try_for_each(|name| engine.image_for(name, platform.as_ref()).map(drop))?;
    }
    let ImageArgs { format, names, .. } = args;
    let args = Args { format: format.clone(), size: false, kind: None, names: names.clone() };
    inspect(session, &args, Some("image"))
}

/// The command [`run_image`].
pub(super) mod image {
    pub(crate) use super::ImageArgs as Args;
    pub(in super::super) use super::run_image as run;
}

/// `cais container inspect`
pub(super) fn run_container(session: &Session, args: &Args) -> Result<i32> {
    inspect(session, args, Some("container"))
}

fn inspect(session: &Session, args: &Args, kind: Option<&str>) -> Result<i32> {
    if let Some(kind) = kind.filter(|kind| !KINDS.contains(kind)) {
        let kinds = KINDS.map(|kind| format!("{kind:?}")).join(", ");
        return Err(Error::invalid(format!("unknown type: {kind:?}: must be one of {kinds}")));
    }
    let engine = session.engine()?;
    let mut found = Vec::new();
    let code = super::each(&args.names, |name| {
        found.push(object(engine, name, kind, args.size)?);
        Ok(())
    })?;
    print(session, args.format.as_deref(), found).map(|()| code)
}

/// Shows whole objects as `--format` says.
pub(super) fn print(session: &Session, format: Option<&str>, mut found: Vec<Value>) -> Result<()> {
    if !matches!(format, None | Some("" | "json")) {
        found.iter_mut().for_each(complete);
    }
    let mut text = Vec::new();
    let shown = output::inspect(&mut text, format, &found);
    match std::io::stdout().is_terminal() {
        true => session.print(&output::printable(&String::from_utf8_lossy(&text)))?,
        false => session.print_bytes(&text)?,
    }
    shown.map_err(|error| Error::new(Kind::Invalid, error.to_string()))
}

/// Adds what Docker leaves out of the JSON where there is none, and knows in templates all the same:
/// `{{if .State.Health}}`.
fn complete(value: &mut Value) {
    if let Some(Value::Object(state)) = value.get_mut("State") {
        state.entry("Health").or_insert(Value::Null);
    }
}

/// The kinds of objects, in the order in which Docker looks for them.
const KINDS: [&str; 4] = ["container", "image", "network", "volume"];

fn object(engine: &Engine, name: &str, kind: Option<&str>, size: bool) -> Result<Value> {
    for of in KINDS.into_iter().filter(|of| kind.is_none_or(|kind| kind == *of)) {
        let found = match of {
            "container" => engine.find(name).and_then(|found| container(engine, &found, size)),
            "image" => engine.image(name).and_then(|found| docker::image(engine, &found)),
            "network" => engine.network(name).and_then(|found| docker::network(engine, &found)),
            _ => engine.volume(name).map(|found| docker::volume(&found)),
        };
        match found {
            Err(error) if error.kind() == Kind::NotFound => {}
            outcome => return outcome,
        }
    }
    let message = format!("No such {}: {name}", kind.unwrap_or("object"));
    let hint =
        "`cais ps -a`, `cais images`, `cais network ls` and `cais volume ls` list what there is";
    Err(Error::new(Kind::NotFound, message).hint(hint))
}

fn container(engine: &Engine, container: &Container, size: bool) -> Result<Value> {
    let mut value = docker::container(engine, container)?;
    if let (Value::Object(fields), true) = (&mut value, size) {
        let written = engine.writable_bytes(container)?;
        let image = engine.layers_bytes(container);
        fields.insert("SizeRw".into(), written.into());
        fields.insert("SizeRootFs".into(), (written + image).into());
    }
    Ok(value)
}
