//! `cais exec`

use std::path::PathBuf;

use engine::{Exec, Result};

use super::create_options::environment;
use super::run::needs_terminal;
use crate::session::Session;

/// What `exec` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, default_value = "", hide_default_value = true)]
    user: String,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR", default_value = "", hide_default_value = true)]
    workdir: String,
    /// The container, by name or id
    container: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    if args.tty && args.interactive && !args.detach {
        needs_terminal()?;
    }
    let engine = session.engine()?;
    let container = engine.find(&args.container)?;
    let exec = Exec {
        command: args.command.clone(),
        env: environment(&args.env, &args.env_file)?,
        workdir: args.workdir.clone(),
        user: args.user.clone(),
        tty: args.tty,
        stdin: args.interactive && !args.detach,
        detach: args.detach,
        privileged: args.privileged,
    };
    engine.exec(&container, &exec)
}
