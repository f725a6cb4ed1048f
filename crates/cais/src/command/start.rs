//! `cais start`

use engine::{Attached, Attaching, Error, Kind, Outcome, Result};

use crate::session::Session;

/// What `start` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    pub(super) attach: bool,
    /// Attach container's STDIN
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "KEYS", default_value = super::DETACH_KEYS, hide_default_value = true)]
    pub(super) detach_keys: String,
    /// Restore from this checkpoint
    #[arg(long, value_name = "CHECKPOINT", hide = true)]
    pub(super) checkpoint: Option<String>,
    /// Use a custom checkpoint storage directory
    #[arg(long, value_name = "DIR", hide = true)]
    pub(super) checkpoint_dir: Option<String>,
    /// The containers, by name or id
    #[arg(required = true)]
    pub(super) containers: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    if args.checkpoint.is_some() || args.checkpoint_dir.is_some() {
        let text = "start --checkpoint: checkpoints of containers with an image are not supported";
        return Err(Error::new(Kind::Unsupported, text)
            .hint("`cais oci checkpoint` and `cais oci restore` do it for bundles"));
    }
    let engine = session.engine()?;
    if !(args.attach || args.interactive) {
        return super::each(&args.containers, |name| {
            let container = engine.find(name)?;
            if !container.is_running() {
                engine.start(&container)?;
            }
            session.say(name)
        });
    }
    let [name] = &args.containers[..] else {
        return Err(Error::invalid("you cannot start and attach multiple containers at once"));
    };
    let container = engine.find(name)?;
    let stdin = args.interactive && container.record.settings.open_stdin;
    let streams = Attached { stdin, stdout: true, stderr: true };
    let keys = super::detach_keys(&args.detach_keys)?;
    let by = Attaching { streams, keys: &keys, signals: true };
    let outcome = match container.is_running() {
        true => engine.attach(&container, &by),
        false => engine.start_attached(&container, &by),
    };
    match outcome? {
        Outcome::Exited(code) => Ok(code),
        Outcome::Detached => Ok(0),
    }
}
