//! `cais server`

mod control;
pub(super) mod node;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use apiserver::log::{Log, Memory, Sqlite};
use apiserver::{Audit, AuditError, Cluster, Identity, InProcess, Rotation, Server};
use client::{Client, kind};
use engine::{Error, Kind, Result, Subnet};
use runtime::SignalFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use serde_json::Value;

use super::registry::serve::duration;
use super::serve::obey;
use crate::session::Session;

/// Bits that the addresses of the pods of one node have in common.
const NODE_PREFIX: u8 = 24;
/// Who the server is for its own API.
const USER: &str = "system:apiserver";

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
    /// Write who did what to this file, as lines of JSON (audit.k8s.io/v1)
    #[arg(long, value_name = "PATH")]
    audit_log_path: Option<PathBuf>,
    /// What is written there: a Policy of audit.k8s.io/v1 (default: metadata of everything)
    #[arg(long, value_name = "PATH", requires = "audit_log_path")]
    audit_policy_file: Option<PathBuf>,
    /// Megabytes after which the audit log is put aside
    #[arg(long, value_name = "MB", default_value_t = 100, requires = "audit_log_path",
        value_parser = clap::value_parser!(u64).range(1..))]
    audit_log_maxsize: u64,
    /// How many audit logs are kept that were put aside
    #[arg(long, value_name = "NUMBER", default_value_t = 10, requires = "audit_log_path")]
    audit_log_maxbackup: u16,
    /// Where the addresses of pods on other nodes come from, /24 for each
    #[arg(long, value_name = "SUBNET", default_value = "10.42.0.0/16")]
    cluster_cidr: Subnet,
    /// How long a node may be silent before it is taken for lost
    #[arg(long, value_name = "DURATION", default_value = "12s", value_parser = duration)]
    node_monitor_grace_period: Duration,
    /// How long certificates are good that are given to nodes and others
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = duration)]
    cluster_signing_duration: Duration,
    /// Another name or address of this server, for its certificate (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    tls_san: Vec<IpAddr>,
    #[command(flatten)]
    node: node::Args,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    // Before anything is open that containers are not to have, and before the first thread.
    let host = node::Host::fork_unless(session, &args.node)?;
    let failed = |doing: &str, error: Box<dyn std::error::Error + Send + Sync>| {
        Error::caused(Kind::Internal, doing, error)
    };
    let (root, _) = session.roots();
    let place = args.data_dir.clone().unwrap_or_else(|| root.join("cluster"));
    // A mistake in it leaves no half of a cluster.
    let audit = args.audit_log_path.as_deref().map(|path| audit(args, path)).transpose()?;
    let identity = Identity::open(&place, &addresses(args))
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
    let mut cluster = Cluster::open(log, &identity).map_err(open)?;
    if let Some(audit) = audit {
        cluster = cluster.audited(audit);
    }
    let signals = SignalFd::ending();
    let signals =
        signals.map_err(|error| Error::caused(Kind::Internal, "take over signals", error))?;
    let (inner, more) = inner_address(args, host.is_some())
        .map_err(|error| failed("listen for pods", error.into()))
        .map_err(|error| error.hint("--disable-agent runs no pods that could ask the API"))?;
    let server = Server::bind(args.listen, more, cluster.clone(), &identity)
        .map_err(|error| failed("serve the Kubernetes API", error.into()))
        .map_err(|error| error.hint("--listen 127.0.0.1:0 takes a port that is free"))?;
    let path = args.kubeconfig.clone().unwrap_or_else(|| place.join("kubeconfig"));
    identity
        .write_kubeconfig(&path, &local(server.address()).to_string())
        .map_err(|error| failed("tell kubectl", error.into()))?;
    // A server that listens everywhere is reached by the node's address, which the node knows.
    let outer = Some(server.address()).filter(|address| !address.ip().is_loopback());
    session.say(format!("Serving the Kubernetes API on https://{}/", server.address()))?;
    session.say(format!("Use it with: kubectl --kubeconfig {} get namespaces", path.display()))?;
    obey(signals, server.stopper());
    let is_over = Arc::new(AtomicBool::new(false));
    let decides = (settings(args), identity.signer(args.cluster_signing_duration).map_err(secret)?);
    control::start(cluster.clone(), decides, &is_over)
        .map_err(|error| failed("start the controllers", error.into()))?;
    if let Some(outer) = outer {
        invite(session, args, (&cluster, &identity), outer, host.is_none())?;
    }
    let node =
        host.map(|host| host.start(&cluster, (&place, &args.node), inner.or(outer))).transpose()?;
    if let Some(node) = &node {
        session.say(format!("Running pods as node {}", node.name()))?;
    }
    let served = server.run().map_err(|error| failed("serve the Kubernetes API", error.into()));
    is_over.store(true, Ordering::Relaxed);
    served.map(|()| 0)
}

fn secret(error: apiserver::IdentityError) -> Error {
    Error::caused(Kind::Internal, "prepare the cluster's identity", error)
        .hint("--data-dir names a directory that can be written to")
}

fn settings(args: &Args) -> ::control::Settings {
    ::control::Settings {
        silence_max: args.node_monitor_grace_period,
        pods: Some(::control::PodRange {
            address: args.cluster_cidr.address(),
            prefix: args.cluster_cidr.prefix(),
            node_prefix: NODE_PREFIX.max(args.cluster_cidr.prefix()),
            reserved: Some(args.node.pod_cidr.to_string()),
        }),
    }
}

/// Lets other hosts join, which reach the server at an address, and says how.
fn invite(
    session: &Session,
    args: &Args,
    (cluster, identity): (&Cluster, &Identity),
    outer: SocketAddr,
    is_alone: bool,
) -> Result<()> {
    let (token, path) = identity.node_token().map_err(secret)?;
    let client = Client::new(Arc::new(InProcess::new(cluster.clone(), USER)), "cais");
    let (of, object) = (kind("Secret"), token.secret());
    let failed =
        |error: client::Failure| Error::caused(Kind::Internal, "let other hosts join", error);
    match client.create(of, "kube-system", &object) {
        Err(failure) if !failure.is_conflict() => return Err(failed(failure)),
        _ => {}
    }
    let at = match (outer.ip().is_unspecified(), node_address(args)) {
        (true, Some(address)) => SocketAddr::new(address, outer.port()),
        _ => outer,
    };
    if is_alone {
        ::node::announce(&client, at)
            .map_err(|error| Error::caused(Kind::Internal, "announce the API", error))?;
    }
    session.say(format!(
        "Join with: cais agent --server https://{at} --token \"$(cat {})\"",
        path.display()
    ))
}

/// Where programs of this host reach the server.
fn local(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from(([127, 0, 0, 1], address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port()))
        }
        _ => address,
    }
}

/// The address that other hosts reach this one by.
fn node_address(args: &Args) -> Option<IpAddr> {
    args.node.node_ip.or_else(::node::host_address)
}

/// Where pods reach a server that listens on the loopback address only, which is not theirs: the
/// address of the node on their network, which need not be there yet.
fn inner_address(
    args: &Args,
    runs_pods: bool,
) -> std::io::Result<(Option<SocketAddr>, Vec<TcpListener>)> {
    let gateway = args.node.pod_cidr.hosts().next();
    let Some(gateway) = gateway.filter(|_| runs_pods && args.listen.ip().is_loopback()) else {
        return Ok((None, Vec::new()));
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_ip_freebind(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddr::from((gateway, 0)))?;
    rustix::net::listen(&socket, 128)?;
    let listener = TcpListener::from(socket);
    Ok((Some(listener.local_addr()?), vec![listener]))
}

/// Where requests are told of.
fn audit(args: &Args, path: &Path) -> Result<Audit> {
    let policy = args.audit_policy_file.as_deref().map(read_policy).transpose()?;
    let rotation = Rotation {
        bytes_max: args.audit_log_maxsize.saturating_mul(1 << 20),
        backups_max: args.audit_log_maxbackup.into(),
    };
    Audit::open(path, policy.as_ref(), rotation).map_err(|error| {
        let hint = match error {
            AuditError::Open { .. } => "--audit-log-path names a file that can be written to",
            AuditError::Policy(_) => "--audit-policy-file names a Policy of audit.k8s.io/v1",
        };
        Error::caused(Kind::Invalid, "tell auditors", error).hint(hint)
    })
}

fn read_policy(path: &Path) -> Result<Value> {
    let doing = format!("read the audit policy `{}`", path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::caused(Kind::Invalid, doing.as_str(), error))
        .map_err(|error| error.hint("--audit-policy-file names a file that can be read"))?;
    objects::yaml::parse(&text).map_err(|error| {
        Error::caused(Kind::Invalid, doing, error).hint("the policy is to be YAML or JSON")
    })
}

/// What clients may call the server by.
fn addresses(args: &Args) -> Vec<IpAddr> {
    let own = match args.listen.ip().is_unspecified() {
        true => node_address(args),
        false => Some(args.listen.ip()),
    };
    let fixed = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 96, 0, 1])];
    let mut all: Vec<IpAddr> =
        fixed.into_iter().chain(own).chain(args.tls_san.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all
}
