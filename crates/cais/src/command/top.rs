//! `cais top`

use std::process::Command;

use engine::{Error, Kind, Result};

use crate::session::Session;

/// Docker's narrowest column, and the blanks between two.
const WIDTH_MIN: usize = 20;
const PADDING: usize = 3;

/// What `top` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container, by name or id
    container: String,
    /// Options of ps(1); -ef where there are none
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS_OPTIONS")]
    options: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let pids = engine.pids(&engine.find(&args.container)?)?;
    let text = match &args.options[..] {
        [] => ps(&["-ef".to_owned()])?,
        options => ps(options)?,
    };
    session.print(&columns(&rows(&text, &pids)?)).map(|()| 0)
}

/// What ps(1) of this machine shows.
fn ps(options: &[String]) -> Result<String> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::new(Kind::Internal, format!("Error running ps: {error}"))
    };
    let output = Command::new("ps").args(options).output().map_err(|error| {
        failed(&error).hint("`top` shows what ps(1) does: install the package procps")
    })?;
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The header, and the lines of these processes; the last column may have blanks in it.
fn rows(text: &str, pids: &[i32]) -> Result<Vec<Vec<String>>> {
    let mut lines = text.lines();
    let header: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let column = header.iter().position(|word| word == "PID").ok_or_else(|| {
        Error::invalid("Couldn't find PID field in ps output").hint("let ps show it: -o pid,…")
    })?;
    let cells = |line: &str| -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (first, rest) = words.split_at(words.len().min(header.len().saturating_sub(1)));
        let rest = (!rest.is_empty()).then(|| rest.join(" "));
        first.iter().map(|word| (*word).to_owned()).chain(rest).collect()
    };
    let ours = |cells: &Vec<String>| {
        cells.get(column).and_then(|pid| pid.parse().ok()).is_some_and(|pid| pids.contains(&pid))
    };
    let found: Vec<Vec<String>> = lines.map(cells).filter(ours).collect();
    Ok([header].into_iter().chain(found).collect())
}

fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let longest = rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count());
        (longest.max().unwrap_or(0) + PADDING).max(WIDTH_MIN)
    };
    let last = rows.first().map_or(0, Vec::len).saturating_sub(1);
    let widths: Vec<usize> = (0..last).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let cell = crate::output::printable_line(cell);
            match widths.get(column) {
                Some(width) => text.push_str(&format!("{cell:<width$}")),
                None => text.push_str(&cell),
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_of_the_container_are_shown() {
        let text = "UID   PID CMD\nroot    1 init\nroot   12 sh -c 7\n\nroot    7 x\n";
        let shown = rows(text, &[7, 12]).unwrap();
        assert_eq!(shown[1..], [["root", "12", "sh -c 7"], ["root", "7", "x"]]);
        assert!(rows("UID CMD\n", &[]).is_err());
        assert_eq!(
            columns(&shown[..2]),
            "UID                 PID                 CMD\nroot                12                  sh -c 7\n"
        );
    }
}
