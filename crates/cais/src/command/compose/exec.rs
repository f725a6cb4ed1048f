//! `cais compose exec`

use std::io::IsTerminal as _;

use engine::Result;

use super::scope::Scope;
use super::{one, typed};
use crate::session::Session;

/// What `exec` takes.
#[derive(Debug, clap::Args)]
#[command(override_usage = "cais compose exec [OPTIONS] SERVICE COMMAND [ARGS...]")]
pub(in crate::command) struct Args {
    /// Detached mode: Run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Set environment variables
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Index of the container if service has multiple replicas
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// Keep STDIN open even if not attached, which is so in any case
    #[arg(short, long, hide = true)]
    interactive: bool,
    /// Disable pseudo-TTY allocation. By default a terminal gets one
    #[arg(short = 'T', long, visible_alias = "no-TTY")]
    no_tty: bool,
    /// Allocate a pseudo-TTY, which is so in any case on a terminal
    #[arg(short, long, hide = true)]
    tty: bool,
    /// Give extended privileges to the process
    #[arg(long)]
    privileged: bool,
    /// Run the command as this user
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Path to workdir directory for this command
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The service; then the command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_names = ["SERVICE", "COMMAND"])]
    #[arg(num_args = 2..)]
    service_and_command: Vec<String>,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    let (service, command) = args.service_and_command.split_first().expect("a service is required");
    scope.check_services(std::slice::from_ref(service))?;
    let found = one(&scope, service, args.index)?;
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut words = vec!["--interactive=true".to_owned()];
    words.push(format!("--tty={}", !args.no_tty && is_terminal));
    words.push(format!("--detach={}", args.detach));
    words.push(format!("--privileged={}", args.privileged));
    words.extend(args.env.iter().map(|env| format!("--env={env}")));
    words.extend(args.user.iter().map(|user| format!("--user={user}")));
    words.extend(args.workdir.iter().map(|dir| format!("--workdir={dir}")));
    words.extend(["--".to_owned(), found.record.name]);
    words.extend(command.iter().cloned());
    crate::command::exec::run(session, &typed("exec", words)?)
}
