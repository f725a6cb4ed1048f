//! `ps`.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use runtime::container::Container;

use super::{Args, Call, Verb, list, print};

pub(super) const VERB: Verb = Verb {
    name: "ps",
    about: "ps displays the processes running inside a container",
    usage: "<container-id> [ps options]",
    flags: &[list::FORMAT],
    args: Args::AtLeast(1),
    sealed: false,
    run,
};

fn run(call: &Call<'_>) -> Result<i32> {
    let pids = Container::open(call.root, call.id()?)?.pids()?;
    match call.own.value("format").unwrap_or("table") {
        "json" => Ok(print(&format!("{}\n", serde_json::to_string(&pids)?))),
        "table" => Ok(print(&table(&pids, &call.own.args[1..])?)),
        _ => bail!("invalid format option"),
    }
}

/// What ps(1) shows, of these processes only.
fn table(pids: &[i32], args: &[String]) -> Result<String> {
    let mut command = Command::new("ps");
    command.args(args);
    if args.is_empty() {
        command.arg("-ef");
    }
    let output = command.output().context("run ps")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    filter(&text, pids)
}

fn filter(text: &str, pids: &[i32]) -> Result<String> {
    let header = text.lines().next().unwrap_or_default();
    let column = header.split_whitespace().position(|word| word == "PID");
    let column = column.context("couldn't find PID field in ps output")?;
    let mut shown = format!("{header}\n");
    for line in text.lines().skip(1).filter(|line| !line.trim().is_empty()) {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        if pids.contains(&pid.context("unable to parse pid")?) {
            shown += &format!("{line}\n");
        }
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_of_the_container_are_shown() {
        let text = "UID   PID CMD\nroot    1 init\nroot   12 sh -c 7\n\nroot    7 x\n";
        assert_eq!(
            filter(text, &[7, 12]).unwrap(),
            "UID   PID CMD\nroot   12 sh -c 7\nroot    7 x\n"
        );
        assert!(filter("UID CMD\n", &[]).is_err());
    }
}
