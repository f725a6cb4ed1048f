//! A service, as the rest of the crate asks about it.

use std::collections::BTreeMap;

use crate::emit;
use crate::error::{Error, Place, Result};
use crate::node::{Map, Node};
use crate::place::is_local;

/// A service of a project.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The project's name.
    project: String,
    /// What the files say of it, in the one form.
    pub node: Node,
    /// How many containers the command line asks for.
    pub scale: Option<u32>,
}

/// What has to be so before a service starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The other has started.
    Started,
    /// The other is healthy.
    Healthy,
    /// The other has ended with code 0.
    Completed,
}

/// What a service depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The other service.
    pub service: String,
    /// What has to be so of it.
    pub condition: Condition,
    /// Whether this one is restarted when the other is.
    pub restarts: bool,
    /// Whether it cannot do without.
    pub is_required: bool,
}

/// How a changed container is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The new one is there before the old one goes.
    StartFirst,
    /// The old one goes before the new one comes.
    StopFirst,
}

impl Service {
    pub(crate) fn new(name: &str, project: &str, node: Node) -> Self {
        Self { name: name.to_owned(), project: project.to_owned(), node, scale: None }
    }

    /// The image that its containers are made of.
    #[must_use]
    pub fn image(&self) -> String {
        match self.node.word_of("image") {
            Some(image) => image.to_owned(),
            None => format!("{}-{}", self.project, self.name),
        }
    }

    /// How its image is built, if it is.
    #[must_use]
    pub fn build(&self) -> Option<&Node> {
        self.node.get("build")
    }

    /// How many containers it is to have.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        let count = self.node.int_of("scale");
        let deployed = || self.node.path(&["deploy"])?.int_of("replicas");
        let asked = count.or_else(deployed).and_then(|count| u32::try_from(count).ok());
        self.scale.or(asked).unwrap_or(1)
    }

    /// What it depends on.
    #[must_use]
    pub fn dependencies(&self) -> Vec<Dependency> {
        let all = self.node.get("depends_on").and_then(Node::entries);
        let one = |(service, node): (&str, &Node)| Dependency {
            service: service.to_owned(),
            condition: match node.word_of("condition") {
                Some("service_healthy") => Condition::Healthy,
                Some("service_completed_successfully") => Condition::Completed,
                _ => Condition::Started,
            },
            restarts: node.is("restart"),
            is_required: node.word_of("required") != Some("false"),
        };
        all.into_iter().flat_map(Map::iter).map(one).collect()
    }

    /// The networks that it is on, by key, with what is asked of its place there.
    #[must_use]
    pub fn networks(&self) -> BTreeMap<&str, &Node> {
        self.node.get("networks").and_then(Node::entries).into_iter().flat_map(Map::iter).collect()
    }

    /// The secrets (`secret`) or configs (`config`) that it has.
    pub(crate) fn file_mounts(&self, kind: &str) -> Vec<&str> {
        let all = self.node.get(&format!("{kind}s")).map(Node::items).unwrap_or_default();
        all.iter().filter_map(|item| item.word_of("source")).collect()
    }

    /// The name of its container with this number.
    #[must_use]
    pub fn container_name(&self, number: u32) -> String {
        match self.node.word_of("container_name") {
            Some(name) => name.to_owned(),
            None => format!("{}-{}-{number}", self.project, self.name),
        }
    }

    /// How its containers are replaced: as it says; else the new one first, unless the two would
    /// be in each other's way, or write to the same files.
    #[must_use]
    pub fn order(&self) -> Order {
        let asked =
            self.node.path(&["deploy", "update_config"]).and_then(|node| node.word_of("order"));
        let excludes = self.excludes_another();
        match asked {
            Some("stop-first") => Order::StopFirst,
            Some(_) if !excludes => Order::StartFirst,
            None if !excludes && !self.writes_outside() => Order::StartFirst,
            _ => Order::StopFirst,
        }
    }

    /// Whether two of its containers cannot run at once.
    fn excludes_another(&self) -> bool {
        let ports = self.node.get("ports").map(Node::items).unwrap_or_default();
        let fixed = |port: &Node| {
            port.word_of("published")
                .is_some_and(|published| published != "0" && !published.contains('-'))
        };
        let addressed = |node: &Node| {
            ["ipv4_address", "ipv6_address", "mac_address"]
                .iter()
                .any(|key| node.get(key).is_some())
        };
        let mode = self.node.word_of("network_mode");
        ports.iter().any(fixed)
            || self.node.get("container_name").is_some()
            || self.node.get("mac_address").is_some()
            || mode.is_some_and(|mode| mode != "none" && mode != "bridge")
            || self.networks().values().any(|node| addressed(node))
    }

    /// Whether it writes to what another of its containers would write to, too.
    fn writes_outside(&self) -> bool {
        let mounts = self.node.get("volumes").map(Node::items).unwrap_or_default();
        let shared = |mount: &Node| {
            matches!(mount.word_of("type"), Some("bind" | "volume"))
                && mount.get("source").is_some()
                && !mount.is("read_only")
        };
        mounts.iter().any(shared) || self.node.get("volumes_from").is_some()
    }

    /// A word that changes when its containers have to, of what is said of it and `more`.
    pub(crate) fn hash(&self, more: &str) -> String {
        let mut node = self.node.clone();
        if let Some(map) = node.entries_mut() {
            for key in
                ["build", "pull_policy", "scale", "depends_on", "profiles", "develop", "attach"]
            {
                map.remove(key);
            }
            if let Some(deploy) = map.get_mut("deploy").and_then(Node::entries_mut) {
                deploy.remove("replicas");
                deploy.remove("update_config");
            }
        }
        let node = crate::output::ordered(node, &crate::schema::SERVICE);
        let text = format!("{}\0{more}", emit::json(&node));
        oci::Digest::of(text.as_bytes()).hex().to_owned()
    }

    fn fail<T>(&self, place: &Place, what: impl std::fmt::Display) -> Result<T> {
        Err(Error::at(place, format!("services.{}.{what}", self.name)))
    }

    /// Refuses what contradicts itself, or is not to be had here.
    pub(crate) fn check(&self) -> Result<()> {
        let Self { name, node, .. } = self;
        let place = &node.place;
        if node.get("image").is_none()
            && node.get("build").is_none()
            && node.get("provider").is_none()
        {
            return Err(Error::project(
                place,
                format!("service \"{name}\" has neither an image nor a build context specified"),
            ));
        }
        if node.get("network_mode").is_some() && node.get("networks").is_some() {
            return Err(Error::project(
                place,
                format!("service {name} declares mutually exclusive `network_mode` and `networks`"),
            ));
        }
        if let Some(node) = node.get("container_name")
            && self.replicas() > 1
        {
            return self.fail(&node.place, format!(
                "container_name: can't set container_name and {} replicas, container name must be unique",
                self.replicas()
            ));
        }
        for (key, why, hint) in UNSUPPORTED {
            if let Some(node) = node.get(key) {
                return self
                    .fail(&node.place, format!("{key} {why}"))
                    .map_err(|error| error.hint(*hint));
            }
        }
        self.check_deploy()?;
        self.check_build()
    }

    fn check_deploy(&self) -> Result<()> {
        let Some(deploy) = self.node.get("deploy") else { return Ok(()) };
        for limits in ["limits", "reservations"] {
            if let Some(devices) = deploy.path(&["resources", limits, "devices"]) {
                return self
                    .fail(
                        &devices.place,
                        format!(
                            "deploy.resources.{limits}.devices: there is no driver for such devices"
                        ),
                    )
                    .map_err(|error| {
                        error.hint("devices: gives a container device nodes of the host")
                    });
            }
        }
        if let (Some(scale), Some(replicas)) = (self.node.get("scale"), deploy.get("replicas"))
            && scale != replicas
        {
            return self.fail(
                &scale.place,
                "scale: can't set distinct values on 'scale' and 'deploy.replicas'",
            );
        }
        for (old, new) in [("mem_limit", "memory"), ("cpus", "cpus"), ("pids_limit", "pids")] {
            let limit = deploy.path(&["resources", "limits", new]);
            if let (Some(own), Some(limit)) = (self.node.get(old), limit)
                && own.word() != limit.word()
            {
                return self.fail(&own.place, format!(
                    "{old}: can't set distinct values on '{old}' and 'deploy.resources.limits.{new}'"
                ));
            }
        }
        Ok(())
    }

    fn check_build(&self) -> Result<()> {
        let Some(build) = self.build() else { return Ok(()) };
        if let (Some(_), Some(node)) = (build.get("dockerfile"), build.get("dockerfile_inline")) {
            return self.fail(
                &node.place,
                "build: dockerfile and dockerfile_inline are mutually exclusive",
            );
        }
        if let Some(node) = build.get("dockerfile_inline")
            && build.word_of("context").is_some_and(|context| !is_local(context))
        {
            return self
                .fail(&node.place, "build.dockerfile_inline needs a context on this machine");
        }
        Ok(())
    }

    /// What is said of it and means nothing on one machine.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let Some(deploy) = self.node.get("deploy") else { return Vec::new() };
        let mut all = Vec::new();
        let mut warn = |key: &str| {
            all.push(format!(
                "services.{}.deploy.{key} has no meaning on a single machine, it will be ignored",
                self.name
            ));
        };
        for key in ["placement", "endpoint_mode", "rollback_config", "labels"] {
            if deploy.get(key).is_some() {
                warn(key);
            }
        }
        if deploy.word_of("mode").is_some_and(|mode| mode != "replicated") {
            warn("mode");
        }
        for key in ["cpus", "pids", "generic_resources"] {
            if deploy.path(&["resources", "reservations", key]).is_some() {
                warn(&format!("resources.reservations.{key}"));
            }
        }
        for key in ["parallelism", "delay", "failure_action", "monitor", "max_failure_ratio"] {
            if deploy.path(&["update_config", key]).is_some() {
                warn(&format!("update_config.{key}"));
            }
        }
        for key in ["delay", "window"] {
            if deploy.path(&["restart_policy", key]).is_some() {
                warn(&format!("restart_policy.{key}"));
            }
        }
        all
    }
}

/// Keys that are known and not to be had, why, and what to do instead.
const UNSUPPORTED: &[(&str, &str, &str)] = &[
    ("credential_spec", "is for Windows", "leave it out"),
    ("cpu_count", "is for Windows", "cpus limits processors"),
    ("cpu_percent", "is for Windows", "cpus limits processors"),
    (
        "gpus",
        "is not supported: there is no driver for such devices",
        "devices: gives a container device nodes of the host",
    ),
    (
        "provider",
        "is not supported: no programs are asked for services",
        "run the service as a container",
    ),
    ("models", "is not supported", "run the model as a service"),
    ("use_api_socket", "is not supported: there is no daemon with a socket", "leave it out"),
    (
        "pre_start",
        "is not supported",
        "use a service and depends_on with service_completed_successfully",
    ),
    ("pull_refresh_after", "is not supported", "use pull_policy: daily, weekly or every_DURATION"),
];
