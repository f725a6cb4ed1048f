//! `cais compose config`

use std::collections::BTreeSet;
use std::path::PathBuf;

use ::compose::{Map, Node, Project, Resource, Service};
use engine::{Error, Kind, Result};

use crate::session::Session;

/// What `config` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Print environment used for interpolation
    #[arg(long)]
    environment: bool,
    /// Format the output (yaml, json)
    #[arg(long, value_name = "FORMAT", default_value = "yaml", value_parser = ["yaml", "json"])]
    format: String,
    /// Print the service config hash, one per line; * for all services
    #[arg(long, value_name = "SERVICES")]
    hash: Option<String>,
    /// Print the image names, one per line
    #[arg(long)]
    images: bool,
    /// Print the network names, one per line
    #[arg(long)]
    networks: bool,
    /// Don't interpolate environment variables
    #[arg(long)]
    no_interpolate: bool,
    /// Save to file (default to stdout)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the profile names, one per line
    #[arg(long)]
    profiles: bool,
    /// Only validate the configuration, don't print anything
    #[arg(short, long)]
    quiet: bool,
    /// Pin image tags to digests
    #[arg(long)]
    resolve_image_digests: bool,
    /// Print the service names, one per line
    #[arg(long)]
    services: bool,
    /// Print the volume names, one per line
    #[arg(long)]
    volumes: bool,
    /// The services; all without one
    #[arg(value_name = "SERVICE")]
    service: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let mut project = super::scope::project(session, !args.no_interpolate)?;
    if !args.service.is_empty() {
        let selected = project.select(&args.service, true).map_err(super::from_compose)?;
        project.services.retain(|name, _| selected.contains(name));
    }
    if args.resolve_image_digests {
        resolve(session, &mut project)?;
    }
    if args.quiet {
        return Ok(0);
    }
    let text = match list(&project, args)? {
        Some(lines) => lines.into_iter().map(|line| line + "\n").collect(),
        None if args.format == "json" => json(&project),
        None => ::compose::yaml(&project.model()),
    };
    match &args.output {
        None => session.print(&text)?,
        Some(path) => std::fs::write(path, text).map_err(|error| {
            Error::caused(Kind::Invalid, format!("write {}", path.display()), error)
        })?,
    }
    Ok(0)
}

/// The names that were asked for, if some were.
fn list(project: &Project, args: &Args) -> Result<Option<Vec<String>>> {
    let keys = |all: &std::collections::BTreeMap<String, Resource>| all.keys().cloned().collect();
    let distinct = |names: Vec<String>| {
        names.into_iter().collect::<BTreeSet<String>>().into_iter().collect::<Vec<_>>()
    };
    if let Some(wanted) = &args.hash {
        return hashes(project, wanted).map(Some);
    }
    Ok(Some(match args {
        Args { services: true, .. } => project.services.keys().cloned().collect(),
        Args { volumes: true, .. } => keys(&project.volumes),
        Args { networks: true, .. } => keys(&project.networks),
        Args { images: true, .. } => project.services.values().map(Service::image).collect(),
        Args { profiles: true, .. } => {
            let words = project.all().flat_map(|service| service.node.words_of("profiles"));
            distinct(words.map(str::to_owned).collect())
        }
        Args { environment: true, .. } => {
            project.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()
        }
        _ => return Ok(None),
    }))
}

fn hashes(project: &Project, wanted: &str) -> Result<Vec<String>> {
    let names: Vec<String> = match wanted {
        "*" => project.services.keys().cloned().collect(),
        names => names.split(',').map(str::to_owned).collect(),
    };
    let one = |name: String| match project.services.get(&name) {
        Some(service) => Ok(format!("{name} {}", project.hash(service))),
        None => Err(super::from_compose(project.no_such_service(&name))),
    };
    names.into_iter().map(one).collect()
}

/// As JSON, where Docker Compose shows of commands that there are none.
fn json(project: &Project) -> String {
    let mut model = project.model();
    let services = model.entries_mut().and_then(|map| map.get_mut("services"));
    for (_, service) in services.and_then(Node::entries_mut).into_iter().flat_map(Map::iter_mut) {
        let place = service.place.clone();
        let Some(map) = service.entries_mut() else { continue };
        for key in ["command", "entrypoint"] {
            if map.get(key).is_none() {
                map.set(key, Node::null(&place));
            }
        }
        map.sort();
    }
    let text = serde_json::to_string_pretty(&::compose::json(&model)).unwrap_or_default();
    text + "\n"
}

/// Names images by what their tags stand for at their registries.
fn resolve(session: &Session, project: &mut Project) -> Result<()> {
    let engine = session.engine()?;
    for service in project.services.values_mut() {
        let Some(image) = service.node.word_of("image").map(str::to_owned) else { continue };
        let reference = crate::command::reference(&image)?;
        if reference.digest().is_some() {
            continue;
        }
        let fetched = engine.manifest(&reference, false)?;
        let place = service.node.place.clone();
        if let Some(map) = service.node.entries_mut() {
            map.set("image", Node::text(format!("{image}@{}", fetched.digest), &place));
        }
    }
    Ok(())
}
