//! What containers use.

use std::io::{BufReader, IsTerminal as _};

use engine::Result;
use remote::{Body, Request};
use serde_json::{Value, json};

use super::Remote;
use super::list::{short, text};
use crate::command::stats::{Args, CLEAR, HEADERS, TABLE};
use crate::command::{self, show};
use crate::output::{self, Row};

/// What is told of one container, once a second.
type Looks =
    serde_json::StreamDeserializer<'static, serde_json::de::IoRead<BufReader<Body>>, Value>;

pub(super) fn stats(remote: &Remote<'_>, args: &Args) -> Result<i32> {
    let names = match &args.containers[..] {
        [] => {
            let request = Request::new("GET", &["containers", "json"]).with_flag("all", args.all);
            let found = remote.json(request)?;
            let ids = found.as_array().into_iter().flatten();
            ids.map(|container| text(container, "Id").to_owned()).collect()
        }
        names => names.to_vec(),
    };
    let mut all: Vec<(String, Looks)> = Vec::new();
    for name in names {
        let request = Request::new("GET", &["containers", &name, "stats"]).with("stream", "1");
        let body = remote.ask(request)?.into_body();
        let looks = serde_json::Deserializer::from_reader(BufReader::new(body)).into_iter();
        all.push((name, looks));
    }
    let clears = std::io::stdout().is_terminal() && !args.no_stream;
    // How busy a processor is takes two looks.
    let mut is_first = true;
    loop {
        let mut rows = Vec::new();
        for (name, looks) in &mut all {
            if let Some(Ok(look)) = looks.next() {
                rows.push(row(name, &look, args));
            }
        }
        if rows.is_empty() && !args.containers.is_empty() {
            return Ok(0);
        }
        if std::mem::take(&mut is_first) && !rows.is_empty() {
            continue;
        }
        if clears {
            remote.session.print(CLEAR)?;
        }
        show(remote.session, args.format.as_deref(), false, TABLE, HEADERS, &rows)?;
        if args.no_stream || rows.is_empty() {
            return Ok(0);
        }
    }
}

fn row(name: &str, look: &Value, args: &Args) -> Row {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (now, before) = (&look["cpu_stats"], &look["precpu_stats"]);
    let used = number(&now["cpu_usage"]["total_usage"])
        .saturating_sub(number(&before["cpu_usage"]["total_usage"]));
    let passed =
        number(&now["system_cpu_usage"]).saturating_sub(number(&before["system_cpu_usage"]));
    let busy = match passed {
        0 => 0.0,
        passed => used as f64 / passed as f64 * number(&now["online_cpus"]).max(1) as f64,
    };
    let memory = &look["memory_stats"];
    // What is only cached does not count (version 1 of control groups, and 2).
    let cached = ["total_inactive_file", "inactive_file"].map(|key| number(&memory["stats"][key]));
    let cached = if cached[0] > 0 { cached[0] } else { cached[1] };
    let bytes = number(&memory["usage"]).saturating_sub(cached);
    let limit = number(&memory["limit"]);
    let share = if limit == 0 { 0.0 } else { bytes as f64 / limit as f64 };
    let interfaces = || look["networks"].as_object().into_iter().flatten();
    let traffic = |key: &str| interfaces().map(|(_, all)| number(&all[key])).sum::<u64>();
    let disk = look["blkio_stats"]["io_service_bytes_recursive"].as_array();
    let disk = |op: &str| {
        let entries = disk.into_iter().flatten();
        let entries = entries.filter(|entry| text(entry, "op").eq_ignore_ascii_case(op));
        entries.map(|entry| number(&entry["value"])).sum::<u64>()
    };
    let both =
        |a: u64, b: u64| format!("{} / {}", output::human_size(a, 3), output::human_size(b, 3));
    Row::from(json!({
        "Container": match args.containers.is_empty() {
            true => short(name, args.no_trunc),
            false => name,
        },
        "ID": short(text(look, "id"), args.no_trunc),
        "Name": text(look, "name").trim_start_matches('/'),
        "CPUPerc": command::stats::percent(busy),
        "MemUsage": format!("{} / {}", output::binary_size(bytes), output::binary_size(limit)),
        "MemPerc": command::stats::percent(share),
        "NetIO": both(traffic("rx_bytes"), traffic("tx_bytes")),
        "BlockIO": both(disk("read"), disk("write")),
        "PIDs": number(&look["pids_stats"]["current"]).to_string(),
    }))
}
