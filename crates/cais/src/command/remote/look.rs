//! What is shown of one thing, and what goes on.

use std::io::BufReader;

use engine::{Error, Kind, Result};
use jiff::Timestamp;
use remote::Request;
use serde_json::Value;

use super::list::{filters, text};
use super::{Remote, stream};
use crate::command::inspect as local;
use crate::command::network::inspect as network_inspect;
use crate::command::volume::inspect as volume_inspect;
use crate::command::{self, each};

/// The kinds of objects as people and as paths name them, in the order in which Docker looks.
const KINDS: [(&str, &str); 4] = [
    ("container", "containers"),
    ("image", "images"),
    ("network", "networks"),
    ("volume", "volumes"),
];

pub(super) fn inspect(remote: &Remote<'_>, args: &local::Args) -> Result<i32> {
    let kind = args.kind.as_deref();
    if let Some(kind) = kind.filter(|kind| KINDS.iter().all(|(known, _)| known != kind)) {
        let kinds = KINDS.map(|(kind, _)| format!("{kind:?}")).join(", ");
        return Err(Error::invalid(format!("unknown type: {kind:?}: must be one of {kinds}")));
    }
    objects(remote, &args.names, args.format.as_deref(), |name| {
        object(remote, name, kind, args.size)
    })
}

fn object(remote: &Remote<'_>, name: &str, kind: Option<&str>, size: bool) -> Result<Value> {
    for (_, family) in KINDS.iter().filter(|(of, _)| kind.is_none_or(|kind| kind == *of)) {
        let found = match *family {
            "containers" => {
                let request = Request::new("GET", &[family, name, "json"]);
                remote.json(request.with_flag("size", size))
            }
            family => remote.inspect(family, name),
        };
        match found {
            Err(error) if error.kind() == Kind::NotFound => {}
            outcome => return outcome,
        }
    }
    Err(Error::new(Kind::NotFound, format!("No such {}: {name}", kind.unwrap_or("object"))))
}

/// Shows whatever was found of several names.
fn objects(
    remote: &Remote<'_>,
    names: &[String],
    format: Option<&str>,
    mut find: impl FnMut(&str) -> Result<Value>,
) -> Result<i32> {
    let mut found = Vec::new();
    let code = each(names, |name| {
        found.push(find(name)?);
        Ok(())
    })?;
    local::print(remote.session, format, found).map(|()| code)
}

pub(super) fn inspect_container(remote: &Remote<'_>, args: &local::Args) -> Result<i32> {
    objects(remote, &args.names, args.format.as_deref(), |name| {
        object(remote, name, Some("container"), args.size)
    })
}

pub(super) fn inspect_image(remote: &Remote<'_>, args: &local::ImageArgs) -> Result<i32> {
    if args.platform.is_some() {
        let message = "image inspect --platform is not supported for an engine elsewhere";
        return Err(Error::new(Kind::Unsupported, message));
    }
    objects(remote, &args.names, args.format.as_deref(), |name| remote.inspect("images", name))
}

pub(super) fn inspect_network(remote: &Remote<'_>, args: &network_inspect::Args) -> Result<i32> {
    objects(remote, &args.networks, args.format.as_deref(), |name| {
        let request = Request::new("GET", &["networks", name]);
        remote.json(request.with_flag("verbose", args.verbose))
    })
}

pub(super) fn inspect_volume(remote: &Remote<'_>, args: &volume_inspect::Args) -> Result<i32> {
    objects(remote, &args.volumes, args.format.as_deref(), |name| remote.inspect("volumes", name))
}

pub(super) fn logs(remote: &Remote<'_>, args: &command::logs::Args) -> Result<i32> {
    let found = remote.inspect("containers", &args.container)?;
    let request = Request::new("GET", &["containers", &args.container, "logs"]);
    let request = request.with("stdout", "1").with("stderr", "1").with("tail", &args.tail);
    let request = request.with_flag("follow", args.follow).with_flag("details", args.details);
    let request = request.with_flag("timestamps", args.timestamps);
    let since = args.since.as_deref().map(|text| seconds("since", text)).transpose()?;
    let until = args.until.as_deref().map(|text| seconds("until", text)).transpose()?;
    let request = request.with_some("since", since.unwrap_or_default());
    let answer = remote.ask(request.with_some("until", until.unwrap_or_default()))?;
    let is_terminal = found["Config"]["Tty"] == true;
    let mut body = BufReader::new(answer.into_body());
    stream::show(&mut body, is_terminal).or_else(|error| stream::forgive(remote, error)).map(|()| 0)
}

/// A time, or an age, as the API has it: seconds since 1970, and nanoseconds.
fn seconds(name: &str, text: &str) -> Result<String> {
    let nanoseconds = command::events::nanoseconds(name, text, Timestamp::now())?;
    Ok(format!(
        "{}.{:09}",
        nanoseconds.div_euclid(1_000_000_000),
        nanoseconds.rem_euclid(1_000_000_000)
    ))
}

pub(super) fn events(remote: &Remote<'_>, args: &command::events::Args) -> Result<i32> {
    let format = command::events::Format::parse(args.format.as_deref())?;
    let since = args.since.as_deref().map(|text| seconds("since", text)).transpose()?;
    let until = args.until.as_deref().map(|text| seconds("until", text)).transpose()?;
    let request = Request::new("GET", &["events"]).with_some("filters", filters(&args.filter)?);
    let request = request.with_some("since", since.unwrap_or_default());
    let answer = remote.ask(request.with_some("until", until.unwrap_or_default()))?;
    for event in
        serde_json::Deserializer::from_reader(BufReader::new(answer.into_body())).into_iter()
    {
        let event: Value = event.map_err(|error| remote.broken(error.into()))?;
        remote.session.print(&format.line(&event)?)?;
    }
    Ok(0)
}

pub(super) fn top(remote: &Remote<'_>, args: &command::top::Args) -> Result<i32> {
    let request = Request::new("GET", &["containers", &args.container, "top"]);
    let found = remote.json(request.with_some("ps_args", args.options.join(" ")))?;
    let words = |row: &Value| -> Vec<String> {
        let words = row.as_array().into_iter().flatten().filter_map(Value::as_str);
        words.map(str::to_owned).collect()
    };
    let mut rows = vec![words(&found["Titles"])];
    rows.extend(found["Processes"].as_array().into_iter().flatten().map(words));
    remote.session.print(&command::top::columns(&rows)).map(|()| 0)
}

pub(super) fn port(remote: &Remote<'_>, args: &command::port::Args) -> Result<i32> {
    let found = remote.inspect("containers", &args.container)?;
    let ports = &found["NetworkSettings"]["Ports"];
    let places = |bindings: &Value| -> Vec<String> {
        let bindings = bindings.as_array().into_iter().flatten();
        let shown = bindings.map(|binding| {
            let (host, port) = (text(binding, "HostIp"), text(binding, "HostPort"));
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        });
        shown.collect()
    };
    let Some(asked) = &args.port else {
        let mut lines: Vec<String> = Vec::new();
        for (port, bindings) in ports.as_object().into_iter().flatten() {
            lines.extend(places(bindings).iter().map(|place| format!("{port} -> {place}")));
        }
        return lines.iter().try_for_each(|line| remote.session.say(line)).map(|()| 0);
    };
    let (number, protocol) = engine::parse_port(asked)?;
    let name = format!("{number}/{}", protocol.name());
    let found = places(&ports[&name]);
    if found.is_empty() {
        let message = format!("no public port '{name}' published for {}", args.container);
        return Err(Error::new(Kind::NotFound, message));
    }
    found.iter().try_for_each(|place| remote.session.say(place)).map(|()| 0)
}

pub(super) fn diff(remote: &Remote<'_>, args: &command::diff::Args) -> Result<i32> {
    let is_own = args.content || args.binary || args.renames || args.stat || args.json;
    if is_own || args.layer.is_some() || args.b.is_some() || !args.paths.is_empty() {
        let message =
            "diff of more than a container's paths is not supported for an engine elsewhere";
        return Err(Error::new(Kind::Unsupported, message));
    }
    let found = remote.json(Request::new("GET", &["containers", &args.a, "changes"]))?;
    for change in found.as_array().into_iter().flatten() {
        let letter = match change["Kind"].as_u64() {
            Some(1) => "A",
            Some(2) => "D",
            _ => "C",
        };
        remote.session.say(format!("{letter} {}", text(change, "Path")))?;
    }
    Ok(0)
}

pub(super) fn version(remote: &Remote<'_>, args: &command::version::Args) -> Result<i32> {
    let mut version = docker::version(env!("CARGO_PKG_VERSION"));
    version["Server"] = remote.json(Request::new("GET", &["version"]))?;
    version["Client"]["Context"] = remote.context.as_str().into();
    command::version::print(remote.session, args.format.as_deref(), &version)
}

pub(super) fn info(remote: &Remote<'_>, args: &command::info::Args) -> Result<i32> {
    let info = remote.json(Request::new("GET", &["info"]))?;
    command::info::print(remote.session, args.format.as_deref(), info, &remote.context)
}
