//! `cais serve`

mod listen;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use docker::Api;
use engine::{Error, Kind, Result, Spawner};
use httpd::{Limits, Server, Service, Stopper};
use runtime::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};

use crate::session::Session;
use listen::{Bound, listeners};

/// Connections at one time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 2048;
/// How long a client may say nothing in the middle of something, as `docker load` does behind a
/// slow pipe.
const SILENCE_MAX: Duration = Duration::from_secs(60 * 60);
/// The exit code of a program that a second signal ends at once; a shell's, for SIGINT.
const INTERRUPTED: i32 = 130;

/// What `serve` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen: unix://PATH, tcp://HOST:PORT with --tlsverify, or fd:// for sockets of
    /// systemd's (default: docker.sock below the run root)
    #[arg(short = 'H', long, value_name = "HOST")]
    host: Vec<String>,
    /// Listen on /var/run/docker.sock, too, where clients look
    #[arg(long)]
    docker: bool,
    /// Group for the unix sockets
    #[arg(short = 'G', long, value_name = "GROUP", default_value = "docker")]
    group: String,
    /// Use TLS and verify the remote
    #[arg(long)]
    tlsverify: bool,
    /// Trust certs signed only by this CA
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// Path to TLS certificate file
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// Path to TLS key file
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
    /// Write nothing
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?.clone();
    // Before anything is open that containers are not to have, and before the first thread.
    let spawner = Spawner::fork(&engine)?;
    let end = spawner.end()?;
    let signals = SignalFd::ending();
    let signals =
        signals.map_err(|error| Error::caused(Kind::Internal, "take over signals", error))?;
    let (_, run_root) = session.roots();
    let Bound { listeners, places, _files } = listeners(args, &run_root)?;
    let limits = Limits { connections: CONNECTIONS_MAX, silence: SILENCE_MAX, bytes_per_second: 0 };
    let failed = |error| Error::caused(Kind::Internal, "serve the API", error);
    let server = Server::new(listeners, limits).map_err(failed)?;
    if !args.quiet {
        for place in &places {
            session.say(format!("API listen on {place}"))?;
        }
    }
    let api = Api::new(engine, spawner, env!("CARGO_PKG_VERSION"), session.watermarks());
    obey(signals, server.stopper());
    let is_lame = Arc::new(AtomicBool::new(false));
    watch(end, server.stopper(), is_lame.clone());
    let service: Arc<dyn Service> = Arc::new(api);
    server.run(&service).map_err(failed)?;
    match is_lame.load(Ordering::SeqCst) {
        false => Ok(0),
        true => {
            let text = "the process that starts containers for the API was killed";
            Err(Error::new(Kind::Internal, text)
                .hint("containers have not noticed: start `cais serve` again"))
        }
    }
}

/// Stops the server if the process that starts containers is gone: who serves without it is of no
/// use, and whoever started it is to start another.
fn watch(end: OwnedFd, stopper: Stopper, is_lame: Arc<AtomicBool>) {
    let work = move || {
        let mut set = [PollFd::new(&end, PollFlags::IN)];
        let waited = rustix::io::retry_on_intr(|| poll(&mut set, None));
        if waited.is_ok() && !stopper.is_stopped() {
            is_lame.store(true, Ordering::SeqCst);
            stopper.stop();
        }
    };
    // Without this thread, what needs that process fails.
    let _ = std::thread::Builder::new().name("spawner".to_owned()).spawn(work);
}

/// Stops the server at the first signal, once it is done with what it is doing; at the second one,
/// at once.
pub(super) fn obey(mut signals: SignalFd, stopper: Stopper) {
    let work = move || {
        if signals.read().is_ok() {
            stopper.stop();
        }
        if signals.read().is_ok() {
            runtime::exit_now(INTERRUPTED);
        }
    };
    // Without this thread signals would wait for ever; with it missing, SIGKILL is left.
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(work);
}
