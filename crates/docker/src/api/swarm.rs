//! What this engine is not part of: swarms, and what it does not have: plugins.

use serde_json::json;

use super::call::{Answer, Call, json};
use super::failure::Failure;

/// What belongs to a swarm's managers; Docker's words.
pub(super) fn no_manager(_: &mut Call<'_, '_>) -> Answer {
    Err(Failure::new(
        503,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
         connect this node to swarm and try again.",
    ))
}

/// `POST /swarm/leave`
pub(super) fn no_node(_: &mut Call<'_, '_>) -> Answer {
    Err(Failure::new(503, "This node is not part of a swarm"))
}

/// `POST /swarm/init`, `POST /swarm/join`
pub(super) fn no_swarm(_: &mut Call<'_, '_>) -> Answer {
    Err(Failure::unsupported("swarms are not supported"))
}

/// `GET /plugins`
pub(super) fn plugins(_: &mut Call<'_, '_>) -> Answer {
    json(200, &json!([]))
}

/// What would bring a plugin.
pub(super) fn no_plugins(_: &mut Call<'_, '_>) -> Answer {
    Err(Failure::unsupported("plugins are not supported"))
}

/// What is about one plugin.
pub(super) fn no_plugin(call: &mut Call<'_, '_>) -> Answer {
    Err(Failure::new(404, format!("plugin \"{}\" not found", call.name())))
}
