//! `cais context import`

use std::io::{self, Read};

use engine::{Error, Kind, Result};
use serde_json::Value;

use super::store::{Context, Store, check_name};
use crate::command::open;
use crate::progress;
use crate::session::Session;

/// Longest file in an archive.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// What `context import` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name
    context: String,
    /// The file that `context export` has written; - for standard input
    file: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    check_name(&args.context)?;
    let store = Store::open()?;
    if store.meta_directory(&args.context).exists() {
        return Err(Error::new(Kind::Exists, format!("context {:?} already exists", args.context)));
    }
    let mut from: Box<dyn Read> = match args.file.as_str() {
        "-" => Box::new(io::stdin()),
        path => Box::new(open(path.as_ref())?),
    };
    let failed = |error| Error::caused(Kind::Invalid, format!("read {}", args.file), error);
    let files = unpack(&mut *from).map_err(failed)?;
    let meta = files.iter().find(|(path, _)| path == "meta.json").map(|(_, text)| text);
    let meta = meta.ok_or_else(|| Error::invalid("invalid context: no meta.json found"))?;
    let mut document: Value = serde_json::from_slice(meta).map_err(|error| failed(error.into()))?;
    document["Name"] = args.context.as_str().into();
    let context = Context { name: args.context.clone(), document };
    context.endpoint()?;
    for (path, text) in &files {
        if let Some(file) = path.strip_prefix("tls/docker/") {
            store.keep_tls(&args.context, file, text)?;
        }
    }
    store.put(&context)?;
    session.say(&args.context)?;
    progress::note(&format!("Successfully imported context \"{}\"", args.context));
    Ok(0)
}

/// The files of a context, and no others.
fn unpack(from: &mut dyn Read) -> io::Result<Vec<(String, Vec<u8>)>> {
    const KNOWN: [&str; 4] =
        ["meta.json", "tls/docker/ca.pem", "tls/docker/cert.pem", "tls/docker/key.pem"];
    let mut files = Vec::new();
    for entry in tar::Archive::new(from).entries()? {
        let entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type().is_dir() {
            continue;
        }
        if !KNOWN.contains(&path.as_str()) {
            let why = format!("{path} is no file of a context");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let mut text = Vec::new();
        entry.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
        files.push((path, text));
    }
    Ok(files)
}
