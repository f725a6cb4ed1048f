//! `cais manifest inspect`

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{Engine, Error, Kind, ListEntry, Result};
use oci::{Document, Index, Reference};
use serde_json::{Value, json};

use super::indented;
use crate::session::Session;

/// What `inspect` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short, long)]
    verbose: bool,
    /// A list that is here and a manifest in it, or one name of either
    #[arg(required = true, num_args = 1..=2, value_name = "MANIFEST")]
    names: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let references = args.names.iter().map(|name| super::super::reference(name));
    let text = match &references.collect::<Result<Vec<_>>>()?[..] {
        [list, member] => {
            let list = engine.manifest_list(list)?;
            let entry = list.entries.iter().find(|entry| entry.reference == *member);
            let entry = entry.ok_or_else(|| {
                let text = format!("No such manifest: {}", member.familiar());
                Error::new(Kind::NotFound, text).hint("`cais manifest inspect LIST` shows all")
            })?;
            one(entry, args.verbose)?
        }
        [reference] => named(engine, reference, args)?,
        _ => return Err(Error::invalid("one or two names are needed")),
    };
    session.say(text).map(|()| 0)
}

/// A list that is here, or what the registry has.
fn named(engine: &Engine, reference: &Reference, args: &Args) -> Result<String> {
    match engine.manifest_list(reference) {
        Ok(list) if args.verbose => {
            let all = list.entries.iter().map(verbose).collect::<Result<Vec<Value>>>()?;
            return Ok(indented(&Value::Array(all), "\t"));
        }
        Ok(list) => return Ok(indented(&list.index(), "   ")),
        Err(error) if error.kind() == Kind::NotFound => {}
        Err(error) => return Err(error),
    }
    let fetched = engine.manifest(reference, args.insecure)?;
    let bad = |error: &dyn std::fmt::Display| {
        Error::invalid(format!("{}: {error}", reference.familiar()))
    };
    let document = Document::parse(&fetched.bytes, &fetched.media_type);
    match document.map_err(|error| bad(&error))? {
        Document::Manifest(_) => one(&engine.list_entry(reference, args.insecure)?, args.verbose),
        Document::Index(index) if args.verbose => members(engine, reference, &index, args),
        Document::Index(_) => {
            let value: Value =
                serde_json::from_slice(&fetched.bytes).map_err(|error| bad(&error))?;
            Ok(indented(&in_docker_order(&value), "   "))
        }
    }
}

/// Docker shows what it knows of an index, in an order of its own.
fn in_docker_order(index: &Value) -> Value {
    let entry = |entry: &Value| {
        let mut shown = json!({
            "mediaType": entry["mediaType"], "size": entry["size"], "digest": entry["digest"],
        });
        if let Some(platform) = entry.get("platform") {
            let known = ["architecture", "os", "os.version", "os.features", "variant"];
            let mut of = serde_json::Map::new();
            for key in known {
                of.extend(platform.get(key).map(|value| (key.to_owned(), value.clone())));
            }
            shown["platform"] = Value::Object(of);
        }
        shown
    };
    let entries = index["manifests"].as_array().into_iter().flatten().map(entry);
    json!({
        "schemaVersion": index["schemaVersion"],
        "mediaType": index["mediaType"],
        "manifests": entries.collect::<Vec<_>>(),
    })
}

fn members(engine: &Engine, reference: &Reference, index: &Index, args: &Args) -> Result<String> {
    let mut all = Vec::new();
    for entry in &index.manifests {
        let own = reference.with_digest(entry.digest);
        let fetched = engine.manifest(&own, args.insecure)?;
        let mut shown = describe(
            &format!("{}@{}", reference.familiar(), entry.digest),
            (&fetched.media_type, &fetched.digest.to_string()),
            &fetched.bytes,
        )?;
        if let Some(platform) = &entry.platform {
            let mut of = json!({"architecture": platform.architecture, "os": platform.os});
            if let Some(variant) = &platform.variant {
                of["variant"] = variant.clone().into();
            }
            shown["Descriptor"]["platform"] = of;
        }
        all.push(shown);
    }
    Ok(indented(&Value::Array(all), "\t"))
}

fn one(entry: &ListEntry, is_verbose: bool) -> Result<String> {
    if is_verbose {
        return Ok(indented(&verbose(entry)?, "\t"));
    }
    let value: Value = serde_json::from_str(&entry.text)
        .map_err(|error| Error::invalid(format!("{}: {error}", entry.reference.familiar())))?;
    Ok(indented(&value, "\t"))
}

fn verbose(entry: &ListEntry) -> Result<Value> {
    let digest = entry.digest.to_string();
    let name = entry.reference.familiar();
    let mut shown = describe(&name, (&entry.media_type, &digest), entry.text.as_bytes())?;
    shown["Descriptor"]["platform"] = entry.descriptor()["platform"].clone();
    Ok(shown)
}

fn describe(name: &str, (kind, digest): (&str, &str), bytes: &[u8]) -> Result<Value> {
    let parsed: Value = serde_json::from_slice(bytes)
        .map_err(|error| Error::invalid(format!("{name}: {error}")))?;
    let field = match kind {
        oci::media_type::DOCKER_MANIFEST => "SchemaV2Manifest",
        _ => "OCIManifest",
    };
    Ok(json!({
        "Ref": name,
        "Descriptor": {"mediaType": kind, "digest": digest, "size": bytes.len()},
        "Raw": STANDARD.encode(bytes),
        field: parsed,
    }))
}
