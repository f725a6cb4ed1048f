//! What commands have in common when they show something: rows, and what failed.

use engine::{Error, Kind, Result};

use crate::output::{self, Format, Row};
use crate::session::Session;

/// Says what failed, why, and what to do, on standard error.
pub(super) fn report(error: &Error) {
    let program = if super::remote::is_docker() { "docker" } else { "cais" };
    let mut text = format!("{program}: {error}");
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // The number says nothing that the words do not.
        let cause_text = cause_text.split(" (os error ").next().unwrap_or_default();
        if !text.ends_with(cause_text) {
            text.push_str(": ");
            text.push_str(cause_text);
        }
        next = cause.source();
    }
    if let Some(hint) = error.hint_text() {
        text.push_str("\nhint: ");
        text.push_str(hint);
    }
    let text = output::printable(&text).into_owned() + "\n";
    // Nobody to tell if standard error is closed.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}

/// Does the same for each of several names: says what failed and goes on; 1 if anything did.
pub(super) fn each(names: &[String], mut act: impl FnMut(&str) -> Result<()>) -> Result<i32> {
    let mut code = 0;
    for name in names {
        if let Err(error) = act(name) {
            report(&error);
            code = 1;
        }
    }
    Ok(code)
}

/// Prints rows as `--format` and `-q` say.
pub(super) fn show(
    session: &Session,
    format: Option<&str>,
    quiet: bool,
    table: &str,
    headers: &[(&str, &str)],
    rows: &[Row],
) -> Result<i32> {
    let format = match (quiet, format) {
        (true, None) => Format::Template("{{.ID}}".into()),
        _ => Format::parse(format, table),
    };
    let mut text = Vec::new();
    output::render(&mut text, &format, headers, rows)
        .map_err(|error| Error::new(Kind::Invalid, error.to_string()).hint(FORMAT_HINT))?;
    session.print_bytes(&text).map(|()| 0)
}

const FORMAT_HINT: &str =
    "--format takes json, table, or a Go template as in '{{.ID}}: {{.Names}}'";
