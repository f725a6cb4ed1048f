//! What a pull shows: a bar for each layer on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use engine::{Engine, Pulled, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use oci::{Platform, Reference};
use registry::{Event, LayerState};

/// Frames per second of the bars.
const FRAMES_PER_SECOND: u8 = 10;

/// Where progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// The pull is what was asked for.
    Stdout,
    /// The pull is on the way to something else.
    Stderr,
}

/// A line about what is going on, on standard error.
pub(crate) fn note(text: &str) {
    line(To::Stderr, text);
}

/// Pulls an image and shows how.
pub(crate) fn pull(
    engine: &Engine,
    reference: &Reference,
    platform: Option<&Platform>,
    to: To,
    quiet: bool,
) -> Result<Pulled> {
    let view = View::new(to, quiet);
    let pulled = engine.pull(reference, platform, &|event| view.show(event));
    view.finish();
    let pulled = pulled?;
    if !quiet {
        let name = reference.familiar();
        let news = match pulled.up_to_date {
            true => format!("Status: Image is up to date for {name}"),
            false => format!("Status: Downloaded newer image for {name}"),
        };
        line(to, &news);
    }
    Ok(pulled)
}

/// Writes a line; whoever read it may have gone, and the pull goes on all the same.
fn line(to: To, text: &str) {
    let text = format!("{text}\n");
    let _ = match to {
        To::Stdout => std::io::stdout().write_all(text.as_bytes()),
        To::Stderr => std::io::stderr().write_all(text.as_bytes()),
    };
}

struct View {
    to: To,
    quiet: bool,
    bars: Option<MultiProgress>,
    layers: Mutex<HashMap<String, Layer>>,
}

/// What is shown of one layer.
struct Layer {
    bar: Option<ProgressBar>,
    shown: &'static str,
}

impl View {
    fn new(to: To, quiet: bool) -> Self {
        let is_terminal = match to {
            To::Stdout => std::io::stdout().is_terminal(),
            To::Stderr => std::io::stderr().is_terminal(),
        };
        let target = match to {
            To::Stdout => ProgressDrawTarget::stdout_with_hz(FRAMES_PER_SECOND),
            To::Stderr => ProgressDrawTarget::stderr_with_hz(FRAMES_PER_SECOND),
        };
        let bars = (is_terminal && !quiet).then(|| MultiProgress::with_draw_target(target));
        Self { to, quiet, bars, layers: Mutex::default() }
    }

    fn show(&self, event: Event) {
        if self.quiet {
            return;
        }
        match event {
            Event::Pulling { reference } => {
                let what = match (reference.tag(), reference.digest()) {
                    (Some(tag), _) => tag.to_owned(),
                    (None, Some(digest)) => digest.to_string(),
                    (None, None) => String::new(),
                };
                self.say(&format!("{what}: Pulling from {}", reference.repository()));
            }
            Event::Layer { id, state } => self.layer(&id, state),
            Event::Digest(digest) => self.say(&format!("Digest: {digest}")),
            Event::Status(text) => self.say(&text),
        }
    }

    fn say(&self, text: &str) {
        match &self.bars {
            // A terminal that has gone shows nothing.
            Some(bars) => drop(bars.println(text)),
            None => line(self.to, text),
        }
    }

    fn layer(&self, id: &str, state: LayerState) {
        let mut layers = self.layers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let layer = layers.entry(id.to_owned()).or_insert_with(|| Layer {
            bar: self.bars.as_ref().map(|bars| bars.add(bar(id))),
            shown: "",
        });
        let text = word(state);
        if let Some(bar) = &layer.bar {
            draw(bar, state, text);
        } else if text != layer.shown {
            layer.shown = text;
            line(self.to, &format!("{id}: {text}"));
        }
    }

    /// Leaves the bars as they are.
    fn finish(&self) {
        let layers = self.layers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for layer in layers.values() {
            if let Some(bar) = layer.bar.as_ref().filter(|bar| !bar.is_finished()) {
                bar.abandon();
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the templates below are valid");
    style.progress_chars("=> ")
}

fn bar(id: &str) -> ProgressBar {
    let bar = ProgressBar::hidden();
    bar.set_style(style("{prefix}: {msg}"));
    bar.set_prefix(id.to_owned());
    bar
}

fn draw(bar: &ProgressBar, state: LayerState, text: &'static str) {
    const MOVING: &str = "{prefix}: {msg:<11} [{bar:40}] {bytes}/{total_bytes}";
    match state {
        LayerState::Downloading { done, total } | LayerState::Extracting { done, total } => {
            if bar.length() != Some(total) {
                bar.set_style(style(MOVING));
                bar.set_length(total);
            }
            bar.set_position(done);
            bar.set_message(text);
        }
        LayerState::Done | LayerState::Exists => {
            bar.set_style(style("{prefix}: {msg}"));
            bar.finish_with_message(text);
        }
        LayerState::Waiting | LayerState::Verifying | LayerState::Retrying { .. } => {
            bar.set_style(style("{prefix}: {msg}"));
            bar.set_message(text);
        }
    }
}

/// Docker's words.
fn word(state: LayerState) -> &'static str {
    match state {
        LayerState::Waiting => "Pulling fs layer",
        LayerState::Downloading { .. } => "Downloading",
        LayerState::Verifying => "Verifying Checksum",
        LayerState::Extracting { .. } => "Extracting",
        LayerState::Done => "Pull complete",
        LayerState::Exists => "Already exists",
        LayerState::Retrying { .. } => "Retrying",
    }
}
