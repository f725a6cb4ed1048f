//! `cais top`

use engine::Result;

use crate::session::Session;

/// Docker's narrowest column, and the blanks between two.
const WIDTH_MIN: usize = 20;
const PADDING: usize = 3;

/// What `top` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container, by name or id
    pub(super) container: String,
    /// Options of ps(1); -ef where there are none
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS_OPTIONS")]
    pub(super) options: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> Result<i32> {
    let engine = session.engine()?;
    let rows = docker::top(engine, &engine.find(&args.container)?, &args.options)?;
    session.print(&columns(&rows)).map(|()| 0)
}

pub(super) fn columns(rows: &[Vec<String>]) -> String {
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
    fn columns_are_as_wide_as_docker_s() {
        let rows = [["UID", "PID", "CMD"], ["root", "12", "sh -c 7"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            columns(&rows),
            "UID                 PID                 CMD\nroot                12                  sh -c 7\n"
        );
    }
}
