//! `cais why pod/x`: why a pod is on no node, and the least that would have to change.

use std::time::Duration;

use control::scheduler::{KINDS, Scheduler};
use serde_json::Value;

use super::super::cluster::{self, Cluster, Outcome, Trouble, list, name, namespace, pods, word};
use crate::session::Session;

/// What `why` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    cluster: cluster::Options,
    /// A pod, or KIND/NAME for the pods of a controller
    #[arg(value_name = "POD|KIND/NAME")]
    words: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        let cluster = args.cluster.connect(session)?;
        let word = match &args.words[..] {
            [one] => one.clone(),
            [kind, one] if !kind.contains('/') => format!("{kind}/{one}"),
            _ => return Err(Trouble::local("one pod is explained, as in: cais why pod/web")),
        };
        let mut found = pods::of(&cluster, &word)?;
        if found.is_empty() {
            return Err(Trouble::local(format!("no pods are found for {word}")));
        }
        if found.len() > 1 && found.iter().any(is_waiting) {
            found.retain(is_waiting);
        }
        let mut scheduler = None;
        for pod in &found {
            let text = match is_waiting(pod) {
                false => placed(pod),
                true => {
                    if scheduler.is_none() {
                        scheduler = Some(state(&cluster, pod)?);
                    }
                    let known = scheduler.as_mut();
                    let report = known.and_then(|own| own.explain(namespace(pod), name(pod)));
                    report.map_or_else(|| placed(pod), |report| gates(pod) + &report.to_string())
                }
            };
            session.print(&crate::output::printable(&text))?;
        }
        Ok(0)
    })
}

fn is_waiting(pod: &Value) -> bool {
    let has_ended = matches!(word(pod, "/status/phase"), "Succeeded" | "Failed");
    word(pod, "/spec/nodeName").is_empty() && !has_ended
}

/// What is told of a pod for which a node was found, or that has ended: what it waits for now.
fn placed(pod: &Value) -> String {
    let mut text = format!("{}/{}: ", namespace(pod), name(pod));
    text += &match word(pod, "/spec/nodeName") {
        "" => format!("{}\n", word(pod, "/status/phase")),
        node => format!("on node {node}, {}\n", word(pod, "/status/phase")),
    };
    let told = [word(pod, "/status/reason"), word(pod, "/status/message")];
    if !told.concat().is_empty() {
        text += &format!("  {}\n", told.join(": "));
    }
    for place in ["/status/initContainerStatuses", "/status/containerStatuses"] {
        for status in list(pod, place) {
            let own = word(status, "/name");
            for (state, what) in [
                ("/state/waiting", "waits"),
                ("/state/terminated", "has ended"),
                ("/lastState/terminated", "ended before"),
            ] {
                let Some(state) = status.pointer(state).filter(|state| !state.is_null()) else {
                    continue;
                };
                let code = state["exitCode"].as_i64().map(|code| format!(" with code {code}"));
                let told = [word(state, "/reason"), word(state, "/message")];
                let told: Vec<&str> = told.into_iter().filter(|word| !word.is_empty()).collect();
                text += &format!(
                    "  container {own} {what}{}: {}\n",
                    code.unwrap_or_default(),
                    told.join(": ").trim()
                );
            }
        }
    }
    for condition in list(pod, "/status/conditions").filter(|own| own["status"] == "False") {
        let told = [word(condition, "/reason"), word(condition, "/message")];
        text += &format!("  {} is not so: {}\n", word(condition, "/type"), told.join(": "));
    }
    text
}

/// What keeps a pod from being looked at.
fn gates(pod: &Value) -> String {
    let all: Vec<&str> =
        list(pod, "/spec/schedulingGates").map(|gate| word(gate, "/name")).collect();
    match all.is_empty() {
        true => String::new(),
        false => format!(
            "{}/{} waits until these gates are removed: {}\n",
            namespace(pod),
            name(pod),
            all.join(", ")
        ),
    }
}

/// A scheduler that knows what the cluster's knows.
fn state(cluster: &Cluster, pod: &Value) -> Outcome<Scheduler> {
    let name = word(pod, "/spec/schedulerName");
    let mut scheduler = Scheduler::new(name, 0);
    for kind in KINDS {
        let of = client::kind(kind);
        let name = format!("{}.{}", of.plural, of.group);
        let own = cluster.kind(name.trim_end_matches('.'))?;
        let objects = cluster.list(&own, "", &Vec::new())?;
        for object in objects {
            let key = client::Key::of(of.kind, &object);
            let now = Some(std::sync::Arc::new(object));
            scheduler.observe(&client::Change { key, before: None, now }, Duration::ZERO);
        }
    }
    Ok(scheduler)
}
