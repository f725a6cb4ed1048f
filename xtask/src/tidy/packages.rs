//! Every package that the workspace names stands in docs/dependencies.md with its reason.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Violation;

const MANIFEST: &str = "Cargo.toml";
const PAGE: &str = "docs/dependencies.md";

/// Checks the tree at `root`.
pub(super) fn check(root: &Path) -> Result<Vec<Violation>> {
    let read =
        |path| std::fs::read_to_string(root.join(path)).with_context(|| format!("read {path}"));
    Ok(compare(&read(MANIFEST)?, &read(PAGE)?))
}

fn compare(manifest: &str, page: &str) -> Vec<Violation> {
    let (named, explained) = (named(manifest), explained(page));
    let unexplained = named.iter().filter(|(name, _)| !explained.contains_key(*name));
    let gone = explained.iter().filter(|(name, _)| !named.contains_key(*name));
    let unexplained = unexplained.map(|(name, line)| {
        let remedy = format!("say in {PAGE} why it is here and what else was considered");
        Violation::new(MANIFEST, *line, format!("`{name}` has no reason"), remedy)
    });
    let gone = gone.map(|(name, line)| {
        Violation::new(PAGE, *line, format!("`{name}` is not a dependency"), "remove its row")
    });
    unexplained.chain(gone).collect()
}

/// The packages from elsewhere under `[workspace.dependencies]`, with their lines.
fn named(manifest: &str) -> BTreeMap<&str, usize> {
    let lines = (1..).zip(manifest.lines());
    let section = lines.skip_while(|(_, line)| line.trim() != "[workspace.dependencies]").skip(1);
    let section = section.take_while(|(_, line)| !line.starts_with('['));
    let ours = |value: &str| value.contains("path =");
    section
        .filter_map(|(number, line)| Some((number, line.split_once('=')?)))
        .filter(|(_, (name, value))| !name.starts_with('#') && !ours(value))
        .map(|(number, (name, _))| (name.trim(), number))
        .collect()
}

/// The first cell of every row of the table that names a package.
fn explained(page: &str) -> BTreeMap<&str, usize> {
    (1..)
        .zip(page.lines())
        .filter_map(|(number, line)| Some((line.strip_prefix("| `")?.split_once('`')?.0, number)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST_TEXT: &str = "[workspace]\nx = 1\n[workspace.dependencies]\n# Why.\n\
        oci = { path = \"crates/oci\" }\n\na = \"1\"\nb = { version = \"2\" }\n[profile]\nc = 1\n";

    fn whats(page: &str) -> Vec<String> {
        let found = compare(MANIFEST_TEXT, page);
        found
            .into_iter()
            .map(|violation| format!("{}: {}", violation.line, violation.what))
            .collect()
    }

    #[test]
    fn every_package_has_a_row_and_every_row_a_package() {
        assert_eq!(whats("| `a` | x |\n| `b` | x |\n"), [""; 0]);
        assert_eq!(whats("| `a` | x |\n"), ["8: `b` has no reason"]);
        let gone = ["2: `d` is not a dependency"];
        assert_eq!(whats("| `a` |\n| `d` |\n| `b` |\n"), gone);
    }
}
