//! `cais logs`

use std::io::Write;

use engine::{Error, Kind, LogLine, LogQuery, Result, Stream};

use crate::session::Session;
use crate::{output, progress};

/// What `logs` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m")
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, default_value = "all")]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m")
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The container, by name or id
    container: String,
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
    let outcome = engine.logs(&container, &query, &mut |line| print(&line, args.timestamps));
    match outcome {
        // The reader has gone, as `head` does.
        Err(error) if is_broken_pipe(&error) => Ok(0),
        Err(error) => Err(error),
        Ok(false) => Ok(0),
        Ok(true) => {
            progress::note("cais: some lines were removed from the log before they were read");
            Ok(0)
        }
    }
}

/// As in Docker, what is not a number of lines means all.
fn tail(text: &str) -> Option<usize> {
    text.parse().ok()
}

fn time(name: &str, text: &str) -> Result<String> {
    let now = jiff::Timestamp::now();
    let zone = jiff::tz::TimeZone::system().to_offset(now);
    let time = output::parse_timestamp(text, now, zone);
    time.map(engine::clock::format).map_err(|error| {
        Error::caused(Kind::Invalid, format!("invalid value for \"{name}\": {text}"), error)
            .hint("a time as in 2026-01-02T03:04:05Z, seconds since 1970, or an age as in 42m")
    })
}

fn print(line: &LogLine, timestamps: bool) -> std::io::Result<()> {
    let stamp = if timestamps { format!("{} ", line.time) } else { String::new() };
    let text = [stamp.as_bytes(), line.text.as_bytes()].concat();
    match line.stream {
        Stream::Stdout => {
            std::io::stdout().write_all(&text).and_then(|()| std::io::stdout().flush())
        }
        Stream::Stderr => std::io::stderr().write_all(&text),
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
