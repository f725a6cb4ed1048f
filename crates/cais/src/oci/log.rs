//! The log that callers read: lines as logrus writes them, to a file or to standard error.

use std::fs::{File, OpenOptions};
use std::io::Write as _;

use anyhow::{Result, bail};
use serde_json::json;

use super::flag::Matches;

/// Where it goes, and in which form.
#[derive(Debug, Default)]
pub(super) struct Log {
    file: Option<File>,
    json: bool,
    debug: bool,
}

impl Log {
    /// As the global flags say.
    pub(super) fn open(global: &Matches) -> Result<Log> {
        let json = match global.value("log-format").unwrap_or_default() {
            "" | "text" => false,
            "json" => true,
            other => bail!("invalid log-format: {other}"),
        };
        let open = |path: &str| OpenOptions::new().append(true).create(true).open(path);
        let file = global.text("log").map(open).transpose()?;
        Ok(Log { file, json, debug: global.is_on("debug") })
    }

    /// What ended the command; on standard error as well, for people.
    pub(super) fn fail(&self, text: &str) {
        self.line("error", text);
        if self.file.is_some() {
            complain(&format!("{text}\n"));
        }
    }

    /// What went wrong beside the command.
    pub(super) fn warn(&self, text: &str) {
        self.line("warning", text);
    }

    /// Whether [`debug`](Self::debug) shows anything.
    pub(super) fn is_debug(&self) -> bool {
        self.debug
    }

    /// What only `--debug` shows.
    pub(super) fn debug(&self, text: &str) {
        if self.debug {
            self.line("debug", text);
        }
    }

    fn line(&self, level: &str, text: &str) {
        let now = seconds(jiff::Timestamp::now());
        let line = if self.json {
            format!("{}\n", json!({ "level": level, "msg": text, "time": now }))
        } else {
            format!("time=\"{now}\" level={level} msg={text:?}\n")
        };
        match &self.file {
            // In one write, since several processes append; what the disk does not take is lost.
            Some(file) => drop((&*file).write_all(line.as_bytes())),
            None => complain(&line),
        }
    }
}

/// The time as RFC 3339 writes it, in seconds.
fn seconds(now: jiff::Timestamp) -> String {
    now.round(jiff::TimestampRound::new().smallest(jiff::Unit::Second).mode(jiff::RoundMode::Trunc))
        .unwrap_or(now)
        .to_string()
}

/// Says something on standard error.
pub(super) fn complain(text: &str) {
    // Nobody to tell if standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
