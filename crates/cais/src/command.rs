//! The commands: one table, one file for each.

mod argument;
mod attach;
mod change;
mod commit;
mod copy;
mod create;
pub(crate) mod create_options;
mod diff;
mod exec;
mod export;
mod filter;
mod grammar;
mod history;
mod images;
mod import;
mod inspect;
mod kill;
mod load;
mod login;
mod logout;
mod logs;
mod manifest;
mod migrate;
mod pause;
mod ps;
mod pull;
mod push;
mod registry;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod shown;
mod start;
mod stats;
mod stop;
mod tag;
mod top;
mod update;
mod version;
mod wait;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::styling::Styles;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use engine::{Error, Kind, Result};

use argument::{DETACH_KEYS, age, detach_keys, local_time, open, platform, reference, to_output};
use shown::{each, report, show};

use self::registry::{gc, serve};
use crate::session::Session;
use manifest::{
    annotate as manifest_annotate, create as manifest_create, inspect as manifest_inspect,
    push as manifest_push, rm as manifest_rm,
};

/// The exit code of `run`, `exec` and their like when Cais itself failed; Docker's.
const FAILED: i32 = 125;
/// The exit code of wrong usage of everything else.
const USAGE: i32 = 2;

/// One command.
pub(crate) struct Verb {
    name: &'static str,
    aliases: &'static [&'static str],
    about: &'static str,
    examples: &'static str,
    /// Adds the options, as help shows them.
    augment: fn(Command) -> Command,
    /// Adds the options, as they are read.
    read: fn(Command) -> Command,
    run: fn(&Session, &ArgMatches) -> Result<i32>,
}

/// Makes a [`Verb`] of a module that has `Args` and `run`, or another function in its place.
macro_rules! verb {
    ($name:literal $(| $alias:literal)*, $module:ident, $about:literal, $examples:literal) => {
        verb!($name $(| $alias)*, $module::run, $about, $examples)
    };
    ($name:literal $(| $alias:literal)*, $module:ident::$run:ident, $about:literal, $examples:literal) => {
        Verb {
            name: $name,
            aliases: &[$($alias),*],
            about: $about,
            examples: $examples,
            // The arguments' own docstring would stand in the place of what the command is about.
            augment: |command| <$module::Args as Args>::augment_args(command).about($about),
            read: |command| {
                grammar::docker(<$module::Args as Args>::augment_args(command).about($about))
            },
            run: |session, matches| {
                let args = <$module::Args as FromArgMatches>::from_arg_matches(matches);
                $module::$run(session, &args.map_err(usage)?)
            },
        }
    };
}

/// `cais container …`, and at the top level.
const CONTAINER: &[Verb] = &[
    verb!(
        "attach",
        attach,
        "Attach local standard input, output, and error streams to a running container",
        "cais attach web\n  cais attach --no-stdin web"
    ),
    verb!(
        "commit",
        commit,
        "Create a new image from a container's changes",
        "cais commit -m 'tools added' web mine:2\n  cais commit -c 'CMD [\"sh\"]' -c 'ENV A=1' web mine:3"
    ),
    verb!("create", create, "Create a new container", "cais create --name web nginx"),
    verb!(
        "diff",
        diff,
        "Inspect changes to files or directories on a container's filesystem",
        "cais container diff web"
    ),
    verb!(
        "exec",
        exec,
        "Execute a command in a running container",
        "cais exec -it web sh\n  cais exec -u nobody web id"
    ),
    verb!(
        "export",
        export,
        "Export a container's filesystem as a tar archive",
        "cais export -o web.tar web\n  cais export web | tar -t"
    ),
    verb!(
        "inspect",
        inspect::run_container,
        "Display detailed information on one or more containers",
        "cais container inspect -f '{{.State.Status}}' web"
    ),
    verb!("kill", kill, "Kill one or more running containers", "cais kill -s HUP web"),
    verb!("logs", logs, "Fetch the logs of a container", "cais logs -f --tail 20 web"),
    verb!("pause", pause, "Pause all processes within one or more containers", "cais pause web"),
    verb!(
        "ps" | "ls" | "list",
        ps,
        "List containers",
        "cais ps -a\n  cais ps -q -f status=exited\n  cais ps --format '{{.Names}}: {{.Status}}'"
    ),
    verb!("rename", rename, "Rename a container", "cais rename web web-old"),
    verb!("restart", restart, "Restart one or more containers", "cais restart -t 30 web"),
    verb!("rm" | "remove", rm, "Remove one or more containers", "cais rm -f web"),
    verb!(
        "run",
        run,
        "Create and run a new container from an image",
        "cais run --rm -it ubuntu bash\n  cais run -d --name web -m 256m --cpus 0.5 nginx\n  cais run --rm -v \"$PWD\":/work -w /work python:3 python job.py"
    ),
    verb!("start", start, "Start one or more stopped containers", "cais start -a web"),
    verb!(
        "stats",
        stats,
        "Display a live stream of container(s) resource usage statistics",
        "cais stats\n  cais stats --no-stream --format '{{.Name}}: {{.MemUsage}}' web"
    ),
    verb!("stop", stop, "Stop one or more running containers", "cais stop -t 30 web"),
    verb!(
        "top",
        top,
        "Display the running processes of a container",
        "cais top web\n  cais top web -o pid,args"
    ),
    verb!(
        "unpause",
        pause::unpause,
        "Unpause all processes within one or more containers",
        "cais unpause web"
    ),
    verb!(
        "update",
        update,
        "Update configuration of one or more containers",
        "cais update -m 512m --cpus 2 web\n  cais update --restart unless-stopped web"
    ),
    verb!(
        "wait",
        wait,
        "Block until one or more containers stop, then print their exit codes",
        "cais wait web"
    ),
];

/// `cais image …`, and at the top level under the names of [`TOP_IMAGE`].
const IMAGE: &[Verb] = &[
    verb!("history", history, "Show the history of an image", "cais history ubuntu"),
    verb!(
        "import",
        import,
        "Import the contents from a tarball to create a filesystem image",
        "cais import rootfs.tar mine:1\n  tar -C rootfs -c . | cais import - mine:1"
    ),
    verb!(
        "inspect",
        inspect::run_image,
        "Display detailed information on one or more images",
        "cais image inspect -f '{{.Architecture}}' ubuntu"
    ),
    verb!("load", load, "Load an image from a tar archive or STDIN", "cais load -i images.tar"),
    verb!("ls" | "list", images, "List images", "cais image ls -q"),
    verb!(
        "pull",
        pull,
        "Download an image from a registry",
        "cais pull ubuntu:24.04\n  cais pull --platform linux/arm64 alpine"
    ),
    verb!(
        "push",
        push,
        "Upload an image to a registry",
        "cais push registry.example.com/mine:1\n  cais push -a registry.example.com/mine"
    ),
    verb!("rm" | "remove", rmi, "Remove one or more images", "cais rmi ubuntu:24.04"),
    verb!(
        "save",
        save,
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        "cais save -o images.tar ubuntu:24.04 mine:1\n  cais save mine:1 | ssh elsewhere cais load"
    ),
    verb!(
        "tag",
        tag,
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        "cais tag mine:1 registry.example.com/mine:1"
    ),
];

/// `cais manifest …`.
const MANIFEST: &[Verb] = &[
    verb!(
        "annotate",
        manifest_annotate::run,
        "Add additional information to a local image manifest",
        "cais manifest annotate --arch arm64 --variant v8 registry.example.com/app:1 registry.example.com/app:1-arm"
    ),
    verb!(
        "create",
        manifest_create::run,
        "Create a local manifest list for annotating and pushing to a registry",
        "cais manifest create registry.example.com/app:1 registry.example.com/app:1-amd registry.example.com/app:1-arm"
    ),
    verb!(
        "inspect",
        manifest_inspect::run,
        "Display an image manifest, or manifest list",
        "cais manifest inspect alpine:3\n  cais manifest inspect -v registry.example.com/app:1"
    ),
    verb!(
        "push",
        manifest_push::run,
        "Push a manifest list to a repository",
        "cais manifest push -p registry.example.com/app:1"
    ),
    verb!(
        "rm",
        manifest_rm::run,
        "Delete one or more manifest lists from local storage",
        "cais manifest rm registry.example.com/app:1"
    ),
];

/// The commands about images that stand at the top level too, by their names there and in the
/// group.
const TOP_IMAGE: &[(&str, &str)] = &[
    ("history", "history"),
    ("images", "ls"),
    ("import", "import"),
    ("load", "load"),
    ("pull", "pull"),
    ("push", "push"),
    ("rmi", "rm"),
    ("save", "save"),
    ("tag", "tag"),
];

/// `cais registry …`
const REGISTRY: &[Verb] = &[
    verb!(
        "gc",
        gc,
        "Remove what no manifest of a repository needs any more",
        "cais registry gc\n  cais registry gc --untagged --min-age 24h"
    ),
    verb!(
        "serve",
        serve,
        "Serve a registry of images from this machine's store",
        "cais registry serve\n  cais registry serve --addr 0.0.0.0:443 --tls-cert site.crt --tls-key site.key --htpasswd users\n  cais registry serve --mirror-of docker.io --mirror-of quay.io"
    ),
];

/// `cais system …`
const SYSTEM: &[Verb] = &[verb!(
    "migrate",
    migrate,
    "Convert all layers to another storage driver",
    "cais system migrate --to erofs\n  cais system migrate --to dir"
)];

/// The commands about Cais itself, and about anything.
const OWN: &[Verb] = &[
    verb!(
        "copy",
        copy,
        "Copy an image between registries, archives, directories and the store, without unpacking",
        "cais copy ubuntu:24.04 registry.example.com/mirror/ubuntu:24.04\n  cais copy --all docker://alpine:3 oci:layout:alpine\n  cais copy store:mine:1 docker-archive:mine.tar:mine:1"
    ),
    verb!(
        "inspect",
        inspect,
        "Display detailed information on one or more objects",
        "cais inspect web\n  cais inspect -f '{{.State.Status}}' web"
    ),
    verb!(
        "login",
        login,
        "Authenticate to a registry",
        "cais login registry.example.com\n  cais login -u me --password-stdin <secret"
    ),
    verb!("logout", logout, "Log out from a registry", "cais logout registry.example.com"),
    verb!(
        "search",
        search,
        "Search Docker Hub for images",
        "cais search --filter is-official=true postgres\n  cais search registry.example.com/app"
    ),
    verb!("version", version, "Show the Cais version information", "cais version"),
];

/// Commands whose failures are [`FAILED`], so that they are told from the container's own codes.
const RUNNERS: &[&str] = &["run", "create", "exec", "start", "attach"];

/// Commands that make processes in containers.
const SEALED: &[&str] = &["run", "exec", "start", "restart"];

/// `cais`, three global options with their values, a group, and the command.
const COMMAND_PLACE_MAX: usize = 9;

/// What a command's options are added by: [`Verb::read`], or [`Verb::augment`].
type Grammar = fn(&'static Verb) -> fn(Command) -> Command;

fn command(grammar: Grammar) -> Command {
    let path = |name: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).help(help).global(true).help_heading("Global options");
        arg.value_name("DIR").value_parser(value_parser!(PathBuf))
    };
    let version = Arg::new("version").short('v').short_alias('V').long("version");
    let version = version.action(ArgAction::Version).help("Print version");
    let top = Command::new("cais")
        .about("Builds images, runs containers and orchestrates them: one static binary")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .arg(version)
        .styles(Styles::plain())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(path("root", "Where state is kept (CAIS_ROOT)"))
        .arg(path("run-root", "Where state is kept that ends with the machine (CAIS_RUN)"))
        .arg(storage_driver())
        .subcommand(group("container", "Manage containers", CONTAINER, grammar))
        .subcommand(group("image", "Manage images", IMAGE, grammar))
        .subcommand(group("registry", "Serve a registry of images", REGISTRY, grammar))
        .subcommand(group(
            "manifest",
            "Manage image manifests and manifest lists",
            MANIFEST,
            grammar,
        ))
        .subcommand(group("system", "Manage Cais", SYSTEM, grammar))
        .subcommand(crate::oci::command())
        .subcommand(completion());
    let at_top = CONTAINER.iter().filter(|verb| verb.name != "inspect");
    let top = at_top.chain(OWN).fold(top, |top, verb| {
        let aliases = if verb.name == "ps" { &[] } else { verb.aliases };
        top.subcommand(build(verb.name, verb, aliases, grammar))
    });
    TOP_IMAGE.iter().fold(top, |top, (name, inner)| {
        let verb = IMAGE.iter().find(|verb| verb.name == *inner);
        top.subcommand(build(name, verb.expect("every name stands for a command"), &[], grammar))
    })
}

fn storage_driver() -> Arg {
    let help = "How layers are kept: erofs or dir (CAIS_STORAGE_DRIVER)";
    let arg = Arg::new("storage-driver").long("storage-driver").help(help).global(true);
    arg.help_heading("Global options").value_name("DRIVER")
}

fn group(
    name: &'static str,
    about: &'static str,
    verbs: &'static [Verb],
    grammar: Grammar,
) -> Command {
    let group =
        Command::new(name).about(about).subcommand_required(true).arg_required_else_help(true);
    verbs
        .iter()
        .fold(group, |group, verb| group.subcommand(build(verb.name, verb, verb.aliases, grammar)))
}

/// A subcommand whose options are only made when it is the one that was called.
fn build(
    name: &'static str,
    verb: &'static Verb,
    aliases: &'static [&'static str],
    grammar: Grammar,
) -> Command {
    let command = Command::new(name)
        .about(verb.about)
        .visible_aliases(aliases)
        .after_help(format!("Examples:\n  {}", verb.examples));
    // `-h` is the host name's in `run` and `create`; `--help` is help everywhere.
    let help = Arg::new("help").long("help").action(ArgAction::Help).help("Print help");
    let command = command.disable_help_flag(true).arg(help);
    command.defer(grammar(verb))
}

fn completion() -> Command {
    let shell = Arg::new("shell").required(true).value_parser(value_parser!(clap_complete::Shell));
    Command::new("completion").about("Generate the autocompletion script for a shell").arg(shell)
}

/// Whether one of `names` is among the first words: behind global options, where a command stands.
fn calls(args: &[OsString], names: &[&str]) -> bool {
    args.iter().take(COMMAND_PLACE_MAX).any(|arg| names.iter().any(|name| arg == *name))
}

/// Seals the program before it does anything else, if it is to make processes that a container
/// sees; the sealed program starts anew, so later would be twice.
pub(crate) fn seal(args: &[OsString]) -> std::result::Result<(), ExitCode> {
    if !calls(args, SEALED) {
        return Ok(());
    }
    engine::seal().map_err(|error| {
        report(&error);
        ExitCode::from(FAILED as u8)
    })
}

/// Reads the command line; prints help, versions and usage errors itself.
pub(crate) fn parse(args: &[OsString]) -> std::result::Result<ArgMatches, ExitCode> {
    let runs = calls(args, RUNNERS);
    command(|verb| verb.read).try_get_matches_from(args).map_err(|mut error| {
        advise(&mut error);
        if error.kind() == ErrorKind::DisplayHelp {
            error = help(args).unwrap_or(error);
        }
        // Nobody to tell if standard error is closed.
        let _ = error.print();
        match error.use_stderr() {
            true if runs => ExitCode::from(FAILED as u8),
            true => ExitCode::from(USAGE as u8),
            false => ExitCode::SUCCESS,
        }
    })
}

/// The help of the command that `args` call, with its options as they are written.
fn help(args: &[OsString]) -> Option<clap::Error> {
    let groups = [CONTAINER, IMAGE, MANIFEST, REGISTRY, SYSTEM, OWN];
    let verbs = || groups.into_iter().flatten();
    let is_command = |word: &&OsString| {
        let top = TOP_IMAGE.iter().map(|(name, _)| *name);
        let names = verbs().flat_map(|verb| verb.aliases.iter().copied().chain([verb.name]));
        top.chain(names)
            .chain(["container", "image", "manifest", "registry", "system", "completion"])
            .any(|name| *word == name)
    };
    let path = args.iter().skip(1).take(COMMAND_PLACE_MAX).filter(is_command).cloned();
    let words = ["cais".into()].into_iter().chain(path).chain(["--help".into()]);
    command(|verb| verb.augment).try_get_matches_from(words.collect::<Vec<OsString>>()).err()
}

/// Commands of Docker's that are known, and not supported yet.
const UNSUPPORTED: &[&str] = &[
    "build", "builder", "buildx", "compose", "config", "context", "cp", "events", "info",
    "network", "node", "plugin", "port", "prune", "secret", "service", "stack", "swarm", "trust",
    "volume",
];

/// Puts right what a usage error says: a word of Docker's that is missing here is no misspelling,
/// and an option that nobody knows is not meant to follow `--`.
fn advise(error: &mut clap::Error) {
    let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand) else {
        if error.kind() == ErrorKind::UnknownArgument {
            let _ = error.remove(ContextKind::Suggested);
        }
        return;
    };
    if UNSUPPORTED.contains(&name.as_str()) {
        let advice = format!("{name} is a command of Docker's that is not supported yet");
        let _ = error.remove(ContextKind::SuggestedSubcommand);
        let advice = ContextValue::StyledStrs(vec![advice.into()]);
        let _ = error.insert(ContextKind::Suggested, advice);
    }
}

/// Runs the command that was called; says what failed, and returns the exit code.
pub(crate) fn run(matches: &ArgMatches) -> i32 {
    let Some((name, inner)) = matches.subcommand() else { return USAGE };
    if name == "completion" {
        return complete(inner);
    }
    let (name, verb, inner) = match (name, inner.subcommand()) {
        ("container", Some((name, inner))) => (name, find(CONTAINER, name), inner),
        ("image", Some((name, inner))) => (name, find(IMAGE, name), inner),
        ("registry", Some((name, inner))) => (name, find(REGISTRY, name), inner),
        ("manifest", Some((name, inner))) => (name, find(MANIFEST, name), inner),
        ("system", Some((name, inner))) => (name, find(SYSTEM, name), inner),
        (name, _) => (name, find_top(name), inner),
    };
    let verb = verb.expect("clap accepts only what is in the tables");
    let outcome = Session::new(matches).and_then(|session| (verb.run)(&session, inner));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            match error.kind() {
                Kind::CommandNotFound => 127,
                Kind::CommandNotExecutable => 126,
                _ if name == "run" => FAILED,
                // As Docker: what is wrong with the process, not with the container.
                Kind::Invalid if name == "exec" => 126,
                _ => 1,
            }
        }
    }
}

fn find(verbs: &'static [Verb], name: &str) -> Option<&'static Verb> {
    verbs.iter().find(|verb| verb.name == name)
}

fn find_top(name: &str) -> Option<&'static Verb> {
    let image = TOP_IMAGE.iter().find(|(top, _)| *top == name);
    match image {
        Some((_, inner)) => find(IMAGE, inner),
        None => find(OWN, name).or_else(|| find(CONTAINER, name)),
    }
}

fn usage(error: clap::Error) -> Error {
    Error::caused(Kind::Invalid, "read the options", error)
}

fn complete(matches: &ArgMatches) -> i32 {
    if let Some(shell) = matches.get_one::<clap_complete::Shell>("shell") {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut command(|verb| verb.augment), "cais", &mut script);
        // Whoever read it may have seen enough, as `head` has.
        let _ = std::io::Write::write_all(&mut std::io::stdout(), &script);
    }
    0
}
