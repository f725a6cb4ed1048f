//! `cais network create`

use std::net::Ipv4Addr;

use engine::{Error, Kind, NetworkOptions, Result, Subnet};

use crate::command::create_options::value;
use crate::session::Session;

/// What `create` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Driver to manage the Network
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<String>,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "CIDR")]
    ip_range: Vec<String>,
    /// IPv4 Gateway for the master subnet
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<String>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Set metadata on a network
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<String>,
    /// IP Address Management Driver
    #[arg(long, default_value = "default", value_parser = ["default"])]
    ipam_driver: String,
    /// Control the network's scope
    #[arg(long, value_parser = ["local"])]
    scope: Option<String>,
    /// Enable or disable IPv6 networking
    #[arg(long, hide = true)]
    ipv6: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long, hide = true)]
    aux_address: Vec<String>,
    /// The name
    network: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let unsupported = |what: String| Err(Error::new(Kind::Unsupported, what));
    if args.driver != "bridge" {
        let known = ["host", "null", "macvlan", "ipvlan", "overlay"];
        return match known.contains(&args.driver.as_str()) {
            true => unsupported(format!("--driver {} is not supported yet", args.driver)),
            false => {
                Err(Error::new(Kind::NotFound, format!("plugin \"{}\" not found", args.driver)))
            }
        };
    }
    if args.ipv6 || args.subnet.iter().chain(&args.gateway).any(|text| text.contains(':')) {
        return unsupported("IPv6 on networks is not supported yet".into());
    }
    if !args.aux_address.is_empty() {
        return unsupported("--aux-address is not supported yet".into());
    }
    if args.subnet.is_empty() && !(args.ip_range.is_empty() && args.gateway.is_empty()) {
        return Err(Error::invalid("every ip-range or gateway must have a corresponding subnet"));
    }
    let gateway = one("gateway", &args.gateway)?.map(|text| {
        let bad = || Error::invalid(format!("invalid gateway address: {text}"));
        text.parse::<Ipv4Addr>().map_err(|_| bad())
    });
    let mut options = NetworkOptions {
        name: args.network.clone(),
        subnet: subnet("subnet", &args.subnet)?,
        range: subnet("ip-range", &args.ip_range)?,
        gateway: gateway.transpose()?,
        internal: args.internal,
        attachable: args.attachable,
        labels: value::labels(&args.label, &[])?,
        ..NetworkOptions::default()
    };
    for text in &args.opt {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        options.options.insert(key.to_owned(), value.to_owned());
    }
    session.say(session.engine()?.create_network(options)?.id).map(|()| 0)
}

fn one<'a>(name: &str, texts: &'a [String]) -> Result<Option<&'a String>> {
    match texts {
        [] => Ok(None),
        [text] => Ok(Some(text)),
        _ => Err(Error::new(Kind::Unsupported, format!("several --{name} are not supported yet"))),
    }
}

/// Host bits may be set, and mean nothing.
fn subnet(name: &str, texts: &[String]) -> Result<Option<Subnet>> {
    let Some(text) = one(name, texts)? else { return Ok(None) };
    let bad = || Error::invalid(format!("invalid CIDR address: {text}"));
    let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
    let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
    let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(bad)?;
    Ok(Some(Subnet::containing(address, prefix)))
}
