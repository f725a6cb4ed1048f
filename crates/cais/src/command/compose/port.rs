//! `cais compose port`

use engine::Result;

use super::scope::Scope;
use super::{one, typed};
use crate::session::Session;

/// What `port` takes.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Args {
    /// Index of the container if service has multiple replicas
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// tcp or udp
    #[arg(long, default_value = "tcp", value_parser = ["tcp", "udp"])]
    protocol: String,
    /// The service
    service: String,
    /// Its port
    private_port: u16,
}

pub(in crate::command) fn run(session: &Session, args: &Args) -> Result<i32> {
    let scope = Scope::known(session)?;
    scope.check_services(std::slice::from_ref(&args.service))?;
    let found = one(&scope, &args.service, args.index)?;
    let port = format!("{}/{}", args.private_port, args.protocol);
    crate::command::port::run(session, &typed("port", ["--".to_owned(), found.record.name, port])?)
}
