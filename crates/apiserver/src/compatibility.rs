//! The table of kinds in `docs/compatibility.md`, which is written from what discovery says and must
//! be what it says.

use std::fmt::Write as _;
use std::path::Path;

use objects::convert;
use objects::resource::{Access, Resource};

use crate::discovery;

const BEGIN: &str = "<!-- The table of kinds, written by a test. -->\n";
const END: &str = "<!-- The end of the table of kinds. -->\n";
/// Set to anything, it has the test write the table instead of comparing it.
const WRITE: &str = "CAIS_WRITE_TABLES";

/// What of a kind does not work, beside subresources that are not answered.
const NOT_YET: &[(&str, &str)] = &[
    ("MutatingWebhookConfiguration", "`CONNECT` is not asked about"),
    ("ValidatingAdmissionPolicy", "`authorizer` is refused"),
];

fn table() -> String {
    let mut table = String::from(
        "| version | kind | verbs | subresources | not yet |\n|---|---|---|---|---|\n",
    );
    for of in Resource::built_in() {
        let version = of.api_version();
        let served: Vec<&str> = discovery::served(of).collect();
        let mut missing: Vec<String> = of
            .subresources
            .iter()
            .filter(|name| !served.contains(name))
            .map(|name| format!("`{name}`"))
            .collect();
        let limits = NOT_YET.iter().filter(|(kind, _)| *kind == of.kind);
        missing.extend(limits.map(|(_, words)| (*words).to_owned()));
        let verbs = match of.access {
            Access::Stored => "all".to_owned(),
            other => other.verbs().join(", "),
        };
        let kept = convert::kept(&version, of.kind);
        let kept = if kept == version { String::new() } else { format!(" (kept as {kept})") };
        let subresources: Vec<String> = served.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(
            table,
            "| {version}{kept} | {} | {verbs} | {} | {} |",
            of.kind,
            subresources.join(", "),
            missing.join(", "),
        );
    }
    table
}

#[test]
fn the_documentation_has_every_kind() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    let table = format!("\n{}\n", table());
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    let words =
        format!("the table is old; {WRITE}=1 cargo test -p apiserver the_documentation writes it");
    assert!(written == table, "{words}");
}
