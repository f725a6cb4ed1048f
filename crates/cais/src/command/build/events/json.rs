//! BuildKit's raw style: its `SolveStatus` as JSON, a line for each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use build::{Finding, lines};
use engine::Stream;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{End, Vertex, say};

pub(super) struct Json;

impl Json {
    pub(super) fn internal(&self, vertex: &Vertex, what: &str) {
        let now = Timestamp::now().to_string();
        let status = |line: &str| {
            let id = line.trim_end_matches(" done");
            json!({"id": id, "vertex": digest(vertex), "current": 0, "timestamp": now,
                "started": vertex.started_at.to_string(), "completed": now})
        };
        let statuses: Vec<Value> = what.lines().map(status).collect();
        let mut done = described(vertex);
        done["completed"] = json!(now);
        tell(&json!({"vertexes": [done], "statuses": statuses}));
    }

    pub(super) fn begin(&self, vertex: &Vertex) {
        tell(&json!({"vertexes": [described(vertex)]}));
    }

    pub(super) fn output(&self, vertex: &Vertex, stream: Stream, line: &[u8]) {
        let stream = if stream == Stream::Stdout { 1 } else { 2 };
        let data = STANDARD.encode([line, b"\n"].concat());
        let log = json!({"vertex": digest(vertex), "stream": stream, "data": data,
            "timestamp": Timestamp::now().to_string()});
        tell(&json!({"logs": [log]}));
    }

    pub(super) fn end(&self, vertex: &Vertex, how: &End<'_>) {
        let mut done = described(vertex);
        done["completed"] = json!(Timestamp::now().to_string());
        match how {
            End::Cached => done["cached"] = json!(true),
            End::Failed(why) => done["error"] = json!(why),
            End::Done(_) | End::SameAs(_) => {}
        }
        tell(&json!({"vertexes": [done]}));
    }

    pub(super) fn warning(&self, finding: &Finding, text: &str) {
        let (first, last) = lines(text, finding.span);
        let short = format!("{}: {} (line {first})", finding.rule.name, finding.message);
        let warning = json!({
            "level": 1,
            "short": STANDARD.encode(short),
            "detail": [STANDARD.encode(finding.rule.description)],
            "url": finding.rule.url,
            "range": [{"start": {"line": first}, "end": {"line": last}}],
        });
        tell(&json!({"warnings": [warning]}));
    }
}

fn described(vertex: &Vertex) -> Value {
    json!({"digest": digest(vertex), "name": vertex.name, "started": vertex.started_at.to_string()})
}

fn digest(vertex: &Vertex) -> oci::Digest {
    oci::Digest::of(format!("{} {}", vertex.number, vertex.name).as_bytes())
}

fn tell(status: &Value) {
    say(&format!("{status}\n"));
}
