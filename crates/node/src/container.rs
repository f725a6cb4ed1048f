//! A pod and its containers as settings of the engine's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::{Mount, MountSource, NetworkMode, Publication, Security, Settings, Sharing};
use serde_json::Value;

use crate::env::{self, expand};
use crate::field::{is, items, text, texts};
use crate::host::{Host, NETWORK};
use crate::observe::{
    LABEL_CONTAINER, LABEL_NAME, LABEL_NAMESPACE, LABEL_NODE, LABEL_NUMBER, LABEL_UID,
};
use crate::pod::{Part, grace_s, hostname, is_on_host_network, name, namespace, uid};
use crate::source::Origin;
use crate::volume::{self, Ready};
use crate::{limits, security};

/// The longest name that the engine gives to a container: one of a file, with room.
const NAME_BYTES_MAX: usize = 200;
/// How much a container may write to its log: upstream's `containerLogMaxSize` and
/// `containerLogMaxFiles`.
const LOG: [(&str, &str); 2] = [("max-size", "10m"), ("max-file", "5")];
/// Where a container says why it has ended, if it does not say where.
const MESSAGE_PATH: &str = "/dev/termination-log";

fn own<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// `k8s_NAME_POD_NAMESPACE_UID_NUMBER`, as kubelets with Docker had it.
fn engine_name(pod: &Value, container: &str, number: u32) -> String {
    let end = format!("_{}_{number}", uid(pod));
    let mut start = format!("k8s_{container}_{}_{}", name(pod), namespace(pod));
    start.truncate(NAME_BYTES_MAX - end.len().min(NAME_BYTES_MAX));
    start + &end
}

impl Host {
    /// Where files of a pod lie.
    pub(crate) fn pod_directory(&self, uid: &str) -> PathBuf {
        self.config.directory.join("pods").join(uid)
    }

    /// The file that a run of a container says in why it has ended.
    pub(crate) fn message_file(&self, uid: &str, container: &str, number: u32) -> PathBuf {
        self.pod_directory(uid).join("containers").join(container).join(number.to_string())
    }

    /// The control group of a pod: below that of all pods of this node.
    pub(crate) fn group(&self, pod: &Value) -> String {
        let place = self.config.directory.as_os_str().as_encoded_bytes();
        format!("/cais-pods-{}/pod{}", &oci::Digest::of(place).hex()[..8], uid(pod))
    }

    fn labels(&self, pod: &Value) -> BTreeMap<String, String> {
        let mut all = own([
            (LABEL_UID, uid(pod)),
            (LABEL_NAME, name(pod)),
            (LABEL_NAMESPACE, namespace(pod)),
            (LABEL_NODE, &self.config.name),
        ]);
        let labels = crate::field::entries(&pod["metadata"], "labels");
        all.extend(labels.map(|(key, value)| (key.to_owned(), value.to_owned())));
        all
    }

    /// What holds a pod's namespaces.
    pub(crate) fn sandbox_settings(&self, pod: &Value, number: u32) -> Settings {
        let spec = &pod["spec"];
        let on_host = is_on_host_network(pod);
        let named = |volume: &Value| {
            volume::memory(volume).map(|bytes| (text(volume, &["name"]).to_owned(), bytes))
        };
        let memory = items(spec, "volumes").iter().filter_map(named).collect();
        let resolver = self.resolver(pod);
        let subdomain = text(spec, &["subdomain"]);
        let domainname = match subdomain {
            "" => String::new(),
            part => format!("{part}.{}.svc.{}", namespace(pod), self.config.domain),
        };
        let sysctls = items(&spec["securityContext"], "sysctls").iter();
        let sysctls = sysctls.map(|one| (text(one, &["name"]), text(one, &["value"])));
        let aliases = items(spec, "hostAliases").iter().flat_map(|alias| {
            let address = text(alias, &["ip"]).to_owned();
            texts(alias, "hostnames").into_iter().map(move |name| (name, address.clone()))
        });
        Settings {
            name: engine_name(pod, "POD", number),
            hostname: self.hostname_of(pod),
            domainname,
            labels: self.labels(pod),
            network: match on_host {
                true => NetworkMode::Host,
                false => NetworkMode::Named(NETWORK.to_owned()),
            },
            attachments: match on_host {
                true => Vec::new(),
                false => vec![engine::Membership {
                    network: NETWORK.to_owned(),
                    ..engine::Membership::default()
                }],
            },
            ports: if on_host { Vec::new() } else { host_ports(spec) },
            dns: resolver.servers,
            dns_search: resolver.search,
            dns_options: resolver.options,
            extra_hosts: aliases.collect(),
            limits: limits::of_pod(pod),
            cgroup_parent: self.group(pod),
            security: Security {
                host_uts: on_host,
                ipc: if is(spec, "hostIPC") { Sharing::Host } else { Sharing::Shareable },
                sysctls: sysctls.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                ..Security::default()
            },
            pod: Some(engine::Pod { shares_processes: is(spec, "shareProcessNamespace"), memory }),
            ..Settings::default()
        }
    }

    fn hostname_of(&self, pod: &Value) -> String {
        match is_on_host_network(pod) {
            true => crate::machine::hostname(),
            false => hostname(pod),
        }
    }

    /// A container of a pod: its number, what it is in, and the run of another whose processes it sees.
    ///
    /// # Errors
    /// What is missing or contradicts itself: `CreateContainerConfigError`.
    pub(crate) fn container_settings(
        &self,
        part: &Part<'_>,
        (number, sandbox, target): (u32, &str, Option<String>),
        volumes: &[(String, Ready)],
        origin: &Origin<'_>,
    ) -> Result<Settings, String> {
        let (pod, container) = (origin.pod, part.spec);
        let image = text(container, &["image"]);
        let config =
            self.engine.image(image).and_then(|image| Ok(image.config(self.engine.store())?));
        let config = config.map_err(|error| crate::image::chain(&error))?;
        let profiles = self.config.directory.join("seccomp");
        let mut context = security::context(pod, container, &config.config.user, &profiles)?;
        if let Some(target) = target {
            // It is to see the processes of that one.
            context.security.pid = Sharing::Container(target);
        }
        let env = env::variables(pod, container, origin)?;
        let known = env::map(&env);
        let words = |field: &str| -> Vec<String> {
            texts(container, field).iter().map(|word| expand(word, &known)).collect()
        };
        let command = words("command");
        let mut limits = limits::of_container(pod, container, self.facts.memory_bytes);
        let score = limits.oom_score_adj.map(|score| score.max(self.facts.oom_score_min));
        limits.oom_score_adj = score;
        let mut mounts = volume::mounts(container, volumes, &known)?;
        mounts.push(self.message_mount(pod, container, number)?);
        let mut labels = self.labels(pod);
        labels.extend(own([
            (LABEL_CONTAINER, part.name),
            (LABEL_NUMBER, &number.to_string()),
            ("io.kubernetes.container.terminationMessagePath", message_path(container)),
            ("io.kubernetes.docker.type", "container"),
        ]));
        Ok(Settings {
            name: engine_name(pod, part.name, number),
            image: image.to_owned(),
            entrypoint: (!command.is_empty()).then_some(command),
            cmd: words("args"),
            env,
            workdir: text(container, &["workingDir"]).to_owned(),
            user: context.user,
            group_add: context.groups,
            hostname: self.hostname_of(pod),
            labels,
            tty: is(container, "tty"),
            open_stdin: is(container, "stdin"),
            attached: engine::Attached {
                stdin: is(container, "stdinOnce"),
                ..engine::Attached::default()
            },
            stop_signal: text(container, &["lifecycle", "stopSignal"]).to_owned(),
            stop_timeout_s: Some(grace_s(pod)),
            network: match is_on_host_network(pod) {
                true => NetworkMode::Host,
                false => NetworkMode::Container(sandbox.to_owned()),
            },
            mounts,
            limits,
            security: context.security,
            cgroup_parent: self.group(pod),
            in_pod: sandbox.to_owned(),
            log: engine::LogConfig { driver: String::new(), options: own(LOG) },
            ..Settings::default()
        })
    }

    /// The file that a container may say in why it has ended.
    fn message_mount(&self, pod: &Value, container: &Value, number: u32) -> Result<Mount, String> {
        let path = self.message_file(uid(pod), text(container, &["name"]), number);
        let make = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::File::create(&path)?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            std::fs::set_permissions(&path, mode)
        };
        make().map_err(|error: std::io::Error| format!("make {}: {error}", path.display()))?;
        let source = MountSource::Bind {
            path,
            create: false,
            propagation: "rprivate".to_owned(),
            recursive: true,
            writable_below: true,
            subpath: PathBuf::new(),
        };
        let target = message_path(container).to_owned();
        Ok(Mount { source, target, read_only: false, owner: None })
    }

    /// Whom the pod asks for names (upstream's `GetPodDNS`).
    fn resolver(&self, pod: &Value) -> Resolver {
        let spec = &pod["spec"];
        let servers = &self.config.name_servers;
        let is_cluster = match text(spec, &["dnsPolicy"]) {
            "ClusterFirstWithHostNet" => true,
            "Default" | "None" => false,
            _ => !is_on_host_network(pod),
        };
        let mut made = match text(spec, &["dnsPolicy"]) {
            "None" => Resolver { search: vec![".".to_owned()], ..Resolver::default() },
            _ if is_cluster && !servers.is_empty() => {
                let (space, domain) = (namespace(pod), &self.config.domain);
                let search =
                    [format!("{space}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
                let search = search.into_iter().chain(Resolver::of_host().search).collect();
                let options = vec!["ndots:5".to_owned()];
                Resolver { servers: servers.clone(), search, options }
            }
            _ if spec["dnsConfig"].is_object() => Resolver::of_host(),
            // The engine takes the host's as they are.
            _ => Resolver::default(),
        };
        made.add(&spec["dnsConfig"]);
        made
    }
}

/// Whom to ask for names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Resolver {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn of_host() -> Self {
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let mut made = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => made.servers.extend(words.next()),
                Some("search" | "domain") => made.search = words.collect(),
                Some("options") => made.options.extend(words),
                _ => {}
            }
        }
        made
    }

    /// Adds what a pod asks for beyond its policy.
    fn add(&mut self, config: &Value) {
        let fresh = |all: &mut Vec<String>, more: Vec<String>| {
            for one in more {
                if !all.contains(&one) {
                    all.push(one);
                }
            }
        };
        fresh(&mut self.servers, texts(config, "nameservers"));
        let search = texts(config, "searches");
        if !search.is_empty() {
            self.search.retain(|word| word != ".");
            fresh(&mut self.search, search);
        }
        for option in items(config, "options") {
            let name = text(option, &["name"]);
            self.options.retain(|known| known.split(':').next() != Some(name));
            self.options.push(match text(option, &["value"]) {
                "" => name.to_owned(),
                value => format!("{name}:{value}"),
            });
        }
    }
}

/// Where a container says why it has ended.
pub(crate) fn message_path(container: &Value) -> &str {
    match text(container, &["terminationMessagePath"]) {
        "" => MESSAGE_PATH,
        path => path,
    }
}

/// The ports of the host that the containers of a pod want.
fn host_ports(spec: &Value) -> Vec<Publication> {
    let containers = items(spec, "containers").iter().chain(items(spec, "initContainers"));
    let ports = containers.flat_map(|container| items(container, "ports"));
    let one = |port: &Value| {
        let number = |field: &str| u16::try_from(port[field].as_u64()?).ok().filter(|n| *n > 0);
        let host = number("hostPort")?;
        let protocol = text(port, &["protocol"]).to_ascii_lowercase();
        let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol };
        Some(Publication {
            protocol: engine::parse_protocol(&protocol).ok()?,
            port: number("containerPort")?,
            address: text(port, &["hostIP"]).parse().ok(),
            host: Some((host, host)),
        })
    };
    ports.filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_fit_into_a_file_system() {
        let pod = json!({"metadata": {"name": "p".repeat(253), "namespace": "n", "uid": "u-1"}});
        let long = engine_name(&pod, "c", 3);
        assert!(long.len() <= NAME_BYTES_MAX && long.ends_with("_u-1_3"));
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u-1"}});
        assert_eq!(engine_name(&pod, "c", 0), "k8s_c_p_n_u-1_0");
    }

    #[test]
    fn ports_of_the_host_are_published() {
        let spec = json!({"containers": [{"ports": [
            {"containerPort": 80}, {"containerPort": 53, "hostPort": 5353, "protocol": "UDP", "hostIP": "127.0.0.1"},
        ]}]});
        let ports = host_ports(&spec);
        assert_eq!(ports.len(), 1);
        assert_eq!((ports[0].port, ports[0].host), (53, Some((5353, 5353))));
        assert_eq!(ports[0].protocol, engine::Protocol::Udp);
    }

    #[test]
    fn a_pods_resolver_is_added_to() {
        let mut made = Resolver { search: vec![".".into()], ..Resolver::default() };
        made.options.push("ndots:5".into());
        made.add(&json!({
            "nameservers": ["1.1.1.1"], "searches": ["a.b"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
        }));
        let expected = Resolver {
            servers: vec!["1.1.1.1".into()],
            search: vec!["a.b".into()],
            options: vec!["ndots:2".into(), "edns0".into()],
        };
        assert_eq!(made, expected);
    }
}
