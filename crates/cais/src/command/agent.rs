//! `cais agent`

mod join;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apiserver::NodeServer;
use client::{Client, Peer, Server, kind};
use engine::{Error, Kind, Result};
use node::Config;
use runtime::SignalFd;

use self::join::Papers;
use super::server::node::{Common, Host, Reach};
use crate::session::Session;

/// After a server that did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What `agent` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The cluster's server
    #[arg(long, value_name = "URL")]
    server: String,
    /// What proves that this host may join, as the server says it; not needed once it has joined
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// A file with that
    #[arg(long, value_name = "PATH", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Keep what this host has joined with below this directory (default: agent below the root)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address that other nodes reach this one by (default: that of the default route)
    #[arg(long, value_name = "ADDRESS")]
    node_ip: Option<Ipv4Addr>,
    /// The port where the server asks this node for logs and the like; 0 is any that is free
    #[arg(long, value_name = "PORT", default_value_t = 10250)]
    port: u16,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    // Before anything is open that containers are not to have, and before the first thread.
    let host = Host::fork(session)?;
    let signals = SignalFd::ending();
    let signals =
        signals.map_err(|error| Error::caused(Kind::Internal, "take over signals", error))?;
    end_at_once(signals);
    let server = Server::parse(&args.server).ok_or_else(|| {
        Error::new(Kind::Invalid, format!("`{}` is not the address of a server", args.server))
            .hint("--server takes https://HOST:PORT, as `cais server` prints it")
    })?;
    let name = args.common.name();
    if args.node_ip.is_none() && node::host_address().is_none() {
        let text =
            "it is not known by which address others reach this host: it has no route to them";
        return Err(Error::new(Kind::Invalid, text).hint("--node-ip names an address of this host"));
    }
    let (listener, port) = listen(args)?;
    let token = token(args)?;
    let papers = Papers::open(&place(session, args)?, &server, &name, token.as_deref())?;
    let agent = format!("cais/{}", env!("CARGO_PKG_VERSION"));
    let https = Arc::new(Peer::new(server.clone(), &agent, papers.tls()?, None));
    let client = Client::new(https.clone(), "kubelet");
    wait_for(session, &client, &server, &name)?;
    let address = args.node_ip.map(IpAddr::from);
    let common = args.common.config(papers.place().to_owned(), address);
    let config = Config { port: Some(port), ..common };
    let node = host.run(config, client.clone(), &args.common)?;
    let address: IpAddr = node
        .address()
        .parse()
        .map_err(|error| Error::caused(Kind::Internal, "know this host's address", error))?;
    papers.ensure_serving(&client, address)?;
    let reach = Arc::new(Reach(node));
    let (certificate, key, authority) = papers.serving_files();
    let served =
        NodeServer::new(listener, (&certificate, &key), &authority, (reach.clone(), reach));
    let served = served
        .map_err(|why| Error::new(Kind::Internal, format!("serve the API of this node: {why}")))?;
    papers.keep_fresh(client, https, address);
    session.say(format!("Joined {server} as node {name}"))?;
    served.run().map_err(|error| Error::caused(Kind::Internal, "serve this node's API", error))?;
    Ok(0)
}

/// Pods go on without an agent, so that nothing has to be ended before it is.
fn end_at_once(mut signals: SignalFd) {
    let work = move || {
        if signals.read().is_ok() {
            runtime::exit_now(0);
        }
    };
    // Without this thread signals would wait for ever; with it missing, SIGKILL is left.
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(work);
}

fn place(session: &Session, args: &Args) -> Result<PathBuf> {
    let (root, _) = session.roots();
    let place = args.data_dir.clone().unwrap_or_else(|| root.join("agent"));
    std::path::absolute(&place)
        .map_err(|error| Error::caused(Kind::Invalid, format!("use {}", place.display()), error))
}

fn token(args: &Args) -> Result<Option<String>> {
    let Some(path) = &args.token_file else { return Ok(args.token.clone()) };
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::caused(Kind::Invalid, format!("read the token `{}`", path.display()), error)
            .hint("--token-file names a copy of the server's file node-token")
    })?;
    Ok(Some(text))
}

/// Taken before anything is asked for, so that a port that somebody else has is found out at once.
fn listen(args: &Args) -> Result<(TcpListener, u16)> {
    let ip = args.node_ip.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let address = SocketAddr::from((ip, args.port));
    let bound = TcpListener::bind(address).and_then(|own| Ok((own.local_addr()?.port(), own)));
    let (port, listener) = bound.map_err(|error| {
        Error::caused(Kind::Internal, format!("listen on {address}"), error)
            .hint("--port names another port; --node-ip names an address of this host")
    })?;
    Ok((listener, port))
}

/// Waits until the server answers: it may come after its nodes.
fn wait_for(session: &Session, client: &Client, server: &Server, name: &str) -> Result<()> {
    let mut is_first = true;
    loop {
        match client.get(kind("Node"), "", name) {
            Ok(_) => return Ok(()),
            Err(failure) if failure.is_not_found() => return Ok(()),
            Err(failure) if failure.code == 0 || failure.code >= 500 => {
                if std::mem::take(&mut is_first) {
                    session.say(format!("Waiting for {server}: {failure}"))?;
                }
            }
            Err(failure) => {
                let refused = Error::caused(Kind::Denied, format!("ask {server}"), failure);
                return Err(refused.hint("--data-dir names another directory to join anew from"));
            }
        }
        std::thread::sleep(RETRY_AFTER);
    }
}
