//! `cais compose watch`: files that change are put into running containers, or their image is
//! built anew.

mod files;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ::compose::plan::{Options, Recreate};
use ::compose::{Node, Service};
use engine::{Container, Error, Exec, Extract, Kind, Result};

use super::create::{Manner, bring_about};
use super::image::Wanted;
use super::scope::{OneOff, Scope};
use crate::session::Session;
use files::Watched;

/// What `watch` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Do not build & start services before watching
    #[arg(long)]
    no_up: bool,
    /// Hide build output
    #[arg(long)]
    quiet: bool,
    /// The services; all without one
    services: Vec<String>,
}

/// What is done when files below a directory change.
struct Trigger {
    service: String,
    path: PathBuf,
    action: String,
    target: String,
    ignore: build::Ignore,
    include: Option<build::Ignore>,
    exec: Option<Node>,
    is_initial: bool,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let mut scope = Scope::load(session)?;
    let services = scope.select(&args.services, true)?;
    let project = scope.project()?;
    let mut triggers = Vec::new();
    for service in services.iter().filter_map(|name| project.services.get(name)) {
        triggers.extend(of_service(service)?);
    }
    if triggers.is_empty() {
        return Err(Error::invalid(
            "none of the selected services is configured for watch, consider setting a 'develop' section",
        ));
    }
    let wanted = Wanted { quiet_build: args.quiet, ..Wanted::default() };
    if !args.no_up {
        let options = Options { services: services.clone(), starts: true, ..Options::default() };
        bring_about(&scope, &wanted, &options, &Manner::default(), None)?;
    }
    let paths = triggers.iter().map(|trigger| trigger.path.clone());
    let mut watched = Watched::new(&paths.collect())?;
    for trigger in triggers.iter().filter(|trigger| trigger.is_initial) {
        sync(&scope, trigger, &BTreeSet::from([trigger.path.clone()]))?;
    }
    note(session, "Watch enabled")?;
    loop {
        let changed = watched.next()?;
        for trigger in &triggers {
            let own: BTreeSet<PathBuf> =
                changed.iter().filter(|path| trigger.wants(path)).cloned().collect();
            if !own.is_empty()
                && let Err(error) = act(&scope, trigger, &own, &wanted)
            {
                // The next change may be better.
                crate::command::report(&error);
            }
        }
    }
}

/// Says what is done, as Docker Compose does.
fn note(session: &Session, text: &str) -> Result<()> {
    session.say(format!(" ⦿ {text}"))
}

fn of_service(service: &Service) -> Result<Vec<Trigger>> {
    let rules = service.node.path(&["develop", "watch"]).map(Node::items).unwrap_or_default();
    let one = |rule: &Node| {
        let fail = |what: &str| {
            Error::invalid(format!(
                "{}: services.{}.develop.watch: {what}",
                rule.place, service.name
            ))
        };
        let word = |key: &str| rule.word_of(key).map(str::to_owned);
        let path = word("path").ok_or_else(|| fail("path is required"))?;
        let action = word("action").ok_or_else(|| fail("action is required"))?;
        let target = word("target").unwrap_or_default();
        if action.starts_with("sync") && target.is_empty() {
            return Err(fail("target is required by a sync action"));
        }
        if action == "rebuild" && service.build().is_none() {
            return Err(fail("rebuild needs a service with a build section"));
        }
        if action == "sync+exec" && rule.get("exec").is_none() {
            return Err(fail("sync+exec needs exec"));
        }
        let patterns = |key: &str| rule.words_of(key).join("\n");
        let mut ignored = patterns("ignore");
        if let Some(context) = service.build().and_then(|build| build.word_of("context"))
            && let Ok(text) = std::fs::read_to_string(Path::new(context).join(".dockerignore"))
            && path == context
        {
            ignored = format!("{text}\n{ignored}");
        }
        let ignore =
            |text: &str| build::Ignore::parse(text).map_err(|error| fail(&error.to_string()));
        let include = patterns("include");
        Ok(Trigger {
            service: service.name.clone(),
            path: path.into(),
            action,
            target,
            ignore: ignore(&format!("{ignored}\n.git\n**/*~\n**/.*.sw?"))?,
            include: if include.is_empty() { None } else { Some(ignore(&include)?) },
            exec: rule.get("exec").cloned(),
            is_initial: rule.is("initial_sync"),
        })
    };
    rules.iter().map(one).collect()
}

impl Trigger {
    fn wants(&self, path: &Path) -> bool {
        let Ok(below) = path.strip_prefix(&self.path) else { return false };
        let below = below.to_string_lossy();
        if below.is_empty() {
            return true;
        }
        let included = self.include.as_ref().is_none_or(|include| include.matches(&below));
        included && !self.ignore.matches(&below)
    }
}

fn act(
    scope: &Scope<'_>,
    trigger: &Trigger,
    changed: &BTreeSet<PathBuf>,
    wanted: &Wanted,
) -> Result<()> {
    let name = &trigger.service;
    match trigger.action.as_str() {
        "rebuild" => {
            note(
                scope.session,
                &format!("Rebuilding service(s) [\"{name}\"] after changes were detected..."),
            )?;
            let options = Options {
                services: vec![name.clone()],
                named: vec![name.clone()],
                recreate: Recreate::Changed,
                starts: true,
                ..Options::default()
            };
            let wanted = Wanted { builds: Some(true), ..wanted.clone() };
            bring_about(scope, &wanted, &options, &Manner::default(), None)?;
            note(scope.session, &format!("service(s) [\"{name}\"] successfully built"))?;
            Ok(())
        }
        "restart" => restart(scope, name),
        "sync+restart" => {
            sync(scope, trigger, changed)?;
            restart(scope, name)
        }
        _ => sync(scope, trigger, changed),
    }
}

fn restart(scope: &Scope<'_>, name: &String) -> Result<()> {
    for found in scope.containers(std::slice::from_ref(name), OneOff::Without)? {
        scope.engine.restart(&found, None, None)?;
    }
    note(scope.session, &format!("service(s) [\"{name}\"] restarted"))?;
    Ok(())
}

/// Copies what has changed into the service's containers, and removes from them what is gone.
fn sync(scope: &Scope<'_>, trigger: &Trigger, changed: &BTreeSet<PathBuf>) -> Result<()> {
    let name = &trigger.service;
    let (there, gone): (Vec<&PathBuf>, Vec<&PathBuf>) =
        changed.iter().partition(|path| path.symlink_metadata().is_ok());
    let packed = pack(trigger, &there)
        .map_err(|error| Error::caused(Kind::Internal, "pack files", error))?;
    for found in scope.containers(std::slice::from_ref(name), OneOff::Without)? {
        if !found.is_running() {
            continue;
        }
        if !there.is_empty() {
            let options = Extract { keeps_kinds: false, own_user: false };
            let files = scope.engine.files(&found)?;
            files.extract(Path::new("/"), options, &mut std::io::Cursor::new(&packed))?;
        }
        if !gone.is_empty() {
            let targets = gone.iter().map(|path| target(trigger, path));
            let command = ["rm", "-rf", "--"].into_iter().map(str::to_owned).chain(targets);
            exec(scope, &found, command.collect(), "", "")?;
        }
        if let Some(hook) = &trigger.exec {
            let command = hook.words_of("command").into_iter().map(str::to_owned).collect();
            let word = |key: &str| hook.word_of(key).unwrap_or_default().to_owned();
            exec(scope, &found, command, &word("user"), &word("working_dir"))?;
        }
    }
    note(
        scope.session,
        &format!("Syncing service \"{name}\" after {} changes were detected", changed.len()),
    )?;
    Ok(())
}

fn exec(
    scope: &Scope<'_>,
    found: &Container,
    command: Vec<String>,
    user: &str,
    workdir: &str,
) -> Result<()> {
    let exec =
        Exec { command, workdir: workdir.to_owned(), user: user.to_owned(), ..Exec::default() };
    scope.engine.exec(found, &exec).map(drop)
}

fn target(trigger: &Trigger, path: &Path) -> String {
    let below = path.strip_prefix(&trigger.path).unwrap_or(Path::new(""));
    Path::new(&trigger.target).join(below).display().to_string()
}

fn pack(trigger: &Trigger, paths: &[&PathBuf]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.follow_symlinks(false);
    let mut waiting: Vec<PathBuf> = paths.iter().map(|path| (*path).clone()).collect();
    while let Some(path) = waiting.pop() {
        let Ok(found) = path.symlink_metadata() else { continue };
        if found.is_dir() {
            let below = std::fs::read_dir(&path)?.flatten().map(|entry| entry.path());
            waiting.extend(below.filter(|path| trigger.wants(path)));
        } else if found.is_file() || found.is_symlink() {
            let name = target(trigger, &path);
            archive.append_path_with_name(&path, name.trim_start_matches('/'))?;
        }
    }
    archive.into_inner()
}
