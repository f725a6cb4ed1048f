//! What a project is: its services, and what they need.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::dotenv::{self, Format};
use crate::error::{Error, Place, Result, nearest};
use crate::load::{self, Request};
use crate::node::{Map, Node, Value};
use crate::service::Service;

/// A network, volume, secret or config.
#[derive(Debug, Clone)]
pub struct Resource {
    /// What the files call it.
    pub key: String,
    /// What it is called on the machine.
    pub name: String,
    /// Whether it is somebody else's.
    pub is_external: bool,
    /// What else the files say of it.
    pub node: Node,
}

impl Resource {
    /// A word that changes with what the files say of it.
    #[must_use]
    pub fn hash(&self) -> String {
        let node = crate::output::sorted(self.node.clone());
        oci::Digest::of(crate::json(&node).to_string().as_bytes()).hex().to_owned()
    }
}

/// A project.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// What its relative paths are relative to.
    pub directory: PathBuf,
    /// Its files, absolute.
    pub files: Vec<PathBuf>,
    /// The services that its profiles make part of it, by name.
    pub services: BTreeMap<String, Service>,
    /// The other services.
    pub disabled: BTreeMap<String, Service>,
    /// Its networks, by key.
    pub networks: BTreeMap<String, Resource>,
    /// Its volumes.
    pub volumes: BTreeMap<String, Resource>,
    /// Its secrets.
    pub secrets: BTreeMap<String, Resource>,
    /// Its configs.
    pub configs: BTreeMap<String, Resource>,
    /// Keys of users' own.
    pub(crate) extensions: Vec<(String, Node)>,
    /// What users should know.
    pub warnings: Vec<String>,
    /// The variables that services may inherit.
    pub environment: BTreeMap<String, String>,
}

/// The sections of a file that define something.
const SECTIONS: [&str; 4] = ["networks", "volumes", "secrets", "configs"];

impl Project {
    /// Loads a project, with the services of these profiles; `*` stands for all.
    ///
    /// # Errors
    /// If its files make no project.
    pub fn load(request: &Request<'_>, profiles: &[String]) -> Result<Self> {
        let model = load::load(request)?;
        let mut root = model.root;
        let mut project = Self {
            name: model.name,
            directory: request.directory.clone(),
            files: request.files.iter().map(|(path, _)| path.clone()).collect(),
            services: BTreeMap::new(),
            disabled: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            secrets: BTreeMap::new(),
            configs: BTreeMap::new(),
            extensions: Vec::new(),
            warnings: model.warnings,
            environment: request.environment.clone(),
        };
        project.environment.insert("COMPOSE_PROJECT_NAME".into(), project.name.clone());
        let place = root.place.clone();
        let Some(map) = root.entries_mut() else { return Ok(project) };
        let services = map.remove("services").unwrap_or_else(|| Node::null(&place));
        if services.entries().is_none_or(Map::is_empty) {
            return Err(Error::at(&place, "empty compose file: no service is defined"));
        }
        project.take_services(services, request, profiles)?;
        let is_default_used =
            project.all().any(|service| service.networks().contains_key("default"));
        for section in SECTIONS {
            let node = map.remove(section);
            let resources = project.resources(section, node, is_default_used, &place);
            *project.section_mut(section) = resources;
        }
        map.remove("name");
        if let Some(models) = map.remove("models").filter(|node| !node.is_null()) {
            return Err(Error::at(&models.place, "models are not supported")
                .hint("run the model as a service"));
        }
        let Value::Map(rest) = root.value else { return Ok(project) };
        project.extensions = rest.into_iter().collect();
        project.check()?;
        Ok(project)
    }

    fn section_mut(&mut self, section: &str) -> &mut BTreeMap<String, Resource> {
        match section {
            "networks" => &mut self.networks,
            "volumes" => &mut self.volumes,
            "secrets" => &mut self.secrets,
            _ => &mut self.configs,
        }
    }

    /// All services, whatever their profiles.
    pub fn all(&self) -> impl Iterator<Item = &Service> {
        self.services.values().chain(self.disabled.values())
    }

    fn take_services(
        &mut self,
        services: Node,
        request: &Request<'_>,
        profiles: &[String],
    ) -> Result<()> {
        let Value::Map(services) = services.value else { return Ok(()) };
        for (name, node) in services {
            check_name(&name, &node)?;
            let mut node = match node.is_null() {
                true => Node::map(Map::default(), &node.place),
                false => node,
            };
            crate::complete::complete(&mut node);
            if request.interpolates {
                self.resolve_environment(&mut node, request.read)?;
            }
            let service = Service::new(&name, &self.name, node);
            let own = service.node.words_of("profiles");
            let is_on = own.is_empty()
                || profiles.iter().any(|profile| profile == "*" || own.contains(&profile.as_str()));
            let place = if is_on { &mut self.services } else { &mut self.disabled };
            place.insert(name, service);
        }
        Ok(())
    }

    /// Reads the files of variables and labels, and gives variables without a value that of ours.
    fn resolve_environment(&self, node: &mut Node, read: &load::Read<'_>) -> Result<()> {
        let place = node.place.clone();
        let lookup = |name: &str| self.environment.get(name).cloned();
        let mut environment = Map::default();
        for file in node.get("env_file").map(Node::items).unwrap_or_default() {
            let format = match file.word_of("format") {
                Some("raw") => Format::Raw,
                _ => Format::Dotenv,
            };
            let path = file.word_of("path").unwrap_or_default();
            let text = match read(Path::new(path)) {
                Ok(text) => text,
                Err(_) if file.word_of("required") == Some("false") => continue,
                Err(error) => {
                    return Err(Error::at(
                        &file.place,
                        format!("env file {path} not found: {error}"),
                    )
                    .hint("required: false makes it optional"));
                }
            };
            for (name, value) in dotenv::parse(path, &text, format, &lookup)? {
                if let Some(value) = value {
                    environment.set(&name, Node::text(value, &file.place));
                }
            }
        }
        for (name, value) in node.pairs_of("environment") {
            let value = value.map(str::to_owned).or_else(|| lookup(name));
            let value = value.map_or_else(|| Node::null(&place), |value| Node::text(value, &place));
            environment.set(name, value);
        }
        let labels = read_labels(node, read)?;
        let Some(map) = node.entries_mut() else { return Ok(()) };
        map.remove("env_file");
        map.remove("label_file");
        if !environment.is_empty() {
            map.set("environment", Node::map(environment, &place));
        }
        if !labels.is_empty() {
            map.set("labels", Node::map(labels, &place));
        }
        let Some(args) = map.get_mut("build").and_then(Node::entries_mut) else { return Ok(()) };
        let args = args.get_mut("args").and_then(Node::entries_mut);
        for (name, value) in args.into_iter().flat_map(Map::iter_mut) {
            if value.is_null()
                && let Some(found) = lookup(name)
            {
                *value = Node::text(found, &place);
            }
        }
        Ok(())
    }

    fn resources(
        &self,
        section: &str,
        node: Option<Node>,
        is_default_used: bool,
        place: &Place,
    ) -> BTreeMap<String, Resource> {
        let mut all = BTreeMap::new();
        let Value::Map(mut map) =
            node.map_or_else(|| Value::Map(Map::default()), |node| node.value)
        else {
            return all;
        };
        if section == "networks" && is_default_used && map.get("default").is_none() {
            map.set("default", Node::null(place));
        }
        for (key, node) in map {
            let mut node = match node.is_null() {
                true => Node::map(Map::default(), &node.place),
                false => node,
            };
            let is_external = node.is("external");
            let name = match node.word_of("name") {
                Some(name) => name.to_owned(),
                None if is_external => key.clone(),
                None => format!("{}_{key}", self.name),
            };
            let place = node.place.clone();
            if let Some(map) = node.entries_mut() {
                map.set("name", Node::text(name.as_str(), &place));
            }
            all.insert(key.clone(), Resource { key, name, is_external, node });
        }
        all
    }

    /// Refuses what refers to nothing.
    fn check(&self) -> Result<()> {
        for service in self.all() {
            service.check()?;
            self.check_references(service)?;
        }
        for (kind, all) in [("secrets", &self.secrets), ("configs", &self.configs)] {
            all.values().try_for_each(|resource| check_source(kind, resource))?;
        }
        for network in self.networks.values().filter(|network| network.is_external) {
            only_external("networks", network)?;
        }
        for volume in self.volumes.values().filter(|volume| volume.is_external) {
            only_external("volumes", volume)?;
        }
        self.check_cycles()
    }

    fn check_references(&self, service: &Service) -> Result<()> {
        let name = &service.name;
        let place = &service.node.place;
        let undefined = |what: &str, key: &str, known: &BTreeMap<String, Resource>| {
            let error = Error::project(
                place,
                format!("service \"{name}\" refers to undefined {what} {key}"),
            );
            match nearest(key, known.keys().map(String::as_str)) {
                Some(near) => Err(error.hint(format!("did you mean {near}?"))),
                None => Err(error.hint(format!("define it under {what}s: at the top level"))),
            }
        };
        for dependency in service.dependencies() {
            let known =
                |name: &str| self.services.contains_key(name) || self.disabled.contains_key(name);
            if !known(&dependency.service) && dependency.is_required {
                let other = &dependency.service;
                let error = Error::project(
                    place,
                    format!("service \"{name}\" depends on undefined service \"{other}\""),
                );
                let names = self.services.keys().map(String::as_str);
                return Err(match nearest(other, names) {
                    Some(near) => error.hint(format!("did you mean {near}?")),
                    None => error,
                });
            }
        }
        for key in service.networks().keys() {
            if !self.networks.contains_key(*key) {
                return undefined("network", key, &self.networks);
            }
        }
        for mount in service.node.get("volumes").map(Node::items).unwrap_or_default() {
            if mount.word_of("type") == Some("volume")
                && let Some(key) = mount.word_of("source")
                && !self.volumes.contains_key(key)
            {
                return undefined("volume", key, &self.volumes);
            }
        }
        for (kind, known) in [("secret", &self.secrets), ("config", &self.configs)] {
            for key in service.file_mounts(kind) {
                if !known.contains_key(key) {
                    return undefined(kind, key, known);
                }
            }
        }
        Ok(())
    }

    fn check_cycles(&self) -> Result<()> {
        let mut done = BTreeSet::new();
        for service in self.all() {
            let mut path = Vec::new();
            self.visit(&service.name, &mut path, &mut done, &mut |_| {})?;
        }
        Ok(())
    }

    fn service_any(&self, name: &str) -> Option<&Service> {
        self.services.get(name).or_else(|| self.disabled.get(name))
    }

    /// Calls `take` with a service after all that it depends on.
    fn visit(
        &self,
        name: &str,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
        take: &mut dyn FnMut(&str),
    ) -> Result<()> {
        if done.contains(name) {
            return Ok(());
        }
        if let Some(start) = path.iter().position(|known| known == name) {
            let cycle = format!("{} -> {name}", path[start..].join(" -> "));
            return Err(Error::new(format!("dependency cycle detected: {cycle}")));
        }
        let Some(service) = self.service_any(name) else { return Ok(()) };
        path.push(name.to_owned());
        for dependency in service.dependencies() {
            self.visit(&dependency.service, path, done, take)?;
        }
        path.pop();
        done.insert(name.to_owned());
        take(name);
        Ok(())
    }

    /// These services, and all where there are none; each after those that it depends on. Those
    /// that are named belong to the project from now on, whatever their profiles.
    ///
    /// # Errors
    /// If one is not known.
    pub fn select(&mut self, names: &[String], with_dependencies: bool) -> Result<Vec<String>> {
        for name in names {
            if let Some(service) = self.disabled.remove(name) {
                self.services.insert(name.clone(), service);
            }
            if !self.services.contains_key(name) {
                return Err(self.no_such_service(name));
            }
        }
        let names: Vec<String> = match names {
            [] => self.services.keys().cloned().collect(),
            names => names.to_vec(),
        };
        let ordered = self.ordered(&names)?;
        let wanted = ordered.into_iter().filter(|name| with_dependencies || names.contains(name));
        let mut selected = Vec::new();
        for name in wanted {
            if self.services.contains_key(&name) {
                selected.push(name);
            } else if let Some(user) = self.requirer(&selected, &names, &name) {
                let message = format!("service \"{user}\" depends on undefined service \"{name}\"");
                return Err(Error::new(format!("{message}: invalid compose project")).hint(
                    format!("{name} is of a profile that is not active: --profile names one"),
                ));
            }
        }
        Ok(selected)
    }

    /// Who among the services needs one that no active profile has.
    fn requirer(&self, selected: &[String], names: &[String], needed: &str) -> Option<String> {
        let all = names.iter().chain(selected);
        let needs = |user: &&String| {
            let service = self.services.get(*user);
            service.is_some_and(|service| {
                let mut all = service.dependencies().into_iter();
                all.any(|dependency| dependency.service == needed && dependency.is_required)
            })
        };
        all.into_iter().find(needs).cloned()
    }

    /// The failure that a service is not known.
    #[must_use]
    pub fn no_such_service(&self, name: &str) -> Error {
        let error = Error::new(format!("no such service: {name}"));
        match nearest(name, self.all().map(|service| service.name.as_str())) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => error,
        }
    }

    /// These services and all that they depend on, dependencies first.
    ///
    /// # Errors
    /// If they depend on each other.
    pub fn ordered(&self, names: &[String]) -> Result<Vec<String>> {
        let mut all = Vec::new();
        let mut done = BTreeSet::new();
        for name in names {
            self.visit(name, &mut Vec::new(), &mut done, &mut |name| all.push(name.to_owned()))?;
        }
        Ok(all)
    }

    /// A word that changes when the containers of a service have to: what is said of it, what the
    /// things are called that it uses, and what is in its secrets and configs.
    #[must_use]
    pub fn hash(&self, service: &Service) -> String {
        let mut more: Vec<String> = Vec::new();
        let networks = service.networks();
        more.extend(networks.keys().filter_map(|key| Some(self.networks.get(*key)?.name.clone())));
        for mount in service.node.get("volumes").map(Node::items).unwrap_or_default() {
            let volume = mount.word_of("source").and_then(|key| self.volumes.get(key));
            more.extend(volume.map(|volume| volume.name.clone()));
        }
        for (kind, all) in [("secret", &self.secrets), ("config", &self.configs)] {
            for resource in service.file_mounts(kind).iter().filter_map(|key| all.get(*key)) {
                let file = resource.node.word_of("file").map(str::to_owned);
                more.extend(file.or_else(|| self.content(resource).ok().flatten()));
            }
        }
        service.hash(&more.join("\0"))
    }

    /// The content of a secret or config that is no file of the host's; `None` for a file.
    ///
    /// # Errors
    /// If it comes from a variable that is not set.
    pub fn content(&self, resource: &Resource) -> Result<Option<String>> {
        if let Some(content) = resource.node.word_of("content") {
            return Ok(Some(content.to_owned()));
        }
        let Some(variable) = resource.node.word_of("environment") else { return Ok(None) };
        match self.environment.get(variable) {
            Some(value) => Ok(Some(value.clone())),
            None => Err(Error::at(
                &resource.node.place,
                format!(
                    "environment variable \"{variable}\" required by \"{}\" is not set",
                    resource.key
                ),
            )),
        }
    }
}

fn check_name(name: &str, node: &Node) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match !name.is_empty() && name.chars().all(good) {
        true => Ok(()),
        false => Err(Error::at(
            &node.place,
            format!("services additional properties '{name}' not allowed"),
        )
        .hint("names of services have letters, digits, '.', '_' and '-'")),
    }
}

/// The labels of a service, on top of those of its files.
fn read_labels(node: &Node, read: &load::Read<'_>) -> Result<Map> {
    let mut labels = Map::default();
    let missing = RefCell::<BTreeSet<String>>::default();
    for path in node.words_of("label_file") {
        let text = read(Path::new(path))
            .map_err(|error| Error::at(&node.place, format!("label file {path}: {error}")))?;
        let all = dotenv::parse(path, &text, Format::Dotenv, &|name| {
            missing.borrow_mut().insert(name.to_owned());
            None
        })?;
        for (name, value) in all {
            labels.set(&name, Node::text(value.unwrap_or_default(), &node.place));
        }
    }
    for (name, value) in node.pairs_of("labels") {
        labels.set(name, Node::text(value.unwrap_or_default(), &node.place));
    }
    Ok(labels)
}

fn only_external(section: &str, resource: &Resource) -> Result<()> {
    let map = resource.node.entries();
    let other = map
        .into_iter()
        .flat_map(Map::keys)
        .find(|key| !matches!(*key, "external" | "name") && !key.starts_with("x-"));
    match other {
        None => Ok(()),
        Some(other) => Err(Error::project(
            &resource.node.place,
            format!(
                "{section}.{}: conflicting parameters \"external\" and \"{other}\" specified",
                resource.key
            ),
        )),
    }
}

/// A secret or config comes from one place.
fn check_source(section: &str, resource: &Resource) -> Result<()> {
    let Resource { key, node, .. } = resource;
    let fail = |what: &str| Err(Error::at(&node.place, format!("{section}.{key}: {what}")));
    if resource.is_external {
        return fail("unsupported external: there is no store of such objects").map_err(
            |error: Error| error.hint("name a file, a variable of the environment, or content"),
        );
    }
    for unsupported in ["driver", "driver_opts", "template_driver"] {
        if node.get(unsupported).is_some() {
            return fail(&format!("{unsupported} is not supported: it is Swarm's"));
        }
    }
    let sources = ["file", "environment", "content"];
    match sources.iter().filter(|source| node.get(source).is_some()).count() {
        1 => Ok(()),
        0 => fail("one of file, environment or content must be set"),
        _ => fail("only one of file, environment or content can be set"),
    }
}
