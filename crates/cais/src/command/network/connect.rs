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
    pub(in crate::command) alias: Vec<String>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "ADDRESS")]
    pub(in crate::command) ip: Option<String>,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "ADDRESS")]
    pub(in crate::command) ip6: Option<String>,
    /// Add link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    pub(in crate::command) link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "ADDRESS")]
    pub(in crate::command) link_local_ip: Vec<String>,
    /// Driver options for the network
    #[arg(long, hide = true)]
    pub(in crate::command) driver_opt: Vec<String>,
    /// Highest gw-priority provides the default gateway
    #[arg(long, hide = true)]
    pub(in crate::command) gw_priority: Option<String>,
    /// The network, by name or id
    pub(in crate::command) network: String,
    /// The container, by name or id
    pub(in crate::command) container: String,
}

/// Options of Docker's that mean nothing here.
pub(in crate::command) fn refuse(args: &Args) -> Result<()> {
    let refused =
        [("driver-opt", !args.driver_opt.is_empty()), ("gw-priority", args.gw_priority.is_some())];
    if let Some((name, _)) = refused.iter().find(|(_, given)| *given) {
        return Err(Error::new(Kind::Unsupported, format!("--{name} is not supported"))
            .hint("the first network that leads out of the machine is the way out"));
    }
    Ok(())
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    refuse(args)?;
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
