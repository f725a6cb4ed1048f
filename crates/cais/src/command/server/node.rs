//! A node: that `cais server` is, too, and that `cais agent` is.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver::{Cluster, Find, InProcess, LogOptions, PodLog, Pods, Process, Said, TalkOptions};
use client::Client;
use engine::{Conversation, Engine, Error, Kind, Result, Spawner, Subnet};
use node::{Config, Node};
use serde_json::{Value, json};

use crate::session::Session;

/// Who the node is for the API.
const USER: &str = "system:node:";

/// What `server` takes about its own node.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Run no pods here
    #[arg(long)]
    disable_agent: bool,
    /// Where the addresses of this node's pods come from
    #[arg(long, value_name = "SUBNET", default_value = "10.42.0.0/24")]
    pub(super) pod_cidr: Subnet,
    /// The address that other nodes reach this one by (default: that of the default route)
    #[arg(long, value_name = "ADDRESS")]
    pub(super) node_ip: Option<IpAddr>,
    #[command(flatten)]
    common: Common,
}

/// What a node is told, whoever it is.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(in crate::command) struct Common {
    /// The name of this node (default: the host's name)
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    node_name: String,
    /// Labels of this node (repeatable, or separated by commas)
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    node_labels: Vec<(String, String)>,
    /// Taints that this node begins with (repeatable, or separated by commas)
    #[arg(long, value_name = "TAINT", value_delimiter = ',', value_parser = taint)]
    register_with_taints: Vec<Value>,
    /// The domain of the cluster's names
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// A name server for pods (repeatable; default: the cluster's own, 10.96.0.10)
    #[arg(long, value_name = "ADDRESS")]
    cluster_dns: Vec<IpAddr>,
    /// What is kept free on this host: where less is left, pods are ended
    #[arg(long, value_name = "THRESHOLDS", default_value = node::EVICTION_HARD)]
    eviction_hard: node::Thresholds,
    /// A directory of files, each of a pod that this node runs by itself
    #[arg(long, value_name = "DIR")]
    pod_manifest_path: Option<PathBuf>,
}

impl Common {
    /// The node's name.
    pub(in crate::command) fn name(&self) -> String {
        match self.node_name.as_str() {
            "" => node::host_name(),
            name => name.to_owned(),
        }
    }

    /// What is the same for every node.
    pub(in crate::command) fn config(&self, directory: PathBuf, address: Option<IpAddr>) -> Config {
        Config {
            name: self.name(),
            directory,
            subnet: None,
            address,
            port: None,
            labels: self.node_labels.iter().cloned().collect(),
            taints: self.register_with_taints.clone(),
            domain: self.cluster_domain.clone(),
            name_servers: self.cluster_dns.iter().map(ToString::to_string).collect(),
            api: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// What starts containers, made before the first thread.
pub(in crate::command) struct Host {
    engine: Engine,
    spawner: Spawner,
}

impl Host {
    /// Makes it, unless no pods are to run here.
    pub(super) fn fork_unless(session: &Session, args: &Args) -> Result<Option<Self>> {
        (!args.disable_agent).then(|| Self::fork(session)).transpose()
    }

    /// Makes it.
    pub(in crate::command) fn fork(session: &Session) -> Result<Self> {
        let engine = session.engine()?.clone();
        let spawner = Spawner::fork(&engine)?;
        Ok(Self { engine, spawner })
    }

    /// Begins to run pods.
    pub(super) fn start(
        self,
        cluster: &Cluster,
        (place, args): (&Path, &Args),
        api: Option<SocketAddr>,
    ) -> Result<Node> {
        let directory = std::path::absolute(place).map_err(|error| {
            Error::caused(Kind::Invalid, format!("use {}", place.display()), error)
        })?;
        let common = args.common.config(directory, args.node_ip);
        let config = Config { subnet: Some(args.pod_cidr), api, ..common };
        let transport =
            Arc::new(InProcess::new(cluster.clone(), &format!("{USER}{}", config.name)));
        let client = Client::new(transport, "kubelet");
        let node = self.run(config, client, &args.common).map_err(|error| {
            error.hint("--disable-agent serves the API alone; --pod-cidr names other addresses")
        })?;
        cluster.serve_pods(node.name(), Arc::new(Reach(node.clone())));
        Ok(node)
    }

    /// Begins to run pods as a node.
    pub(in crate::command) fn run(
        self,
        config: Config,
        client: Client,
        common: &Common,
    ) -> Result<Node> {
        let begin = || {
            let node = Node::start(config, self.engine, Arc::new(self.spawner), client)?;
            node.keep_free(common.eviction_hard.clone())?;
            common.pod_manifest_path.iter().try_for_each(|path| node.run_files(path))?;
            Ok::<_, node::NodeError>(node)
        };
        begin().map_err(|error| Error::caused(Kind::Internal, "run pods on this host", error))
    }
}

/// A label as `KEY=VALUE`.
fn label(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A taint as `KEY[=VALUE]:EFFECT`.
fn taint(text: &str) -> std::result::Result<Value, String> {
    let expected =
        "expected KEY[=VALUE]:EFFECT, the effect NoSchedule, PreferNoSchedule or NoExecute";
    let (place, effect) = text.rsplit_once(':').ok_or(expected)?;
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") || place.is_empty() {
        return Err(expected.to_owned());
    }
    let (key, value) = place.split_once('=').unwrap_or((place, ""));
    let mut taint = json!({"key": key, "effect": effect});
    if !value.is_empty() {
        taint["value"] = value.into();
    }
    Ok(taint)
}

/// The pods of this host, for the API.
#[derive(Debug)]
pub(in crate::command) struct Reach(pub(in crate::command) Node);

impl Find for Reach {
    fn name(&self) -> String {
        self.0.name().to_owned()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Value> {
        self.0.pod(namespace, name)
    }
}

impl Pods for Reach {
    fn log(
        &self,
        pod: &serde_json::Value,
        container: &str,
        options: LogOptions,
    ) -> std::result::Result<PodLog, String> {
        let LogOptions { previous, since, tail, timestamps, follow, bytes_max } = options;
        let options = node::LogOptions { previous, since, tail, timestamps, follow, bytes_max };
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let (node, container) = (self.0.clone(), container.to_owned());
        let check = node.check_log(&uid, &container, previous);
        check.map_err(|refusal| refusal.to_string())?;
        Ok(Box::new(move |reader, take| {
            // A client that takes no more is the end of it.
            let _ = node.log(&uid, &container, &options, (reader, take));
        }))
    }

    fn talk(
        &self,
        pod: &serde_json::Value,
        container: &str,
        options: &TalkOptions,
    ) -> std::result::Result<Box<dyn Process>, String> {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let TalkOptions { command, stdin, stdout, stderr, tty } = options.clone();
        let attached = engine::Attached { stdin, stdout, stderr };
        let exec = engine::Exec { command, stdin, tty, attached, ..engine::Exec::default() };
        let begun = self.0.talk(uid, container, &exec).map_err(|refusal| refusal.to_string())?;
        Ok(Box::new(Talking(begun)))
    }

    fn dial(&self, pod: &serde_json::Value, port: u16) -> std::result::Result<OwnedFd, String> {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let dialled = self.0.dial(uid, port);
        dialled.map(OwnedFd::from).map_err(|refusal| refusal.to_string())
    }

    fn summary(&self, node: &str) -> std::result::Result<serde_json::Value, String> {
        if node != self.0.name() {
            return Err(format!("node {node} is not this host"));
        }
        self.0.summary()
    }
}

/// A process of the engine's, for the API.
struct Talking(Conversation);

impl Process for Talking {
    fn socket(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn listen(&mut self) -> Said<'_> {
        match self.0.listen() {
            engine::Said::Stdout(bytes) => Said::Stdout(bytes),
            engine::Said::Stderr(bytes) => Said::Stderr(bytes),
            engine::Said::Exit(code) => Said::Exit(code),
            engine::Said::Gone => Said::Gone,
        }
    }

    fn try_input(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.try_input(bytes)
    }

    fn try_end_input(&mut self) -> std::io::Result<bool> {
        self.0.try_end_input()
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        // What has no terminal has no size.
        let _ = self.0.resize(rows, columns);
    }
}
