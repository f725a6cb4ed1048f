//! `cais volume snapshot`

use engine::{Error, Result};

use crate::session::Session;

/// What `volume snapshot` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// List the volume's snapshots, the oldest first
    #[arg(short, long, conflicts_with = "rm")]
    list: bool,
    /// Remove the snapshot
    #[arg(long)]
    rm: bool,
    /// The volume
    volume: String,
    /// The snapshot's name (default: the time of day)
    snapshot: Option<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    match (&args.snapshot, args.list, args.rm) {
        (None, true, _) => {
            let all = engine.snapshots(&args.volume)?;
            all.into_iter().try_for_each(|snapshot| session.say(snapshot.name)).map(|()| 0)
        }
        (Some(_), true, _) => Err(Error::invalid("--list takes a volume only")),
        (Some(name), _, true) => {
            engine.remove_snapshot(&args.volume, name)?;
            session.say(name).map(|()| 0)
        }
        (None, _, true) => Err(Error::invalid("--rm needs the name of a snapshot")),
        (name, false, false) => {
            let name = name.as_deref().unwrap_or_default();
            session.say(engine.snapshot_volume(&args.volume, name)?.name).map(|()| 0)
        }
    }
}
