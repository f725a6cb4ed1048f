//! `cais compose down`

use std::collections::BTreeSet;

use ::compose::Project;
use engine::{Error, Kind, Result};

use super::apply::Apply;
use super::scope::{OneOff, Scope};
use crate::session::Session;

/// What `down` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Remove images used by services. "local" remove only images that don't have a custom tag
    #[arg(long, value_name = "WHICH", value_parser = ["local", "all"])]
    rmi: Option<String>,
    /// Specify a shutdown timeout in seconds
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<i64>,
    /// Remove named volumes declared in the "volumes" section of the Compose file and anonymous
    /// volumes attached to containers
    #[arg(short, long, visible_alias = "volume")]
    volumes: bool,
    /// The services; all without one
    services: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(&args.services)?;
    let empty;
    let project = match scope.project_if_any() {
        Some(project) => project,
        None => {
            empty = nothing(&scope)?;
            &empty
        }
    };
    take_down(&scope, project, args)?;
    Ok(0)
}

/// A project that is known by its name alone.
pub(super) fn nothing(scope: &Scope<'_>) -> Result<Project> {
    let text = "services: {none: {image: none}}".to_owned();
    let read = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let request = ::compose::Request {
        files: vec![("-".into(), text)],
        directory: "/".into(),
        name: Some(scope.name.clone()),
        environment: std::collections::BTreeMap::new(),
        interpolates: false,
        home: "/".into(),
        read: &read,
    };
    let mut project = Project::load(&request, &[]).map_err(super::from_compose)?;
    project.services.clear();
    project.networks.clear();
    project.files.clear();
    Ok(project)
}

fn take_down(scope: &Scope<'_>, project: &Project, args: &Args) -> Result<()> {
    let mut apply = Apply::new(scope, project);
    apply.timeout_s = args.timeout;
    let has_files = scope.project_if_any().is_some();
    let mut containers = scope.containers(&args.services, OneOff::With)?;
    if has_files && !args.remove_orphans {
        let known: BTreeSet<String> = project.all().map(|service| service.name.clone()).collect();
        containers.retain(|found| known.contains(&super::observed::service(found)));
    }
    let is_empty = containers.is_empty();
    for group in scope.in_stop_order(containers) {
        apply.stop(&group)?;
        group.iter().try_for_each(|found| apply.remove(found, args.volumes))?;
    }
    if let Some(which) = &args.rmi {
        remove_images(scope, project, &args.services, which)?;
    }
    if !args.services.is_empty() {
        return Ok(());
    }
    let networks = remove_networks(scope, has_files.then_some(project))?;
    let volumes =
        if args.volumes { remove_volumes(scope, has_files.then_some(project))? } else { 0 };
    if is_empty && networks + volumes == 0 && args.rmi.is_none() {
        crate::progress::note(&format!(
            "WARN: No resource found to remove for project \"{}\".",
            scope.name
        ));
    }
    Ok(())
}

/// Removes the project's networks; how many.
fn remove_networks(scope: &Scope<'_>, project: Option<&Project>) -> Result<usize> {
    let is_ours = |network: &engine::Network| {
        let label = |key: &str| network.labels.get(key).map(String::as_str);
        label(::compose::create::PROJECT) == Some(scope.name.as_str())
            && project.is_none_or(|project| {
                let mut external = project.networks.values().filter(|network| network.is_external);
                !external.any(|known| known.name == network.name)
            })
    };
    let mut count = 0;
    for network in scope.engine.networks()?.iter().filter(|network| is_ours(network)) {
        let what = format!("Network {}", network.name);
        let since = scope.report.begin(&what, "Removing");
        match scope.engine.remove_network(network) {
            Err(error) if error.kind() == Kind::Conflict => {
                scope.report.done(&what, "Resource is still in use", since);
                continue;
            }
            Err(error) if error.kind() == Kind::NotFound => {}
            outcome => outcome?,
        }
        scope.report.done(&what, "Removed", since);
        count += 1;
    }
    Ok(count)
}

fn remove_volumes(scope: &Scope<'_>, project: Option<&Project>) -> Result<usize> {
    let declared = |name: &str| {
        project.is_none_or(|project| {
            project.volumes.values().any(|volume| !volume.is_external && volume.name == name)
        })
    };
    let mut count = 0;
    for volume in scope.engine.volume_list()? {
        let labels = volume.labels.clone().unwrap_or_default();
        let is_ours = labels.get(::compose::create::PROJECT) == Some(&scope.name);
        if !(is_ours && declared(&volume.name)) {
            continue;
        }
        let what = format!("Volume {}", volume.name);
        let since = scope.report.begin(&what, "Removing");
        match scope.engine.remove_volume(&volume.name) {
            Err(error) if error.kind() == Kind::Conflict => {
                scope.report.done(&what, "Resource is still in use", since);
                continue;
            }
            Err(error) if error.kind() == Kind::NotFound => {}
            outcome => outcome?,
        }
        scope.report.done(&what, "Removed", since);
        count += 1;
    }
    Ok(count)
}

fn remove_images(
    scope: &Scope<'_>,
    project: &Project,
    services: &[String],
    which: &str,
) -> Result<()> {
    let mut images = BTreeSet::new();
    for service in project.services.values() {
        let is_local = service.node.get("image").is_none();
        if (which == "all" || is_local) && (services.is_empty() || services.contains(&service.name))
        {
            images.insert(service.image());
        }
    }
    for image in images {
        let what = format!("Image {image}");
        let since = scope.report.begin(&what, "Removing");
        match scope.engine.remove_image(&image, false) {
            Ok(_) => scope.report.done(&what, "Removed", since),
            Err(error) if error.kind() == Kind::NotFound => {
                scope.report.done(&what, "Warning: No resource found to remove", since);
            }
            Err(error) if error.kind() == Kind::Conflict => {
                scope.report.done(&what, "Resource is still in use", since);
            }
            Err(error) => {
                return Err(Error::caused(error.kind(), format!("remove image {image}"), error));
            }
        }
    }
    Ok(())
}
