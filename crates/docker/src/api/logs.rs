//! `GET /containers/{id}/logs`

use std::io;
use std::os::fd::AsFd as _;

use engine::{LogItem, LogLine, LogQuery, Stream};
use httpd::Chunks;

use super::call::{Answer, Call};
use super::failure::Failure;
use super::frame;
use crate::log::log_details;
use crate::time::parse_timestamp;

pub(super) fn logs(call: &mut Call<'_, '_>) -> Answer {
    let (stdout, stderr) = (call.flag("stdout"), call.flag("stderr"));
    if !stdout && !stderr {
        return Err(Failure::bad("Bad parameters: you must choose at least one stream"));
    }
    let container = call.container()?;
    let query = LogQuery {
        // As in Docker, what is not a number of lines means all.
        tail: call.text("tail").parse().ok(),
        since: time(call, "since")?,
        until: time(call, "until")?,
        follow: call.flag("follow"),
    };
    let is_terminal = container.record.settings.tty;
    let shown = Shown {
        wanted: [stdout, stderr],
        timestamps: call.flag("timestamps"),
        details: call.flag("details"),
        is_terminal,
        within: [false; 2],
    };
    let engine = call.engine();
    if !engine.keeps_log(&container)? {
        return Err(Failure::new(501, "configured logging driver does not support reading"));
    }
    let media_type = frame::media_type(call.version, is_terminal);
    let Ok(mut out) = call.stream(media_type) else { return Ok(None) };
    let Ok(reader) = out.as_fd().try_clone_to_owned() else { return Ok(None) };
    let mut shown = shown;
    let read = engine.logs_for(&container, &query, Some(reader.as_fd()), &mut |item| match item {
        LogItem::Line(line) => shown.line(&mut out, &line),
        LogItem::Lost(files) => shown.lost(&mut out, files),
    });
    if read.is_ok() {
        // A client that has gone does not want to know.
        let _ = out.end();
    }
    Ok(None)
}

/// A time in seconds since 1970, or in RFC 3339, as logs have it; 0 is none.
fn time(call: &Call<'_, '_>, name: &str) -> Result<Option<String>, Failure> {
    let text = call.text(name);
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    let time = parse_timestamp(text, jiff::Timestamp::now(), jiff::tz::Offset::UTC);
    let time =
        time.map_err(|error| Failure::bad(format!("invalid value for \"{name}\": {error}")))?;
    Ok(Some(engine::clock::format(time)))
}

/// What is shown of lines.
struct Shown {
    wanted: [bool; 2],
    timestamps: bool,
    details: bool,
    is_terminal: bool,
    /// Whether the last part of each stream was not the last of its line.
    within: [bool; 2],
}

impl Shown {
    fn line(&mut self, out: &mut Chunks<'_>, line: &LogLine) -> io::Result<()> {
        if !self.wanted[line.stream as usize] {
            return Ok(());
        }
        let within = &mut self.within[line.stream as usize];
        let is_inside = std::mem::replace(within, !line.text.ends_with(b"\n"));
        let stamp =
            if self.timestamps && !is_inside { format!("{} ", line.time) } else { String::new() };
        let details =
            if self.details && !is_inside { log_details(&line.attrs) + " " } else { String::new() };
        let text = [stamp.as_bytes(), details.as_bytes(), &line.text].concat();
        frame::write(out, line.stream, &text, self.is_terminal)
    }

    fn lost(&mut self, out: &mut Chunks<'_>, files: u64) -> io::Result<()> {
        let plural = if files == 1 { "file of lines was" } else { "files of lines were" };
        let text = format!("cais: {files} {plural} removed from the log before they were read\n");
        frame::write(out, Stream::Stderr, text.as_bytes(), self.is_terminal)
    }
}
