//! `cais context export`

use std::io::{self, Write};

use engine::{Error, Kind, Result};

use super::store::Store;
use crate::progress;
use crate::session::Session;

/// What `context export` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name
    context: String,
    /// The file; - for standard output, CONTEXT.dockercontext without one
    file: Option<String>,
}

pub(crate) fn run(_: &Session, args: &Args) -> Result<i32> {
    let store = Store::open()?;
    let context = store.get(&args.context)?;
    let file = args.file.clone().unwrap_or_else(|| format!("{}.dockercontext", args.context));
    let failed = |error| Error::caused(Kind::Invalid, format!("write {file}"), error);
    let text = context.document.to_string();
    if file == "-" {
        pack(&store, &args.context, &text, &mut io::stdout()).map_err(failed)?;
        return Ok(0);
    }
    let mut out = std::fs::File::create_new(&file).map_err(failed)?;
    pack(&store, &args.context, &text, &mut out).map_err(failed)?;
    progress::note(&format!("Written file \"{file}\""));
    Ok(0)
}

fn pack(store: &Store, name: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    let mut add = |path: &str, content: Option<&[u8]>| {
        let mut header = tar::Header::new_gnu();
        let content = match content {
            Some(content) => {
                header.set_mode(0o600);
                content
            }
            None => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o700);
                &[]
            }
        };
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content)
    };
    add("meta.json", Some(text.as_bytes()))?;
    add("tls", None)?;
    if store.tls_files(name).exists() {
        add("tls/docker", None)?;
    }
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        if let Ok(content) = std::fs::read(store.tls_files(name).join(file)) {
            add(&format!("tls/docker/{file}"), Some(&content))?;
        }
    }
    archive.into_inner()?.flush()
}
