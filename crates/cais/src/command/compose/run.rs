//! `cais compose run`

use std::io::IsTerminal as _;
use std::path::PathBuf;

use ::compose::plan::Options;
use ::compose::{Map, Node, Service};
use engine::{Attached, Attaching, Error, Kind, Outcome, RemoveOptions, Result};

use super::create::{Making as Create, Manner, bring_about};
use super::create_container::{Making, creation, make};
use super::scope::Scope;
use crate::session::Session;

/// What `run` takes.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cais compose run [OPTIONS] SERVICE [COMMAND] [ARGS...]")]
pub(in crate::command) struct Args {
    /// Build image before starting container
    #[arg(long)]
    build: bool,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Override the entrypoint of the image
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Set environment variables from file
    #[arg(long, value_name = "FILE")]
    env_from_file: Vec<PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(short, long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1)]
    #[arg(require_equals = true, default_value = "true", default_missing_value = "true")]
    #[arg(hide_default_value = true, value_parser = crate::command::grammar::Bool)]
    interactive: bool,
    /// Add or override a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Assign a name to the container
    #[arg(long)]
    name: Option<String>,
    /// Disable pseudo-TTY allocation. By default a terminal gets one
    #[arg(short = 'T', long, visible_alias = "no-TTY")]
    no_tty: bool,
    /// Don't start linked services
    #[arg(long)]
    no_deps: bool,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "[IP:][HOST:]CONTAINER[/PROTOCOL]")]
    publish: Vec<String>,
    /// Pull image before running (always, missing, never, policy)
    #[arg(long, value_name = "WHEN", default_value = "policy")]
    pull: String,
    /// Don't print anything but what the container writes
    #[arg(short, long)]
    quiet: bool,
    /// Suppress progress output from the build process
    #[arg(long)]
    quiet_build: bool,
    /// Pull without printing progress information
    #[arg(long)]
    quiet_pull: bool,
    /// Remove containers for services not defined in the Compose file
    #[arg(long)]
    remove_orphans: bool,
    /// Automatically remove the container when it exits
    #[arg(long)]
    rm: bool,
    /// Run command with all service's ports enabled and mapped to the host
    #[arg(short = 'P', long)]
    service_ports: bool,
    /// Allocate a pseudo-TTY, which is so in any case on a terminal
    #[arg(short, long, hide = true)]
    tty: bool,
    /// Use the service's network aliases in the networks that the container connects to
    #[arg(long)]
    use_aliases: bool,
    /// Run as specified username or uid
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Bind mount a volume
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The service; then the command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_names = ["SERVICE", "COMMAND"])]
    #[arg(num_args = 1..)]
    service_and_command: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    if args.service_ports && !args.publish.is_empty() {
        return Err(Error::invalid("--service-ports and --publish are incompatible"));
    }
    let mut scope = Scope::load(session)?;
    scope.report = scope.report.quiet(args.quiet);
    let (name, command) = args.service_and_command.split_first().expect("a service is required");
    let mut services = scope.select(std::slice::from_ref(name), !args.no_deps)?;
    services.retain(|other| other != name);
    let create = Create {
        build: args.build,
        pull: args.pull.clone(),
        quiet_pull: args.quiet_pull || args.quiet,
        remove_orphans: args.remove_orphans,
        ..Create::default()
    };
    let wanted = create.wanted(args.quiet_build || args.quiet)?;
    let options = Options { services, starts: true, ..create.options(&[])? };
    bring_about(&scope, &wanted, &options, &Manner::default(), None)?;
    let project = scope.project()?;
    super::image::provide(&scope, project, std::slice::from_ref(name), &wanted)?;
    prepare_networks(&scope, name)?;
    let service = project.services.get(name);
    let service = service.ok_or_else(|| super::from_compose(project.no_such_service(name)))?;
    run_once(&scope, args, &changed(service, args), command)
}

/// The networks and volumes of a service, without its containers.
fn prepare_networks(scope: &Scope<'_>, name: &str) -> Result<()> {
    let mut project = scope.project()?.clone();
    if let Some(service) = project.services.get_mut(name) {
        service.scale = Some(0);
    }
    let world = super::observed::World::look(scope)?;
    let options = Options { services: vec![name.to_owned()], ..Options::default() };
    let mut plan =
        ::compose::plan::plan(&project, &world, &options).map_err(super::from_compose)?;
    let makes = |step: &::compose::plan::Step| {
        use ::compose::plan::Step::{CreateNetwork, CreateVolume};
        matches!(step, CreateNetwork(_) | CreateVolume(_))
    };
    plan.steps.retain(makes);
    plan.orphans.clear();
    super::apply::Apply::new(scope, &project).run(&plan)
}

/// A service without what makes sense for its own containers alone.
fn changed(service: &Service, args: &Args) -> Service {
    let mut service = service.clone();
    let place = service.node.place.clone();
    let Some(map) = service.node.entries_mut() else { return service };
    for key in ["restart", "container_name", "tty", "stdin_open", "scale"] {
        map.remove(key);
    }
    if let Some(deploy) = map.get_mut("deploy").and_then(Node::entries_mut) {
        deploy.remove("restart_policy");
        deploy.remove("replicas");
    }
    if !args.service_ports {
        map.remove("ports");
    }
    for network in
        map.get_mut("networks").and_then(Node::entries_mut).into_iter().flat_map(Map::iter_mut)
    {
        if let Some(map) = network.1.entries_mut().filter(|_| !args.use_aliases) {
            for key in ["aliases", "ipv4_address", "ipv6_address", "mac_address"] {
                map.remove(key);
            }
        }
    }
    if let Some(entrypoint) = &args.entrypoint {
        let words = entrypoint.split_whitespace();
        map.set("entrypoint", Node::texts(words, &place));
        map.remove("command");
    }
    service
}

fn run_once(scope: &Scope<'_>, args: &Args, service: &Service, command: &[String]) -> Result<i32> {
    let engine = scope.engine;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => format!("{}-{}-run-{}", scope.name, service.name, slug()?),
    };
    let making = Making {
        name: &name,
        number: 1,
        is_one_off: true,
        has_aliases: args.use_aliases,
        heir_of: None,
    };
    let mut creation = creation(scope, scope.project()?, service, &making)?;
    if !command.is_empty() {
        creation.command = command.to_vec();
    }
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let has_terminal = !args.no_tty && !args.detach && is_terminal;
    let stdin = args.interactive && !args.detach;
    let lists = [
        ("--env", &args.env),
        ("--label", &args.label),
        ("--publish", &args.publish),
        ("--volume", &args.volume),
        ("--cap-add", &args.cap_add),
        ("--cap-drop", &args.cap_drop),
    ];
    for env_file in &args.env_from_file {
        creation.option("--env-file", &env_file.display().to_string());
    }
    for (option, values) in lists {
        values.iter().for_each(|value| creation.option(option, value));
    }
    for (option, value) in [("--user", &args.user), ("--workdir", &args.workdir)] {
        if let Some(value) = value {
            creation.option(option, value);
        }
    }
    for (option, is_set) in [("--rm", args.rm), ("--tty", has_terminal), ("--interactive", stdin)] {
        creation.option(option, &is_set.to_string());
    }
    let streams = match args.detach {
        true => Attached::default(),
        false => Attached { stdin, stdout: true, stderr: true },
    };
    let container = make(engine, &creation, streams, None)?;
    let or_remove = |error| {
        if args.rm {
            // That it cannot start is what has to be known.
            let _ = engine.remove(&container, RemoveOptions { force: true, volumes: true });
        }
        error
    };
    if args.detach {
        engine.start(&container).map_err(or_remove)?;
        return scope.session.say(&container.record.name).map(|()| 0);
    }
    let keys = crate::command::detach_keys(crate::command::DETACH_KEYS)?;
    let by = Attaching { streams, keys: &keys, signals: true };
    match engine.start_attached(&container, &by).map_err(or_remove)? {
        Outcome::Exited(code) => Ok(code),
        Outcome::Detached => Ok(0),
    }
}

/// Twelve digits that no other container of `run` has.
fn slug() -> Result<String> {
    let mut bytes = [0_u8; 6];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(
        |error| Error::caused(Kind::Internal, "make a name", std::io::Error::from(error)),
    )?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
