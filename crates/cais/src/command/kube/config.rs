//! `cais config`: what the files say of clusters, and the context that counts.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::cluster::columns::Columns;
use super::super::cluster::output::Form;
use super::super::cluster::{self, Outcome, Trouble, list, word, yaml};
use crate::session::Session;

/// What `config view` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show keys and tokens, too
    #[arg(long)]
    raw: bool,
    /// Only what the current context needs
    #[arg(long)]
    minify: bool,
    /// yaml, json, jsonpath=…
    #[arg(short, long, value_name = "FORM", default_value = "yaml")]
    output: String,
    #[command(flatten)]
    cluster: cluster::Options,
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        let config = args.cluster.config(session)?;
        let mut value = config.value.clone();
        if args.minify {
            minify(&mut value)?;
        }
        if !args.raw {
            hide(&mut value);
        }
        let form = Form::parse(Some(&args.output), true)?;
        let kinds = super::super::cluster::kind::Kinds::default();
        Ok(session.print(&form.print(&value, &kinds)?).map(|()| 0)?)
    })
}

/// Leaves what the current context needs.
fn minify(value: &mut Value) -> Outcome<()> {
    let current = word(value, "/current-context").to_owned();
    let entry = list(value, "/contexts").find(|entry| entry["name"] == current.as_str()).cloned();
    let Some(entry) = entry else {
        return Err(Trouble::local("current-context must exist in order to minify"));
    };
    let names = [
        ("contexts", current),
        ("clusters", word(&entry, "/context/cluster").to_owned()),
        ("users", word(&entry, "/context/user").to_owned()),
    ];
    for (list, name) in names {
        if let Some(all) = value[list].as_array_mut() {
            all.retain(|entry| entry["name"] == name.as_str());
        }
    }
    Ok(())
}

/// Hides what must stay secret.
fn hide(value: &mut Value) {
    for (list, inner, fields) in [
        ("clusters", "cluster", &["certificate-authority-data"][..]),
        ("users", "user", &["client-certificate-data", "client-key-data", "token", "password"]),
    ] {
        for entry in value[list].as_array_mut().into_iter().flatten() {
            let Some(own) = entry[inner].as_object_mut() else { continue };
            for field in fields {
                let shown = if field.ends_with("-data") { "DATA+OMITTED" } else { "REDACTED" };
                if let Some(secret) = own.get_mut(*field) {
                    *secret = shown.into();
                }
            }
        }
    }
}

/// What the other verbs of `config` take.
#[derive(Debug, clap::Args)]
pub(crate) struct NameArgs {
    #[command(flatten)]
    cluster: cluster::Options,
    /// The name
    name: Option<String>,
}

pub(crate) fn current(session: &Session, args: &NameArgs) -> engine::Result<i32> {
    cluster::told(|| {
        let config = args.cluster.config(session)?;
        match config.current_context() {
            "" => Err(Trouble::local("current-context is not set")),
            name => Ok(session.say(name).map(|()| 0)?),
        }
    })
}

/// What `config get-contexts` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ContextsArgs {
    /// name for names alone
    #[arg(short, long, value_name = "FORM", value_parser = ["name"])]
    output: Option<String>,
    /// Leave out the heads of columns
    #[arg(long)]
    no_headers: bool,
    #[command(flatten)]
    cluster: cluster::Options,
    /// Only these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

pub(crate) fn contexts(session: &Session, args: &ContextsArgs) -> engine::Result<i32> {
    cluster::told(|| {
        let config = args.cluster.config(session)?;
        let mut all: Vec<&Value> = list(&config.value, "/contexts").collect();
        all.sort_by_key(|entry| word(entry, "/name"));
        if !args.names.is_empty() {
            all.retain(|entry| args.names.iter().any(|name| name == word(entry, "/name")));
        }
        let mut text = String::new();
        if args.output.is_some() {
            text = all.iter().map(|entry| format!("{}\n", word(entry, "/name"))).collect();
            return Ok(session.print(&text).map(|()| 0)?);
        }
        if !args.no_headers {
            text += "CURRENT\tNAME\tCLUSTER\tAUTHINFO\tNAMESPACE\n";
        }
        for entry in all {
            let name = word(entry, "/name");
            let mark = if name == config.current_context() { "*" } else { "" };
            let cell = |field: &str| word(entry, field).to_owned();
            let (cluster, user) = (cell("/context/cluster"), cell("/context/user"));
            text += &format!("{mark}\t{name}\t{cluster}\t{user}\t{}\n", cell("/context/namespace"));
        }
        Ok(session.print(&Columns::of_tables().set(&text)).map(|()| 0)?)
    })
}

pub(crate) fn use_context(session: &Session, args: &NameArgs) -> engine::Result<i32> {
    cluster::told(|| {
        let Some(name) = &args.name else {
            return Err(Trouble::local("a context is required"));
        };
        if args.cluster.config(session)?.entry("contexts", name).is_none() {
            return Err(Trouble::local(format!("no context exists with the name: \"{name}\"")));
        }
        // Where one is named already, or else in the first file that there is.
        change(
            &args.cluster.files(session),
            |file| !word(file, "/current-context").is_empty(),
            |file| {
                file["current-context"] = name.as_str().into();
            },
        )?;
        Ok(session.say(format!("Switched to context \"{name}\".")).map(|()| 0)?)
    })
}

/// What `config set-context` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    /// The context that counts now
    #[arg(long)]
    current: bool,
    #[command(flatten)]
    cluster: cluster::Options,
    /// The context's name
    name: Option<String>,
}

pub(crate) fn set_context(session: &Session, args: &SetArgs) -> engine::Result<i32> {
    cluster::told(|| {
        let config = args.cluster.config(session)?;
        let name = match (&args.name, args.current) {
            (Some(name), false) => name.clone(),
            (None, true) if !config.current_context().is_empty() => {
                config.current_context().to_owned()
            }
            (None, true) => return Err(Trouble::local("no current context is set")),
            _ => {
                return Err(Trouble::local(
                    "you must specify a non-empty context name or --current",
                ));
            }
        };
        let is_new = config.entry("contexts", &name).is_none();
        let is_there = |entry: &Value| entry["name"] == name.as_str();
        change(
            &args.cluster.files(session),
            |file| list(file, "/contexts").any(&is_there),
            |file| {
                if !list(file, "/contexts").any(&is_there) {
                    let fresh = json!({"name": name, "context": {"cluster": "", "user": ""}});
                    match file["contexts"].as_array_mut() {
                        Some(all) => all.push(fresh),
                        None => file["contexts"] = json!([fresh]),
                    }
                }
                for entry in file["contexts"].as_array_mut().into_iter().flatten() {
                    if entry["name"] == name.as_str() {
                        args.cluster.set_in(&mut entry["context"]);
                    }
                }
            },
        )?;
        let what = if is_new { "created" } else { "modified" };
        Ok(session.say(format!("Context \"{name}\" {what}.")).map(|()| 0)?)
    })
}

/// Changes the first file for which something is so, or else the first that there is.
fn change(
    files: &[PathBuf],
    is_it: impl Fn(&Value) -> bool,
    change: impl FnOnce(&mut Value),
) -> Outcome<()> {
    let read = |path: &PathBuf| -> Outcome<Option<Value>> {
        match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Trouble::local(format!("read {}: {error}", path.display()))),
            Ok(text) => objects::yaml::parse(&text)
                .map(Some)
                .map_err(|error| Trouble::local(format!("read {}: {error}", path.display()))),
        }
    };
    let mut there = Vec::new();
    for path in files {
        there.extend(read(path)?.map(|value| (path.clone(), value)));
    }
    let at = there.iter().position(|(_, value)| is_it(value)).unwrap_or(0);
    let (path, mut value) = match there.into_iter().nth(at) {
        Some(found) => found,
        None => match files.first() {
            Some(path) => (path.clone(), client::Kubeconfig::empty().value),
            None => return Err(Trouble::local("no kubeconfig is known here")),
        },
    };
    change(&mut value);
    let bad = |why: String| Trouble::local(format!("write {}: {why}", path.display()));
    let mut fresh = engine::Fresh::create(&path, 0o600).map_err(|error| bad(error.to_string()))?;
    std::io::Write::write_all(&mut fresh, yaml::write(&value).as_bytes())
        .map_err(|error| bad(error.to_string()))?;
    fresh.keep().map_err(|error| bad(error.to_string()))
}
