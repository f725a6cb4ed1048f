//! `cais network connect`

use engine::{Error, Kind, Membership, Result, validate_alias};

use crate::command::create_options::network::address;
use crate::session::Session;

/// What `connect` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "ALIAS")]
    alias: Vec<String>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, hide = true)]
    ip6: Option<String>,
    /// Add link to another container
    #[arg(long, hide = true)]
    link: Vec<String>,
    /// Driver options for the network
    #[arg(long, hide = true)]
    driver_opt: Vec<String>,
    /// The network, by name or id
    network: String,
    /// The container, by name or id
    container: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let refused = [
        ("ip6", args.ip6.is_some()),
        ("link", !args.link.is_empty()),
        ("driver-opt", !args.driver_opt.is_empty()),
    ];
    if let Some((name, _)) = refused.iter().find(|(_, given)| *given) {
        return Err(Error::new(Kind::Unsupported, format!("--{name} is not supported yet")));
    }
    args.alias.iter().try_for_each(|alias| validate_alias(alias))?;
    let engine = session.engine()?;
    let network = engine.network(&args.network)?;
    let container = engine.find(&args.container)?;
    let membership = Membership {
        aliases: args.alias.clone(),
        address: args.ip.as_deref().map(address).transpose()?,
        ..Membership::default()
    };
    engine.connect(&network, &container, membership).map(|()| 0)
}
