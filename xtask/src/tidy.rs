//! The house rules that a machine can check.
//!
//! Every rule here has a test with a snippet it must catch.

mod arrows;
mod packages;
mod rules;
mod source;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};

use source::Source;

/// Largest file in the tree, in bytes.
const FILE_BYTES_MAX: u64 = 512 << 10;

/// A place that breaks a rule, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    pub(crate) path: String,
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.what, self.remedy)
    }
}

impl Violation {
    fn new(path: &str, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), remedy: remedy.into() }
    }
}

/// Checks the tree at `root`, sorted by place.
///
/// # Errors
/// A tool that cannot be run or a file that cannot be read; a broken rule is no error.
pub(crate) fn check(root: &Path) -> Result<Vec<Violation>> {
    let mut found = Vec::new();
    let mut recipes = Vec::new();
    for path in files(root)? {
        let full = root.join(&path);
        // What is deleted but not yet committed is still listed.
        let Ok(metadata) = full.symlink_metadata() else { continue };
        if !metadata.is_file() {
            continue;
        }
        found.extend(size(&path, metadata.len()));
        if path.ends_with(".rs") || path.ends_with(".md") {
            let text = std::fs::read_to_string(&full).with_context(|| format!("read {path}"))?;
            found.extend(rules::text(&path, &text));
            if path.ends_with(".rs") {
                let source = Source::new(&path, &text);
                found.extend(rules::rust(&source));
                recipes.extend(rules::recipes(&source));
            }
        }
        found.extend(rules::names(&path));
    }
    found.extend(rules::too_many_recipes(&recipes));
    found.extend(formatting(root)?);
    found.extend(arrows::check(root)?);
    found.extend(packages::check(root)?);
    found.sort();
    Ok(found)
}

/// The files that are committed or could be, relative to `root`.
fn files(root: &Path) -> Result<Vec<String>> {
    let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = run(root, "git", &args)?;
    ensure!(output.status.success(), "git ls-files ended with {}", output.status);
    let listed = String::from_utf8(output.stdout).context("read names of files")?;
    Ok(listed.split_terminator('\0').map(str::to_owned).collect())
}

fn run(root: &Path, tool: &str, args: &[&str]) -> Result<Output> {
    Command::new(tool)
        .args(args)
        .current_dir(root)
        .output()
        .with_context(|| format!("run {tool} {}", args.join(" ")))
}

fn size(path: &str, bytes: u64) -> Option<Violation> {
    (bytes > FILE_BYTES_MAX).then(|| {
        let what = format!("{bytes} bytes, of which {FILE_BYTES_MAX} are allowed");
        Violation::new(path, 1, what, "generate or download it")
    })
}

fn formatting(root: &Path) -> Result<Vec<Violation>> {
    let output = run(root, "cargo", &["fmt", "--all", "--", "--check", "-l"])?;
    let listed = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() || !listed.trim().is_empty(),
        "cargo fmt: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(unformatted(root, &listed))
}

fn unformatted(root: &Path, listed: &str) -> Vec<Violation> {
    let relative = |line: &str| {
        let path = PathBuf::from(line);
        path.strip_prefix(root).unwrap_or(&path).display().to_string()
    };
    let lines = listed.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| Violation::new(&relative(line), 1, "not formatted", "run cargo fmt")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let found = check(root).unwrap();
        let lines: Vec<String> = found.iter().map(Violation::to_string).collect();
        assert!(found.is_empty(), "{} violations:\n{}", lines.len(), lines.join("\n"));
    }

    #[test]
    fn a_violation_says_where_what_and_what_to_do() {
        let violation = Violation::new("a/b.rs", 7, "a tab", "use spaces");
        assert_eq!(violation.to_string(), "a/b.rs:7: a tab: use spaces");
    }

    #[test]
    fn large_and_unformatted_files_are_caught() {
        assert_eq!(size("a", FILE_BYTES_MAX), None);
        assert!(size("a", FILE_BYTES_MAX + 1).is_some());
        let found = unformatted(Path::new("/tree"), "/tree/crates/x/src/a.rs\n");
        assert_eq!(found[0].path, "crates/x/src/a.rs");
        assert!(unformatted(Path::new("/tree"), "\n").is_empty());
    }
}
