//! `cais network connect`

use engine::{Error, Kind, Membership, Result, validate_alias};

use crate::command::create_options::network::{address, address_v6};
use crate::session::Session;
use docker::grammar::{link, link_local};

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
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Add link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "ADDRESS")]
    link_local_ip: Vec<String>,
    /// Driver options for the network
    #[arg(long, hide = true)]
    driver_opt: Vec<String>,
    /// Highest gw-priority provides the default gateway
    #[arg(long, hide = true)]
    gw_priority: Option<String>,
    /// The network, by name or id
    network: String,
    /// The container, by name or id
    container: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let refused =
        [("driver-opt", !args.driver_opt.is_empty()), ("gw-priority", args.gw_priority.is_some())];
    if let Some((name, _)) = refused.iter().find(|(_, given)| *given) {
        return Err(Error::new(Kind::Unsupported, format!("--{name} is not supported"))
            .hint("the first network that leads out of the machine is the way out"));
    }
    let links = args.link.iter().map(|text| link(text)).collect::<Result<Vec<_>>>()?;
    args.alias.iter().try_for_each(|alias| validate_alias(alias))?;
    let engine = session.engine()?;
    let network = engine.network(&args.network)?;
    let container = engine.find(&args.container)?;
    let membership = Membership {
        aliases: args.alias.clone(),
        address: args.ip.as_deref().map(address).transpose()?,
        address_v6: args.ip6.as_deref().map(address_v6).transpose()?,
        link_local: link_local(&args.link_local_ip)?,
        ..Membership::default()
    };
    engine.connect(&network, &container, membership, &links).map(|()| 0)
}
