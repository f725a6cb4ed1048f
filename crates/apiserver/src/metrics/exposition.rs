//! The text that Prometheus reads, of what a node and its pods use (upstream's `/metrics/resource`).

use std::fmt::Write as _;

use serde_json::Value;

use crate::cluster::items;

/// One line: labels, and an amount.
type Line<'a> = (Vec<(&'static str, &'a str)>, &'a Value);

/// A summary as text.
pub(super) fn write(summary: &Value) -> String {
    let pods = items(&summary["pods"]);
    let mut text = String::new();
    for (what, help) in [
        ("cpu_usage_seconds_total", "Cumulative cpu time consumed by the"),
        ("memory_working_set_bytes", "Current working set of the"),
    ] {
        let is_cpu = what.starts_with("cpu");
        let unit = if is_cpu { "in core-seconds" } else { "in bytes" };
        let kind = if is_cpu { "counter" } else { "gauge" };
        let part = |of: &'static str| format!("{help} {of} {unit}");
        let containers = pods.iter().flat_map(|pod| {
            items(&pod["containers"]).iter().map(move |one| (labels(pod, Some(one)), one))
        });
        family(&mut text, &format!("container_{what}"), &part("container"), kind, containers);
        let of_pods = pods.iter().map(|pod| (labels(pod, None), pod));
        family(&mut text, &format!("pod_{what}"), &part("pod"), kind, of_pods);
        let node = std::iter::once((Vec::new(), &summary["node"]));
        family(&mut text, &format!("node_{what}"), &part("node"), kind, node);
    }
    text.push_str(
        "# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container \
         metrics, 0 otherwise\n# TYPE resource_scrape_error gauge\nresource_scrape_error 0\n",
    );
    text
}

fn labels<'a>(pod: &'a Value, container: Option<&'a Value>) -> Vec<(&'static str, &'a str)> {
    let word = |value: &'a Value| value.as_str().unwrap_or_default();
    let own = container.map(|one| ("container", word(&one["name"])));
    let pod = &pod["podRef"];
    let all = [("namespace", word(&pod["namespace"])), ("pod", word(&pod["name"]))];
    own.into_iter().chain(all).collect()
}

/// All lines of one name.
fn family<'a>(
    text: &mut String,
    name: &str,
    help: &str,
    kind: &str,
    lines: impl Iterator<Item = Line<'a>>,
) {
    // Writing to a text cannot fail.
    let _ = write!(text, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}\n");
    for (labels, of) in lines {
        let (amount, at) = match kind {
            "counter" => {
                let cpu = &of["cpu"];
                let seconds = cpu["usageCoreNanoSeconds"].as_f64().unwrap_or(0.0) / 1e9;
                (seconds, &cpu["time"])
            }
            _ => {
                let memory = &of["memory"];
                (memory["workingSetBytes"].as_f64().unwrap_or(0.0), &memory["time"])
            }
        };
        let at: Option<jiff::Timestamp> = at.as_str().and_then(|at| at.parse().ok());
        let at = at.map_or(0, jiff::Timestamp::as_millisecond);
        // Names of objects have no quotes.
        let pairs: Vec<String> =
            labels.iter().map(|(key, own)| format!("{key}=\"{own}\"")).collect();
        let pairs =
            if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
        let _ = writeln!(text, "{name}{pairs} {amount} {at}");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_says_whose_amount_it_is() {
        let memory = json!({"time": "1970-01-01T00:00:01Z", "workingSetBytes": 5});
        let cpu =
            json!({"time": "1970-01-01T00:00:01Z", "usageCoreNanoSeconds": 2_500_000_000_u64});
        let pod = json!({
            "podRef": {"name": "p", "namespace": "n"}, "cpu": cpu, "memory": memory,
            "containers": [{"name": "c", "cpu": cpu, "memory": memory}],
        });
        let text = write(&json!({"node": {"cpu": cpu, "memory": memory}, "pods": [pod]}));
        for line in [
            "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 2.5 1000",
            "pod_memory_working_set_bytes{namespace=\"n\",pod=\"p\"} 5 1000",
            "node_cpu_usage_seconds_total 2.5 1000",
            "# TYPE node_memory_working_set_bytes gauge",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}:\n{text}");
        }
    }
}
