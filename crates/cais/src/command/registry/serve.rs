//! `cais registry serve`

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::{Error, Kind, Result};
use jiff::Timestamp;
use registry::{Access, Auth, MirrorConfig, ServeError, Server, ServerConfig, Stopper};
use runtime::SignalFd;
use serde_json::json;

use crate::output;
use crate::session::Session;

/// The exit code of a program that a second signal ends at once; a shell's, for SIGINT.
const INTERRUPTED: i32 = 130;

/// What `registry serve` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; port 0 is any that is free
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000")]
    addr: String,
    /// Keep everything below this directory instead of the root
    #[arg(long, value_name = "DIR")]
    storage: Option<PathBuf>,
    /// Speak TLS with the certificate in this PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Ask for the users and passwords in this file, as `htpasswd -B` writes it
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Fetch what is missing from this registry, and keep it
    ///
    /// Its images are at NAME/…; those of the first one given also without it, and by `?ns=NAME`.
    /// Where it is, and with which certificates, the configuration says, or URL. Beside mirrors,
    /// pushes go to names that begin with `localhost/` or another host, as in `registry.lan/app`.
    #[arg(long, value_name = "NAME[=URL]", value_parser = mirror)]
    mirror_of: Vec<MirrorConfig>,
    /// For how long a mirrored tag is served without looking whether it has moved
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    mirror_ttl: Duration,
    /// Refuse to be changed
    #[arg(long)]
    read_only: bool,
    /// What to write to standard error of every request
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
    /// Write nothing of requests
    #[arg(short, long)]
    quiet: bool,
}

/// `NAME`, or `NAME=URL`.
fn mirror(text: &str) -> std::result::Result<MirrorConfig, String> {
    let (name, location) = match text.split_once('=') {
        Some((name, location)) => (name, Some(location.to_owned())),
        None => (text, None),
    };
    if name.is_empty() || location.as_ref().is_some_and(String::is_empty) {
        return Err("expected NAME or NAME=URL".to_owned());
    }
    Ok(MirrorConfig { name: name.to_owned(), location })
}

/// A duration as Go writes it: `90s`, `2h45m`.
pub(in crate::command) fn duration(text: &str) -> std::result::Result<Duration, String> {
    let parsed = output::parse_duration(text).map_err(|error| error.to_string())?;
    parsed.try_into().map_err(|_| "a duration must not be negative".to_owned())
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let (root, _) = session.roots();
    let place = args.storage.as_ref().unwrap_or(&root);
    let store = store::Store::open(place).map_err(|error| failure(error.into()))?;
    let config = ServerConfig {
        address: args.addr.clone(),
        tls: args.tls_cert.clone().zip(args.tls_key.clone()),
        passwords: args.htpasswd.clone(),
        is_read_only: args.read_only,
        mirrors: args.mirror_of.clone(),
        mirror_fresh: args.mirror_ttl,
    };
    let auth = Auth::load().map_err(|error| {
        Error::caused(Kind::Invalid, "read the credentials for other registries", error)
    })?;
    // Before the first thread, so that all of them leave signals to us.
    let signals = SignalFd::ending();
    let signals =
        signals.map_err(|error| Error::caused(Kind::Internal, "take over signals", error))?;
    let server = Server::bind(&config, &store, session.registry(), &auth).map_err(failure)?;
    // The place is made now that it is known to be used.
    drop(store.lease().map_err(|error| failure(error.into()))?);
    greet(session, args, &server, &store)?;
    obey(signals, server.stopper());
    server.run(&logger(args)).map_err(failure)?;
    Ok(0)
}

/// Says where it is and how it is used.
fn greet(session: &Session, args: &Args, server: &Server, store: &store::Store) -> Result<()> {
    let address = server.address();
    let scheme = if args.tls_cert.is_some() { "https" } else { "http" };
    session.say(format!("Serving {} on {scheme}://{address}/", store.registry_path().display()))?;
    let host = if address.ip().is_unspecified() {
        SocketAddr::new([127, 0, 0, 1].into(), address.port())
    } else {
        address
    };
    if !args.read_only {
        let name = if args.mirror_of.is_empty() { "NAME" } else { "localhost/NAME" };
        let to = format!("docker://{host}/{name}:TAG");
        session.say(format!("Push to it with: skopeo copy docker://IMAGE {to}"))?;
    }
    if args.htpasswd.is_none() && !args.read_only && !address.ip().is_loopback() {
        warn("whoever can reach this address may push and delete; --htpasswd asks for passwords");
    }
    if args.htpasswd.is_some() && args.tls_cert.is_none() && !address.ip().is_loopback() {
        warn("passwords cross the network in the clear; --tls-cert and --tls-key encrypt them");
    }
    Ok(())
}

pub(super) fn warn(what: &str) {
    // Nobody to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "cais: warning: {what}");
}

/// Stops the server at the first signal, once it is done with what it is doing; at the second one,
/// at once.
fn obey(mut signals: SignalFd, stopper: Stopper) {
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

fn logger(args: &Args) -> Arc<dyn Fn(&Access) + Send + Sync> {
    match (args.quiet, args.log_format.as_str()) {
        (true, _) => Arc::new(|_| {}),
        (false, "json") => Arc::new(|access| write(&as_json(access))),
        (false, _) => Arc::new(|access| write(&as_text(access))),
    }
}

fn write(line: &str) {
    // One call for each line: the lines of several threads do not mix.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn as_text(access: &Access) -> String {
    let Access { peer, user, method, path, agent, status, bytes, duration, note } = access;
    let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
    let user = user.as_deref().unwrap_or("-");
    let note = note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
    let line = format!(
        "{time} {peer} {user} {method} {path} {status} {bytes} {duration:.1?} {agent:?}{note}"
    );
    // What clients send must not draw on a terminal, nor look like another line.
    output::printable(&line).replace(['\n', '\r'], " ")
}

fn as_json(access: &Access) -> String {
    json!({
        "time": Timestamp::now().to_string(),
        "peer": access.peer.to_string(),
        "user": access.user,
        "method": access.method,
        "path": access.path,
        "agent": access.agent,
        "status": access.status,
        "bytes": access.bytes,
        "seconds": access.duration.as_secs_f64(),
        "error": access.note,
    })
    .to_string()
}

/// What failed, with what to do about it.
pub(super) fn failure(error: ServeError) -> Error {
    let (kind, hint) = match &error {
        ServeError::Listen { source, .. } => match source.kind() {
            std::io::ErrorKind::AddrInUse => (
                Kind::Conflict,
                "something listens there already; choose another with --addr, or port 0 for any",
            ),
            std::io::ErrorKind::PermissionDenied => {
                (Kind::Denied, "ports below 1024 need privilege; choose a higher one with --addr")
            }
            _ => (Kind::Invalid, "--addr takes HOST:PORT, as in 127.0.0.1:5000 or [::]:5000"),
        },
        ServeError::Certificate { .. } => (
            Kind::Invalid,
            "--tls-cert takes a PEM file with the certificate first, --tls-key one with its key",
        ),
        ServeError::Passwords { .. } => {
            (Kind::Invalid, "`htpasswd -B -c FILE USER` makes such a file, with bcrypt")
        }
        ServeError::Mirror { .. } => (
            Kind::Invalid,
            "--mirror-of takes NAME or NAME=URL, as in docker.io=https://mirror.lan",
        ),
        ServeError::Store(_) | ServeError::Io { .. } => (Kind::Internal, ""),
    };
    let failure = Error::caused(kind, "serve the registry", error);
    if hint.is_empty() { failure } else { failure.hint(hint) }
}
