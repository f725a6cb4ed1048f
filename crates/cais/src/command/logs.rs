//! `cais logs`

use std::io::{BufWriter, Write};

use engine::{Error, Kind, LogItem, LogLine, LogQuery, Result, Stream};

use crate::session::Session;
use crate::{output, progress};

/// What is written at once, in bytes.
const OUTPUT_BYTES: usize = 64 * 1024;

/// What `logs` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show extra details provided to logs
    #[arg(long)]
    pub(super) details: bool,
    /// Follow log output
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m")
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, default_value = "all")]
    pub(super) tail: String,
    /// Show timestamps
    #[arg(short, long)]
    pub(super) timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m")
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// The container, by name or id
    pub(super) container: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let container = engine.find(&args.container)?;
    let query = LogQuery {
        tail: tail(&args.tail),
        since: args.since.as_deref().map(|text| time("since", text)).transpose()?,
        until: args.until.as_deref().map(|text| time("until", text)).transpose()?,
        follow: args.follow,
    };
    let mut output = Output::new(args);
    let outcome = engine.logs(&container, &query, &mut |item| output.take(item));
    match outcome.and_then(|()| output.finish()) {
        // The reader has gone, as `head` does.
        Err(error) if is_broken_pipe(&error) => Ok(0),
        outcome => outcome.map(|()| 0),
    }
}

/// As in Docker, what is not a number of lines means all.
pub(super) fn tail(text: &str) -> Option<usize> {
    text.parse().ok()
}

pub(super) fn time(name: &str, text: &str) -> Result<String> {
    let now = jiff::Timestamp::now();
    let zone = jiff::tz::TimeZone::system().to_offset(now);
    let time = output::parse_timestamp(text, now, zone);
    time.map(engine::clock::format).map_err(|error| {
        Error::caused(Kind::Invalid, format!("invalid value for \"{name}\": {text}"), error)
            .hint("a time as in 2026-01-02T03:04:05Z, seconds since 1970, or an age as in 42m")
    })
}

/// What is shown of lines, and where.
struct Output {
    out: BufWriter<std::io::Stdout>,
    err: std::io::Stderr,
    /// Whether each line is shown before the next one is waited for.
    at_once: bool,
    timestamps: bool,
    details: bool,
    /// Whether the last part of each stream was not the last of its line.
    within: [bool; 2],
}

impl Output {
    fn new(args: &Args) -> Self {
        Self {
            out: BufWriter::with_capacity(OUTPUT_BYTES, std::io::stdout()),
            err: std::io::stderr(),
            at_once: args.follow,
            timestamps: args.timestamps,
            details: args.details,
            within: [false; 2],
        }
    }

    fn take(&mut self, item: LogItem) -> std::io::Result<()> {
        match item {
            LogItem::Line(line) => self.line(&line),
            LogItem::Lost(files) => {
                self.out.flush()?;
                let plural = if files == 1 { "file of lines was" } else { "files of lines were" };
                progress::note(&format!(
                    "cais: {files} {plural} removed from the log before they were read"
                ));
                Ok(())
            }
        }
    }

    fn line(&mut self, line: &LogLine) -> std::io::Result<()> {
        let within = &mut self.within[line.stream as usize];
        let is_inside = std::mem::replace(within, !line.text.ends_with(b"\n"));
        let stamp =
            if self.timestamps && !is_inside { format!("{} ", line.time) } else { String::new() };
        let details = if self.details && !is_inside {
            docker::log_details(&line.attrs) + " "
        } else {
            String::new()
        };
        let parts = [stamp.as_bytes(), details.as_bytes(), &line.text];
        if line.stream == Stream::Stderr {
            self.out.flush()?;
            return self.err.write_all(&parts.concat());
        }
        parts.iter().try_for_each(|part| self.out.write_all(part))?;
        if self.at_once { self.out.flush() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<()> {
        let flushed = self.out.flush();
        flushed.map_err(|error| Error::caused(Kind::Internal, "write the lines", error))
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
