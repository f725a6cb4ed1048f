//! Documents that tell how something goes, as they are sent while it does.

use std::fmt::Write as _;

use httpd::Chunks;
use registry::{Event, LayerState, UploadState};
use serde_json::{Value, json};

use super::call::{Answer, Call, write_json};
use super::failure::Failure;

/// Characters of a bar.
const BAR_WIDTH: u64 = 50;

/// An answer of documents that begins with the first of them: before that, a failure is an answer
/// of its own.
pub(super) struct Lines<'a, 'c, 'x> {
    call: Option<&'a mut Call<'c, 'x>>,
    out: Option<Chunks<'a>>,
}

impl<'a, 'c, 'x> Lines<'a, 'c, 'x> {
    pub(super) fn new(call: &'a mut Call<'c, 'x>) -> Self {
        Self { call: Some(call), out: None }
    }

    fn open(&mut self) -> Option<&mut Chunks<'a>> {
        if let Some(call) = self.call.take() {
            self.out = call.stream("application/json").ok();
        }
        self.out.as_mut()
    }

    /// Sends a document. What is being done goes on if the client has gone.
    pub(super) fn say(&mut self, value: &Value) {
        if let Some(out) = self.open()
            && write_json(out, value).is_err()
        {
            self.out = None;
        }
    }

    /// Whether the client has gone.
    pub(super) fn is_gone(&self) -> bool {
        match &self.call {
            Some(call) => call.exchange.is_gone(),
            None => self.out.as_ref().is_none_or(Chunks::is_gone),
        }
    }

    /// Says how it went, and that this is all.
    pub(super) fn end(mut self, outcome: Result<(), Failure>) -> Answer {
        if let (Err(failure), Some(_)) = (&outcome, &self.call) {
            return Err(failure.clone());
        }
        if let Err(failure) = outcome {
            self.say(&failure.document());
        }
        self.open();
        if let Some(out) = self.out {
            // A client that has gone does not want to know.
            let _ = out.end();
        }
        Ok(None)
    }
}

/// What has happened on the way of an image, in Docker's words.
pub(super) fn document(event: Event) -> Value {
    match event {
        Event::Pulling { reference } => {
            let status = format!("Pulling from {}", reference.repository());
            let digest = reference.digest().map(ToString::to_string);
            let what = reference.tag().map(str::to_owned).or(digest).unwrap_or_default();
            json!({ "status": status, "id": what })
        }
        Event::Layer { id, state } => layer(&id, state),
        Event::Upload { id, state } => upload(&id, &state),
        Event::Digest(digest) => json!({ "status": format!("Digest: {digest}") }),
        Event::Status(text) => json!({ "status": text }),
    }
}

fn layer(id: &str, state: LayerState) -> Value {
    match state {
        LayerState::Waiting => still(id, "Pulling fs layer"),
        LayerState::Downloading { done, total } => moving(id, "Downloading", done, total),
        LayerState::Verifying => still(id, "Verifying Checksum"),
        LayerState::Extracting { done, total } => moving(id, "Extracting", done, total),
        LayerState::Done => still(id, "Pull complete"),
        LayerState::Exists => still(id, "Already exists"),
        LayerState::Retrying { in_s } => still(id, &format!("Retrying in {in_s} seconds")),
    }
}

fn upload(id: &str, state: &UploadState) -> Value {
    match state {
        UploadState::Preparing => still(id, "Preparing"),
        UploadState::Pushing { done, total } => moving(id, "Pushing", *done, *total),
        UploadState::Pushed => still(id, "Pushed"),
        UploadState::Exists => still(id, "Layer already exists"),
        UploadState::Mounted { from } => still(id, &format!("Mounted from {from}")),
        UploadState::Retrying { in_s } => still(id, &format!("Retrying in {in_s} seconds")),
    }
}

fn still(id: &str, status: &str) -> Value {
    json!({ "status": status, "progressDetail": {}, "id": id })
}

fn moving(id: &str, status: &str, done: u64, total: u64) -> Value {
    json!({
        "status": status,
        "progressDetail": { "current": done, "total": total },
        "progress": bar(done, total),
        "id": id,
    })
}

/// As the oldest clients show it.
fn bar(done: u64, total: u64) -> String {
    let filled = (done.min(total) * BAR_WIDTH).checked_div(total).unwrap_or(0);
    let filled = usize::try_from(filled).unwrap_or(0);
    let width = usize::try_from(BAR_WIDTH).unwrap_or(0);
    let mut text = format!("[{}>", "=".repeat(filled));
    text.push_str(&" ".repeat(width - filled));
    // Writing to a string cannot fail.
    let _ = write!(text, "] {}/{}", size(done), size(total));
    text
}

/// With four digits at most, in decimal units.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    let digits = match value {
        value if value >= 1000.0 || unit == "B" => 0,
        value if value >= 100.0 => 1,
        value if value >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_docker_s() {
        let check = |done, total, filled: usize, sizes: &str| {
            let expected = format!("[{}>{}] {sizes}", "=".repeat(filled), " ".repeat(50 - filled));
            assert_eq!(bar(done, total), expected);
        };
        check(0, 2_220_094, 0, "0B/2.22MB");
        check(1_110_047, 2_220_094, 25, "1.11MB/2.22MB");
        check(2_220_094, 2_220_094, 50, "2.22MB/2.22MB");
        check(512, 77_812_345, 0, "512B/77.81MB");
        check(5, 0, 0, "5B/0B");
    }
}
