//! Files become the model of a project: variables, what is included and extended, the files on top
//! of each other.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::dotenv::{self, Format};
use crate::error::{Error, Place, Result};
use crate::node::{Map, Mark, Node, Value};
use crate::schema::{FILE, SERVICE};
use crate::shape::normal;
use crate::template::Variables;
use crate::{merge, place, yaml};

/// How deep files may include or extend each other.
const DEPTH_MAX: usize = 16;
/// How many services may extend each other in a row.
const EXTENDS_MAX: usize = 64;

/// Reads a file as text.
pub type Read<'a> = dyn Fn(&Path) -> std::io::Result<String> + 'a;

/// What a project is made of.
#[derive(Clone)]
pub struct Request<'a> {
    /// The files, the first first, with their text.
    pub files: Vec<(PathBuf, String)>,
    /// What relative paths are relative to; absolute.
    pub directory: PathBuf,
    /// The name that was asked for; that of the files, or of the directory, without it.
    pub name: Option<String>,
    /// Variables: of the process, and of `.env` for those that it has not.
    pub environment: BTreeMap<String, String>,
    /// Whether variables are replaced.
    pub interpolates: bool,
    /// The user's home, for `~`.
    pub home: PathBuf,
    /// Reads other files.
    pub read: &'a Read<'a>,
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Request").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// A project's model, in the one form.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) root: Node,
    pub(crate) name: String,
    pub(crate) warnings: Vec<String>,
}

/// Loads the files of a project.
pub(crate) fn load(request: &Request<'_>) -> Result<Model> {
    let missing = RefCell::default();
    let name = name(request)?;
    let mut environment = request.environment.clone();
    environment.insert("COMPOSE_PROJECT_NAME".into(), name.clone());
    let loader = Loader { request, missing: &missing, warnings: RefCell::default() };
    let scope = Scope { environment: &environment, directory: &request.directory, depth: 0 };
    let root = loader.files(&request.files, &scope)?;
    let warnings = loader.warnings.into_inner();
    let blank = missing.into_inner().into_iter().map(|name: String| {
        format!("The \"{name}\" variable is not set. Defaulting to a blank string.")
    });
    Ok(Model { root, name, warnings: warnings.into_iter().chain(blank).collect() })
}

/// The name of the project.
fn name(request: &Request<'_>) -> Result<String> {
    if let Some(name) = &request.name {
        return checked(name.clone(), None);
    }
    let mut found = None;
    for (path, text) in &request.files {
        for document in yaml::parse(&path.display().to_string(), text)? {
            if let Some(node) = document.get("name") {
                found = Some(node.clone());
            }
        }
    }
    if let Some(node) = found {
        let lookup = |name: &str| request.environment.get(name).cloned();
        let missing = RefCell::default();
        let word = node.word().unwrap_or_default();
        let word = match request.interpolates {
            true => Variables::new(&lookup, &missing).expand(word),
            false => Ok(word.to_owned()),
        };
        let word = word.map_err(|error| Error::at(&node.place, format!("name: {error}")))?;
        return checked(word, Some(&node.place));
    }
    let directory = request.directory.file_name().unwrap_or_default().to_string_lossy();
    let name = normalized(&directory);
    match name.is_empty() {
        true => Err(Error::new("project name must not be empty").hint("-p gives it a name")),
        false => Ok(name),
    }
}

/// A name made of what a directory is called.
fn normalized(name: &str) -> String {
    let good = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let name: String = name.to_lowercase().chars().filter(good).collect();
    name.trim_start_matches(['-', '_']).to_owned()
}

fn checked(name: String, place: Option<&Place>) -> Result<String> {
    if normalized(&name) == name && !name.is_empty() {
        return Ok(name);
    }
    let message = format!(
        "invalid project name \"{name}\": must consist only of lowercase alphanumeric characters, \
         hyphens, and underscores as well as start with a letter or number"
    );
    Err(match place {
        Some(place) => Error::at(place, message),
        None => Error::new(message),
    })
}

struct Loader<'a> {
    request: &'a Request<'a>,
    missing: &'a RefCell<BTreeSet<String>>,
    warnings: RefCell<Vec<String>>,
}

/// What a file is read with.
#[derive(Clone, Copy)]
struct Scope<'a> {
    environment: &'a BTreeMap<String, String>,
    directory: &'a Path,
    depth: usize,
}

impl Loader<'_> {
    /// Files on top of each other.
    fn files(&self, files: &[(PathBuf, String)], scope: &Scope<'_>) -> Result<Node> {
        let mut merged: Option<Node> = None;
        for (path, text) in files {
            for document in self.documents(path, text, scope)? {
                merged = match merged {
                    None => Some(document),
                    Some(base) => merge::merge(base, document, &FILE),
                };
            }
        }
        let place =
            |path: &Path| Place { file: path.display().to_string().into(), line: 0, column: 0 };
        merged.map(|root| merge::settle(root, &FILE)).ok_or_else(|| match files.first() {
            Some((path, _)) => Error::at(&place(path), "empty compose file"),
            None => Error::new("no configuration file provided: not found"),
        })
    }

    /// The documents of a file, each with what it includes and extends.
    fn documents(&self, path: &Path, text: &str, scope: &Scope<'_>) -> Result<Vec<Node>> {
        let mut documents = Vec::new();
        for document in yaml::parse(&path.display().to_string(), text)? {
            if document.is_null() {
                continue;
            }
            let mut root = self.normal(document, scope)?;
            if root.entries_mut().is_some_and(|map| map.remove("version").is_some()) {
                self.warnings.borrow_mut().push(format!(
                    "{}: the attribute `version` is obsolete, it will be ignored, please remove it \
                     to avoid potential confusion",
                    path.display()
                ));
            }
            let include = root.entries_mut().and_then(|map| map.remove("include"));
            self.extend_services(path, &mut root, scope)?;
            for item in include.iter().flat_map(Node::items) {
                let included = self.include(item, scope)?;
                import(&mut root, included)?;
            }
            documents.push(root);
        }
        Ok(documents)
    }

    fn normal(&self, document: Node, scope: &Scope<'_>) -> Result<Node> {
        let lookup = |name: &str| scope.environment.get(name).cloned();
        let variables = Variables::new(&lookup, self.missing);
        let document = match self.request.interpolates {
            true => expand(document, &variables, "")?,
            false => document,
        };
        let mut root = normal(document, &FILE, "")?;
        place::resolve(&mut root, scope.directory, &self.request.home);
        Ok(root)
    }

    fn include(&self, item: &Node, scope: &Scope<'_>) -> Result<Node> {
        let depth = deeper(scope, &item.place)?;
        let paths: Vec<PathBuf> =
            item.words_of("path").iter().map(|path| scope.directory.join(path)).collect();
        let Some(first) = paths.first() else {
            return Err(Error::at(&item.place, "include: path is required"));
        };
        let own = item.word_of("project_directory");
        let directory = match own {
            Some(directory) => scope.directory.join(directory),
            None => first.parent().unwrap_or(scope.directory).to_owned(),
        };
        let asked = item.words_of("env_file");
        let env_files = match asked.is_empty() {
            true => vec![(directory.join(".env"), false)],
            false => asked.iter().map(|path| (scope.directory.join(path), true)).collect(),
        };
        let mut environment = scope.environment.clone();
        for (path, is_required) in env_files {
            match (self.request.read)(&path) {
                Ok(text) => {
                    let lookup = |name: &str| scope.environment.get(name).cloned();
                    let all =
                        dotenv::parse(&path.display().to_string(), &text, Format::Dotenv, &lookup)?;
                    for (name, value) in all {
                        if !scope.environment.contains_key(&name) {
                            environment.insert(name, value.unwrap_or_default());
                        }
                    }
                }
                Err(error) if is_required => return Err(unreadable(&item.place, &path, &error)),
                Err(_) => {}
            }
        }
        let files = paths.into_iter().map(|path| match (self.request.read)(&path) {
            Ok(text) => Ok((path, text)),
            Err(error) => Err(unreadable(&item.place, &path, &error)),
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        let scope = Scope { environment: &environment, directory: &directory, depth };
        self.files(&files, &scope)
    }

    /// Puts under each service what it extends.
    fn extend_services(&self, path: &Path, root: &mut Node, scope: &Scope<'_>) -> Result<()> {
        let Some(services) = root.get("services").cloned() else { return Ok(()) };
        let names: Vec<String> =
            services.entries().into_iter().flat_map(Map::keys).map(str::to_owned).collect();
        let mut extended = Map::default();
        for name in names {
            let service = self.extended(path, &services, &name, scope, &mut Vec::new())?;
            extended.push(name, service);
        }
        if let Some(map) = root.entries_mut() {
            map.set("services", Node::map(extended, &services.place).marked(services.mark));
        }
        Ok(())
    }

    /// A service on top of what it extends.
    fn extended(
        &self,
        file: &Path,
        services: &Node,
        name: &str,
        scope: &Scope<'_>,
        seen: &mut Vec<(PathBuf, String)>,
    ) -> Result<Node> {
        let service = services.entries().and_then(|map| map.get(name)).cloned();
        let Some(mut service) = service else {
            return Err(Error::at(
                &services.place,
                format!("service \"{name}\" not found in {}", file.display()),
            ));
        };
        let this = (file.to_owned(), name.to_owned());
        let Some(extends) = service.entries_mut().and_then(|map| map.remove("extends")) else {
            return Ok(service);
        };
        if extends.is_null() {
            return Ok(service);
        }
        if seen.contains(&this) {
            return Err(Error::at(
                &extends.place,
                format!("circular reference: {name} extends itself"),
            ));
        }
        seen.push(this);
        if seen.len() > EXTENDS_MAX {
            let message = format!("more than {EXTENDS_MAX} services extend each other");
            return Err(Error::at(&extends.place, message));
        }
        let Some(base) = extends.word_of("service") else {
            let message = format!("extends.{name}.service is required");
            return Err(Error::at(&extends.place, message));
        };
        let cannot = |error: Error| match error.hint_text() {
            Some(_) => error,
            None => error.hint(format!("service {name} extends service {base}")),
        };
        let base = match extends.word_of("file") {
            None => self.extended(file, services, base, scope, seen).map_err(cannot)?,
            Some(other) => self.in_file(&extends, other, base, scope, seen)?,
        };
        let mark = service.mark;
        service.mark = Mark::Merged;
        let place = service.place.clone();
        let merged = merge::merge(base, service, &SERVICE);
        Ok(merged.unwrap_or_else(|| Node::null(&place)).marked(mark))
    }

    fn in_file(
        &self,
        extends: &Node,
        file: &str,
        base: &str,
        scope: &Scope<'_>,
        seen: &mut Vec<(PathBuf, String)>,
    ) -> Result<Node> {
        let depth = deeper(scope, &extends.place)?;
        let path = scope.directory.join(file);
        let text = (self.request.read)(&path);
        let text = text.map_err(|error| unreadable(&extends.place, &path, &error))?;
        let directory = path.parent().unwrap_or(scope.directory).to_owned();
        let scope = Scope { directory: &directory, depth, ..*scope };
        let mut services = Node::map(Map::default(), &extends.place);
        for document in yaml::parse(&path.display().to_string(), &text)? {
            let root = self.normal(document, &scope)?;
            if let Some(own) = root.get("services") {
                services = own.clone();
            }
        }
        self.extended(&path, &services, base, &scope, seen)
    }
}

fn deeper(scope: &Scope<'_>, place: &Place) -> Result<usize> {
    match scope.depth >= DEPTH_MAX {
        true => Err(Error::at(place, format!("more than {DEPTH_MAX} files in each other"))
            .hint("does a file include itself?")),
        false => Ok(scope.depth + 1),
    }
}

fn unreadable(place: &Place, path: &Path, error: &std::io::Error) -> Error {
    Error::at(place, format!("open {}: {error}", path.display()))
}

/// Adds what was included; what is there twice must be the same.
fn import(root: &mut Node, included: Node) -> Result<()> {
    let Value::Map(sections) = included.value else { return Ok(()) };
    let place = root.place.clone();
    let Some(map) = root.entries_mut() else { return Ok(()) };
    for (section, node) in sections {
        let Value::Map(entries) = node.value else { continue };
        if section.starts_with("x-") {
            continue;
        }
        if map.get(&section).is_none() {
            map.set(&section, Node::map(Map::default(), &place));
        }
        let Some(own) = map.get_mut(&section).and_then(Node::entries_mut) else { continue };
        for (name, node) in entries {
            match own.get(&name) {
                Some(known) if *known != node => {
                    let message = format!("{section}.{name} conflicts with imported resource");
                    return Err(Error::at(&known.place, message));
                }
                Some(_) => {}
                None => own.set(&name, node),
            }
        }
    }
    Ok(())
}

/// Replaces the variables of every text of a tree; keys stay as they are.
fn expand(node: Node, variables: &Variables<'_>, path: &str) -> Result<Node> {
    let Node { value, place, mark } = node;
    let value = match value {
        Value::Scalar(kind, text) if text.contains('$') => {
            let expanded = variables.expand(&text).map_err(|error| {
                let message = format!("invalid interpolation format for {path}: {error}");
                Error::at(&place, message).hint("You may need to escape any $ with another $")
            })?;
            Value::Scalar(kind, expanded)
        }
        Value::Scalar(kind, text) => Value::Scalar(kind, text),
        Value::List(items) => {
            let one = |(index, item)| expand(item, variables, &format!("{path}[{index}]"));
            Value::List(items.into_iter().enumerate().map(one).collect::<Result<_>>()?)
        }
        Value::Map(entries) => {
            let mut map = Map::default();
            for (key, node) in entries {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                map.push(key, expand(node, variables, &path)?);
            }
            Value::Map(map)
        }
    };
    Ok(Node { value, place, mark })
}
