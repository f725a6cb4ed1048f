//! The processes of containers, as ps(1) shows them.

use std::process::Command;

use engine::{Container, Engine, Error, Kind, Result};

/// The header and the lines that ps(1) shows of a container's processes, cell by cell; as `-ef` where
/// there are no options.
///
/// # Errors
/// [`Kind::Conflict`] if the container does not run; if there is no ps, or it shows no `PID`.
pub fn top(engine: &Engine, container: &Container, options: &[String]) -> Result<Vec<Vec<String>>> {
    let pids = engine.pids(container)?;
    let text = match options {
        [] => ps(&["-ef".to_owned()])?,
        options => ps(options)?,
    };
    rows(&text, &pids)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_of_the_container_are_shown() {
        let text = "UID   PID CMD\nroot    1 init\nroot   12 sh -c 7\n\nroot    7 x\n";
        let shown = rows(text, &[7, 12]).unwrap();
        assert_eq!(shown[1..], [["root", "12", "sh -c 7"], ["root", "7", "x"]]);
        assert!(rows("UID CMD\n", &[]).is_err());
    }
}
