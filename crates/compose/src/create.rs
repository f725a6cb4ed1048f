//! What a container of a service is created with: the options of `docker run`, which have one
//! reader and one meaning, and what has no option there.

mod part;

use crate::error::{Error, Result};
use crate::node::Node;
use crate::project::{Project, Resource};
use crate::service::Service;

/// A container that is to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Creation {
    /// Options of `docker create`.
    pub options: Vec<String>,
    /// The image.
    pub image: String,
    /// The program and its first arguments; the image's without it.
    pub entrypoint: Option<Vec<String>>,
    /// The command; the image's if it is empty.
    pub command: Vec<String>,
    /// The test of its health, as OCI images have it.
    pub health_test: Option<Vec<String>>,
    /// Files that are written into it before it starts.
    pub files: Vec<File>,
    /// What users should know.
    pub warnings: Vec<String>,
}

/// A file with a secret or a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where, absolute.
    pub path: String,
    /// What is in it.
    pub content: String,
    /// Its mode.
    pub mode: u32,
    /// Whose it is: numbers.
    pub owner: (u32, u32),
}

/// Which container of a service it is.
pub struct Identity<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Its number in the service.
    pub number: u32,
    /// Whether it is one of `run`, which is no part of the service.
    pub is_one_off: bool,
    /// Whether it is known by the service's names.
    pub has_aliases: bool,
    /// The names of the running containers of other services.
    pub containers: &'a dyn Fn(&str) -> Vec<String>,
}

impl std::fmt::Debug for Identity<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The label of a container's project.
pub const PROJECT: &str = "com.docker.compose.project";
/// The label of a container's service.
pub const SERVICE: &str = "com.docker.compose.service";
/// The label of a container's number.
pub const NUMBER: &str = "com.docker.compose.container-number";
/// The label that says whether it is of `run`: `True` or `False`.
pub const ONE_OFF: &str = "com.docker.compose.oneoff";
/// The label of [`Service::hash`].
pub const HASH: &str = "com.docker.compose.config-hash";
/// The label of the image's id.
pub const IMAGE: &str = "com.docker.compose.image";
/// The label of a network's key.
pub const NETWORK: &str = "com.docker.compose.network";
/// The label of a volume's key.
pub const VOLUME: &str = "com.docker.compose.volume";
/// The label of a project's directory.
pub const DIRECTORY: &str = "com.docker.compose.project.working_dir";
/// The label of a project's files.
pub const FILES: &str = "com.docker.compose.project.config_files";
/// The label of what a container depends on.
pub const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// The label of the version that made it.
pub const VERSION: &str = "com.docker.compose.version";

/// Keys whose word is the value of an option.
const WORDS: &[(&str, &str)] = &[
    ("cgroup_parent", "--cgroup-parent"),
    ("cgroup", "--cgroupns"),
    ("cpu_period", "--cpu-period"),
    ("cpu_quota", "--cpu-quota"),
    ("cpu_rt_period", "--cpu-rt-period"),
    ("cpu_rt_runtime", "--cpu-rt-runtime"),
    ("cpus", "--cpus"),
    ("cpuset", "--cpuset-cpus"),
    ("cpu_shares", "--cpu-shares"),
    ("domainname", "--domainname"),
    ("hostname", "--hostname"),
    ("isolation", "--isolation"),
    ("mem_limit", "--memory"),
    ("mem_reservation", "--memory-reservation"),
    ("memswap_limit", "--memory-swap"),
    ("mem_swappiness", "--memory-swappiness"),
    ("mac_address", "--mac-address"),
    ("oom_score_adj", "--oom-score-adj"),
    ("pids_limit", "--pids-limit"),
    ("platform", "--platform"),
    ("runtime", "--runtime"),
    ("shm_size", "--shm-size"),
    ("stop_signal", "--stop-signal"),
    ("user", "--user"),
    ("userns_mode", "--userns"),
    ("uts", "--uts"),
    ("working_dir", "--workdir"),
];

/// Keys whose elements are values of an option.
const LISTS: &[(&str, &str)] = &[
    ("cap_add", "--cap-add"),
    ("cap_drop", "--cap-drop"),
    ("device_cgroup_rules", "--device-cgroup-rule"),
    ("dns", "--dns"),
    ("dns_opt", "--dns-option"),
    ("dns_search", "--dns-search"),
    ("expose", "--expose"),
    ("external_links", "--link"),
    ("extra_hosts", "--add-host"),
    ("group_add", "--group-add"),
    ("security_opt", "--security-opt"),
    ("tmpfs", "--tmpfs"),
];

/// Keys whose entries are `NAME=value` of an option.
const PAIRS: &[(&str, &str)] = &[
    ("annotations", "--annotation"),
    ("labels", "--label"),
    ("storage_opt", "--storage-opt"),
    ("sysctls", "--sysctl"),
];

/// Keys that switch something on.
const SWITCHES: &[(&str, &str)] = &[
    ("init", "--init"),
    ("oom_kill_disable", "--oom-kill-disable"),
    ("privileged", "--privileged"),
    ("read_only", "--read-only"),
    ("stdin_open", "--interactive"),
    ("tty", "--tty"),
];

impl Project {
    /// What a container of a service is created with.
    ///
    /// # Errors
    /// If what it refers to is not there.
    pub fn creation(&self, service: &Service, identity: &Identity<'_>) -> Result<Creation> {
        let node = &service.node;
        let mut creation = Creation {
            image: service.image(),
            entrypoint: node.get("entrypoint").map(|_| owned(node.words_of("entrypoint"))),
            command: owned(node.words_of("command")),
            warnings: service.warnings(),
            ..Creation::default()
        };
        creation.option("--name", identity.name);
        for (key, option) in WORDS {
            if let Some(word) = node.word_of(key) {
                creation.option(option, word);
            }
        }
        for (key, option) in LISTS {
            node.words_of(key).iter().for_each(|word| creation.option(option, word));
        }
        for (key, option) in PAIRS {
            for (name, value) in node.pairs_of(key) {
                creation.option(option, &format!("{name}={}", value.unwrap_or_default()));
            }
        }
        for (key, option) in SWITCHES {
            if node.is(key) {
                creation.options.push((*option).to_owned());
            }
        }
        for (name, value) in node.pairs_of("environment") {
            if let Some(value) = value {
                creation.option("--env", &format!("{name}={value}"));
            }
        }
        self.labels(service, identity, &mut creation);
        creation.limits(node)?;
        creation.health(node);
        creation.devices(node);
        creation.restart(node);
        self.networks_of(service, identity, &mut creation)?;
        self.mounts(service, identity, &mut creation)?;
        Ok(creation)
    }

    fn labels(&self, service: &Service, identity: &Identity<'_>, creation: &mut Creation) {
        let files: Vec<String> = self.files.iter().map(|path| path.display().to_string()).collect();
        let depends_on: Vec<String> = service
            .dependencies()
            .iter()
            .map(|dependency| {
                let condition = match dependency.condition {
                    crate::Condition::Started => "service_started",
                    crate::Condition::Healthy => "service_healthy",
                    crate::Condition::Completed => "service_completed_successfully",
                };
                format!("{}:{condition}:{}", dependency.service, dependency.restarts)
            })
            .collect();
        let one_off = if identity.is_one_off { "True" } else { "False" };
        let labels = [
            (PROJECT, self.name.as_str()),
            (SERVICE, &service.name),
            (NUMBER, &identity.number.to_string()),
            (ONE_OFF, one_off),
            (HASH, &self.hash(service)),
            (DIRECTORY, &self.directory.display().to_string()),
            (FILES, &files.join(",")),
            (DEPENDS_ON, &depends_on.join(",")),
            (VERSION, env!("CARGO_PKG_VERSION")),
        ];
        for (name, value) in labels {
            creation.option("--label", &format!("{name}={value}"));
        }
    }

    fn networks_of(
        &self,
        service: &Service,
        identity: &Identity<'_>,
        creation: &mut Creation,
    ) -> Result<()> {
        let node = &service.node;
        for key in ["network_mode", "pid", "ipc"] {
            let Some(word) = node.word_of(key) else { continue };
            let option = if key == "network_mode" { "--network" } else { &format!("--{key}") };
            match word.strip_prefix("service:") {
                Some(other) => {
                    let name = one_container(identity, service, key, other)?;
                    creation.option(option, &format!("container:{name}"));
                }
                None => creation.option(option, word),
            }
        }
        let mut networks: Vec<_> = service.networks().into_iter().collect();
        // The one of the highest priority is the first, which the way out leads through.
        networks.sort_by_key(|(_, node)| -node.int_of("priority").unwrap_or(0));
        for (key, place) in networks {
            let Some(network) = self.networks.get(key) else { continue };
            creation.option("--network", &endpoint(network, place, service, identity));
        }
        for link in node.words_of("links") {
            let (other, alias) = link.split_once(':').unwrap_or((link, link));
            for name in (identity.containers)(other) {
                creation.option("--link", &format!("{name}:{alias}"));
            }
        }
        for port in node.get("ports").map(Node::items).unwrap_or_default() {
            creation.option("--publish", &published(port));
        }
        Ok(())
    }

    fn mounts(
        &self,
        service: &Service,
        identity: &Identity<'_>,
        creation: &mut Creation,
    ) -> Result<()> {
        for mount in service.node.get("volumes").map(Node::items).unwrap_or_default() {
            creation.option("--mount", &self.mount(service, mount)?);
        }
        for from in service.node.words_of("volumes_from") {
            let (source, mode) = match from.strip_prefix("container:") {
                Some(rest) => {
                    (rest.split(':').next().unwrap_or_default().to_owned(), rest.split(':').nth(1))
                }
                None => {
                    let mut parts = from.split(':');
                    let other = parts.next().unwrap_or_default();
                    (one_container(identity, service, "volumes_from", other)?, parts.next())
                }
            };
            let mode = mode.map(|mode| format!(":{mode}")).unwrap_or_default();
            creation.option("--volumes-from", &format!("{source}{mode}"));
        }
        for (kind, all) in [("secrets", &self.secrets), ("configs", &self.configs)] {
            for item in service.node.get(kind).map(Node::items).unwrap_or_default() {
                let key = item.word_of("source").unwrap_or_default();
                let Some(resource) = all.get(key) else { continue };
                self.file_mount(service, kind, item, resource, creation)?;
            }
        }
        Ok(())
    }

    fn mount(&self, service: &Service, mount: &Node) -> Result<String> {
        let kind = mount.word_of("type").unwrap_or_default();
        let source = mount.word_of("source");
        let mut fields = Csv::new(kind);
        match (kind, source) {
            ("volume", Some(key)) => {
                let name = self.volumes.get(key).map_or(key, |volume| volume.name.as_str());
                fields.add("source", name);
            }
            ("bind" | "image", Some(source)) => fields.add("source", source),
            ("bind" | "image", None) => {
                let message = format!(
                    "services.{}.volumes: a mount of type {kind} needs a source",
                    service.name
                );
                return Err(Error::at(&mount.place, message));
            }
            ("npipe" | "cluster", _) => {
                let message =
                    format!("services.{}.volumes: type {kind} is not supported", service.name);
                return Err(Error::at(&mount.place, message)
                    .hint("types are bind, volume, tmpfs and image"));
            }
            _ => {}
        }
        fields.add("target", mount.word_of("target").unwrap_or_default());
        if mount.is("read_only") {
            fields.flag("readonly");
        }
        if kind == "bind" {
            let bind = mount.get("bind");
            let word = |key: &str| bind.and_then(|bind| bind.word_of(key));
            if word("create_host_path") != Some("false") {
                fields.flag("bind-create-src");
            }
            if let Some(propagation) = word("propagation") {
                fields.add("bind-propagation", propagation);
            }
            if let Some(recursive) = word("recursive") {
                fields.add("bind-recursive", recursive);
            }
        }
        if let Some(volume) = mount.get("volume").filter(|_| kind == "volume") {
            if volume.is("nocopy") {
                fields.flag("volume-nocopy");
            }
            if let Some(path) = volume.word_of("subpath") {
                fields.add("volume-subpath", path);
            }
            for (name, value) in volume.pairs_of("labels") {
                fields.add("volume-label", &format!("{name}={}", value.unwrap_or_default()));
            }
        }
        if let Some(tmpfs) = mount.get("tmpfs").filter(|_| kind == "tmpfs") {
            for (key, field) in [("size", "tmpfs-size"), ("mode", "tmpfs-mode")] {
                if let Some(word) = tmpfs.word_of(key) {
                    fields.add(field, word);
                }
            }
        }
        if let Some(path) = mount.path(&["image"]).and_then(|image| image.word_of("subpath")) {
            fields.add("image-subpath", path);
        }
        Ok(fields.text)
    }

    fn file_mount(
        &self,
        service: &Service,
        kind: &str,
        item: &Node,
        resource: &Resource,
        creation: &mut Creation,
    ) -> Result<()> {
        let target = match item.word_of("target") {
            Some(target) if target.starts_with('/') => target.to_owned(),
            Some(target) => format!("/{target}"),
            None => format!("/{}", resource.key),
        };
        let given = ["uid", "gid", "mode"].iter().any(|key| item.get(key).is_some());
        if let Some(content) = self.content(resource)? {
            let number = |key: &str| {
                let word = item.word_of(key).unwrap_or("0");
                word.parse::<u32>().map_err(|_| {
                    Error::at(
                        &item.place,
                        format!(
                            "services.{}.{kind}: {key} must be a number, and is {word}",
                            service.name
                        ),
                    )
                })
            };
            let mode = item.word_of("mode").and_then(|mode| u32::from_str_radix(mode, 8).ok());
            creation.files.push(File {
                path: target,
                content,
                mode: mode.unwrap_or(0o444),
                owner: (number("uid")?, number("gid")?),
            });
            return Ok(());
        }
        if given {
            creation.warnings.push(format!(
                "services.{}.{kind}: `uid`, `gid` and `mode` are not supported for files of the host, they will be ignored",
                service.name
            ));
        }
        let mut fields = Csv::new("bind");
        fields.add("source", resource.node.word_of("file").unwrap_or_default());
        fields.add("target", &target);
        fields.flag("readonly");
        creation.option("--mount", &fields.text);
        Ok(())
    }
}

fn owned(words: Vec<&str>) -> Vec<String> {
    words.into_iter().map(str::to_owned).collect()
}

fn one_container(
    identity: &Identity<'_>,
    service: &Service,
    key: &str,
    other: &str,
) -> Result<String> {
    (identity.containers)(other).into_iter().next().ok_or_else(|| {
        Error::at(
            &service.node.place,
            format!(
                "services.{}.{key}: cannot share with service {other}: container missing",
                service.name
            ),
        )
    })
}

/// A place on a network, as `--network` takes it.
fn endpoint(
    network: &Resource,
    place: &Node,
    service: &Service,
    identity: &Identity<'_>,
) -> String {
    let mut fields = Csv { text: String::new() };
    fields.add("name", &network.name);
    if identity.has_aliases {
        fields.add("alias", &service.name);
    }
    for alias in place.words_of("aliases") {
        fields.add("alias", alias);
    }
    let words = [
        ("ipv4_address", "ip"),
        ("ipv6_address", "ip6"),
        ("mac_address", "mac-address"),
        ("gw_priority", "gw-priority"),
    ];
    for (key, field) in words {
        if let Some(word) = place.word_of(key) {
            fields.add(field, word);
        }
    }
    for address in place.words_of("link_local_ips") {
        fields.add("link-local-ip", address);
    }
    for (name, value) in place.pairs_of("driver_opts") {
        fields.add("driver-opt", &format!("{name}={}", value.unwrap_or_default()));
    }
    if let Some(name) = place.word_of("interface_name") {
        fields.add("driver-opt", &format!("com.docker.network.endpoint.ifname={name}"));
    }
    fields.text
}

/// A port, as `--publish` takes it.
fn published(port: &Node) -> String {
    let target = port.word_of("target").unwrap_or_default();
    let protocol = port.word_of("protocol").unwrap_or("tcp");
    let host = port.word_of("published").unwrap_or_default();
    match (port.word_of("host_ip"), host) {
        (Some(ip), host) if ip.contains(':') => format!("[{ip}]:{host}:{target}/{protocol}"),
        (Some(ip), host) => format!("{ip}:{host}:{target}/{protocol}"),
        (None, "") => format!("{target}/{protocol}"),
        (None, host) => format!("{host}:{target}/{protocol}"),
    }
}

/// Fields between commas.
struct Csv {
    text: String,
}

impl Csv {
    fn new(kind: &str) -> Self {
        Self { text: format!("type={kind}") }
    }

    fn flag(&mut self, name: &str) {
        self.text = format!("{},{name}", self.text);
    }

    fn add(&mut self, name: &str, value: &str) {
        let field = match value.contains([',', '"', '\n']) {
            true => format!("\"{name}={}\"", value.replace('"', "\"\"")),
            false => format!("{name}={value}"),
        };
        let comma = if self.text.is_empty() { "" } else { "," };
        self.text = format!("{}{comma}{field}", self.text);
    }
}

impl Creation {
    /// Adds an option with its value.
    pub fn option(&mut self, option: &str, value: &str) {
        self.options.push(format!("{option}={value}"));
    }
}
