//! `cais compose`: projects of several containers, as Docker Compose has them.
//!
//! The crate of the same name reads the files and plans; here is what looks at what is there
//! ([`observed`]), does what was planned ([`apply`]), and the commands, one file each.

mod apply;
pub(super) mod attach;
pub(super) mod build;
pub(super) mod config;
pub(super) mod cp;
pub(super) mod create;
mod create_container;
pub(super) mod down;
pub(super) mod events;
pub(super) mod exec;
mod follow;
mod image;
pub(super) mod images;
pub(super) mod kill;
pub(super) mod logs;
pub(super) mod ls;
mod network;
mod observed;
pub(super) mod pause;
pub(super) mod port;
pub(super) mod ps;
pub(super) mod pull;
pub(super) mod push;
mod report;
pub(super) mod restart;
pub(super) mod rm;
pub(super) mod run;
pub(super) mod scale;
mod scope;
pub(super) mod start;
pub(super) mod stats;
pub(super) mod stop;
pub(super) mod top;
pub(super) mod up;
pub(super) mod version;
pub(super) mod volumes;
pub(super) mod wait;
mod wait_for;
pub(super) mod watch;

use std::path::PathBuf;

use clap::{Args, Command, FromArgMatches};
use engine::{Error, Kind, Result};

use scope::Scope;
pub(in crate::command) use scope::project_of;

/// What stands between `compose` and the name of its command.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct ProjectArgs {
    /// Compose configuration files; - for standard input (COMPOSE_FILE)
    #[arg(short, long, value_name = "FILE")]
    file: Vec<String>,
    /// Project name (COMPOSE_PROJECT_NAME)
    #[arg(short, long, value_name = "NAME")]
    project_name: Option<String>,
    /// Specify a profile to enable (COMPOSE_PROFILES)
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// Specify an alternate environment file (COMPOSE_ENV_FILES)
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Specify an alternate working directory (default: the path of the first Compose file)
    #[arg(long, visible_alias = "workdir", value_name = "DIR")]
    project_directory: Option<PathBuf>,
    /// Control when to print ANSI control characters
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = ["never", "always", "auto"])]
    ansi: String,
    /// Set type of progress output
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = ["auto", "tty", "plain", "quiet"])]
    progress: String,
    /// Execute command in dry run mode
    #[arg(long, hide = true)]
    dry_run: bool,
    /// Run compose in backward compatibility mode
    #[arg(long, hide = true)]
    compatibility: bool,
}

/// Adds what stands before the command's name.
pub(super) fn augment(command: Command) -> Command {
    let about = command.get_about().cloned();
    let command = ProjectArgs::augment_args(command);
    match about {
        Some(about) => command.about(about),
        None => command,
    }
}

/// A failure of a Compose file.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn from_compose(error: ::compose::Error) -> Error {
    let failure = Error::invalid(error.to_string());
    match error.hint_text() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The arguments of another command, of words as they would be typed.
fn typed<A: Args + FromArgMatches>(
    name: &'static str,
    words: impl IntoIterator<Item = String>,
) -> Result<A> {
    let command = Command::new(name).no_binary_name(true).disable_help_flag(true);
    let command = super::grammar::docker(A::augment_args(command));
    let read =
        command.try_get_matches_from(words).and_then(|matches| A::from_arg_matches(&matches));
    read.map_err(|error| {
        // Its first line says what is wrong; the rest is about a command line nobody typed.
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        Error::invalid(line.strip_prefix("error: ").unwrap_or(line))
    })
}

/// The only container of a service, or the one with a number.
fn one(scope: &Scope<'_>, service: &str, index: Option<u32>) -> Result<engine::Container> {
    let all = scope.containers(&[service.to_owned()], scope::OneOff::Without)?;
    let number = |container: &engine::Container| observed::number(container);
    let running = || all.iter().find(|container| container.is_running());
    let found = match index {
        Some(index) => all.iter().find(|container| number(container) == index),
        None => running().or_else(|| all.first()),
    };
    found.cloned().ok_or_else(|| {
        let message = match index {
            Some(index) => format!("service \"{service}\" is not running container #{index}"),
            None => format!("service \"{service}\" is not running"),
        };
        Error::new(Kind::NotFound, message)
            .hint(format!("`cais compose up -d {service}` starts it"))
    })
}
