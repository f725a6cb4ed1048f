//! How services come to their images: pulled, or built.

use ::compose::plan::{PullPolicy, Supply, supply};
use ::compose::{Map, Node, Project, Service};
use engine::{Error, Kind, Result};
use jiff::Timestamp;

use super::scope::Scope;
use super::{from_compose, typed};
use crate::progress;

/// What the command line says of images.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// When they are pulled, if not as the files say.
    pub(super) pull: Option<PullPolicy>,
    /// Whether they are built, if not as the files say.
    pub(super) builds: Option<bool>,
    pub(super) quiet_pull: bool,
    pub(super) quiet_build: bool,
}

/// Options of `build` beyond those of the files.
#[derive(Debug, Clone, Default)]
pub(super) struct Building {
    pub(super) no_cache: bool,
    pub(super) pull: bool,
    pub(super) quiet: bool,
    pub(super) push: bool,
    pub(super) check: bool,
    pub(super) progress: Option<String>,
    pub(super) memory: Option<String>,
    pub(super) args: Vec<String>,
}

/// `--pull` in Docker Compose's words; `None` for the policy of the files.
pub(super) fn policy(word: &str) -> Result<(Option<PullPolicy>, Option<bool>)> {
    match word {
        "policy" | "" => Ok((None, None)),
        "always" => Ok((Some(PullPolicy::Always), None)),
        "missing" => Ok((Some(PullPolicy::Missing), None)),
        "never" => Ok((Some(PullPolicy::Never), None)),
        "build" => Ok((None, Some(true))),
        _ => Err(Error::invalid(format!("invalid --pull option \"{word}\""))
            .hint("options are always, missing, never, build and policy")),
    }
}

/// Gets the images of services.
pub(super) fn provide(
    scope: &Scope<'_>,
    project: &Project,
    services: &[String],
    wanted: &Wanted,
) -> Result<()> {
    let mut done: Vec<String> = Vec::new();
    for name in services {
        let Some(service) = project.services.get(name).filter(|service| service.replicas() > 0)
        else {
            continue;
        };
        let image = service.image();
        if done.contains(&image) {
            continue;
        }
        let there = scope.engine.image(&image).ok();
        let age_s = there.as_ref().map_or(i64::MAX, |image| age_s(&image.added));
        let how = supply(service, there.is_some(), age_s, wanted.pull, wanted.builds);
        let building = Building { quiet: wanted.quiet_build, ..Building::default() };
        match how.map_err(from_compose)? {
            Supply::None if there.is_none() => return Err(missing(scope, service)),
            Supply::None => continue,
            Supply::Pull => pull(scope, service, wanted.quiet_pull)?,
            Supply::PullOrBuild => {
                if pull(scope, service, wanted.quiet_pull).is_err() {
                    build(scope, project, service, &building)?;
                }
            }
            Supply::Build => drop(build(scope, project, service, &building)?),
        }
        done.push(image);
    }
    Ok(())
}

fn missing(scope: &Scope<'_>, service: &Service) -> Error {
    let image = service.image();
    let error = Error::new(Kind::NotFound, format!("No such image: {image}"));
    match service.build() {
        Some(_) => {
            error.hint(format!("`cais compose -p {} build {}` builds it", scope.name, service.name))
        }
        None => error.hint("`cais compose pull` gets it"),
    }
}

fn age_s(added: &str) -> i64 {
    let added = added.parse::<Timestamp>();
    added.map_or(i64::MAX, |added| Timestamp::now().as_second() - added.as_second())
}

/// Pulls a service's image.
pub(super) fn pull(scope: &Scope<'_>, service: &Service, quiet: bool) -> Result<()> {
    let what = format!("Image {}", service.image());
    let report = scope.report;
    let since = report.begin(&what, "Pulling");
    let reference = crate::command::reference(&service.image())?;
    let platform = crate::command::platform(service.node.word_of("platform"))?;
    scope.session.relieve()?;
    let to = progress::To::Stderr;
    progress::pull(scope.engine, &reference, platform.as_ref(), to, quiet || report.is_quiet())?;
    report.done(&what, "Pulled", since);
    Ok(())
}

/// Builds a service's image; the exit code of `build`, which says whether `--check` found anything.
pub(super) fn build(
    scope: &Scope<'_>,
    project: &Project,
    service: &Service,
    building: &Building,
) -> Result<i32> {
    let what = format!("Image {}", service.image());
    let since = scope.report.begin(&what, "Building");
    let inline = inline_file(service)?;
    let mut words = options(project, service, building)?;
    if let Some(file) = &inline {
        words.push(format!("--file={}", file.path.display()));
    }
    let node = service.build().ok_or_else(|| missing(scope, service))?;
    words.push("--".to_owned());
    words.push(node.word_of("context").unwrap_or(".").to_owned());
    let args: crate::command::build::Args = typed("build", words)?;
    let code = crate::command::build::run(scope.session, &args)?;
    scope.report.done(&what, if building.check { "Checked" } else { "Built" }, since);
    Ok(code)
}

fn options(project: &Project, service: &Service, building: &Building) -> Result<Vec<String>> {
    let Some(node) = service.build() else { return Ok(Vec::new()) };
    let unsupported = |key: &str, hint: &str| {
        let place = node.get(key).map_or(&node.place, |node| &node.place);
        let message = format!("{place}: services.{}.build.{key} is not supported", service.name);
        Err(Error::new(Kind::Unsupported, message).hint(hint))
    };
    for key in ["ssh", "cache_from", "cache_to", "provenance", "sbom", "isolation", "privileged"] {
        let is_off = node.word_of(key).is_some_and(|word| word == "false" || word == "default");
        if node.get(key).is_some() && !is_off {
            return unsupported(key, "leave it out");
        }
    }
    let mut words = of_files(project, service, node)?;
    let mut option = |name: &str, value: &str| words.push(format!("--{name}={value}"));
    for (is_set, name) in [
        (building.no_cache || node.is("no_cache"), "no-cache"),
        (building.pull || node.is("pull"), "pull"),
        (building.quiet, "quiet"),
        (building.push, "push"),
        (building.check, "check"),
    ] {
        if is_set {
            option(name, "true");
        }
    }
    building.args.iter().for_each(|arg| option("build-arg", arg));
    for (name, value) in [("progress", &building.progress), ("memory", &building.memory)] {
        if let Some(value) = value {
            option(name, value);
        }
    }
    Ok(words)
}

/// The options that the files ask for.
fn of_files(project: &Project, service: &Service, node: &Node) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut option = |name: &str, value: &str| words.push(format!("--{name}={value}"));
    option("tag", &service.image());
    for tag in node.words_of("tags") {
        option("tag", tag);
    }
    if let Some(file) = node.word_of("dockerfile") {
        option("file", &in_context(node, file));
    }
    for key in ["target", "network", "shm_size"] {
        if let Some(word) = node.word_of(key) {
            option(&key.replace('_', "-"), word);
        }
    }
    for (name, value) in node.pairs_of("args") {
        match value {
            Some(value) => option("build-arg", &format!("{name}={value}")),
            None => option("build-arg", name),
        }
    }
    for (name, value) in node.pairs_of("labels") {
        option("label", &format!("{name}={}", value.unwrap_or_default()));
    }
    for (name, value) in node.pairs_of("additional_contexts") {
        let value = value.unwrap_or_default();
        match value.strip_prefix("service:") {
            Some(other) => {
                let image =
                    project.services.get(other).map_or_else(|| other.to_owned(), Service::image);
                option("build-context", &format!("{name}=docker-image://{image}"));
            }
            None => option("build-context", &format!("{name}={value}")),
        }
    }
    let lists = [
        ("entitlements", "allow"),
        ("no_cache_filter", "no-cache-filter"),
        ("extra_hosts", "add-host"),
    ];
    for (key, name) in lists {
        node.words_of(key).iter().for_each(|word| option(name, word));
    }
    for (name, limit) in node.get("ulimits").and_then(Node::entries).into_iter().flat_map(Map::iter)
    {
        let both = limit.word().map(str::to_owned);
        let pair = || {
            let word = |key: &str| limit.word_of(key).unwrap_or_default().to_owned();
            format!("{}:{}", word("soft"), word("hard"))
        };
        option("ulimit", &format!("{name}={}", both.unwrap_or_else(pair)));
    }
    let own = service.node.word_of("platform");
    match (&node.words_of("platforms")[..], own) {
        ([], None) => {}
        ([], Some(platform)) => option("platform", platform),
        (several, own) => option("platform", own.unwrap_or(several[0])),
    }
    secrets(project, service, node, &mut option)?;
    Ok(words)
}

/// A Dockerfile's path is relative to its context, where that is a directory.
fn in_context(node: &Node, file: &str) -> String {
    match node.word_of("context") {
        Some(context) if context.starts_with('/') => {
            std::path::Path::new(context).join(file).display().to_string()
        }
        _ => file.to_owned(),
    }
}

fn secrets(
    project: &Project,
    service: &Service,
    node: &Node,
    option: &mut dyn FnMut(&str, &str),
) -> Result<()> {
    for item in node.get("secrets").map(Node::items).unwrap_or_default() {
        let source = item.word_of("source").unwrap_or_default();
        let Some(secret) = project.secrets.get(source) else {
            let message = format!(
                "{}: services.{}.build.secrets refers to undefined secret {source}",
                item.place, service.name
            );
            return Err(Error::invalid(message).hint("define it under secrets: at the top level"));
        };
        let id =
            item.word_of("target").and_then(|target| target.rsplit('/').next()).unwrap_or(source);
        if let Some(file) = secret.node.word_of("file") {
            option("secret", &format!("id={id},src={file}"));
        } else if let Some(variable) = secret.node.word_of("environment") {
            option("secret", &format!("id={id},env={variable}"));
        }
    }
    Ok(())
}

/// A file with a Dockerfile that stands in the Compose file; gone when it is dropped.
struct InlineFile {
    path: std::path::PathBuf,
}

impl Drop for InlineFile {
    fn drop(&mut self) {
        // It is small, and where such files are cleared away.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn inline_file(service: &Service) -> Result<Option<InlineFile>> {
    let Some(text) = service.build().and_then(|build| build.word_of("dockerfile_inline")) else {
        return Ok(None);
    };
    let name = format!("cais-{}-{}.Dockerfile", std::process::id(), service.name);
    let path = std::env::temp_dir().join(name);
    let written = std::fs::File::options().write(true).create_new(true).open(&path);
    let written =
        written.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| {
        Error::caused(Kind::Internal, format!("write {}", path.display()), error)
    })?;
    Ok(Some(InlineFile { path }))
}
