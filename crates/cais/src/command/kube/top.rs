//! `cais top pod` and `cais top node`

use objects::Quantity;
use serde_json::Value;

use super::super::cluster::columns::Columns;
use super::super::cluster::select::Selectors;
use super::super::cluster::{self, Cluster, Outcome, Query, Trouble, list, name, namespace, word};
use crate::session::Session;

/// What `top` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selectors: Selectors,
    /// Pods of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Show each container
    #[arg(long)]
    containers: bool,
    /// Leave out the heads of columns
    #[arg(long)]
    no_headers: bool,
    /// Sort by cpu or memory
    #[arg(long, value_name = "RESOURCE", value_parser = ["cpu", "memory"])]
    sort_by: Option<String>,
    /// Show the sum of all pods
    #[arg(long)]
    sum: bool,
    #[command(flatten)]
    cluster: cluster::Options,
    /// pod or node, and a name
    #[arg(value_name = "pod|node", required = true)]
    words: Vec<String>,
}

/// A line: what is in front, and what is used.
struct Line {
    front: Vec<String>,
    cpu: i64,
    memory: i64,
    rest: Option<(i64, i64)>,
}

const MEBI: i64 = 1 << 20;

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        let cluster = args.cluster.connect(session)?;
        let first = args.words[0].as_str();
        let (kind, own) =
            first.split_once('/').map_or((first, None), |(kind, own)| (kind, Some(own)));
        let own = own.or(args.words.get(1).map(String::as_str));
        let top = Top { args, cluster: &cluster };
        let (heads, mut lines) = match kind {
            "pod" | "pods" | "po" => top.pods(own)?,
            "node" | "nodes" | "no" => top.nodes(own)?,
            other => {
                return Err(Trouble::local(format!(
                    "unknown resource \"{other}\": pods and nodes are measured"
                )));
            }
        };
        if lines.is_empty() {
            let place = match args.all_namespaces || kind.starts_with('n') {
                true => String::new(),
                false => format!(" in {} namespace.", cluster.namespace),
            };
            cluster::note(&format!("No resources found{place}"));
            return Ok(0);
        }
        match args.sort_by.as_deref() {
            Some("cpu") => lines.sort_by_key(|line| -line.cpu),
            Some(_) => lines.sort_by_key(|line| -line.memory),
            None => lines.sort_by(|a, b| a.front.cmp(&b.front)),
        }
        Ok(session.print(&set(args, &heads, &lines)).map(|()| 0)?)
    })
}

fn set(args: &Args, heads: &[&str], lines: &[Line]) -> String {
    let mut text = String::new();
    if !args.no_headers {
        text += &(heads.join("\t") + "\n");
    }
    for line in lines {
        let mut cells = line.front.clone();
        cells.push(format!("{}m", line.cpu));
        cells.extend(line.rest.map(|(cpu, _)| format!("{cpu}%")));
        cells.push(format!("{}Mi", line.memory / MEBI));
        cells.extend(line.rest.map(|(_, memory)| format!("{memory}%")));
        text += &(cells.join("\t") + "\n");
    }
    if args.sum {
        let (cpu, memory): (i64, i64) =
            lines.iter().fold((0, 0), |sum, line| (sum.0 + line.cpu, sum.1 + line.memory));
        let blanks = "\t".repeat(heads.len() - 2);
        text += &format!("{blanks}________\t________\n{blanks}{cpu}m\t{}Mi\n", memory / MEBI);
    }
    Columns::of_tables().set(&text)
}

fn amount(usage: &Value, resource: &str) -> Quantity {
    let text = usage[resource].as_str().unwrap_or("0");
    text.parse().unwrap_or(Quantity::units(0))
}

struct Top<'a> {
    args: &'a Args,
    cluster: &'a Cluster,
}

impl Top<'_> {
    fn metrics(&self, parts: &[&str], own: Option<&str>) -> Outcome<Vec<Value>> {
        let mut path = vec!["apis", "metrics.k8s.io", "v1beta1"];
        path.extend(parts);
        path.extend(own);
        let query: Query = self.args.selectors.query();
        let found = self.cluster.read(&path, &query);
        let mut found = match found {
            Err(trouble) if trouble.is_not_found() && own.is_none() => {
                return Err(Trouble::local("Metrics API not available"));
            }
            found => found?,
        };
        match found["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(vec![found]),
        }
    }

    fn pods(&self, own: Option<&str>) -> Outcome<(Vec<&'static str>, Vec<Line>)> {
        let found = match self.args.all_namespaces {
            true => self.metrics(&["pods"], None)?,
            false => self.metrics(&["namespaces", &self.cluster.namespace, "pods"], own)?,
        };
        if found.is_empty() {
            self.explain_nothing()?;
        }
        let mut heads = Vec::new();
        if self.args.all_namespaces {
            heads.push("NAMESPACE");
        }
        heads.push(if self.args.containers { "POD" } else { "NAME" });
        if self.args.containers {
            heads.push("NAME");
        }
        heads.extend(["CPU(cores)", "MEMORY(bytes)"]);
        let mut lines = Vec::new();
        for pod in &found {
            let mut front = Vec::new();
            if self.args.all_namespaces {
                front.push(namespace(pod).to_owned());
            }
            front.push(name(pod).to_owned());
            let mut whole = Line { front: front.clone(), cpu: 0, memory: 0, rest: None };
            for container in list(pod, "/containers") {
                let usage = &container["usage"];
                let cpu = amount(usage, "cpu").milli_value();
                let memory = amount(usage, "memory").value();
                if self.args.containers {
                    let own = word(container, "/name").to_owned();
                    let front = front.iter().cloned().chain([own]).collect();
                    lines.push(Line { front, cpu, memory, rest: None });
                }
                whole.cpu += cpu;
                whole.memory += memory;
            }
            if !self.args.containers {
                lines.push(whole);
            }
        }
        Ok((heads, lines))
    }

    /// Why nothing was measured though there are pods.
    fn explain_nothing(&self) -> Outcome<()> {
        /// From this age on, a pod is expected to have been measured.
        const MEASURED: jiff::SignedDuration = jiff::SignedDuration::from_mins(2);
        let place = if self.args.all_namespaces { "" } else { &self.cluster.namespace };
        let kind = self.cluster.kind("pods")?;
        let pods = self.cluster.list(&kind, place, &self.args.selectors.query())?;
        let now = jiff::Timestamp::now();
        for pod in &pods {
            let made = word(pod, "/metadata/creationTimestamp").parse::<jiff::Timestamp>();
            let age = made.map(|made| now.duration_since(made)).unwrap_or_default();
            if age > MEASURED {
                return Err(Trouble::local(format!(
                    "Metrics not available for pod {}/{}, age: {age:#}",
                    namespace(pod),
                    name(pod)
                )));
            }
        }
        match pods.is_empty() {
            true => Ok(()),
            false => Err(Trouble::local("metrics not available yet")),
        }
    }

    fn nodes(&self, own: Option<&str>) -> Outcome<(Vec<&'static str>, Vec<Line>)> {
        let found = self.metrics(&["nodes"], own)?;
        let kind = self.cluster.kind("nodes")?;
        let nodes = self.cluster.list(&kind, "", &Query::new())?;
        let mut lines = Vec::new();
        for metrics in &found {
            let cpu = amount(&metrics["usage"], "cpu").milli_value();
            let memory = amount(&metrics["usage"], "memory").value();
            let node = nodes.iter().find(|node| name(node) == name(metrics));
            let share = |node: &Value| {
                let all = &node["status"]["allocatable"];
                let percent =
                    |part: i64, whole: i64| if whole > 0 { part * 100 / whole } else { 0 };
                (
                    percent(cpu, amount(all, "cpu").milli_value()),
                    percent(memory, amount(all, "memory").value()),
                )
            };
            let front = vec![name(metrics).to_owned()];
            lines.push(Line { front, cpu, memory, rest: Some(node.map_or((0, 0), share)) });
        }
        Ok((vec!["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"], lines))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Whole {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn lines_are_set_as_kubectl_s() {
        let args = Whole::parse_from(["top", "pod", "--sum"]).args;
        let line = |name: &str, cpu, memory| Line {
            front: vec![name.to_owned()],
            cpu,
            memory,
            rest: None,
        };
        let lines = [line("web", 12, 5 * MEBI), line("longer", 3, MEBI / 2)];
        assert_eq!(
            set(&args, &["NAME", "CPU(cores)", "MEMORY(bytes)"], &lines),
            "NAME     CPU(cores)   MEMORY(bytes)\n\
             web      12m          5Mi\n\
             longer   3m           0Mi\n\
             \u{20}        ________     ________\n\
             \u{20}        15m          5Mi\n"
        );
    }
}
