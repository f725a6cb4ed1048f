//! The page: what was measured, on which machine, beside which versions.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::Result;

use super::contest::{Spread, Times};
use super::world::{World, has_cgroup1, output, version};

const HOW: &str = "\
# Benchmarks

Made by `cargo xtask bench --write`, as root, on a machine with the other engines installed (on Debian: `runc`, `crun`, `docker.io`, `skopeo`, `buildah`, `docker-registry`).
Contestants take turns after a round that is not counted; the numbers are milliseconds, the median and in brackets the smallest and the largest.
Wall time is that of the command, as a person waits for it.
CPU time is user and system time of the command and of all its children, and of the daemon that works for it, if there is one; what the kernel does later, in threads of its own, is not in it for anybody.
A turn begins 0.2 s after the one before, so that nobody pays for what the kernel still does for another; every start is therefore a cold one.
A ratio below 1 is in favour of cais.
Every engine keeps its images and containers on the disk and what it would keep in `/run` in memory.
";

/// One table.
pub(crate) struct Section {
    title: String,
    table: String,
    notes: Vec<String>,
}

impl Section {
    /// Of contestants; the first one is the binary under test.
    pub(crate) fn new(title: &str, times: &[Times], notes: Vec<String>) -> Self {
        let mut table = String::from(
            "| | rounds | wall ms | CPU ms | cais / this: wall | cais / this: CPU |\n\
             |---|--:|--:|--:|--:|--:|\n",
        );
        let spreads = |times: &Times| (Spread::of(&times.wall), Spread::of(&times.cpu));
        let ours = times.first().map(spreads);
        for (index, times) in times.iter().enumerate() {
            let (wall, cpu) = spreads(times);
            let against = ours.filter(|_| index > 0).map_or_else(
                || "| | |".to_owned(),
                |(our_wall, our_cpu)| {
                    let ratio = |ours: Spread, this: Spread| ours.median / this.median;
                    format!("| {:.3} | {:.3} |", ratio(our_wall, wall), ratio(our_cpu, cpu))
                },
            );
            let rounds = times.wall.len();
            let (wall, cpu) = (shown(wall), shown(cpu));
            // Writing to a string cannot fail.
            let _ = writeln!(table, "| {} | {rounds} | {wall} | {cpu} {against}", times.name);
        }
        Self { title: title.to_owned(), table, notes }
    }

    /// Of rows that say the same of several things.
    pub(crate) fn of_columns<const N: usize>(
        title: &str,
        columns: &[&str; N],
        rows: &[(String, [String; N])],
        notes: Vec<String>,
    ) -> Self {
        let row = |first: &str, cells: &[String]| format!("| {first} | {} |\n", cells.join(" | "));
        let mut table = row("", &columns.map(str::to_owned));
        table += &row("---", &columns.map(|_| "--:".to_owned()));
        table.extend(rows.iter().map(|(name, cells)| row(name, cells)));
        Self { title: title.to_owned(), table, notes }
    }

    /// Of things that are counted once.
    pub(crate) fn of_facts(title: &str, facts: Vec<(String, String)>, notes: Vec<String>) -> Self {
        let rows = facts.into_iter().map(|(name, value)| format!("| {name} | {value} |\n"));
        let table = format!("| | |\n|---|---|\n{}", rows.collect::<String>());
        Self { title: title.to_owned(), table, notes }
    }
}

fn shown(spread: Spread) -> String {
    let digits = if spread.median < 100.0 { 1 } else { 0 };
    let Spread { median, min, max } = spread;
    format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
}

/// The whole page.
pub(crate) fn page(sections: &[Section], world: &World) -> Result<String> {
    let mut page = String::from(HOW);
    let _ = write!(page, "\n## Machine\n\n{}", machine(world)?);
    for Section { title, table, notes } in sections {
        let _ = write!(page, "\n## {title}\n\n{table}\n");
        for note in notes {
            let _ = writeln!(page, "- {note}");
        }
    }
    while page.ends_with("\n\n") {
        page.pop();
    }
    Ok(page)
}

/// A page on which some sections are measured anew: the others stay as they are, with the machine that
/// they were measured on.
pub(crate) fn merged(old: &str, sections: &[Section], world: &World) -> Result<String> {
    let mut parts: Vec<String> = old.split("\n## ").map(str::to_owned).collect();
    let machine = machine(world)?;
    let apart = machine.lines().map(|line| line.trim_start_matches("- "));
    let apart = format!("measured apart: {}", apart.collect::<Vec<_>>().join("; "));
    for Section { title, table, notes } in sections {
        let mut part = format!("{title}\n\n{table}\n");
        for note in notes.iter().chain([&apart]) {
            let _ = writeln!(part, "- {note}");
        }
        let place = parts.iter().position(|known| known.lines().next() == Some(title));
        match place {
            Some(place) => parts[place] = part,
            None => parts.push(part),
        }
    }
    let mut page = String::new();
    for (place, part) in parts.iter().enumerate() {
        let mark = if place == 0 { "" } else { "\n## " };
        let _ = write!(page, "{mark}{}", part.trim_end());
        page.push('\n');
    }
    Ok(page)
}

fn machine(world: &World) -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let models = processors.lines().filter_map(|line| line.strip_prefix("model name"));
    let model = models.clone().next().unwrap_or(": unknown").trim_start_matches(['\t', ' ', ':']);
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory.lines().next().and_then(|line| line.split_whitespace().nth(1));
    let memory: f64 = memory.and_then(|kib| kib.parse().ok()).unwrap_or(0.0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let load: Vec<&str> = load.split(' ').take(3).collect();
    let date = output(Command::new("date").args(["--utc", "+%Y-%m-%d"]))?;
    let cgroups = if has_cgroup1() { "version 1 (and 2, if mounted)" } else { "version 2" };
    let own = version(&world.cais.display().to_string()).unwrap_or_else(|| "cais".into());
    let docker = ["dockerd", "/usr/bin/docker", "docker", "containerd", "skopeo", "buildah"];
    let programs = [&["runc", "crun", world.youki.as_str()][..], &docker].concat();
    let mut versions: Vec<String> = std::iter::once(own)
        .chain(programs.iter().filter_map(|program| version(program)))
        .collect();
    versions.dedup();
    Ok(format!(
        "- {} × {model}, {:.0} GB, kernel {}, control groups of {cgroups}\n- load at the end: {}\n- {}\n- {}\n",
        models.count(),
        memory / 1e6,
        kernel.trim(),
        load.join(" "),
        date.trim(),
        versions.join(" · ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_contestant_is_compared_with_the_others() {
        let times = |name: &str, ms: f64| Times {
            name: name.into(),
            wall: vec![ms, ms * 2.0, ms],
            cpu: vec![ms / 2.0; 3],
        };
        let section = Section::new("x", &[times("cais", 10.0), times("other", 400.0)], vec![]);
        let rows: Vec<&str> = section.table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| cais | 3 | 10.0 (10.0–20.0) | 5.0 (5.0–5.0) | | |",
                "| other | 3 | 400 (400–800) | 200 (200–200) | 0.025 | 0.025 |",
            ]
        );
    }
}
