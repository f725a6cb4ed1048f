//! The commands: one table, one file for each.

mod adopt;
mod agent;
mod argument;
mod attach;
mod bake;
mod build;
mod builder_prune;
mod cluster;
mod commit;
pub(crate) mod complete;
mod compose;
mod container_prune;
mod context;
mod copy;
mod cp;
mod create;
pub(crate) mod create_options;
mod debug_build;
mod df;
mod dial_stdio;
mod diff;
mod events;
mod exec;
mod export;
mod exposure;
mod fsck;
mod grammar;
mod history;
mod image_prune;
mod images;
mod import;
mod info;
mod inspect;
mod install;
mod kill;
mod kube;
mod load;
mod login;
mod logout;
mod logs;
mod manifest;
mod migrate;
mod network;
mod pause;
mod port;
mod prune;
mod ps;
mod pull;
mod push;
mod registry;
mod remote;
mod rename;
mod restart;
mod restore;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod serve;
mod server;
mod shown;
mod start;
mod stats;
mod stop;
mod table;
mod tag;
mod top;
mod tree;
mod update;
mod version;
mod volume;
mod wait;
mod why_cache;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::builder::styling::Styles;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use engine::{Error, Kind, Result};

use docker::age;
use docker::grammar::detach_keys;

use argument::{DETACH_KEYS, local_time, open, platform, reference, to_output};
use shown::{each, report, show};

use crate::session::Session;
pub(crate) use cluster::route;
use table::{CLUSTER, CONTAINER, GROUPS, IMAGE, IN_GROUP, OWN, TOP_IMAGE};

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

/// Commands whose failures are [`FAILED`], so that they are told from the container's own codes.
const RUNNERS: &[&str] = &["run", "create", "exec", "start", "attach"];

/// Commands that make processes in containers.
const SEALED: &[&str] = &[
    "build", "compose", "run", "exec", "start", "restart", "cp", "adopt", "restore", "serve",
    "server", "agent",
];

/// `cais`, three global options with their values, a group, and the command.
const COMMAND_PLACE_MAX: usize = 9;

/// What a command's options are added by: [`Verb::read`], or [`Verb::augment`].
type Grammar = fn(&'static Verb) -> fn(Command) -> Command;

/// The whole command line, or of its commands only the one that is called `only`.
fn command(grammar: Grammar, only: Option<&str>) -> Command {
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let path = |name: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).help(help).global(true).help_heading("Global options");
        arg.value_name("DIR").value_parser(value_parser!(PathBuf))
    };
    let version = Arg::new("version").short('v').short_alias('V').long("version");
    let version = version.action(ArgAction::Version).help("Print version");
    let top = Command::new("cais")
        .about("Pulls and pushes images, runs containers and shows what they changed: one static binary")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .arg(version)
        .styles(Styles::plain())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(path("root", "Where state is kept (CAIS_ROOT)"))
        .arg(path("run-root", "Where state is kept that ends with the machine (CAIS_RUN)"))
        .arg(storage_driver());
    let top = remote::arguments(top);
    let top = match only {
        None => top.subcommand(crate::oci::command()).subcommand(completion()),
        Some(_) => top,
    };
    let groups = GROUPS.iter().filter(|(name, ..)| wanted(name));
    let groups = groups.map(|(name, about, verbs)| group(name, about, verbs, grammar));
    let top = groups.fold(top, Command::subcommand);
    let at_top = CONTAINER.iter().filter(|verb| !IN_GROUP.contains(&verb.name));
    let top =
        at_top.chain(OWN).chain(CLUSTER).filter(|verb| wanted(verb.name)).fold(top, |top, verb| {
            let aliases = if verb.name == "ps" { &[] } else { verb.aliases };
            top.subcommand(subcommand(verb.name, verb, aliases, grammar))
        });
    TOP_IMAGE.iter().filter(|(name, _)| wanted(name)).fold(top, |top, (name, inner)| {
        let verb = IMAGE.iter().find(|verb| verb.name == *inner);
        top.subcommand(subcommand(
            name,
            verb.expect("every name stands for a command"),
            &[],
            grammar,
        ))
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
    let group = if name == "compose" { compose::augment(group) } else { group };
    verbs.iter().fold(group, |group, verb| {
        group.subcommand(subcommand(verb.name, verb, verb.aliases, grammar))
    })
}

/// A subcommand whose options are only made when it is the one that was called.
fn subcommand(
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
    // Most calls are right and begin with a command's name: a table of a hundred takes longer to
    // make than the one that is needed.
    if let Some(name) = args.get(1).and_then(|word| word.to_str())
        && let Ok(matches) = command(|verb| verb.read, Some(name)).try_get_matches_from(args)
    {
        return Ok(matches);
    }
    command(|verb| verb.read, None).try_get_matches_from(args).map_err(|mut error| {
        advise(&mut error);
        if let Some(usage) = plain_usage(args) {
            let _ = error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
        }
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

/// The usage of the command that `args` call: clap's own in an error has the options that were
/// given, as if they were required.
fn plain_usage(args: &[OsString]) -> Option<StyledStr> {
    let mut top = command(|verb| verb.augment, None);
    top.build();
    let mut words = called(args);
    let first = words.next()?;
    let mut at = top.find_subcommand(first)?;
    if let Some(inner) = words.next().and_then(|word| at.find_subcommand(word)) {
        at = inner;
    }
    Some(at.clone().render_usage())
}

/// The words that may be names of commands.
fn called(args: &[OsString]) -> impl Iterator<Item = &OsString> {
    let verbs = || GROUPS.iter().flat_map(|(_, _, verbs)| *verbs).chain(OWN).chain(CLUSTER);
    let is_command = move |word: &&OsString| {
        let top = TOP_IMAGE.iter().map(|(name, _)| *name);
        let names = verbs().flat_map(|verb| verb.aliases.iter().copied().chain([verb.name]));
        let groups = GROUPS.iter().map(|(name, ..)| *name);
        top.chain(names).chain(groups).chain(["completion"]).any(|name| *word == name)
    };
    args.iter().skip(1).take(COMMAND_PLACE_MAX).filter(is_command)
}

/// The help of the command that `args` call, with its options as they are written.
fn help(args: &[OsString]) -> Option<clap::Error> {
    let path = called(args).cloned();
    let words = ["cais".into()].into_iter().chain(path).chain(["--help".into()]);
    command(|verb| verb.augment, None).try_get_matches_from(words.collect::<Vec<OsString>>()).err()
}

/// Commands of Docker's that are known, and not supported yet.
const UNSUPPORTED: &[&str] =
    &["checkpoint", "node", "plugin", "prune", "secret", "service", "stack", "swarm", "trust"];

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
        return completion_script(inner);
    }
    let group = GROUPS.iter().find(|(group, ..)| *group == name);
    let of_group = group.is_some().then(|| inner.clone());
    let is_compose = name == "compose";
    let (family, name, verb, inner) = match (group, inner.subcommand()) {
        (Some((family, _, verbs)), Some((name, inner))) => {
            (*family, name, find(verbs, name), inner)
        }
        _ => {
            let (family, verb) = find_top(name);
            (family, name, verb, inner)
        }
    };
    let verb = verb.expect("clap accepts only what is in the tables");
    let session = Session::new(matches).map(|session| session.in_group(of_group));
    let outcome = session.and_then(|session| {
        let chosen =
            if remote::is_local(family, verb.name) { None } else { remote::chosen(matches)? };
        match chosen {
            None => (verb.run)(&session, inner),
            Some(chosen) => remote::run(&session, chosen, (family, verb.name), inner),
        }
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            match error.kind() {
                Kind::CommandNotFound => 127,
                Kind::CommandNotExecutable => 126,
                _ if is_compose => 1,
                _ if name == "run" => FAILED,
                Kind::Usage if RUNNERS.contains(&name) => FAILED,
                // As Docker: what is wrong with the process, not with the container.
                Kind::Invalid | Kind::Internal if name == "exec" => 126,
                _ => 1,
            }
        }
    }
}

fn find(verbs: &'static [Verb], name: &str) -> Option<&'static Verb> {
    verbs.iter().find(|verb| verb.name == name)
}

/// A command that stands at the top level, and the group that it stands in, too; none for those that
/// stand in none.
fn find_top(name: &str) -> (&'static str, Option<&'static Verb>) {
    let image = TOP_IMAGE.iter().find(|(top, _)| *top == name);
    match (image, find(OWN, name), find(CLUSTER, name)) {
        (Some((_, inner)), ..) => ("image", find(IMAGE, inner)),
        (None, Some(own), _) => ("", Some(own)),
        (None, None, Some(own)) => ("cluster", Some(own)),
        (None, None, None) => ("container", find(CONTAINER, name)),
    }
}

/// Refuses drivers of volumes that are not there.
fn volume_driver(name: &str) -> Result<()> {
    match name {
        "" | "local" => Ok(()),
        _ => Err(Error::new(Kind::NotFound, format!("plugin \"{name}\" not found"))
            .hint("the only driver is local")),
    }
}

fn usage(error: clap::Error) -> Error {
    Error::caused(Kind::Invalid, "read the options", error)
}

fn completion_script(matches: &ArgMatches) -> i32 {
    if let Some(shell) = matches.get_one::<clap_complete::Shell>("shell") {
        let mut script = Vec::new();
        clap_complete::generate(
            *shell,
            &mut command(|verb| verb.augment, None),
            "cais",
            &mut script,
        );
        script.extend(complete::script(*shell).as_bytes());
        // Whoever read it may have seen enough, as `head` has.
        let _ = std::io::Write::write_all(&mut std::io::stdout(), &script);
    }
    0
}
