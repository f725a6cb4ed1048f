//! The node itself: its object, its lease, and the threads that wait for something to happen.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use client::{Cache, Change, Client, Failure, Patch, Reflector, kind};
use engine::{Engine, EventQuery, NetworkOptions, Spawner, Subnet};
use serde_json::{Value, json};

use crate::event::Recorder;
use crate::field::text;
use crate::machine::Facts;
use crate::observe::{LABEL_CONTAINER, LABEL_NAME, LABEL_NAMESPACE, LABEL_NODE, LABEL_UID};
use crate::slot::Slot;
use crate::timer::Timer;

/// The engine's network that pods are on.
pub(crate) const NETWORK: &str = "cais-pods";
/// How often a node says that it is there (upstream's `nodeLeaseDurationSeconds` / 4).
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// Seconds that the word of a node is good for.
const LEASE_S: u32 = 12;
/// How long a watch waits at once.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// After the API could not be asked.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Images that a node's status names; upstream's.
const IMAGES_MAX: usize = 50;

/// What a node is to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name; the host's where empty.
    pub name: String,
    /// Where pods' files lie.
    pub directory: PathBuf,
    /// Where pods' addresses come from; the cluster says so if it is not given.
    pub subnet: Option<Subnet>,
    /// The address that others reach this host by; found out if it is not given.
    pub address: Option<std::net::IpAddr>,
    /// The port at which this node's own API is served, if it is: the cluster's server is elsewhere.
    pub port: Option<u16>,
    /// Labels of the node's object, beside those that every node has.
    pub labels: BTreeMap<String, String>,
    /// Taints that the node's object is made with.
    pub taints: Vec<Value>,
    /// The domain of the cluster's names.
    pub domain: String,
    /// The cluster's name servers; this node's own if there are none.
    pub name_servers: Vec<String>,
    /// Where pods reach the API, if they can.
    pub api: Option<std::net::SocketAddr>,
    /// The version of this program.
    pub version: String,
}

/// Why there is no node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The engine refused.
    #[error("{0}")]
    Engine(#[from] engine::Error),
    /// The API refused.
    #[error("register the node: {0}")]
    Api(#[from] Failure),
    /// Nobody says where pods' addresses come from.
    #[error("node {0} was given no addresses for its pods")]
    NoAddresses(String),
    /// The system refused.
    #[error("{0}")]
    System(&'static str, #[source] std::io::Error),
}

/// A node that runs, until the process ends: its pods go on then.
#[derive(Debug, Clone)]
pub struct Node(pub(crate) Arc<Host>);

pub(crate) struct Host {
    pub(crate) config: Config,
    pub(crate) engine: Engine,
    pub(crate) spawner: Arc<Spawner>,
    pub(crate) client: Client,
    pub(crate) facts: Facts,
    pub(crate) recorder: Recorder,
    pub(crate) timer: Timer,
    pub(crate) slots: Mutex<HashMap<String, Arc<Slot>>>,
    pub(crate) cache: Cache,
    pub(crate) subnet: OnceLock<Subnet>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("name", &self.config.name).finish_non_exhaustive()
    }
}

impl Node {
    /// Registers a node and begins to run what is bound to it. What runs already goes on.
    ///
    /// # Errors
    /// [`NodeError`].
    pub fn start(
        mut config: Config,
        engine: Engine,
        spawner: Arc<Spawner>,
        client: Client,
    ) -> Result<Self, NodeError> {
        if config.name.is_empty() {
            config.name = crate::machine::hostname();
        }
        if config.name_servers.is_empty() {
            config.name_servers.push(crate::service::DNS_ADDRESS.to_owned());
        }
        std::fs::create_dir_all(&config.directory)
            .map_err(|error| NodeError::System("make the directory of pods", error))?;
        let facts = Facts::look(&config.directory, &config.version, config.address);
        let recorder = Recorder::start(client.clone(), config.name.clone());
        let recorder = recorder.map_err(|error| NodeError::System("start a thread", error))?;
        let host = Arc::new(Host {
            config,
            engine,
            spawner,
            client,
            facts,
            recorder,
            timer: Timer::default(),
            slots: Mutex::default(),
            cache: Cache::default(),
            subnet: OnceLock::new(),
        });
        if let Some(subnet) = host.config.subnet {
            let _ = host.subnet.set(subnet);
        }
        host.register()?;
        host.learn_subnet()?;
        host.ensure_network()?;
        host.start_services()?;
        // Opened before the list, so that no end falls between the two.
        let events = host.engine.events(EventQuery::default())?;
        host.adopt()?;
        host.clone().thread("events", move |host| host.follow(events))?;
        host.clone().thread("pods", |host| host.watch_pods())?;
        if host.config.port.is_some() {
            host.clone().thread("data", |host| host.ask_for_data())?;
        } else {
            host.clone().thread("configmaps", |host| host.watch_data("ConfigMap"))?;
            host.clone().thread("secrets", |host| host.watch_data("Secret"))?;
        }
        host.clone().thread("neighbours", |host| host.keep_neighbours())?;
        host.clone().thread("times", |host| {
            loop {
                let uid = host.timer.next();
                host.kick_uid(&uid);
            }
        })?;
        host.clone().thread("lease", |host| host.renew())?;
        Ok(Self(host))
    }

    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.config.name
    }

    /// The address that others reach it by.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.0.facts.address
    }

    /// A pod that is bound to it.
    #[must_use]
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Value> {
        let found = self.0.cache.get(&client::Key::new("Pod", namespace, name));
        found.map(|pod| (*pod).clone())
    }
}

impl Host {
    pub(crate) fn thread(
        self: Arc<Self>,
        name: &str,
        work: impl FnOnce(Arc<Self>) + Send + 'static,
    ) -> Result<(), NodeError> {
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(|| work(self));
        spawned.map(drop).map_err(|error| NodeError::System("start a thread", error))
    }

    /// Makes sure that there is a network for pods. Somebody may have removed it meanwhile.
    pub(crate) fn ensure_network(&self) -> Result<(), engine::Error> {
        let wanted = self.subnet.get().copied();
        match self.engine.network(NETWORK) {
            Ok(network) => {
                let own = network.bridge.as_ref().map(|bridge| bridge.subnet);
                if wanted.is_none() || own == wanted {
                    return Ok(());
                }
                // The node has other addresses than it had; that of pods that run cannot be changed.
                self.engine.remove_network(&network)?;
            }
            Err(error) if error.kind() == engine::Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        let labels = [(LABEL_NODE.to_owned(), self.config.name.clone())].into();
        let asked = NetworkOptions {
            name: NETWORK.to_owned(),
            subnet: wanted,
            labels,
            ..NetworkOptions::default()
        };
        match self.engine.create_network(asked) {
            // Another pod was faster.
            Err(error) if error.kind() == engine::Kind::Exists => Ok(()),
            made => made.map(drop),
        }
    }

    /// Makes the node's object, or brings it up to date.
    fn register(&self) -> Result<(), NodeError> {
        let (name, of) = (&self.config.name, kind("Node"));
        let mut labels = self.facts.labels(name);
        for (key, value) in &self.config.labels {
            labels[key] = json!(value);
        }
        let found = match self.client.get(of, "", name) {
            Ok(found) => {
                let patch = json!({"metadata": {"labels": labels}});
                self.client.patch(of, ("", name), "", Patch::Merge, &patch)?;
                found
            }
            Err(failure) if failure.is_not_found() => {
                let mut node = json!({"metadata": {"name": name, "labels": labels}, "spec": {}});
                if let Some(subnet) = self.proposal()?.map(|subnet| subnet.to_string()) {
                    node["spec"] = json!({"podCIDR": subnet, "podCIDRs": [subnet]});
                }
                if !self.config.taints.is_empty() {
                    node["spec"]["taints"] = json!(self.config.taints);
                }
                self.client.create(of, "", &node)?
            }
            Err(failure) => return Err(failure.into()),
        };
        // What is there already is as it was.
        if let Ok(subnet) = text(&found, &["spec", "podCIDR"]).parse()
            && self.config.subnet.is_none()
        {
            let _ = self.subnet.set(subnet);
        }
        self.post_status(&found)?;
        self.renew_once()?;
        Ok(())
    }

    /// Where a new node would have its pods' addresses come from: as it was said, or as it was last
    /// time, unless another node has got them since.
    fn proposal(&self) -> Result<Option<Subnet>, Failure> {
        if self.config.subnet.is_some() {
            return Ok(self.config.subnet);
        }
        let network = self.engine.network(NETWORK).ok();
        let Some(before) = network.and_then(|own| Some(own.bridge?.subnet)) else {
            return Ok(None);
        };
        let (nodes, _) = self.client.list(kind("Node"), "", &[])?;
        let others = nodes.iter().filter_map(|own| text(own, &["spec", "podCIDR"]).parse().ok());
        Ok(Some(before).filter(|own| !others.into_iter().any(|other| own.overlaps(other))))
    }

    pub(crate) fn images(&self) -> Vec<Value> {
        let all = self.engine.images().unwrap_or_default().into_iter();
        let named = all.take(IMAGES_MAX).map(|image| {
            let size: u64 = image.layers.iter().map(|layer| layer.size).sum();
            let names = image.repo_digests.iter().chain(&image.tags);
            let names: Vec<String> = names.map(ToString::to_string).collect();
            json!({"names": names, "sizeBytes": size})
        });
        named.collect()
    }

    fn renew_once(&self) -> Result<(), Failure> {
        let (name, of) = (&self.config.name, kind("Lease"));
        let now = jiff::Timestamp::now();
        let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        let time = objects::time::micros(now.as_second(), nanos);
        let spec = json!({
            "holderIdentity": name, "leaseDurationSeconds": LEASE_S, "renewTime": time,
        });
        let patch = json!({"spec": spec});
        let space = "kube-node-lease";
        match self.client.patch(of, (space, name), "", Patch::Merge, &patch) {
            Err(failure) if failure.is_not_found() => {
                let lease = json!({"metadata": {"name": name}, "spec": spec});
                self.client.create(of, space, &lease).map(drop)
            }
            done => done.map(drop),
        }
    }

    fn renew(&self) {
        loop {
            std::thread::sleep(RENEW_EVERY);
            // Whoever counts on it sees that it is late.
            let _ = self.renew_once();
        }
    }

    /// Takes up what runs here already.
    fn adopt(self: &Arc<Self>) -> Result<(), NodeError> {
        let mut all = self.engine.list()?;
        // The oldest first.
        all.reverse();
        for container in all {
            let labels = &container.record.config.labels;
            let label = |name: &str| labels.get(name).map_or("", String::as_str);
            if label(LABEL_NODE) != self.config.name || label(LABEL_UID).is_empty() {
                continue;
            }
            let slot = self.slot(label(LABEL_UID), label(LABEL_NAMESPACE), label(LABEL_NAME));
            let mut work = slot.work.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match label(LABEL_CONTAINER) {
                "" => work.sandbox = Some(container.record.id.clone()),
                name => work.parts.entry(name.to_owned()).or_default().adopt(&container),
            }
        }
        Ok(())
    }

    /// What the engine tells of pods' containers.
    fn follow(self: &Arc<Self>, events: engine::Events) {
        for event in events {
            // Whoever cannot read events any more hears of ends only when something else happens.
            let Ok(event) = event else { return };
            let is_end = event.action == "die" || event.action == "destroy";
            if let Some(uid) = event.attributes.get(LABEL_UID).filter(|_| is_end) {
                self.kick_uid(uid);
            }
        }
    }

    fn watch_pods(self: &Arc<Self>) {
        let selector = format!("spec.nodeName={}", self.config.name);
        let query = [("fieldSelector", selector.as_str())];
        let mut reflector = Reflector::new(self.client.clone(), kind("Pod"), &query);
        let mut is_first = true;
        loop {
            match reflector.step(&self.cache, LOOK_EVERY) {
                Ok(changes) => {
                    changes.iter().for_each(|change| self.take(change));
                    if std::mem::take(&mut is_first) {
                        // Also those that were deleted while nobody was here.
                        let slots: Vec<_> = self.slots().values().cloned().collect();
                        slots.iter().for_each(|slot| self.kick(slot));
                    }
                }
                Err(_) => std::thread::sleep(RETRY_AFTER),
            }
        }
    }

    fn take(self: &Arc<Self>, change: &Change) {
        if let (Some(before), Some(now)) = (&change.before, &change.now)
            && crate::pod::uid(before) == crate::pod::uid(now)
            && is_own_report(before, now)
        {
            return;
        }
        for object in change.before.iter().chain(&change.now) {
            let uid = crate::pod::uid(object);
            let slot = self.slot(uid, &change.key.namespace, &change.key.name);
            // Labels and annotations may be files of it.
            slot.refresh();
            self.kick(&slot);
        }
    }

    /// Looks at pods again that are made of an object that has changed.
    fn watch_data(self: &Arc<Self>, of: &'static str) {
        let cache = Cache::default();
        let mut reflector = Reflector::new(self.client.clone(), kind(of), &[]);
        let mut is_first = true;
        loop {
            match reflector.step(&cache, LOOK_EVERY) {
                Ok(changes) => {
                    if !std::mem::take(&mut is_first) {
                        for Change { key, .. } in &changes {
                            self.refresh(of, &key.namespace, &key.name);
                        }
                    }
                }
                Err(_) => std::thread::sleep(RETRY_AFTER),
            }
        }
    }

    pub(crate) fn refresh(self: &Arc<Self>, of: &str, namespace: &str, name: &str) {
        for pod in self.cache.list("Pod", namespace) {
            if refers(&pod, of, name) {
                let slot = self.slots().get(crate::pod::uid(&pod)).cloned();
                if let Some(slot) = slot {
                    slot.refresh();
                    self.kick(&slot);
                }
            }
        }
    }
}

/// Whether only what this node has reported has changed.
fn is_own_report(before: &Value, now: &Value) -> bool {
    let same = |field: &str| before["metadata"][field] == now["metadata"][field];
    before["spec"] == now["spec"]
        && ["deletionTimestamp", "labels", "annotations", "finalizers"].into_iter().all(same)
        && text(before, &["status", "phase"]) == text(now, &["status", "phase"])
        && before["status"]["conditions"] == now["status"]["conditions"]
}

/// Whether a pod mentions an object by its name.
pub(crate) fn refers(pod: &Value, of: &str, name: &str) -> bool {
    let words = match of {
        "Secret" => ["secret", "secretRef", "secretKeyRef"],
        _ => ["configMap", "configMapRef", "configMapKeyRef"],
    };
    fn search(value: &Value, words: &[&str], name: &str) -> bool {
        match value {
            Value::Object(map) => map.iter().any(|(key, value)| {
                words.contains(&key.as_str())
                    && (value["name"] == name || value["secretName"] == name)
                    || search(value, words, name)
            }),
            Value::Array(all) => all.iter().any(|value| search(value, words, name)),
            _ => false,
        }
    }
    search(&pod["spec"], &words, name)
}
