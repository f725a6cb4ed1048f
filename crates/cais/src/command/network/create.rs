//! `cais network create`

use clap::ArgAction;
use engine::{Error, Kind, NetworkOptions, Result};

use crate::command::create_options::value;
use crate::command::grammar::Bool;
use crate::session::Session;

/// What `create` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Driver to manage the Network
    #[arg(short, long, default_value = "bridge")]
    pub(in crate::command) driver: String,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "CIDR")]
    pub(in crate::command) subnet: Vec<String>,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "CIDR")]
    pub(in crate::command) ip_range: Vec<String>,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "ADDRESS")]
    pub(in crate::command) gateway: Vec<String>,
    /// Restrict external access to the network
    #[arg(long)]
    pub(in crate::command) internal: bool,
    /// Enable manual container attachment
    #[arg(long)]
    pub(in crate::command) attachable: bool,
    /// Set metadata on a network
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(in crate::command) label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(in crate::command) opt: Vec<String>,
    /// IP Address Management Driver
    #[arg(long, default_value = "default", value_parser = ["default"])]
    pub(in crate::command) ipam_driver: String,
    /// Control the network's scope
    #[arg(long, value_parser = ["local"])]
    pub(in crate::command) scope: Option<String>,
    /// Enable or disable IPv6 networking
    #[arg(long)]
    pub(in crate::command) ipv6: bool,
    /// Enable or disable IPv4 address assignment
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, value_parser = Bool)]
    #[arg(num_args = 0..=1, require_equals = true)]
    #[arg(default_value = "true", default_missing_value = "true", hide_default_value = true)]
    pub(in crate::command) ipv4: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long, value_name = "NAME=ADDRESS")]
    pub(in crate::command) aux_address: Vec<String>,
    /// The network from which to copy the configuration
    #[arg(long, hide = true)]
    pub(in crate::command) config_from: Option<String>,
    /// Create a configuration only network
    #[arg(long, hide = true)]
    pub(in crate::command) config_only: bool,
    /// Create swarm routing-mesh network
    #[arg(long, hide = true)]
    pub(in crate::command) ingress: bool,
    /// Set IPAM driver specific options
    #[arg(long, hide = true)]
    pub(in crate::command) ipam_opt: Vec<String>,
    /// The name
    pub(in crate::command) network: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    session.say(session.engine()?.create_network(options(args)?)?.id).map(|()| 0)
}

/// What is asked of the network.
pub(in crate::command) fn options(args: &Args) -> Result<NetworkOptions> {
    refuse(args)?;
    let mut options = NetworkOptions {
        name: args.network.clone(),
        internal: args.internal,
        attachable: args.attachable,
        ipv6: args.ipv6,
        driver: args.driver.clone(),
        labels: value::labels(&args.label, &[])?,
        ..docker::grammar::addresses(&docker::grammar::Addresses {
            ipv6: args.ipv6,
            subnets: args.subnet.clone(),
            ranges: args.ip_range.clone(),
            gateways: args.gateway.clone(),
            reserved: args.aux_address.clone(),
        })?
    };
    for text in &args.opt {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        options.options.insert(key.to_owned(), value.to_owned());
    }
    Ok(options)
}

/// Options of Docker's that mean nothing here.
pub(in crate::command) fn refuse(args: &Args) -> Result<()> {
    let refused = [
        ("--config-from", args.config_from.is_some(), "there are no configurations of networks"),
        ("--config-only", args.config_only, "there are no configurations of networks"),
        ("--ingress", args.ingress, "it is for swarms"),
        ("--ipam-opt", !args.ipam_opt.is_empty(), "the only IPAM driver, default, has no options"),
        ("--ipv4=false", !args.ipv4, "every network has IPv4"),
    ];
    match refused.iter().find(|(_, given, _)| *given) {
        None => Ok(()),
        Some((name, _, why)) => {
            Err(Error::new(Kind::Unsupported, format!("{name} of network create is not supported"))
                .hint(*why))
        }
    }
}
