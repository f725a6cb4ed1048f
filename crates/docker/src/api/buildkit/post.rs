//! `POST /build?version=2`: a build by BuildKit as clients before buildx ask for it. What is told of
//! it goes back as documents that have BuildKit's messages in them.

use std::cell::{Cell, RefCell};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::export::Exporter;
use super::news::News;
use super::solve::{Attributes, Builder, Solve};
use crate::api::build::{arguments, document};
use crate::api::call::{Answer, Call};
use crate::api::failure::Failure;
use crate::api::host_config::Words;
use crate::api::progress::Lines;

/// What says that the client has the files in its session.
const FROM_SESSION: &str = "client-session";
/// What is asked of a build and cannot be had.
const REFUSED: &[&str] = &["squash", "securityopt"];
/// Parameters that an attribute has in the same words.
const SAME: [(&str, &str); 9] = [
    ("target", "target"),
    ("platform", "platform"),
    ("cgroupparent", "cgroup-parent"),
    ("memory", "memory"),
    ("memswap", "memswap"),
    ("cpushares", "cpushares"),
    ("cpuperiod", "cpuperiod"),
    ("cpuquota", "cpuquota"),
    ("cpusetcpus", "cpusetcpus"),
];

pub(in crate::api) fn build(call: &mut Call<'_, '_>) -> Answer {
    let solve = asked(call)?;
    let api = call.api;
    // One after the other, by this thread.
    let (lines, news) = (RefCell::new(Lines::new(call)), RefCell::new(News::default()));
    let is_gone = Cell::new(false);
    let tell = |change: &mut dyn FnMut(&mut News)| {
        let mut news = news.borrow_mut();
        change(&mut news);
        while let Some(message) = news.take() {
            let trace = STANDARD.encode(message.as_bytes());
            lines.borrow_mut().say(&json!({ "id": "moby.buildkit.trace", "aux": trace }));
        }
    };
    let is_given_up = || {
        is_gone.set(lines.borrow().is_gone());
        is_gone.get()
    };
    let builder = Builder { api, tell: &tell, is_given_up: &is_given_up };
    let built = builder.build(&solve, &solve.frontend, &solve.attributes).and_then(|image| {
        let id = image.unwrap_or_default();
        builder.export(id.clone(), &solve).map(|_| id)
    });
    let mut lines = lines.into_inner();
    let outcome = built.map(|id| lines.say(&json!({ "id": "moby.image.id", "aux": { "ID": id } })));
    lines.end(outcome.map_err(|status| Failure::bad(status.message)))
}

/// What the parameters say, in the attributes' words.
fn asked(call: &Call<'_, '_>) -> Result<Solve, Failure> {
    if let Some(name) = REFUSED.iter().find(|name| call.flag(name)) {
        return Err(Failure::unsupported(format!("{name} of a build is not supported")));
    }
    let mut attributes = Attributes::new();
    for (parameter, attribute) in SAME {
        let value = call.text(parameter);
        if !matches!(value, "" | "0") {
            attributes.insert(attribute.to_owned(), value.to_owned());
        }
    }
    match call.text("remote") {
        "" | FROM_SESSION => {}
        "upload-request" => {
            return Err(Failure::unsupported(
                "a context on standard input is not supported with this client: DOCKER_BUILDKIT=0, \
                 or buildx",
            ));
        }
        place => drop(attributes.insert("context".to_owned(), place.to_owned())),
    }
    for (parameter, attribute) in
        [("dockerfile", "filename"), ("networkmode", "force-network-mode")]
    {
        let value = call.text(parameter);
        if !matches!(value, "" | "default" | "bridge") {
            attributes.insert(attribute.to_owned(), value.to_owned());
        }
    }
    if call.flag("nocache") {
        attributes.insert("no-cache".to_owned(), String::new());
    }
    if call.flag("pull") {
        attributes.insert("image-resolve-mode".to_owned(), "pull".to_owned());
    }
    let hosts: Vec<&str> = call.exchange.head().parameters("extrahosts").collect();
    if !hosts.is_empty() {
        attributes.insert("add-hosts".to_owned(), hosts.join(","));
    }
    let arguments = arguments(call.text("buildargs"))?;
    let arguments = arguments.into_iter().map(|(name, value)| (format!("build-arg:{name}"), value));
    let labels = document::<Words>("labels", call.text("labels"))?;
    let labels = labels.into_iter().map(|(name, value)| (format!("label:{name}"), value));
    attributes.extend(arguments.chain(labels));
    let caches: Vec<String> = document("cachefrom", call.text("cachefrom"))?;
    if !caches.is_empty() {
        attributes.insert("cache-from".to_owned(), caches.join(","));
    }
    Ok(Solve {
        name: call.text("buildid").to_owned(),
        session: call.text("session").to_owned(),
        frontend: "dockerfile.v0".to_owned(),
        attributes,
        exporters: exporters(call)?,
        entitlements: match call.text("networkmode") {
            "host" => vec!["network.host".to_owned()],
            _ => Vec::new(),
        },
        ..Solve::default()
    })
}

fn exporters(call: &Call<'_, '_>) -> Result<Vec<Exporter>, Failure> {
    let names: Vec<&str> =
        call.exchange.head().parameters("t").filter(|name| !name.is_empty()).collect();
    let kept = |mut attributes: Attributes| {
        if !names.is_empty() {
            attributes.insert("name".to_owned(), names.join(","));
        }
        Exporter { kind: "moby".to_owned(), attributes }
    };
    let outputs: Vec<Value> = document("outputs", call.text("outputs"))?;
    if outputs.is_empty() {
        return Ok(vec![kept(Attributes::new())]);
    }
    let exporter = |output: Value| {
        let wrong = || Failure::bad("invalid outputs");
        let kind = output["Type"].as_str().ok_or_else(wrong)?.to_owned();
        let attributes: Option<Attributes> =
            serde_json::from_value(output["Attrs"].clone()).map_err(|_| wrong())?;
        let mut attributes = attributes.unwrap_or_default();
        // Where the client puts it is its own affair.
        attributes.remove("dest");
        Ok(match kind.as_str() {
            "moby" | "image" => kept(attributes),
            _ => Exporter { kind, attributes },
        })
    };
    outputs.into_iter().map(exporter).collect()
}
