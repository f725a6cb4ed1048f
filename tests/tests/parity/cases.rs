//! What a person types, typed to both engines.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::thread;

use testkit::{Dockerd, Entry, Node, Outcome, Sandbox};

/// The cases; the file says how to read them.
pub(crate) const CASES: &str = include_str!("cases.sh");

/// The list of what is known to differ.
const COMPATIBILITY: &str = include_str!("../../../docs/compatibility.md");

/// Where a registry takes the pushes of both.
const HUB_PORT: u16 = 5001;

/// Paragraphs at work at the same time: engines wait more than they compute.
const AT_ONCE: usize = 4;

/// A line, and why the engines are known not to agree on it.
struct Case {
    line: &'static str,
    differs: Option<&'static str>,
    /// Why our command line is known not to agree, where our API does.
    command_differs: Option<&'static str>,
}

impl Case {
    fn may_differ(&self, is_command: bool) -> bool {
        self.differs.is_some() || is_command && self.command_differs.is_some()
    }
}

#[test]
fn commands_agree() {
    let sandbox = Sandbox::new();
    make_images(&sandbox);
    let storage = sandbox.work().join("hub");
    std::fs::create_dir(&storage).expect("the work directory takes entries");
    let _hub = sandbox.registry(HUB_PORT, &storage);
    let docker = Dockerd::start(&sandbox);
    for file in ["seen.tar", "with-config.tar", "removable.tar"] {
        let _ = docker.shell(&format!("$E load -qi {file}")).ok();
        let _ = sandbox.shell(&format!("$E load -qi {file}")).ok();
    }
    let cais = |line: &str| sandbox.shell(line);
    let wrong = compare_all(CASES, &|line| docker.shell(line), &cais, true);
    assert!(wrong.is_empty(), "the engines do not agree:\n{wrong}");
}

/// Runs all cases of a text with both engines, of which the second is our command line or our API;
/// gives what is wrong.
pub(crate) fn compare_all(
    text: &'static str,
    docker: Shell<'_>,
    cais: Shell<'_>,
    is_command: bool,
) -> String {
    let chosen = std::env::var("CAIS_PARITY_CASE").unwrap_or_default();
    let mut waiting: Vec<Vec<Case>> = paragraphs(text);
    waiting.retain(|cases| cases.iter().any(|case| case.line.contains(&chosen)));
    waiting.reverse();
    let waiting = Mutex::new(waiting);
    let wrong = Mutex::new(String::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let next = || waiting.lock().expect("taking does not panic").pop();
                while let Some(cases) = next() {
                    let found = compare(docker, cais, &cases, is_command);
                    wrong.lock().expect("adding does not panic").push_str(&found);
                }
            });
        }
    });
    wrong.into_inner().expect("no comparison panics")
}

#[test]
fn every_difference_is_documented() {
    check_documented(CASES);
}

/// Demands that every difference in a text of cases is in the list of those that are known.
pub(crate) fn check_documented(text: &'static str) {
    for case in paragraphs(text).iter().flatten() {
        let Some(reason) = case.differs.or(case.command_differs) else { continue };
        assert!(COMPATIBILITY.contains(reason), "docs/compatibility.md lacks: {reason}");
    }
}

fn paragraphs(text: &'static str) -> Vec<Vec<Case>> {
    let mut all = Vec::new();
    for paragraph in text.split("\n\n") {
        let mut cases = Vec::new();
        let (mut differs, mut command_differs) = (None, None);
        for line in paragraph.lines().filter(|line| !line.starts_with('#')) {
            if let Some(reason) = line.strip_prefix("differs ") {
                differs = Some(reason);
            } else if let Some(reason) = line.strip_prefix("command differs ") {
                command_differs = Some(reason);
            } else {
                let (differs, command_differs) = (differs.take(), command_differs.take());
                cases.push(Case { line, differs, command_differs });
            }
        }
        all.push(cases);
    }
    all
}

/// Images that tell more than the pool's: files of odd owners to seed volumes with, and one whose
/// configuration says everything that it can.
pub(crate) fn make_images(sandbox: &Sandbox) {
    let seed = [
        Entry::of("seed", 0o1755, Node::Directory).owner(33, 33),
        Entry::file("seed/file", "seed").mode(0o640).owner(1000, 33),
        Entry::symlink("seed/link", "file"),
        Entry::directory("mnt"),
    ];
    sandbox.save_image("seen.tar", "seen:latest", &[seed.to_vec()], |_| {});
    sandbox.save_image("removable.tar", "removable:latest", &[], |config| {
        config.labels.insert("only".to_owned(), "here".to_owned());
    });
    sandbox.save_image("with-config.tar", "with-config:latest", &[], |config| {
        config.entrypoint = vec!["echo".to_owned(), "entry".to_owned()];
        config.cmd = vec!["command".to_owned()];
        config.env.push("FROM=image".to_owned());
        config.user = "www-data".to_owned();
        config.working_dir = "/work/dir".to_owned();
        config.labels.insert("from".to_owned(), "image".to_owned());
        config.stop_signal = "SIGUSR1".to_owned();
    });
}

/// Runs a line with one of the engines.
pub(crate) type Shell<'a> = &'a (dyn Fn(&str) -> Outcome + Sync);

/// Runs a paragraph with one engine, then with the other; gives what is wrong.
fn compare(docker: Shell<'_>, cais: Shell<'_>, cases: &[Case], is_command: bool) -> String {
    let from_docker: Vec<Outcome> = cases.iter().map(|case| docker(case.line)).collect();
    let from_cais: Vec<Outcome> = cases.iter().map(|case| cais(case.line)).collect();
    let mut wrong = String::new();
    for (case, (docker, cais)) in cases.iter().zip(from_docker.iter().zip(&from_cais)) {
        let agree = seen(docker) == seen(cais);
        if agree == case.may_differ(is_command) {
            let verdict = if agree { "agree, though listed as different" } else { "differ" };
            let _ = writeln!(wrong, "== {verdict}: {}", case.line);
            let _ = writeln!(wrong, "-- docker: {}-- cais: {}", shown(docker), shown(cais));
        }
    }
    wrong
}

/// What counts: the exit code, the output, and whether anything was complained about. The words of
/// a complaint are each engine's own.
fn seen(outcome: &Outcome) -> (i32, String, bool) {
    (outcome.code, normal(&outcome.stdout), outcome.stderr.is_empty())
}

fn shown(outcome: &Outcome) -> String {
    format!("{}\n{}-- complaint: {}\n", outcome.code, normal(&outcome.stdout), outcome.stderr)
}

/// Output without what no two runs share: identifiers and times. Columns are as wide as needed.
fn normal(text: &str) -> String {
    let mut normal = String::new();
    for line in text.split_inclusive('\n') {
        let mut line = replace_runs(
            line,
            |c| c.is_ascii_hexdigit(),
            |run| match run.len() {
                64 => Some("<id>"),
                12 => Some("<short id>"),
                _ => None,
            },
        );
        line = replace_runs(
            &line,
            |c| c.is_ascii_digit() || "-T:.Z+".contains(c),
            |run| (run.len() >= 20 && run.contains('T')).then_some("<time>"),
        );
        normal += &ages(&line);
    }
    normal
}

/// Replaces maximal runs of some characters.
fn replace_runs(
    text: &str,
    of: impl Fn(char) -> bool,
    by: impl Fn(&str) -> Option<&'static str>,
) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(&of) {
        let length = rest[start..].find(|c| !of(c)).unwrap_or(rest.len() - start);
        let run = &rest[start..start + length];
        replaced += &rest[..start];
        replaced += by(run).unwrap_or(run);
        rest = &rest[start + length..];
    }
    replaced + rest
}

/// `Less than a second ago`, `3 seconds ago`, `Up 2 seconds` and their like, with the blanks that
/// fill their column.
fn ages(line: &str) -> String {
    let mut line =
        line.replace("Less than a second", "1 seconds").replace("About a minute", "1 seconds");
    for unit in ["second", "seconds", "minute", "minutes"] {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        for at in 1..words.len() {
            if words[at].trim_end() == unit && words[at - 1].parse::<u32>().is_ok() {
                words[at - 1] = "<n>".to_owned();
                words[at] = words[at].replace(unit, "<unit>");
            }
        }
        line = words.join(" ");
    }
    let is_table = line.contains("<n>") || line.contains("<short id>") || line.contains("CREATED");
    if !is_table {
        return line;
    }
    let columns: Vec<&str> = line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
    columns.join("  ") + "\n"
}
