//! Networks and volumes of a project.

use std::collections::BTreeMap;

use ::compose::{Map, Node, Project, Resource, create};
use engine::{Error, Kind, Result, VolumeOptions};

use super::scope::Scope;
use super::typed;
use crate::command::network::create as network_create;

/// Makes a network as the files say.
pub(super) fn create_network(
    scope: &Scope<'_>,
    project: &Project,
    network: &Resource,
) -> Result<()> {
    let node = &network.node;
    let unsupported = |what: &str| {
        Err(Error::new(
            Kind::Unsupported,
            format!("{}: networks.{}.{what}", node.place, network.key),
        ))
    };
    if node.word_of("enable_ipv4") == Some("false") {
        return unsupported("enable_ipv4: a network without IPv4 is not supported");
    }
    if node.path(&["ipam", "options"]).is_some() {
        return unsupported(
            "ipam.options are not supported: the addresses have no driver but ours",
        );
    }
    let mut words = Vec::new();
    let mut option = |name: &str, value: &str| words.push(format!("--{name}={value}"));
    if let Some(driver) = node.word_of("driver") {
        option("driver", driver);
    }
    if let Some(driver) = node.path(&["ipam"]).and_then(|ipam| ipam.word_of("driver")) {
        option("ipam-driver", driver);
    }
    for (name, value) in node.pairs_of("driver_opts") {
        option("opt", &format!("{name}={}", value.unwrap_or_default()));
    }
    for (name, value) in labels(project, network, create::NETWORK) {
        option("label", &format!("{name}={value}"));
    }
    for pool in node.path(&["ipam", "config"]).map(Node::items).unwrap_or_default() {
        for (key, name) in [("subnet", "subnet"), ("ip_range", "ip-range"), ("gateway", "gateway")]
        {
            if let Some(word) = pool.word_of(key) {
                option(name, word);
            }
        }
        for (host, address) in pool.pairs_of("aux_addresses") {
            option("aux-address", &format!("{host}={}", address.unwrap_or_default()));
        }
    }
    for (key, name) in
        [("internal", "internal"), ("attachable", "attachable"), ("enable_ipv6", "ipv6")]
    {
        if node.is(key) {
            option(name, "true");
        }
    }
    words.push(network.name.clone());
    let args: network_create::Args = typed("network create", words)?;
    scope.engine.create_network(network_create::options(&args)?).map(drop)
}

/// Makes a volume as the files say.
pub(super) fn create_volume(scope: &Scope<'_>, project: &Project, volume: &Resource) -> Result<()> {
    crate::command::volume_driver(volume.node.word_of("driver").unwrap_or_default())?;
    let options = volume.node.get("driver_opts").and_then(Node::entries);
    let options = options.into_iter().flat_map(Map::iter);
    let options =
        options.map(|(name, node)| (name.to_owned(), node.word().unwrap_or_default().to_owned()));
    let asked = VolumeOptions {
        labels: labels(project, volume, create::VOLUME),
        options: options.collect(),
    };
    scope.engine.create_volume(&volume.name, asked).map(drop)
}

fn labels(project: &Project, resource: &Resource, kind: &str) -> BTreeMap<String, String> {
    let own = resource.node.pairs_of("labels").into_iter();
    let own = own.map(|(name, value)| (name.to_owned(), value.unwrap_or_default().to_owned()));
    let ours = [
        (create::PROJECT.to_owned(), project.name.clone()),
        (kind.to_owned(), resource.key.clone()),
        (create::HASH.to_owned(), resource.hash()),
        (create::VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ];
    own.chain(ours).collect()
}
