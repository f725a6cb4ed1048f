//! Which handler answers what.

use httpd::decode;

use super::VERSIONS;
use super::call::{Answer, Call};
use super::failure::Failure;
use super::{
    archive, attach, build, buildkit, container, create, disk, events, exec, image, logs, network,
    prune, pull, session, stats, swarm, system, top, volume, wait,
};

/// Answers a request.
pub(super) type Handler = fn(&mut Call<'_, '_>) -> Answer;

/// Method, path, and handler. In a path, `*` stands for one part, and `**` for one or more, as names
/// of images have them. The first that fits counts.
const ROUTES: &[(&str, &str, Handler)] = &[
    ("HEAD", "_ping", system::ping),
    ("GET", "_ping", system::ping),
    ("GET", "version", system::version),
    ("GET", "info", system::info),
    ("GET", "events", events::events),
    ("GET", "system/df", disk::df),
    ("POST", "auth", system::auth),
    ("GET", "containers/json", container::list),
    ("GET", "containers/ps", container::list),
    ("POST", "containers/create", create::create),
    ("POST", "containers/prune", prune::containers),
    ("GET", "containers/*/json", container::inspect),
    ("GET", "containers/*/top", top::top),
    ("GET", "containers/*/logs", logs::logs),
    ("GET", "containers/*/changes", container::changes),
    ("GET", "containers/*/export", container::export),
    ("GET", "containers/*/stats", stats::stats),
    ("POST", "containers/*/start", container::start),
    ("POST", "containers/*/stop", container::stop),
    ("POST", "containers/*/restart", container::restart),
    ("POST", "containers/*/kill", container::kill),
    ("POST", "containers/*/pause", container::pause),
    ("POST", "containers/*/unpause", container::unpause),
    ("POST", "containers/*/update", container::update),
    ("POST", "containers/*/rename", container::rename),
    ("POST", "containers/*/resize", attach::resize),
    ("POST", "containers/*/attach", attach::attach),
    ("GET", "containers/*/attach/ws", attach::attach_ws),
    ("POST", "containers/*/wait", wait::wait),
    ("POST", "containers/*/exec", exec::create),
    ("HEAD", "containers/*/archive", archive::stat),
    ("GET", "containers/*/archive", archive::get),
    ("PUT", "containers/*/archive", archive::put),
    ("DELETE", "containers/**", container::remove),
    ("POST", "exec/*/start", exec::start),
    ("POST", "exec/*/resize", exec::resize),
    ("GET", "exec/*/json", exec::inspect),
    ("POST", "commit", image::commit),
    ("GET", "images/json", image::list),
    ("GET", "images/search", image::search),
    ("GET", "images/get", image::save),
    ("POST", "images/load", image::load),
    ("POST", "images/create", pull::create),
    ("POST", "images/prune", prune::images),
    ("GET", "images/**/get", image::save),
    ("GET", "images/**/json", image::inspect),
    ("GET", "images/**/history", image::history),
    ("POST", "images/**/push", pull::push),
    ("POST", "images/**/tag", image::tag),
    ("DELETE", "images/**", image::remove),
    ("GET", "distribution/**/json", pull::distribution),
    ("POST", "build", build::build),
    ("POST", "build/prune", prune::builds),
    ("POST", "session", session::session),
    ("POST", "grpc", buildkit::grpc),
    ("GET", "volumes", volume::list),
    ("POST", "volumes/create", volume::create),
    ("POST", "volumes/prune", prune::volumes),
    ("GET", "volumes/*", volume::inspect),
    ("PUT", "volumes/*", swarm::no_manager),
    ("DELETE", "volumes/*", volume::remove),
    ("GET", "networks", network::list),
    ("POST", "networks/create", network::create),
    ("POST", "networks/prune", prune::networks),
    ("GET", "networks/*", network::inspect),
    ("DELETE", "networks/*", network::remove),
    ("POST", "networks/*/connect", network::connect),
    ("POST", "networks/*/disconnect", network::disconnect),
    ("GET", "plugins", swarm::plugins),
    ("GET", "plugins/privileges", swarm::no_plugins),
    ("POST", "plugins/pull", swarm::no_plugins),
    ("POST", "plugins/create", swarm::no_plugins),
    ("GET", "plugins/**/json", swarm::no_plugin),
    ("POST", "plugins/**/upgrade", swarm::no_plugin),
    ("POST", "plugins/**/push", swarm::no_plugin),
    ("POST", "plugins/**/set", swarm::no_plugin),
    ("DELETE", "plugins/**", swarm::no_plugin),
    ("POST", "plugins/**/enable", swarm::no_plugin),
    ("POST", "plugins/**/disable", swarm::no_plugin),
    ("GET", "swarm", swarm::no_manager),
    ("POST", "swarm/init", swarm::no_swarm),
    ("POST", "swarm/join", swarm::no_swarm),
    ("POST", "swarm/leave", swarm::no_node),
    ("POST", "swarm/update", swarm::no_manager),
    ("GET", "swarm/unlockkey", swarm::no_manager),
    ("POST", "swarm/unlock", swarm::no_manager),
    ("GET", "nodes", swarm::no_manager),
    ("GET", "nodes/*", swarm::no_manager),
    ("DELETE", "nodes/*", swarm::no_manager),
    ("POST", "nodes/*/update", swarm::no_manager),
    ("GET", "services", swarm::no_manager),
    ("POST", "services/create", swarm::no_manager),
    ("GET", "services/*", swarm::no_manager),
    ("DELETE", "services/*", swarm::no_manager),
    ("POST", "services/*/update", swarm::no_manager),
    ("GET", "services/*/logs", swarm::no_manager),
    ("GET", "tasks", swarm::no_manager),
    ("GET", "tasks/*", swarm::no_manager),
    ("GET", "tasks/*/logs", swarm::no_manager),
    ("GET", "secrets", swarm::no_manager),
    ("POST", "secrets/create", swarm::no_manager),
    ("GET", "secrets/*", swarm::no_manager),
    ("DELETE", "secrets/*", swarm::no_manager),
    ("POST", "secrets/*/update", swarm::no_manager),
    ("GET", "configs", swarm::no_manager),
    ("POST", "configs/create", swarm::no_manager),
    ("GET", "configs/*", swarm::no_manager),
    ("DELETE", "configs/*", swarm::no_manager),
    ("POST", "configs/*/update", swarm::no_manager),
];

/// The version that a path begins with, the newest where it begins with none; and the rest.
pub(super) fn version(path: &str) -> Result<(u32, &str), Failure> {
    let rest = path.trim_start_matches('/');
    let newest = *VERSIONS.end();
    let (first, after) = rest.split_once('/').unwrap_or((rest, ""));
    let digits = first.strip_prefix('v').filter(|digits| {
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    });
    let Some(digits) = digits else { return Ok((newest, rest)) };
    let (major, minor) = digits.split_once('.').unwrap_or((digits, "0"));
    let number = |text: &str| text.parse::<u32>().unwrap_or(u32::MAX);
    let asked = (number(major), number(minor));
    if asked < (1, *VERSIONS.start()) {
        return Err(Failure::bad(format!(
            "client version {digits} is too old. Minimum supported API version is 1.{}, please \
             upgrade your client to a newer version",
            VERSIONS.start()
        )));
    }
    if asked > (1, newest) {
        return Err(Failure::bad(format!(
            "client version {digits} is too new. Maximum supported API version is 1.{newest}"
        )));
    }
    Ok((asked.1, after))
}

/// The handler of a path, and what stands in it where the route is open.
pub(super) fn find(method: &str, path: &str) -> Result<(Handler, Vec<String>), Failure> {
    let missing = || Failure::new(404, "page not found");
    let path = path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    for (known, route, handler) in ROUTES {
        if *known == method
            && let Some(open) = fits(route, &parts)
        {
            let names = open.iter().map(|name| decode(name)).collect::<Option<Vec<_>>>();
            return Ok((*handler, names.ok_or_else(missing)?));
        }
    }
    Err(missing())
}

/// What stands in a path where the route is open; `None` if it does not fit.
fn fits(route: &str, parts: &[&str]) -> Option<Vec<String>> {
    let mut open = Vec::new();
    let wanted: Vec<&str> = route.split('/').collect();
    let mut rest = parts;
    for (index, word) in wanted.iter().enumerate() {
        let count = match *word {
            "**" => rest.len().checked_sub(wanted.len() - index - 1)?,
            _ => 1,
        };
        let (taken, after) = rest.split_at_checked(count)?;
        let text = taken.join("/");
        match *word {
            "*" | "**" if text.is_empty() => return None,
            "*" | "**" => open.push(text),
            literal if literal == text => {}
            _ => return None,
        }
        rest = after;
    }
    rest.is_empty().then_some(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_a_version_or_the_newest() {
        assert_eq!(version("/v1.24/_ping").unwrap(), (24, "_ping"));
        assert_eq!(version("/_ping").unwrap(), (*VERSIONS.end(), "_ping"));
        assert_eq!(version("/volumes/x").unwrap(), (*VERSIONS.end(), "volumes/x"));
        for path in ["/v1.23/_ping", "/v0/_ping", "/v1.999/_ping", "/v2.0/_ping", "/v1.x.1/info"] {
            assert!(version(path).is_err() || path.contains('x'), "{path}");
        }
    }

    #[test]
    fn names_of_images_have_slashes() {
        let open = |method: &str, path: &str| find(method, path).map(|(_, names)| names);
        assert_eq!(open("GET", "images/a/b/c:1/json").unwrap(), ["a/b/c:1"]);
        assert_eq!(open("GET", "images/docker.io%2Fa/json").unwrap(), ["docker.io/a"]);
        assert_eq!(open("GET", "images/json").unwrap(), [""; 0]);
        assert_eq!(open("DELETE", "images/a/b").unwrap(), ["a/b"]);
        assert_eq!(open("DELETE", "containers/a").unwrap(), ["a"]);
        for (method, path) in [
            ("GET", "containers//json"),
            ("GET", "containers/a/b/json"),
            ("PUT", "containers/a/json"),
            ("GET", "images//json"),
            ("GET", "containers/%zz/json"),
            ("GET", ""),
        ] {
            assert!(open(method, path).is_err(), "{method} {path}");
        }
    }
}
