//! Lists.

use std::collections::BTreeMap;

use engine::{Error, Kind, Result};
use jiff::Timestamp;
use remote::Request;
use serde_json::{Value, json};

use super::Remote;
use crate::command::network::ls as network_ls;
use crate::command::volume::ls as volume_ls;
use crate::command::{self, age, local_time, show};
use crate::output::{self, Row};

/// Characters of an id that lists show.
const SHORT_ID: usize = 12;
/// Characters of a mount's name that lists show.
const MOUNT_WIDTH: usize = 15;

/// `KEY=VALUE` pairs as the API has filters.
pub(super) fn filters(conditions: &[String]) -> Result<String> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in conditions {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            Error::invalid(format!("invalid filter '{text}'")).hint("a filter is KEY=VALUE")
        })?;
        all.entry(key.trim().to_lowercase()).or_default().push(value.trim().to_owned());
    }
    Ok(if all.is_empty() { String::new() } else { json!(all).to_string() })
}

/// A text of a document; empty if it is none.
pub(super) fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_default()
}

/// An id as lists show it.
pub(super) fn short(id: &str, no_trunc: bool) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    match digits.get(..SHORT_ID) {
        Some(short) if !no_trunc => short,
        _ => id,
    }
}

fn list(of: &Value) -> impl Iterator<Item = &Value> {
    of.as_array().into_iter().flatten()
}

fn labels(of: &Value) -> BTreeMap<String, String> {
    let fields = of["Labels"].as_object().into_iter().flatten();
    fields
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

fn joined(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// Seconds since 1970 as the API writes times elsewhere.
fn time(seconds: &Value) -> String {
    let time = Timestamp::from_second(seconds.as_i64().unwrap_or_default());
    time.unwrap_or_default().to_string()
}

fn size(bytes: &Value) -> String {
    output::human_size(bytes.as_u64().unwrap_or(0), 3)
}

pub(super) fn ps(remote: &Remote<'_>, args: &command::ps::Args) -> Result<i32> {
    let last = if args.latest { Some(1) } else { args.last };
    let last = last.map(|count| count.to_string()).unwrap_or_default();
    let request = Request::new("GET", &["containers", "json"]);
    let request = request.with_flag("all", args.all).with_flag("size", args.size);
    let request = request.with_some("limit", last).with_some("filters", filters(&args.filter)?);
    let found = remote.json(request)?;
    let now = Timestamp::now();
    let rows: Vec<Row> =
        list(&found).map(|container| container_row(container, args, now)).collect();
    let table = command::ps::TABLE;
    let table = if args.size { format!("{table}\t{{{{.Size}}}}") } else { table.to_owned() };
    let headers = command::ps::HEADERS;
    show(remote.session, args.format.as_deref(), args.quiet, &table, headers, &rows)
}

fn container_row(container: &Value, args: &command::ps::Args, now: Timestamp) -> Row {
    let created = time(&container["Created"]);
    let labels = labels(container);
    let line = text(container, "Command");
    let line = match args.no_trunc {
        true => line.to_owned(),
        false => output::ellipsis(line, command::ps::COMMAND_WIDTH),
    };
    // Of several names, those with a slash in them are links of others.
    let names = list(&container["Names"]).filter_map(Value::as_str);
    let names = names.map(|name| name.trim_start_matches('/'));
    let names: Vec<&str> = names.filter(|name| args.no_trunc || !name.contains('/')).collect();
    let mounts = list(&container["Mounts"]).map(|mount| {
        let name = if text(mount, "Name").is_empty() { "Source" } else { "Name" };
        match args.no_trunc {
            true => text(mount, name).to_owned(),
            false => output::ellipsis(text(mount, name), MOUNT_WIDTH),
        }
    });
    let mounts: Vec<String> = mounts.collect();
    let local = list(&container["Mounts"]).filter(|mount| mount["Driver"] == "local").count();
    let networks = container["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
    let networks: Vec<&str> = networks.map(|(name, _)| name.as_str()).collect();
    let image = match text(container, "Image") {
        "" => "<no image>",
        image if image.starts_with("sha256:") => short(image, args.no_trunc),
        image => image,
    };
    let sizes = match args.size {
        true => {
            let (own, all) = (size(&container["SizeRw"]), size(&container["SizeRootFs"]));
            format!("{own} (virtual {all})")
        }
        false => String::new(),
    };
    let fields = json!({
        "ID": short(text(container, "Id"), args.no_trunc),
        "Names": names.join(","),
        "Image": image,
        "Command": format!("\"{}\"", output::printable_line(&line)),
        "CreatedAt": local_time(&created),
        "RunningFor": format!("{} ago", age(&created, now)),
        "Ports": command::port::column_of_json(&container["Ports"]),
        "State": text(container, "State"),
        "Status": text(container, "Status"),
        "Size": sizes,
        "Labels": joined(&labels),
        "Mounts": mounts.join(","),
        "Networks": networks.join(","),
        "LocalVolumes": local.to_string(),
    });
    Row { fields, labels }
}

pub(super) fn images(remote: &Remote<'_>, args: &command::images::Args) -> Result<i32> {
    if args.tree {
        let message = "images --tree is not supported for an engine elsewhere";
        return Err(Error::new(Kind::Unsupported, message));
    }
    let mut conditions = args.filter.clone();
    conditions.extend(args.repository.iter().map(|name| format!("reference={name}")));
    let request = Request::new("GET", &["images", "json"]).with_flag("all", args.all);
    let found = remote.json(request.with_some("filters", filters(&conditions)?))?;
    let now = Timestamp::now();
    let mut rows: Vec<Row> = list(&found).flat_map(|image| image_rows(image, args, now)).collect();
    if args.quiet {
        rows.dedup_by(|a, b| a.fields["ID"] == b.fields["ID"]);
    }
    let table = match args.digests {
        true => command::images::TABLE_DIGESTS,
        false => command::images::TABLE,
    };
    let headers = command::images::HEADERS;
    show(remote.session, args.format.as_deref(), args.quiet, table, headers, &rows)
}

/// A row for each tag, and for each digest without one.
fn image_rows(image: &Value, args: &command::images::Args, now: Timestamp) -> Vec<Row> {
    let none = "<none>".to_owned();
    let words = |key: &str| list(&image[key]).filter_map(Value::as_str).collect::<Vec<_>>();
    let (tags, digests) = (words("RepoTags"), words("RepoDigests"));
    let of = |repository: &str| {
        let mut pairs = digests.iter().filter_map(|digest| digest.split_once('@'));
        let found = pairs.find(|(name, _)| *name == repository);
        found.map_or_else(|| none.clone(), |(_, digest)| digest.to_owned())
    };
    let tags = tags.iter().filter_map(|tag| tag.rsplit_once(':'));
    let tags: Vec<(&str, &str)> = tags.filter(|(name, _)| *name != "<none>").collect();
    let mut names: Vec<(String, String, String)> =
        tags.iter().map(|(name, tag)| ((*name).to_owned(), (*tag).to_owned(), of(name))).collect();
    for (name, digest) in digests.iter().filter_map(|digest| digest.split_once('@')) {
        if name != "<none>" && !tags.iter().any(|(known, _)| *known == name) {
            names.push((name.to_owned(), none.clone(), digest.to_owned()));
        }
    }
    if names.is_empty() {
        names.push((none.clone(), none.clone(), none.clone()));
    }
    let created = time(&image["Created"]);
    let row = |(repository, tag, digest): (String, String, String)| {
        Row::from(json!({
            "Repository": repository,
            "Tag": tag,
            "Digest": digest,
            "ID": short(text(image, "Id"), args.no_trunc),
            "CreatedSince": format!("{} ago", age(&created, now)),
            "CreatedAt": local_time(&created),
            "Size": size(&image["Size"]),
        }))
    };
    names.into_iter().map(row).collect()
}

pub(super) fn history(remote: &Remote<'_>, args: &command::history::Args) -> Result<i32> {
    if args.platform.is_some() {
        let message = "history --platform is not supported for an engine elsewhere";
        return Err(Error::new(Kind::Unsupported, message));
    }
    let found = remote.json(Request::new("GET", &["images", &args.image, "history"]))?;
    let now = Timestamp::now();
    let row = |layer: &Value| {
        let created = time(&layer["Created"]);
        let by = text(layer, "CreatedBy").replace('\t', " ");
        let since =
            if args.human { format!("{} ago", age(&created, now)) } else { created.clone() };
        let bytes = &layer["Size"];
        Row::from(json!({
            "ID": short(text(layer, "Id"), args.no_trunc),
            "CreatedSince": since,
            "CreatedAt": created,
            "CreatedBy": match args.no_trunc {
                true => by,
                false => output::ellipsis(&by, command::history::INSTRUCTION_WIDTH),
            },
            "Size": if args.human { size(bytes) } else { bytes.to_string() },
            "Comment": text(layer, "Comment"),
        }))
    };
    let rows: Vec<Row> = list(&found).map(row).collect();
    let (table, headers) = (command::history::TABLE, command::history::HEADERS);
    show(remote.session, args.format.as_deref(), args.quiet, table, headers, &rows)
}

pub(super) fn volumes(remote: &Remote<'_>, args: &volume_ls::Args) -> Result<i32> {
    let request = Request::new("GET", &["volumes"]).with_some("filters", filters(&args.filter)?);
    let found = remote.json(request)?;
    let row = |volume: &Value| {
        let labels = labels(volume);
        let fields = json!({
            "Availability": "N/A",
            "Driver": text(volume, "Driver"),
            "Group": "N/A",
            "Labels": joined(&labels),
            "Links": "N/A",
            "Mountpoint": text(volume, "Mountpoint"),
            "Name": text(volume, "Name"),
            "Scope": text(volume, "Scope"),
            "Size": "N/A",
            "Status": "N/A",
        });
        Row { fields, labels }
    };
    let rows: Vec<Row> = list(&found["Volumes"]).map(row).collect();
    let format = match (args.quiet, args.format.as_deref()) {
        (true, None) => Some("{{.Name}}"),
        (_, format) => format,
    };
    show(remote.session, format, false, volume_ls::TABLE, volume_ls::HEADERS, &rows)
}

pub(super) fn networks(remote: &Remote<'_>, args: &network_ls::Args) -> Result<i32> {
    let request = Request::new("GET", &["networks"]).with_some("filters", filters(&args.filter)?);
    let found = remote.json(request)?;
    let row = |network: &Value| {
        let labels = labels(network);
        let fields = json!({
            "ID": short(text(network, "Id"), args.no_trunc),
            "Name": text(network, "Name"),
            "Driver": text(network, "Driver"),
            "Scope": text(network, "Scope"),
            "IPv6": (network["EnableIPv6"] == true).to_string(),
            "Internal": (network["Internal"] == true).to_string(),
            "Labels": joined(&labels),
            "CreatedAt": local_time(text(network, "Created")),
        });
        Row { fields, labels }
    };
    let mut rows: Vec<Row> = list(&found).map(row).collect();
    rows.sort_by(|a, b| text(&a.fields, "Name").cmp(text(&b.fields, "Name")));
    let (table, headers) = (network_ls::TABLE, network_ls::HEADERS);
    show(remote.session, args.format.as_deref(), args.quiet, table, headers, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_lists_by_key() {
        let all = ["label=a=b", "status=exited", "label=c"].map(str::to_owned);
        assert_eq!(filters(&all).unwrap(), r#"{"label":["a=b","c"],"status":["exited"]}"#);
        assert_eq!(filters(&[]).unwrap(), "");
        assert!(filters(&["x".to_owned()]).is_err());
    }

    #[test]
    fn ids_are_short_unless_asked_for() {
        assert_eq!(short("sha256:0123456789abcdef", false), "0123456789ab");
        assert_eq!(short("0123456789abcdef", true), "0123456789abcdef");
        assert_eq!(short("<missing>", false), "<missing>");
    }
}
