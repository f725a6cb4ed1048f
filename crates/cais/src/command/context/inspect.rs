//! `cais context inspect`

use engine::Result;
use serde_json::{Map, Value, json};

use super::store::{DEFAULT, Store};
use crate::command::each;
use crate::command::inspect::print;
use crate::command::remote::current_context;
use crate::session::Session;

/// What `context inspect` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template
    #[arg(short, long)]
    format: Option<String>,
    /// Their names; the current one without any
    contexts: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let store = Store::open()?;
    let names = match &args.contexts[..] {
        [] => vec![current_context()?],
        names => names.to_vec(),
    };
    let mut found = Vec::new();
    let code = each(&names, |name| {
        found.push(object(session, &store, name)?);
        Ok(())
    })?;
    print(session, args.format.as_deref(), found).map(|()| code)
}

fn object(session: &Session, store: &Store, name: &str) -> Result<Value> {
    if name == DEFAULT {
        let host = format!("unix://{}", session.roots().1.join("docker.sock").display());
        return Ok(json!({
            "Name": DEFAULT,
            "Metadata": {},
            "Endpoints": { "docker": { "Host": host, "SkipTLSVerify": false } },
            "TLSMaterial": {},
            "Storage": { "MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>" },
        }));
    }
    let context = store.get(name)?;
    let files = ["ca.pem", "cert.pem", "key.pem"];
    let there = files.into_iter().filter(|file| store.tls_files(name).join(file).exists());
    let there: Vec<&str> = there.collect();
    let mut material = Map::new();
    if !there.is_empty() {
        material.insert("docker".to_owned(), json!(there));
    }
    Ok(json!({
        "Name": name,
        "Metadata": context.document["Metadata"],
        "Endpoints": context.document["Endpoints"],
        "TLSMaterial": material,
        "Storage": {
            "MetadataPath": store.meta_directory(name),
            "TLSPath": store.tls_directory(name),
        },
    }))
}
