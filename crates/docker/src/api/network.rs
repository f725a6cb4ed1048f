//! Networks.

use engine::{Engine, Network, NetworkOptions};
use httpd::Reply;
use serde::Deserialize;
use serde_json::json;

use super::call::{Answer, Call, done, json};
use super::create::{links, membership};
use super::failure::Failure;
use super::host_config::{EndpointConfig, Words};
use crate::filter::{Filters, has_label};
use crate::grammar::{Addresses, addresses};

const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// `GET /networks`
pub(super) fn list(call: &mut Call<'_, '_>) -> Answer {
    let engine = call.engine();
    let filters = call.filters(FILTERS)?;
    filters.only("type", &["custom", "builtin"])?;
    filters.only("dangling", &["true", "false", "1", "0"])?;
    let mut found = Vec::new();
    for network in engine.networks()? {
        if network_matches(engine, &filters, &network)? {
            found.push(crate::network(engine, &network)?);
        }
    }
    json(200, &found.into())
}

/// Whether the filters leave a network.
///
/// # Errors
/// If the containers on it cannot be listed.
pub(crate) fn network_matches(
    engine: &Engine,
    filters: &Filters,
    network: &Network,
) -> engine::Result<bool> {
    let kind = if network.is_predefined() { "builtin" } else { "custom" };
    let dangling = |word: &str| -> engine::Result<bool> {
        let unused = !network.is_predefined() && engine.network_users(network)?.is_empty();
        Ok(unused == matches!(word, "true" | "1"))
    };
    let mut danglings = filters.values("dangling").map(dangling);
    Ok(filters.any("driver", |driver| driver == network.driver)
        && filters.any("id", |id| network.id.contains(id))
        && filters.any("name", |name| network.name.contains(name))
        && filters.all("label", |label| has_label(&network.labels, label))
        && filters.any("scope", |scope| scope == "local")
        && filters.any("type", |wanted| wanted == kind)
        && danglings.try_fold(true, |all, one| one.map(|one| all && one))?)
}

/// `GET /networks/{id}`
pub(super) fn inspect(call: &mut Call<'_, '_>) -> Answer {
    let scope = call.text("scope");
    if !matches!(scope, "" | "local") {
        return Err(Failure::new(404, format!("network {} not found", call.name())));
    }
    let engine = call.engine();
    json(200, &crate::network(engine, &engine.network(call.name())?)?)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Asked {
    name: String,
    driver: String,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_only: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    options: Words,
    labels: Words,
    scope: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Ipam {
    driver: String,
    options: Words,
    config: Vec<IpamConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct IpamConfig {
    subnet: String,
    #[serde(rename = "IPRange")]
    ip_range: String,
    gateway: String,
    #[serde(alias = "AuxAddress")]
    auxiliary_addresses: Words,
}

/// `POST /networks/create`
pub(super) fn create(call: &mut Call<'_, '_>) -> Answer {
    let asked: Asked = call.input()?;
    if asked.name.is_empty() {
        return Err(Failure::bad("network name is required"));
    }
    let refused = [
        ("Ingress", asked.ingress),
        ("ConfigOnly", asked.config_only),
        ("EnableIPv4=false", asked.enable_ipv4 == Some(false)),
        ("Scope", !matches!(asked.scope.as_str(), "" | "local")),
        ("IPAM.Driver", !matches!(asked.ipam.driver.as_str(), "" | "default")),
        ("IPAM.Options", !asked.ipam.options.is_empty()),
    ];
    if let Some((name, _)) = refused.iter().find(|(_, given)| *given) {
        return Err(Failure::unsupported(format!("{name} of a network is not supported")));
    }
    let texts = |of: fn(&IpamConfig) -> &String| {
        let all = asked.ipam.config.iter().map(of).filter(|text| !text.is_empty());
        all.cloned().collect::<Vec<_>>()
    };
    let reserved = asked.ipam.config.iter().flat_map(|config| &config.auxiliary_addresses);
    let addresses = addresses(&Addresses {
        ipv6: asked.enable_ipv6,
        subnets: texts(|config| &config.subnet),
        ranges: texts(|config| &config.ip_range),
        gateways: texts(|config| &config.gateway),
        reserved: reserved.map(|(name, address)| format!("{name}={address}")).collect(),
    })?;
    let network = call.engine().create_network(NetworkOptions {
        name: asked.name,
        internal: asked.internal,
        attachable: asked.attachable,
        ipv6: asked.enable_ipv6,
        driver: asked.driver,
        labels: asked.labels,
        options: asked.options,
        ..addresses
    })?;
    json(201, &json!({ "Id": network.id, "Warning": "" }))
}

/// `DELETE /networks/{id}`
pub(super) fn remove(call: &mut Call<'_, '_>) -> Answer {
    let engine = call.engine();
    engine.remove_network(&engine.network(call.name())?)?;
    done()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Connection {
    container: String,
    endpoint_config: EndpointConfig,
    force: bool,
}

/// `POST /networks/{id}/connect`
pub(super) fn connect(call: &mut Call<'_, '_>) -> Answer {
    let asked: Connection = call.input()?;
    let engine = call.engine();
    let network = engine.network(call.name())?;
    let membership = membership(&network.name, &asked.endpoint_config)?;
    let links = links(&asked.endpoint_config)?;
    engine.connect(&network, &engine.find(&asked.container)?, membership, &links)?;
    Ok(Some(Reply::new(200)))
}

/// `POST /networks/{id}/disconnect`: with force, from what it is not connected with, too.
pub(super) fn disconnect(call: &mut Call<'_, '_>) -> Answer {
    let asked: Connection = call.input()?;
    let engine = call.engine();
    let network = engine.network(call.name())?;
    match engine.disconnect(&network, &engine.find(&asked.container)?) {
        Err(error) if asked.force && error.kind() == engine::Kind::Conflict => {}
        outcome => outcome?,
    }
    Ok(Some(Reply::new(200)))
}
