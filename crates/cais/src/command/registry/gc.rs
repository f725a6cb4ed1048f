//! `cais registry gc`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use engine::{Engine, Error, Kind, Result};
use registry::{Released, UNNEEDED_AGE};

use super::serve::{duration, failure, warn};
use crate::output;
use crate::session::Session;

/// How long to wait for those who are adding content: each does so for an instant at a time.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// What `registry gc` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory that `registry serve --storage` was given
    #[arg(long, value_name = "DIR")]
    storage: Option<PathBuf>,
    /// Remove manifests that no tag leads to, too
    #[arg(long)]
    untagged: bool,
    /// Spare what is newer: somebody may be about to push what needs it [default: 2h]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    min_age: Option<Duration>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    if let Some(storage) = args.storage.as_deref().filter(|storage| !storage.is_dir()) {
        let text = format!("No such directory: {}", storage.display());
        return Err(Error::new(Kind::NotFound, text)
            .hint("--storage takes what `registry serve --storage` was given"));
    }
    let engine = session.engine_at(args.storage.as_deref())?;
    let age = args.min_age.unwrap_or(UNNEEDED_AGE);
    let released = registry::release(engine.store(), args.untagged, age).map_err(failure)?;
    let collected = collect(&engine)?;
    for lost in registry::missing(engine.store()).map_err(failure)? {
        let registry::Missing { repository, manifest, lacks } = lost;
        warn(&format!("{repository}@{manifest} lacks {lacks}; push it again"));
    }
    let Released { manifests, blobs, upload_bytes } = released;
    session.say(format!("Released: {manifests} manifests, {blobs} blobs"))?;
    let bytes = collected.bytes + upload_bytes;
    session.say(format!(
        "Removed: {} blobs, {} layers",
        collected.blobs.len(),
        collected.layers.len()
    ))?;
    session.say(format!("Total reclaimed space: {}", output::human_size(bytes, 4))).map(|()| 0)
}

fn collect(engine: &Engine) -> Result<store::Collected> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match engine.collect_now() {
            Err(error) if error.kind() == Kind::Unavailable && Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            Err(error) => {
                let doing = "collect garbage";
                let kind = error.kind();
                return Err(Error::caused(kind, doing, error)
                    .hint("somebody is pulling or loading an image; try again when that is done"));
            }
            collected => return collected,
        }
    }
}
