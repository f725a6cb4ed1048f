//! Which project a command is about: its files, and what it is called.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ::compose::dotenv::{self, Format};
use ::compose::{FILE_BYTES_MAX, Project, Request, create};
use clap::FromArgMatches as _;
use engine::{Container, Engine, Error, Kind, Result};

use super::report::Report;
use super::{ProjectArgs, from_compose};
use crate::progress;
use crate::session::Session;

/// Names of files that are looked for, the best first, and of those that go on top of them.
const NAMES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// Whether containers of `run` count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OneOff {
    With,
    Without,
}

/// A project, and what works on it.
pub(super) struct Scope<'a> {
    pub(super) session: &'a Session,
    pub(super) engine: &'a Engine,
    /// Its name.
    pub(super) name: String,
    /// What its files say; `None` if it is known by its name alone.
    project: Option<Project>,
    pub(super) report: Report,
    pub(super) ansi: String,
}

impl<'a> Scope<'a> {
    /// The project of the files that were named, or that are found.
    pub(super) fn load(session: &'a Session) -> Result<Self> {
        let project = project(session, true)?;
        Self::new(session, &project_args(session)?, project.name.clone(), Some(project))
    }

    /// The project of its files, or if there are none, the one of the name that was given.
    pub(super) fn known(session: &'a Session) -> Result<Self> {
        let args = project_args(session)?;
        let name = args.project_name.clone().or_else(|| std::env::var("COMPOSE_PROJECT_NAME").ok());
        match (Self::load(session), name.filter(|name| !name.is_empty())) {
            (Err(error), Some(name)) if error.kind() == Kind::NotFound => {
                Self::new(session, &args, name, None)
            }
            (outcome, _) => outcome,
        }
    }

    fn new(
        session: &'a Session,
        args: &ProjectArgs,
        name: String,
        project: Option<Project>,
    ) -> Result<Self> {
        let report = Report::new(&args.progress, &args.ansi);
        let engine = session.engine()?;
        Ok(Self { session, engine, name, project, report, ansi: args.ansi.clone() })
    }

    /// What the files say.
    pub(super) fn project(&self) -> Result<&Project> {
        self.project.as_ref().ok_or_else(no_files)
    }

    /// As [`Scope::project`], to be changed.
    pub(super) fn project_mut(&mut self) -> Result<&mut Project> {
        self.project.as_mut().ok_or_else(no_files)
    }

    /// What the files say, if there are any.
    pub(super) fn project_if_any(&self) -> Option<&Project> {
        self.project.as_ref()
    }

    /// These services, dependencies first; all where none is named.
    pub(super) fn select(
        &mut self,
        names: &[String],
        with_dependencies: bool,
    ) -> Result<Vec<String>> {
        self.project_mut()?.select(names, with_dependencies).map_err(from_compose)
    }

    /// Refuses services that the files do not have.
    pub(super) fn check_services(&self, names: &[String]) -> Result<()> {
        let Some(project) = &self.project else { return Ok(()) };
        let known = |name: &str| project.all().any(|service| service.name == name);
        match names.iter().find(|name| !known(name)) {
            Some(name) => Err(from_compose(project.no_such_service(name))),
            None => Ok(()),
        }
    }

    /// The project's containers, of these services or of all, by service and number.
    pub(super) fn containers(
        &self,
        services: &[String],
        one_off: OneOff,
    ) -> Result<Vec<Container>> {
        let label = |container: &Container, key: &str| {
            container.record.config.labels.get(key).cloned().unwrap_or_default()
        };
        let mut all = self.engine.list()?;
        all.retain(|container| {
            let is_one_off = label(container, create::ONE_OFF) == "True";
            let fits = match one_off {
                OneOff::With => true,
                OneOff::Without => !is_one_off,
            };
            fits && label(container, create::PROJECT) == self.name
                && (services.is_empty() || services.contains(&label(container, create::SERVICE)))
        });
        all.sort_by_cached_key(|container| {
            (
                label(container, create::SERVICE),
                super::observed::number(container),
                container.record.name.clone(),
            )
        });
        Ok(all)
    }

    /// The containers in the order in which they may be stopped: those first that others do not
    /// depend on.
    pub(super) fn in_stop_order(&self, containers: Vec<Container>) -> Vec<Vec<Container>> {
        let order = match &self.project {
            Some(project) => {
                let names: Vec<String> =
                    project.all().map(|service| service.name.clone()).collect();
                project.ordered(&names).unwrap_or_default()
            }
            None => Vec::new(),
        };
        let mut groups: BTreeMap<usize, Vec<Container>> = BTreeMap::new();
        for container in containers {
            let service = super::observed::service(&container);
            let place = order.iter().position(|name| *name == service);
            groups.entry(place.map_or(usize::MAX, |place| place)).or_default().push(container);
        }
        groups.into_values().rev().collect()
    }
}

/// The project of the files that were named, or that are found; `interpolates` says whether
/// variables are replaced.
pub(super) fn project(session: &Session, interpolates: bool) -> Result<Project> {
    let args = project_args(session)?;
    let project = Files::find(&args)?.project(&args, interpolates)?;
    for warning in &project.warnings {
        progress::note(&format!("WARN: {warning}"));
    }
    Ok(project)
}

/// The project of these files, with all its services.
pub(in crate::command) fn project_of(files: &[String]) -> Result<Project> {
    let (file, profile) = (files.to_vec(), vec!["*".to_owned()]);
    let args = ProjectArgs { file, profile, ..ProjectArgs::default() };
    Files::find(&args)?.project(&args, true)
}

fn no_files() -> Error {
    Error::new(Kind::NotFound, "no configuration file provided: not found")
        .hint("-f names a file; compose.yaml is looked for here and in the directories above")
}

fn project_args(session: &Session) -> Result<ProjectArgs> {
    let args = match session.group() {
        Some(matches) => ProjectArgs::from_arg_matches(matches)
            .map_err(|error| Error::invalid(error.to_string()))?,
        None => ProjectArgs::default(),
    };
    for (is_set, name) in [(args.dry_run, "--dry-run"), (args.compatibility, "--compatibility")] {
        if is_set {
            return Err(Error::new(Kind::Unsupported, format!("{name} is not supported"))
                .hint("`cais compose config` shows what would be made"));
        }
    }
    Ok(args)
}

/// The files of a project, and where they are.
struct Files {
    paths: Vec<PathBuf>,
    directory: PathBuf,
    environment: BTreeMap<String, String>,
}

impl Files {
    fn find(args: &ProjectArgs) -> Result<Self> {
        let here = std::env::current_dir()
            .map_err(|error| Error::caused(Kind::Internal, "find the working directory", error))?;
        let absolute = |path: &Path| here.join(path);
        let mut environment: BTreeMap<String, String> = std::env::vars().collect();
        let named = args.project_directory.as_deref().map(absolute);
        let beside = args
            .file
            .iter()
            .find(|file| *file != "-")
            .map(|file| parent(&absolute(Path::new(file))));
        let first = named.clone().or(beside).unwrap_or_else(|| here.clone());
        let has_own = read_env_files(args, &first, &here, &mut environment)?;
        let asked = environment.get("COMPOSE_FILE").filter(|files| !files.is_empty());
        let mut paths: Vec<PathBuf> = match (&args.file[..], asked) {
            ([], Some(files)) => {
                let separator =
                    environment.get("COMPOSE_PATH_SEPARATOR").map_or(":", String::as_str);
                files.split(separator).map(|file| first.join(file)).collect()
            }
            ([], None) => Vec::new(),
            (files, _) => files
                .iter()
                .map(
                    |file| if file == "-" { PathBuf::from("-") } else { absolute(Path::new(file)) },
                )
                .collect(),
        };
        if paths.is_empty() {
            paths = search(&first)?;
        }
        let beside = paths.iter().find(|path| path.as_os_str() != "-").map(|path| parent(path));
        let directory = named.or(beside).unwrap_or(here.clone());
        if !has_own && directory != first {
            read_env_files(args, &directory, &here, &mut environment)?;
        }
        Ok(Self { paths, directory, environment })
    }

    fn project(self, args: &ProjectArgs, interpolates: bool) -> Result<Project> {
        let mut files = Vec::new();
        for path in self.paths {
            let text = if path.as_os_str() == "-" { read_input() } else { read(&path) };
            let text = text.map_err(|error| {
                let kind = match error.kind() {
                    std::io::ErrorKind::NotFound => Kind::NotFound,
                    _ => Kind::Invalid,
                };
                Error::caused(kind, format!("open {}", path.display()), error)
            })?;
            files.push((path, text));
        }
        let named = args.project_name.clone();
        let name = named.or_else(|| self.environment.get("COMPOSE_PROJECT_NAME").cloned());
        let mut profiles = args.profile.clone();
        if profiles.is_empty() {
            let asked = self.environment.get("COMPOSE_PROFILES").map_or("", String::as_str);
            profiles =
                asked.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        }
        let home = self.environment.get("HOME").map_or_else(|| "/".into(), PathBuf::from);
        let request = Request {
            files,
            directory: self.directory,
            name: name.filter(|name| !name.is_empty()),
            environment: self.environment,
            interpolates,
            home,
            read: &read,
        };
        Project::load(&request, &profiles).map_err(from_compose)
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map_or_else(|| "/".into(), Path::to_path_buf)
}

/// Reads a file, as far as a Compose file may go.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let limit = FILE_BYTES_MAX as u64 + 1;
    std::fs::File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

fn read_input() -> std::io::Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Adds the variables of files to those that are there; whether there were any files.
fn read_env_files(
    args: &ProjectArgs,
    directory: &Path,
    here: &Path,
    environment: &mut BTreeMap<String, String>,
) -> Result<bool> {
    let asked = environment.get("COMPOSE_ENV_FILES").cloned().unwrap_or_default();
    let (files, is_required): (Vec<PathBuf>, bool) = match (&args.env_file[..], asked.as_str()) {
        ([], "") => (vec![directory.join(".env")], false),
        ([], asked) => (asked.split(',').map(|file| here.join(file)).collect(), true),
        (files, _) => (files.iter().map(|file| here.join(file)).collect(), true),
    };
    let own = environment.clone();
    let found = Cell::new(false);
    for path in files {
        let text = match read(&path) {
            Err(error) if !is_required && error.kind() == std::io::ErrorKind::NotFound => continue,
            text => text.map_err(|error| {
                Error::caused(
                    Kind::Invalid,
                    format!("couldn't find env file: {}", path.display()),
                    error,
                )
            })?,
        };
        found.set(true);
        let known = environment.clone();
        let lookup = |name: &str| known.get(name).cloned();
        let label = path.display().to_string();
        for (name, value) in
            dotenv::parse(&label, &text, Format::Dotenv, &lookup).map_err(from_compose)?
        {
            if let Some(value) = value.filter(|_| !own.contains_key(&name)) {
                environment.insert(name, value);
            }
        }
    }
    Ok(found.get())
}

/// The files that are in a directory, or in the next above that has any.
fn search(directory: &Path) -> Result<Vec<PathBuf>> {
    for place in directory.ancestors() {
        let there: Vec<&str> =
            NAMES.into_iter().filter(|name| place.join(name).is_file()).collect();
        let Some(first) = there.first() else { continue };
        if there.len() > 1 {
            progress::note(&format!(
                "WARN: Found multiple config files with supported names: {}",
                there.join(", ")
            ));
            progress::note(&format!("WARN: Using {first}"));
        }
        let over = OVERRIDES.into_iter().map(|name| place.join(name)).find(|path| path.is_file());
        return Ok([place.join(first)].into_iter().chain(over).collect());
    }
    Err(no_files())
}
