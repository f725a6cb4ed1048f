//! `cais server`

mod node;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use apiserver::log::{Log, Memory, Sqlite};
use apiserver::{Cluster, Identity, Server};
use engine::{Error, Kind, Result};
use runtime::SignalFd;

use super::serve::obey;
use crate::session::Session;

/// What `server` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep the cluster below this directory (default: cluster below the root)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen; port 0 is any that is free
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// Write what kubectl needs to know to this file (default: kubeconfig in the data directory)
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// Where changes are kept: `sqlite` in the data directory, or `memory` for as long as it runs
    #[arg(long, value_name = "KIND", default_value = "sqlite", value_parser = ["sqlite", "memory"])]
    datastore: String,
    #[command(flatten)]
    node: node::Args,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    // Before anything is open that containers are not to have, and before the first thread.
    let host = node::Host::fork(session, &args.node)?;
    let failed = |doing: &str, error: Box<dyn std::error::Error + Send + Sync>| {
        Error::caused(Kind::Internal, doing, error)
    };
    let (root, _) = session.roots();
    let place = args.data_dir.clone().unwrap_or_else(|| root.join("cluster"));
    let identity = Identity::open(&place, &addresses(args.listen))
        .map_err(|error| failed("prepare the cluster's identity", error.into()))
        .map_err(|error| error.hint("--data-dir names a directory that can be written to"))?;
    let open = |error: apiserver::log::LogError| {
        failed("open the cluster's log", error.into())
            .hint("nothing was changed; --data-dir names another place for a cluster")
    };
    let log: Arc<dyn Log> = match args.datastore.as_str() {
        "memory" => Arc::new(Memory::default()),
        _ => Arc::new(Sqlite::open(&place.join("log.db")).map_err(open)?),
    };
    let cluster = Cluster::new(log).map_err(open)?;
    let signals = SignalFd::ending();
    let signals =
        signals.map_err(|error| Error::caused(Kind::Internal, "take over signals", error))?;
    let server = Server::bind(args.listen, cluster.clone(), identity.clone())
        .map_err(|error| failed("serve the Kubernetes API", error.into()))
        .map_err(|error| error.hint("--listen 127.0.0.1:0 takes a port that is free"))?;
    let path = args.kubeconfig.clone().unwrap_or_else(|| place.join("kubeconfig"));
    identity
        .write_kubeconfig(&path, &server.address().to_string())
        .map_err(|error| failed("tell kubectl", error.into()))?;
    session.say(format!("Serving the Kubernetes API on https://{}/", server.address()))?;
    session.say(format!("Use it with: kubectl --kubeconfig {} get namespaces", path.display()))?;
    obey(signals, server.stopper());
    let node = host.map(|host| host.start(cluster, &place, &args.node)).transpose()?;
    if let Some(node) = &node {
        session.say(format!("Running pods as node {}", node.name()))?;
    }
    server.run().map_err(|error| failed("serve the Kubernetes API", error.into()))?;
    Ok(0)
}

/// What clients may call the server by.
fn addresses(listen: SocketAddr) -> Vec<IpAddr> {
    let mut all = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 96, 0, 1])];
    if !listen.ip().is_unspecified() && !all.contains(&listen.ip()) {
        all.push(listen.ip());
    }
    all
}
