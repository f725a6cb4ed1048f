//! Volumes and networks.

use std::collections::BTreeMap;

use engine::{Kind, Result};
use remote::Request;
use serde_json::{Map, Value, json};

use super::Remote;
use super::list::text;
use crate::command::each;
use crate::command::network::{
    connect as network_connect, create as network_create, disconnect as network_disconnect,
    rm as network_rm,
};
use crate::command::volume::{create as volume_create, rm as volume_rm};

/// `KEY=VALUE` pairs; a key alone has an empty value.
fn pairs(texts: &[String]) -> BTreeMap<&str, &str> {
    texts.iter().map(|text| text.split_once('=').unwrap_or((text, ""))).collect()
}

pub(super) fn create_volume(remote: &Remote<'_>, args: &volume_create::Args) -> Result<i32> {
    let document = json!({
        "Name": args.volume.as_deref().unwrap_or_default(),
        "Driver": args.driver,
        "DriverOpts": pairs(&args.opt),
        "Labels": pairs(&args.label),
    });
    let made = remote.json(Request::new("POST", &["volumes", "create"]).json(document))?;
    remote.session.say(text(&made, "Name")).map(|()| 0)
}

pub(super) fn rm_volume(remote: &Remote<'_>, args: &volume_rm::Args) -> Result<i32> {
    each(&args.volumes, |name| {
        let request = Request::new("DELETE", &["volumes", name]).with_flag("force", args.force);
        match remote.act(request) {
            Err(error) if args.force && error.kind() == Kind::NotFound => Ok(()),
            outcome => outcome.and_then(|()| remote.session.say(name)),
        }
    })
}

pub(super) fn create_network(remote: &Remote<'_>, args: &network_create::Args) -> Result<i32> {
    network_create::refuse(args)?;
    let mut configs: Vec<Map<String, Value>> = Vec::new();
    for (index, subnet) in args.subnet.iter().enumerate() {
        let mut config = Map::from_iter([("Subnet".to_owned(), json!(subnet))]);
        // Which of several subnets they belong to is the engine's to find out where it matters.
        for (key, texts) in [("IPRange", &args.ip_range), ("Gateway", &args.gateway)] {
            if let Some(text) = texts.get(index) {
                config.insert(key.to_owned(), json!(text));
            }
        }
        if index == 0 && !args.aux_address.is_empty() {
            config.insert("AuxiliaryAddresses".to_owned(), json!(pairs(&args.aux_address)));
        }
        configs.push(config);
    }
    let document = json!({
        "Name": args.network,
        "Driver": args.driver,
        "Scope": args.scope.as_deref().unwrap_or_default(),
        "EnableIPv6": args.ipv6,
        "Internal": args.internal,
        "Attachable": args.attachable,
        "IPAM": { "Driver": args.ipam_driver, "Config": configs },
        "Options": pairs(&args.opt),
        "Labels": pairs(&args.label),
    });
    let made = remote.json(Request::new("POST", &["networks", "create"]).json(document))?;
    remote.session.say(text(&made, "Id")).map(|()| 0)
}

pub(super) fn rm_network(remote: &Remote<'_>, args: &network_rm::Args) -> Result<i32> {
    each(&args.networks, |name| match remote.act(Request::new("DELETE", &["networks", name])) {
        Err(error) if args.force && error.kind() == Kind::NotFound => Ok(()),
        outcome => outcome.and_then(|()| remote.session.say(name)),
    })
}

pub(super) fn connect(remote: &Remote<'_>, args: &network_connect::Args) -> Result<i32> {
    network_connect::refuse(args)?;
    let mut ipam = Map::new();
    for (key, address) in [("IPv4Address", &args.ip), ("IPv6Address", &args.ip6)] {
        ipam.extend(address.iter().map(|address| (key.to_owned(), json!(address))));
    }
    if !args.link_local_ip.is_empty() {
        ipam.insert("LinkLocalIPs".to_owned(), json!(args.link_local_ip));
    }
    let endpoint = json!({ "IPAMConfig": ipam, "Links": args.link, "Aliases": args.alias });
    let document = json!({ "Container": args.container, "EndpointConfig": endpoint });
    let request = Request::new("POST", &["networks", &args.network, "connect"]);
    remote.act(request.json(document)).map(|()| 0)
}

pub(super) fn disconnect(remote: &Remote<'_>, args: &network_disconnect::Args) -> Result<i32> {
    let document = json!({ "Container": args.container, "Force": args.force });
    let request = Request::new("POST", &["networks", &args.network, "disconnect"]);
    remote.act(request.json(document)).map(|()| 0)
}
