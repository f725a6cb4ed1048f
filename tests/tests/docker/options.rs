//! The table of commands and options in docs/compatibility.md.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use testkit::Sandbox;

/// The commands of Docker's client 28.2 and their options, without `--help`; `name: option …`.
const OPTIONS: &str = include_str!("options.txt");
/// What the table stands between.
const MARKS: [&str; 2] = ["<!-- options: begin -->\n", "<!-- options: end -->\n"];
/// Set to have the table written instead of compared.
const WRITE: &str = "CAIS_WRITE_TABLE";

#[test]
fn the_table_of_options_is_true() {
    let sandbox = Sandbox::new();
    let mut table = String::from("| command | options that are not supported |\n|---|---|\n");
    for line in OPTIONS.lines() {
        let (command, options) = line.split_once(':').expect("a command has a colon behind it");
        let help = sandbox.line(&format!("cais {command} --help"));
        let known = help.code == 0 && help.stdout.contains(&format!("Usage: cais {command}"));
        let ours: BTreeSet<&str> = long_options(&help.stdout).collect();
        let missing: Vec<String> = options
            .split_whitespace()
            .filter(|option| !ours.contains(option))
            .map(|option| format!("`{option}`"))
            .collect();
        let missing = match known {
            false => "the whole command".to_owned(),
            true => missing.join(" "),
        };
        writeln!(table, "| `{command}` | {missing} |").expect("writing to a string works");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    let text = std::fs::read_to_string(&file).expect("the page is there");
    let (before, rest) = text.split_once(MARKS[0]).expect("the table has a beginning");
    let (old, after) = rest.split_once(MARKS[1]).expect("the table has an end");
    if std::env::var_os(WRITE).is_some() {
        let text = format!("{before}{}{table}{}{after}", MARKS[0], MARKS[1]);
        std::fs::write(file, text).expect("the page can be written");
        return;
    }
    assert_eq!(old, table, "run this test with {WRITE}=1 to write the table anew");
}

/// `--name` of each option that a help page explains.
fn long_options(help: &str) -> impl Iterator<Item = &str> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    lines.flat_map(|line| {
        let words = line.split([' ', ',', '=', '[']);
        words.filter(|word| word.starts_with("--"))
    })
}
