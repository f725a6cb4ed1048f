//! Short spellings, and the long ones that they stand for.

use crate::error::{Error, Place, Result};
use crate::node::{Kind, Map, Node, Value};
use crate::scalar;

/// How many ports one short spelling may stand for.
const PORT_COUNT_MAX: u32 = 1024;

/// A mapping of these entries, without those that are nothing.
fn made(place: &Place, entries: impl IntoIterator<Item = (&'static str, Option<Node>)>) -> Node {
    let mut map = Map::default();
    for (key, node) in entries {
        if let Some(node) = node {
            map.set(key, node);
        }
    }
    Node::map(map, place)
}

fn text(place: &Place, text: &str) -> Option<Node> {
    Some(Node::text(text, place))
}

/// Each element that is a word is made long; the others are long already.
fn each(node: Node, lengthen: impl Fn(&Node, &str) -> Result<Vec<Node>>) -> Result<Node> {
    let Value::List(items) = node.value else { return Ok(node) };
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        match item.word() {
            Some(word) => all.extend(lengthen(&item, word)?),
            None => all.push(item),
        }
    }
    Ok(Node::new(Value::List(all), &node.place).marked(node.mark))
}

/// A list of names as a mapping of those names.
fn keys(node: Node, value: impl Fn(&Place) -> Node) -> Node {
    let Value::List(items) = &node.value else { return node };
    let mut map = Map::default();
    for item in items {
        if let Some(word) = item.word() {
            map.set(word, value(&item.place));
        }
    }
    Node::map(map, &node.place).marked(node.mark)
}

fn named(node: Node, key: &'static str) -> Node {
    match node.word() {
        Some(word) => made(&node.place, [(key, text(&node.place, word))]).marked(node.mark),
        None => node,
    }
}

pub(crate) fn include(node: Node, _: &str) -> Result<Node> {
    Ok(named(node, "path"))
}

pub(crate) fn build(node: Node, _: &str) -> Result<Node> {
    Ok(named(node, "context"))
}

pub(crate) fn extends(node: Node, _: &str) -> Result<Node> {
    Ok(named(node, "service"))
}

pub(crate) fn networks(node: Node, _: &str) -> Result<Node> {
    Ok(keys(node, Node::null))
}

pub(crate) fn depends_on(node: Node, _: &str) -> Result<Node> {
    let started = |place: &Place| {
        let condition = text(place, "service_started");
        made(place, [("condition", condition), ("required", Some(Node::bool(true, place)))])
    };
    let mut node = keys(node, started);
    for (_, dependency) in node.entries_mut().into_iter().flat_map(Map::iter_mut) {
        let place = dependency.place.clone();
        if dependency.is_null() {
            *dependency = started(&place);
        } else if let Some(map) = dependency.entries_mut()
            && map.get("required").is_none()
        {
            map.set("required", Node::bool(true, &place));
        }
    }
    Ok(node)
}

/// `external: true`, or the old `external: {name: …}`.
pub(crate) fn external(mut node: Node, path: &str) -> Result<Node> {
    let Some(map) = node.entries_mut() else { return Ok(node) };
    let Some(external) = map.get("external") else { return Ok(node) };
    let Value::Map(inner) = &external.value else { return Ok(node) };
    let place = external.place.clone();
    let name = inner.get("name").cloned();
    if inner.keys().any(|key| key != "name") {
        return Err(Error::at(&place, format!("{path}.external has nothing but a name")));
    }
    if let Some(name) = name {
        if map.get("name").is_some_and(|known| *known != name) {
            let message = format!("{path}: name and external.name conflict; only use name");
            return Err(Error::at(&place, message));
        }
        map.set("name", name);
    }
    map.set("external", Node::bool(true, &place));
    Ok(node)
}

/// Secrets and configs.
pub(crate) fn mounted(node: Node, _: &str) -> Result<Node> {
    each(node, |item, word| Ok(vec![made(&item.place, [("source", text(&item.place, word))])]))
}

pub(crate) fn env_file(node: Node, _: &str) -> Result<Node> {
    let place = node.place.clone();
    let node = match node.word() {
        Some(word) => Node::texts([word], &place).marked(node.mark),
        None => node,
    };
    let mut node =
        each(node, |item, word| Ok(vec![made(&item.place, [("path", text(&item.place, word))])]))?;
    if let Value::List(items) = &mut node.value {
        for item in items {
            let place = item.place.clone();
            if let Some(map) = item.entries_mut()
                && map.get("required").is_none()
            {
                map.set("required", Node::bool(true, &place));
            }
        }
    }
    Ok(node)
}

/// A mapping of hosts, or `host=address` and `host:address` in a list.
#[expect(clippy::needless_pass_by_value, reason = "the type of all functions of this kind")]
pub(crate) fn hosts(node: Node, path: &str) -> Result<Node> {
    let place = node.place.clone();
    let mark = node.mark;
    let mut all = Vec::new();
    match &node.value {
        Value::Map(map) => {
            for (host, addresses) in map.iter() {
                let one = [addresses.clone()];
                let list = if addresses.word().is_some() { &one[..] } else { addresses.items() };
                let words = list.iter().filter_map(Node::word);
                all.extend(words.map(|address| Node::text(format!("{host}={address}"), &place)));
            }
        }
        _ => {
            for item in node.items() {
                let Some(word) = item.word() else { return item.must(path, "a list of hosts") };
                let split = word.split_once('=').or_else(|| word.split_once(':'));
                let Some((host, address)) = split else {
                    let message = format!("{path}: bad host name '{word}'");
                    return Err(Error::at(&item.place, message).hint("as in db=10.0.0.5"));
                };
                all.push(Node::text(format!("{host}={address}"), &item.place));
            }
        }
    }
    Ok(Node::new(Value::List(all), &place).marked(mark))
}

pub(crate) fn devices(node: Node, path: &str) -> Result<Node> {
    each(node, |item, word| {
        let place = &item.place;
        let parts: Vec<&str> = word.split(':').collect();
        let (source, target, permissions) = match parts[..] {
            [source] => (source, source, "rwm"),
            [source, target] if target.starts_with('/') => (source, target, "rwm"),
            [source, permissions] => (source, source, permissions),
            [source, target, permissions] => (source, target, permissions),
            _ => {
                return Err(Error::at(place, format!("{path}: invalid device {word}"))
                    .hint("as in /dev/ttyUSB0:/dev/ttyUSB0:rw"));
            }
        };
        Ok(vec![made(
            place,
            [
                ("source", text(place, source)),
                ("target", text(place, target)),
                ("permissions", text(place, permissions)),
            ],
        )])
    })
}

/// `[[address:]host:]container[/protocol]`, where ports may be ranges.
pub(crate) fn ports(node: Node, path: &str) -> Result<Node> {
    let mut node = each(node, |item, word| port(item, word, path))?;
    if let Value::List(items) = &mut node.value {
        for item in items {
            let place = item.place.clone();
            let Some(map) = item.entries_mut() else { continue };
            if map.get("mode").is_none() {
                map.set("mode", Node::text("ingress", &place));
            }
            if map.get("protocol").is_none() {
                map.set("protocol", Node::text("tcp", &place));
            }
        }
    }
    Ok(node)
}

fn port(item: &Node, word: &str, path: &str) -> Result<Vec<Node>> {
    let place = &item.place;
    let bad = |what: String| {
        Error::at(place, format!("{path}: {what}"))
            .hint("a port is published as in 8080:80, 127.0.0.1:8080:80 or 53:53/udp")
    };
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let (rest, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(bad(format!("invalid IP address: {address}")));
    }
    if !matches!(protocol.to_ascii_lowercase().as_str(), "tcp" | "udp" | "sctp") {
        return Err(bad(format!("invalid proto: {protocol}")));
    }
    let invalid = |what: &str, ports: &str| bad(format!("invalid {what}: {ports}"));
    let (first, last) = match range(container) {
        Some((first, last)) if first > 0 => (first, last),
        _ => return Err(invalid("containerPort", container)),
    };
    let published = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| invalid("hostPort", host))?),
    };
    let count = last - first;
    if count >= PORT_COUNT_MAX {
        return Err(bad(format!("more than {PORT_COUNT_MAX} ports: {word}")));
    }
    if let Some((from, to)) = published
        && count > 0
        && to - from != count
    {
        return Err(bad(format!(
            "invalid ranges specified for container and host Ports: '{container}' and '{host}'"
        )));
    }
    let one = |port: u32| {
        let published = match (published, count) {
            (None, _) => None,
            (Some(_), 0) => Some(host.to_owned()),
            (Some((from, _)), _) => Some((from + port - first).to_string()),
        };
        made(
            place,
            [
                ("mode", text(place, "ingress")),
                ("host_ip", text(place, address).filter(|_| !address.is_empty())),
                ("target", Some(Node::int(port.into(), place))),
                ("published", published.map(|published| Node::text(published, place))),
                ("protocol", text(place, &protocol.to_ascii_lowercase())),
            ],
        )
    };
    Ok((first..=last).map(one).collect())
}

fn range(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits).map(u32::from)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// `[source:]target[:options]`.
pub(crate) fn volumes(node: Node, path: &str) -> Result<Node> {
    let mut node = each(node, |item, word| volume(item, word, path).map(|one| vec![one]))?;
    if let Value::List(items) = &mut node.value {
        for (index, item) in items.iter_mut().enumerate() {
            check_mount(item, &format!("{path}[{index}]"))?;
        }
    }
    Ok(node)
}

fn check_mount(item: &mut Node, path: &str) -> Result<()> {
    let place = item.place.clone();
    let Some(map) = item.entries_mut() else { return item.must(path, "a string or a mapping") };
    if map.get("type").is_none() {
        return Err(Error::at(&place, format!("{path}: type is required"))
            .hint("types are bind, volume, tmpfs and image"));
    }
    let Some(target) = map.get("target").and_then(Node::word) else {
        return Err(Error::at(&place, format!("{path} is missing a mount target")));
    };
    let clean = clean(target);
    map.set("target", Node::text(clean, &place));
    Ok(())
}

/// A path without `.`, `..`, doubled and last slashes, by its words alone.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if path.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    match format!("{root}{}", parts.join("/")) {
        empty if empty.is_empty() => ".".to_owned(),
        cleaned => cleaned,
    }
}

fn volume(item: &Node, word: &str, path: &str) -> Result<Node> {
    let place = &item.place;
    let bad = |why: &str| {
        Error::at(place, format!("{path}: invalid spec: {word}: {why}"))
            .hint("as in data:/var/lib/data, ./conf:/etc/conf:ro or /scratch")
    };
    let parts: Vec<&str> = word.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(bad("too many colons")),
    };
    if target.is_empty() || (source.is_empty() && parts.len() > 1) {
        return Err(bad("empty section between colons"));
    }
    let is_bind = source.starts_with(['.', '/', '~']);
    let mut bind = Map::default();
    let mut own = Map::default();
    let mut read_only = None;
    let mut consistency = None;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = Some(Node::bool(true, place)),
            "rw" => {}
            "nocopy" => own.set("nocopy", Node::bool(true, place)),
            "z" | "Z" => bind.set("selinux", Node::text(option, place)),
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                bind.set("propagation", Node::text(option, place));
            }
            "cached" | "delegated" | "consistent" => consistency = text(place, option),
            // As Docker Compose, which reads what it does not know as words for others.
            _ => return Err(bad(&format!("unknown option {option}"))),
        }
    }
    let kind = if is_bind { "bind" } else { "volume" };
    let (bind, own) = (Node::map(bind, place), Node::map(own, place));
    Ok(made(
        place,
        [
            ("type", text(place, kind)),
            ("source", text(place, source).filter(|_| !source.is_empty())),
            ("target", text(place, target)),
            ("read_only", read_only),
            ("consistency", consistency),
            ("bind", is_bind.then_some(bind)),
            ("volume", (!is_bind).then_some(own)),
        ],
    ))
}

/// A mode of files as it is written in the one form: in octal digits.
pub(crate) fn mode(node: &Node) -> Option<u32> {
    let text = node.word()?;
    let is_number = matches!(node.value, Value::Scalar(Kind::Int, _));
    let number = match is_number {
        true => scalar::integer(text)?,
        false => i64::from_str_radix(text.trim_start_matches("0o"), 8).ok()?,
    };
    u32::try_from(number).ok().filter(|mode| *mode <= 0o7777)
}
