//! What a pull or a push shows: a bar for each layer on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use engine::{Engine, Lazily, Pulled, Pushed, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use oci::{Platform, Reference};
use registry::{Event, LayerState, UploadState};

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

/// Pulls an image without waiting for all of its layers, and shows how, on standard error.
pub(crate) fn pull_lazily(
    engine: &Engine,
    reference: &Reference,
    platform: Option<&Platform>,
    quiet: bool,
) -> Result<Lazily> {
    let view = View::new(To::Stderr, quiet);
    let pulled = engine.pull_lazily(reference, platform, &|event| view.show(event));
    view.finish();
    let pulled = pulled?;
    if !quiet {
        let name = reference.familiar();
        line(
            To::Stderr,
            &match &pulled {
                Lazily::Whole(_) => format!("Status: Downloaded newer image for {name}"),
                Lazily::Arriving(arriving) => {
                    let missing = match arriving.missing {
                        1 => "1 layer is".to_owned(),
                        more => format!("{more} layers are"),
                    };
                    format!("Status: Starting {name} while {missing} arriving")
                }
            },
        );
    }
    Ok(pulled)
}

/// Pushes an image and shows how.
pub(crate) fn push(
    engine: &Engine,
    reference: &Reference,
    platform: Option<&Platform>,
    quiet: bool,
) -> Result<Pushed> {
    let view = View::new(To::Stdout, quiet);
    let pushed = engine.push(reference, platform, &|event| view.show(event));
    view.finish();
    let pushed = pushed?;
    if !quiet {
        let tag = reference.tag().unwrap_or_default();
        line(To::Stdout, &format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size));
    }
    Ok(pushed)
}

/// Writes a line; whoever read it may have gone, and the pull goes on all the same.
fn line(to: To, text: &str) {
    let text = format!("{text}\n");
    let _ = match to {
        To::Stdout => std::io::stdout().write_all(text.as_bytes()),
        To::Stderr => std::io::stderr().write_all(text.as_bytes()),
    };
}

/// Shows progress as it comes.
pub(crate) struct View {
    to: To,
    quiet: bool,
    bars: Option<MultiProgress>,
    layers: Mutex<HashMap<String, Layer>>,
}

/// What is shown of one layer.
struct Layer {
    bar: Option<ProgressBar>,
    shown: String,
}

impl View {
    pub(crate) fn new(to: To, quiet: bool) -> Self {
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

    pub(crate) fn show(&self, event: Event) {
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
            Event::Layer { id, state } => self.layer(&id, &Stage::of_layer(state)),
            Event::Upload { id, state } => self.layer(&id, &Stage::of_upload(&state)),
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

    fn layer(&self, id: &str, stage: &Stage) {
        let mut layers = self.layers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let layer = layers.entry(id.to_owned()).or_insert_with(|| Layer {
            bar: self.bars.as_ref().map(|bars| bars.add(bar(id))),
            shown: String::new(),
        });
        if let Some(bar) = &layer.bar {
            draw(bar, stage);
        } else if stage.text != layer.shown && !stage.is_for_terminals {
            layer.shown.clone_from(&stage.text);
            line(self.to, &format!("{id}: {}", stage.text));
        }
    }

    /// Leaves the bars as they are.
    pub(crate) fn finish(&self) {
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

fn draw(bar: &ProgressBar, stage: &Stage) {
    const MOVING: &str = "{prefix}: {msg:<11} [{bar:40}] {bytes}/{total_bytes}";
    match stage.moved {
        Some((done, total)) => {
            if bar.length() != Some(total) {
                bar.set_style(style(MOVING));
                bar.set_length(total);
            }
            bar.set_position(done);
            bar.set_message(stage.text.clone());
        }
        None => {
            bar.set_style(style("{prefix}: {msg}"));
            match stage.is_last {
                true => bar.finish_with_message(stage.text.clone()),
                false => bar.set_message(stage.text.clone()),
            }
        }
    }
}

/// What is shown of a layer at one moment.
struct Stage {
    /// Docker's words.
    text: String,
    /// Bytes, of how many.
    moved: Option<(u64, u64)>,
    is_last: bool,
    /// Whether plain lines leave it out.
    is_for_terminals: bool,
}

impl Stage {
    fn of_layer(state: LayerState) -> Self {
        let (text, moved) = match state {
            LayerState::Waiting => ("Pulling fs layer", None),
            LayerState::Downloading { done, total } => ("Downloading", Some((done, total))),
            LayerState::Verifying => ("Verifying Checksum", None),
            LayerState::Extracting { done, total } => ("Extracting", Some((done, total))),
            LayerState::Done => ("Pull complete", None),
            LayerState::Exists => ("Already exists", None),
            LayerState::Retrying { .. } => ("Retrying", None),
        };
        let is_last = matches!(state, LayerState::Done | LayerState::Exists);
        Self { text: text.to_owned(), moved, is_last, is_for_terminals: false }
    }

    fn of_upload(state: &UploadState) -> Self {
        let (text, moved) = match state {
            UploadState::Preparing => ("Preparing".to_owned(), None),
            UploadState::Pushing { done, total } => ("Pushing".to_owned(), Some((*done, *total))),
            UploadState::Pushed => ("Pushed".to_owned(), None),
            UploadState::Exists => ("Layer already exists".to_owned(), None),
            UploadState::Mounted { from } => (format!("Mounted from {from}"), None),
            UploadState::Retrying { in_s } => (format!("Retrying in {in_s} seconds"), None),
        };
        let is_last = matches!(
            state,
            UploadState::Pushed | UploadState::Exists | UploadState::Mounted { .. }
        );
        Self { text, is_last, is_for_terminals: moved.is_some(), moved }
    }
}
