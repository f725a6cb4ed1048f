//! `cais copy`

use engine::{CopyEnd, CopyOptions, Error, Place, Result};
use oci::ReferenceError;

use crate::progress::{To, View};
use crate::session::Session;

/// What `copy` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Copy all images of an index, for all platforms
    #[arg(short, long)]
    all: bool,
    /// Copy the image for this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// User and password for the source registry
    #[arg(long, value_name = "USER:PASSWORD")]
    src_creds: Option<String>,
    /// User and password for the destination registry
    #[arg(long, value_name = "USER:PASSWORD")]
    dest_creds: Option<String>,
    /// Require HTTPS and a valid certificate of the source registry
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    src_tls_verify: Option<bool>,
    /// Require HTTPS and a valid certificate of the destination registry
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dest_tls_verify: Option<bool>,
    /// Accept any certificate, and plain HTTP, of both registries
    #[arg(long)]
    insecure: bool,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// [docker://]NAME, store:NAME, oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE[:REF]
    source: String,
    /// The same forms
    destination: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let platform = super::platform(args.platform.as_deref())?;
    if args.all && platform.is_some() {
        return Err(Error::invalid("--all and --platform exclude each other"));
    }
    let (from, to) = (place(&args.source)?, place(&args.destination)?);
    let end = |flag, creds: &Option<String>, verify: Option<bool>| -> Result<CopyEnd> {
        let credentials = creds.as_deref().map(|text| credentials(flag, text)).transpose()?;
        Ok(CopyEnd { credentials, insecure: args.insecure || verify == Some(false) })
    };
    let options = CopyOptions {
        all: args.all,
        platform,
        from: end("--src-creds", &args.src_creds, args.src_tls_verify)?,
        to: end("--dest-creds", &args.dest_creds, args.dest_tls_verify)?,
    };
    let view = View::new(To::Stderr, args.quiet);
    let engine = session.engine()?;
    let copied = engine.copy(&from, &to, &options, &|event| view.show(event));
    view.finish();
    // A name without a transport is of a registry, whatever is here.
    let is_here = matches!(from, Place::Registry(_))
        && !args.source.starts_with("docker:")
        && engine.store().look_up(&args.source).is_ok();
    let copied = copied.map_err(|error| match is_here {
        true => error.hint(format!("the one that is here is called store:{}", args.source)),
        false => error,
    });
    session.say(copied?.to_string()).map(|()| 0)
}

/// Transports that others have, which would be taken for the name of an image with a tag.
const FOREIGN_TRANSPORTS: &[&str] =
    &["atomic", "containers-storage", "dir", "docker-daemon", "ostree", "sif", "tarball"];
const TRANSPORTS: &str = "docker://NAME, store:NAME, oci:DIR[:REF], oci-archive:FILE[:REF] and \
                          docker-archive:FILE[:REF] are what there is";

fn place(text: &str) -> Result<Place> {
    let word = text.split_once(':').map(|(word, _)| word);
    if let Some(word) = word.filter(|word| FOREIGN_TRANSPORTS.contains(word)) {
        return Err(Error::invalid(format!("{text}: unknown transport `{word}`")).hint(TRANSPORTS));
    }
    if text == "store:" {
        return Err(Error::invalid("store: needs the name of an image").hint("as in store:mine:1"));
    }
    text.parse().map_err(|error: ReferenceError| {
        Error::invalid(format!("{text}: {error}")).hint(
            "as in docker://alpine:3, store:mine:1, oci:directory:tag, oci-archive:file.tar or \
             docker-archive:file.tar:name",
        )
    })
}

fn credentials(flag: &str, text: &str) -> Result<(String, String)> {
    match text.split_once(':') {
        Some((user, password)) if !user.is_empty() => Ok((user.to_owned(), password.to_owned())),
        _ => Err(Error::invalid(format!("{flag}: expected USER:PASSWORD"))),
    }
}
