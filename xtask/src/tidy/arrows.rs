//! Which crate may depend on which: the table in ARCHITECTURE.md against what cargo resolves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Violation, run};

const PAGE: &str = "ARCHITECTURE.md";
const HEADING: &str = "## Dependency arrows";

/// Crates that must not reach a package by any way, with the reason.
const NEVER: &[(&str, &str, &str)] = &[
    (
        "runtime",
        "tokio",
        "the process that becomes a monitor must have one thread and little memory",
    ),
    ("cais", "weakened", "its defences can be switched off: it exists to prove attacks"),
    ("testkit", "weakened", "its defences can be switched off: it exists to prove attacks"),
];

/// A crate's row in the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    /// Counted from 1.
    line: usize,
    /// `None` allows every crate of the workspace.
    allowed: Option<BTreeSet<String>>,
}

/// What cargo knows of one package.
#[derive(Debug, Default)]
struct Package {
    name: String,
    /// Ids of the packages it depends on outside its tests.
    uses: Vec<String>,
    /// Names of the packages it depends on in its tests alone.
    tests_use: Vec<String>,
}

/// Packages by id, and the ids of the workspace's own.
#[derive(Debug, Default)]
struct Graph {
    packages: BTreeMap<String, Package>,
    members: BTreeSet<String>,
}

/// Checks the tree at `root`.
pub(super) fn check(root: &Path) -> Result<Vec<Violation>> {
    let page = std::fs::read_to_string(root.join(PAGE)).with_context(|| format!("read {PAGE}"))?;
    let table = table(&page)?;
    let graph = graph(&metadata(root)?)?;
    let mut found = judge(&table, &graph);
    found.extend(NEVER.iter().filter_map(|rule| reaches(rule, &graph)));
    Ok(found)
}

/// The table below the heading: `| crate | may depend on |`, with names in backticks.
fn table(page: &str) -> Result<BTreeMap<String, Row>> {
    let mut rows = BTreeMap::new();
    let lines = page.lines().enumerate().skip_while(|(_, line)| line.trim() != HEADING).skip(1);
    for (number, line) in lines.take_while(|(_, line)| !line.starts_with("## ")) {
        let Some((name, allowed)) = line
            .strip_prefix('|')
            .and_then(|line| line.strip_suffix('|'))
            .and_then(|line| line.split_once('|'))
        else {
            continue;
        };
        let Some(name) = quoted(name).next() else { continue };
        let every = allowed.trim() == "every crate";
        let allowed = (!every).then(|| quoted(allowed).map(str::to_owned).collect());
        rows.insert(name.to_owned(), Row { line: number + 1, allowed });
    }
    if rows.is_empty() {
        bail!("{PAGE} has no table under {HEADING:?}");
    }
    Ok(rows)
}

/// The words in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn metadata(root: &Path) -> Result<Value> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let args = ["metadata", "--locked", "--format-version", "1", "--filter-platform", &target];
    let mut output = run(root, "cargo", &[&args[..], &["--offline"]].concat())?;
    if !output.status.success() {
        // Where the workspace was never built, its packages are not on this disk yet.
        output = run(root, "cargo", &args)?;
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {complaint}");
    serde_json::from_slice(&output.stdout).context("read the output of cargo metadata")
}

fn graph(metadata: &Value) -> Result<Graph> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut graph = Graph::default();
    for package in list(&metadata["packages"]) {
        let name = text(&package["name"]);
        graph.packages.insert(text(&package["id"]), Package { name, ..Package::default() });
    }
    graph.members = list(&metadata["workspace_members"]).iter().map(text).collect();
    ensure!(!graph.members.is_empty(), "cargo metadata names no package of the workspace");
    for node in list(&metadata["resolve"]["nodes"]) {
        let (mut uses, mut tests_use) = (Vec::new(), Vec::new());
        for dependency in list(&node["deps"]) {
            let kinds = list(&dependency["dep_kinds"]);
            let id = text(&dependency["pkg"]);
            match kinds.iter().all(|kind| kind["kind"] == "dev") && !kinds.is_empty() {
                true => tests_use.extend(graph.packages.get(&id).map(|used| used.name.clone())),
                false => uses.push(id),
            }
        }
        if let Some(package) = graph.packages.get_mut(&text(&node["id"])) {
            (package.uses, package.tests_use) = (uses, tests_use);
        }
    }
    Ok(graph)
}

fn judge(table: &BTreeMap<String, Row>, graph: &Graph) -> Vec<Violation> {
    let members: BTreeMap<&str, &Package> = graph
        .members
        .iter()
        .filter_map(|id| graph.packages.get(id))
        .map(|package| (package.name.as_str(), package))
        .collect();
    let mut found = Vec::new();
    for (name, row) in table {
        if !members.contains_key(name.as_str()) {
            let what = format!("there is no crate `{name}`");
            found.push(Violation::new(PAGE, row.line, what, "remove its row"));
        }
    }
    for (name, package) in &members {
        let Some(row) = table.get(*name) else {
            let what = format!("the crate `{name}` has no row under {HEADING:?}");
            found.push(Violation::new(PAGE, 1, what, "say what it may depend on"));
            continue;
        };
        let uses = package.uses.iter().filter(|id| graph.members.contains(*id));
        let uses = uses.filter_map(|id| Some(graph.packages.get(id)?.name.as_str()));
        let tests = package.tests_use.iter().map(String::as_str);
        let tests = tests.filter(|used| members.contains_key(used) && *used != "testkit");
        for used in uses.chain(tests) {
            let allowed = row.allowed.as_ref();
            if allowed.is_some_and(|allowed| !allowed.contains(used)) {
                let what = format!("`{name}` depends on `{used}`");
                let remedy = "remove the dependency, or change the table and say why";
                found.push(Violation::new(PAGE, row.line, what, remedy));
            }
        }
    }
    found
}

/// Whether the rule's crate reaches the package it must not, outside its tests.
fn reaches((from, never, reason): &(&str, &str, &str), graph: &Graph) -> Option<Violation> {
    let named = |id: &&String, name: &str| graph.packages.get(*id).is_some_and(|p| p.name == name);
    let start = graph.members.iter().find(|id| named(id, from))?;
    let mut seen = BTreeSet::new();
    let mut next = vec![start];
    while let Some(id) = next.pop() {
        if named(&id, never) {
            let what = format!("`{from}` reaches `{never}`");
            let remedy = format!("remove that dependency: {reason}");
            return Some(Violation::new(&format!("crates/{from}/Cargo.toml"), 1, what, remedy));
        }
        if seen.insert(id) {
            next.extend(graph.packages.get(id).into_iter().flat_map(|package| &package.uses));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PAGE_TEXT: &str = "# A\n\n| `x` | `y` |\n\n## Dependency arrows\n\n| crate | may |\n\
        |---|---|\n| `oci` | nothing |\n| `store` | `oci` |\n| `cais` | every crate |\n\
        | `testkit` | nothing |\n\n## Next\n\n| `z` | `y` |\n";

    /// A workspace of oci, store, cais and testkit, with the edges given as (from, to, kind).
    fn workspace(edges: &[(&str, &str, Value)]) -> Graph {
        let names = ["oci", "store", "cais", "testkit", "serde", "tokio", "runtime", "weakened"];
        let packages: Vec<Value> =
            names.iter().map(|name| json!({"id": name, "name": name})).collect();
        let deps = |from: &str| -> Vec<Value> {
            let mine = edges.iter().filter(|(start, ..)| *start == from);
            mine.map(|(_, to, kind)| json!({"pkg": to, "dep_kinds": [{"kind": kind}]})).collect()
        };
        let nodes: Vec<Value> =
            names.iter().map(|name| json!({"id": name, "deps": deps(name)})).collect();
        let members = ["oci", "store", "cais", "testkit"];
        let members = if edges.iter().any(|(from, ..)| *from == "runtime") {
            [&members[..], &["runtime"]].concat()
        } else {
            members.to_vec()
        };
        graph(&json!({
            "packages": packages, "workspace_members": members, "resolve": {"nodes": nodes}
        }))
        .unwrap()
    }

    fn whats(edges: &[(&str, &str, Value)]) -> Vec<String> {
        let table = table(PAGE_TEXT).unwrap();
        judge(&table, &workspace(edges)).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn the_table_is_read() {
        let table = table(PAGE_TEXT).unwrap();
        let names: Vec<&str> = table.keys().map(String::as_str).collect();
        assert_eq!(names, ["cais", "oci", "store", "testkit"]);
        assert_eq!(table["store"].line, 10);
        assert_eq!(table["store"].allowed, Some(BTreeSet::from(["oci".to_owned()])));
        assert_eq!(table["oci"].allowed, Some(BTreeSet::new()));
        assert_eq!(table["cais"].allowed, None);
        assert!(super::table("# A\n").is_err());
    }

    #[test]
    fn arrows_that_the_table_allows_are_quiet() {
        let edges = [
            ("store", "oci", Value::Null),
            ("store", "serde", Value::Null),
            ("store", "testkit", json!("dev")),
            ("cais", "store", Value::Null),
        ];
        assert_eq!(whats(&edges), [""; 0]);
    }

    #[test]
    fn other_arrows_are_caught() {
        assert_eq!(whats(&[("oci", "store", Value::Null)]), ["`oci` depends on `store`"]);
        assert_eq!(whats(&[("oci", "store", json!("build"))]), ["`oci` depends on `store`"]);
        assert_eq!(whats(&[("oci", "store", json!("dev"))]), ["`oci` depends on `store`"]);
        assert_eq!(whats(&[("store", "testkit", Value::Null)]), ["`store` depends on `testkit`"]);
        let missing = "the crate `runtime` has no row under \"## Dependency arrows\"";
        assert_eq!(whats(&[("runtime", "oci", Value::Null)]), [missing]);
    }

    #[test]
    fn a_row_without_a_crate_is_caught() {
        let mut table = table(PAGE_TEXT).unwrap();
        table.insert("gone".to_owned(), Row { line: 3, allowed: None });
        let found = judge(&table, &workspace(&[]));
        assert_eq!(found[0].what, "there is no crate `gone`");
    }

    #[test]
    fn what_must_never_be_reached_is_found_through_others() {
        let far = [("runtime", "serde", Value::Null), ("serde", "tokio", Value::Null)];
        assert!(reaches(&NEVER[0], &workspace(&far)).is_some());
        let weak = [("cais", "serde", Value::Null), ("serde", "weakened", Value::Null)];
        assert!(reaches(&NEVER[1], &workspace(&weak)).is_some());
        let tests_only = [("runtime", "serde", Value::Null), ("runtime", "tokio", json!("dev"))];
        assert!(reaches(&NEVER[0], &workspace(&tests_only)).is_none());
    }
}
