//! Containers as lists have them: which ones, and in what words.

use engine::{Container, Engine, MountSource, NetworkMode, Result, Status};
use jiff::Timestamp;
use oci::Reference;

use crate::filter::{Filters, Pattern, has_label};
use crate::grammar::exposed;
use crate::time::age;

/// The keys of filters of containers.
pub const CONTAINER_FILTERS: &[&str] = &[
    "ancestor", "before", "exited", "expose", "health", "id", "label", "name", "network",
    "publish", "since", "status", "volume",
];
/// Docker's words for the health of a container.
const HEALTHS: &[&str] = &["starting", "healthy", "unhealthy", "none"];
/// Docker's words for where a container is in its life; Cais knows no `dead`.
const STATUSES: &[&str] =
    &["created", "restarting", "running", "removing", "paused", "exited", "dead"];
/// The containers that the filters leave.
#[derive(Debug)]
pub struct ContainerFilter<'a> {
    filters: &'a Filters,
    names: Vec<Pattern>,
    /// The images that it may have been made of; `None` for one that is not here.
    ancestors: Vec<Option<oci::Digest>>,
    /// When those were created that it must be older than, RFC 3339.
    before: Vec<String>,
    /// When those were created that it must be younger than, RFC 3339.
    since: Vec<String>,
    /// Ports of the host, and ports of its own, of which one must be among its.
    published: Vec<String>,
    exposed: Vec<String>,
}

impl<'a> ContainerFilter<'a> {
    /// Looks up what the conditions name.
    ///
    /// # Errors
    /// For a value that means nothing, or names a container that is not there.
    pub fn new(engine: &Engine, filters: &'a Filters) -> Result<Self> {
        let image = |name: &str| match engine.image(name) {
            Ok(image) => Ok(Some(image.id)),
            Err(error) if error.kind() == engine::Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let created = |key: &str| {
            let find = |name| engine.find(name).map(|container| container.record.created);
            filters.values(key).map(find).collect::<Result<_>>()
        };
        let ports = |key: &str| {
            let all = filters.values(key).map(exposed).collect::<Result<Vec<_>>>();
            all.map(|all| all.concat())
        };
        filters.only("status", STATUSES)?;
        filters.only("health", HEALTHS)?;
        Ok(Self {
            filters,
            names: filters.patterns("name")?,
            ancestors: filters.values("ancestor").map(image).collect::<Result<_>>()?,
            before: created("before")?,
            since: created("since")?,
            published: ports("publish")?,
            exposed: ports("expose")?,
        })
    }

    fn fits_ports(&self, container: &Container) -> bool {
        if self.published.is_empty() && self.exposed.is_empty() {
            return true;
        }
        let word = |port: u16, protocol: engine::Protocol| format!("{port}/{}", protocol.name());
        let published = |port: &engine::Port| {
            self.published.contains(&word(port.port, port.protocol))
                || self.exposed.contains(&word(port.to_port, port.protocol))
        };
        let exposed = container.exposed();
        container.state.ports.iter().any(published)
            || exposed.iter().any(|(port, kind)| self.exposed.contains(&word(*port, *kind)))
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn has(&self, container: &Container) -> bool {
        let record = &container.record;
        let name = |pattern: &Pattern| {
            // Docker's names start with a slash, which nobody writes.
            pattern.is_match(&record.name) || pattern.is_match(&format!("/{}", record.name))
        };
        let volume = |wanted: &str| {
            record.settings.mounts.iter().any(|mount| {
                matches!(&mount.source, MountSource::Volume { name, .. } if name == wanted)
                    || mount.target == wanted
            })
        };
        let exited = |code: &str| {
            container.state.status == Status::Exited
                && code == container.state.exit_code.to_string()
        };
        let filters = self.filters;
        // A pod runs nothing: it is seen by who asks for its label, or its name.
        let is_shown = record.settings.pod.is_none() || filters.has("label");
        is_shown
            && filters.any("id", |id| record.id.starts_with(id))
            && filters.all("label", |label| has_label(&record.config.labels, label))
            && filters.any("status", |status| status == container.state.status.word())
            && filters.any("exited", exited)
            && (!filters.has("health") || filters.any("health", |word| word == health(container)))
            && filters.any("volume", volume)
            && filters
                .any("network", |network| network_names(container).iter().any(|n| n == network))
            && (self.names.is_empty() || self.names.iter().any(name))
            && (self.ancestors.is_empty() || self.ancestors.contains(&Some(record.image_id)))
            && self.fits_ports(container)
            && self.before.iter().all(|time| record.created < *time)
            && self.since.iter().all(|time| record.created > *time)
    }
}

/// The names of the networks that it is on.
#[must_use]
pub fn network_names(container: &Container) -> Vec<String> {
    match &container.record.settings.network {
        NetworkMode::Host => vec!["host".into()],
        NetworkMode::None => vec!["none".into()],
        _ => container.record.settings.networks().into_iter().map(|m| m.network).collect(),
    }
}

/// Where it is in its life, in words: `Up 2 minutes (healthy)`.
#[must_use]
pub fn status(container: &Container, now: Timestamp) -> String {
    let state = &container.state;
    match state.status {
        Status::Created => "Created".into(),
        Status::Running => {
            let up = format!("Up {}", age(&state.started_at, now));
            match health(container) {
                "none" => up,
                "starting" => format!("{up} (health: starting)"),
                health => format!("{up} ({health})"),
            }
        }
        Status::Restarting => {
            let age = age(&state.finished_at, now);
            format!("Restarting ({}) {age} ago", state.exit_code)
        }
        Status::Paused => format!("Up {} (Paused)", age(&state.started_at, now)),
        Status::Exited => {
            let why = if state.oom_killed { " (out of memory)" } else { "" };
            let age = age(&state.finished_at, now);
            format!("Exited ({}) {age} ago{why}", state.exit_code)
        }
        Status::Removing => "Removal In Progress".into(),
    }
}

/// Docker's word for its health.
pub(crate) fn health(container: &Container) -> &'static str {
    container.health().map_or("none", |health| health.status.word())
}

/// A command as Docker shows it: arguments with blanks are quoted, the program never is.
pub fn command_line<'a>(words: impl Iterator<Item = &'a String>) -> String {
    let quoted = words.enumerate().map(|(at, word)| match at > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// An image's name as it was given; an id in short.
#[must_use]
pub fn image_name(name: &str) -> String {
    let bare = name.strip_prefix("sha256:").unwrap_or(name);
    if bare.len() == 64 && bare.bytes().all(|b| b.is_ascii_hexdigit()) {
        return bare[..12].to_owned();
    }
    match name.parse::<Reference>() {
        Ok(reference) if reference.digest().is_some() => reference.familiar_name(),
        _ => name.to_owned(),
    }
}

/// Whether a pattern with `*` and `?` fits the name with its tag, or without.
#[must_use]
pub fn reference_matches(pattern: &str, name: &Reference) -> bool {
    let normal = pattern.parse::<Reference>().map(|pattern| pattern.familiar_name());
    let tagged = format!("{}:{}", name.familiar_name(), name.tag().unwrap_or_default());
    glob(pattern, &name.familiar_name())
        || glob(pattern, &tagged)
        || normal.is_ok_and(|normal| normal == name.familiar_name() && !pattern.contains(':'))
}

/// `*` is anything but a slash, `?` one character but a slash.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut read) = (0, 0);
    // What is behind the last star, and where that ends. No star passes a slash, so an earlier one
    // need not be tried again.
    let mut star = None;
    loop {
        match (pattern.get(at), text.get(read)) {
            (Some('*'), _) => {
                at += 1;
                star = Some((at, read));
                continue;
            }
            (Some(a), Some(b)) if a == b || *a == '?' && *b != '/' => {
                (at, read) = (at + 1, read + 1);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        match star {
            Some((behind, end)) if text.get(end).is_some_and(|c| *c != '/') => {
                star = Some((behind, end + 1));
                (at, read) = (behind, end + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names_and_tags() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(
                reference_matches(pattern, &name.parse().unwrap()),
                expected,
                "{pattern} {name}"
            );
        };
        check("ubuntu", "ubuntu:24.04", true);
        check("ubuntu:24*", "ubuntu:24.04", true);
        check("ubuntu:22.04", "ubuntu:24.04", false);
        check("bus*", "busybox", true);
        check("*", "a/b", false);
        check("*/*", "a/b", true);
        check("docker.io/library/ubuntu", "ubuntu", true);
        check("b*y?ox*", "busybox", true);
        check("a*/b*c", "aa/bbcc", true);
        // However many stars there are, it ends.
        check(&"*".repeat(8000), "busybox", true);
        check(&("*".repeat(8000) + "zz"), "busybox", false);
    }
}
