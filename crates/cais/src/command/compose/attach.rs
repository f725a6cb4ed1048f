//! `cais compose attach`

use engine::Result;

use super::scope::Scope;
use super::{one, typed};
use crate::session::Session;

/// What `attach` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Override the key sequence for detaching from a container
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Index of the container if service has multiple replicas
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1)]
    #[arg(require_equals = true, default_value = "true", default_missing_value = "true")]
    #[arg(hide_default_value = true, value_parser = crate::command::grammar::Bool)]
    sig_proxy: bool,
    /// The service
    service: String,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(std::slice::from_ref(&args.service))?;
    let found = one(&scope, &args.service, args.index)?;
    let mut words = vec![format!("--no-stdin={}", args.no_stdin)];
    words.push(format!("--sig-proxy={}", args.sig_proxy));
    words.extend(args.detach_keys.iter().map(|keys| format!("--detach-keys={keys}")));
    words.extend(["--".to_owned(), found.record.name]);
    crate::command::attach::run(session, &typed("attach", words)?)
}
