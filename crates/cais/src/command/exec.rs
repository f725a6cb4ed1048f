//! `cais exec`

use std::path::PathBuf;

use engine::{Exec, Outcome, Result};

use super::create_options::environment;
use super::run::needs_terminal;
use crate::session::Session;

/// What `exec` takes.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cais exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
pub(crate) struct Args {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    pub(super) detach: bool,
    /// Override the key sequence for detaching from the command
    #[arg(long, value_name = "KEYS", default_value = super::DETACH_KEYS, hide_default_value = true)]
    pub(super) detach_keys: String,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(super) env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    pub(super) privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(super) user: String,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR", default_value = "", hide_default_value = true)]
    pub(super) workdir: String,
    /// The container, by name or id; then the command and its arguments
    // One argument, so that every word behind the container is the command's, even `--user`.
    #[arg(required = true, trailing_var_arg = true, value_names = ["CONTAINER", "COMMAND"])]
    #[arg(num_args = 2..)]
    pub(super) container_and_command: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    if args.tty && args.interactive && !args.detach {
        needs_terminal("leave out -t where standard input is not a terminal")?;
    }
    let keys = super::detach_keys(&args.detach_keys)?;
    let engine = session.engine()?;
    let (container, command) =
        args.container_and_command.split_first().expect("a container is required");
    let container = engine.find(container)?;
    let exec = Exec {
        command: command.to_vec(),
        env: environment(&args.env, &args.env_file)?,
        workdir: args.workdir.clone(),
        user: args.user.clone(),
        tty: args.tty,
        stdin: args.interactive && !args.detach,
        detach: args.detach,
        detach_keys: keys,
        privileged: args.privileged,
        ..Exec::default()
    };
    Ok(match engine.exec(&container, &exec)? {
        Outcome::Exited(code) => code,
        Outcome::Detached => 0,
    })
}
