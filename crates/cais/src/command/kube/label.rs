//! `cais label` and `cais annotate`

use serde_json::{Map, Value, json};

use super::super::cluster::file::Files;
use super::super::cluster::select::{self, Item, Selectors};
use super::super::cluster::{self, Cluster, Outcome, Trouble};
use super::report::{DryRun, Printed};
use crate::session::Session;

/// What `label` and `annotate` take.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Change values that there are
    #[arg(long)]
    overwrite: bool,
    /// Show them instead
    #[arg(long)]
    list: bool,
    /// All objects of the kinds
    #[arg(long)]
    all: bool,
    /// Objects of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only if the object is in this revision
    #[arg(long, value_name = "REVISION")]
    resource_version: Option<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    #[command(flatten)]
    dry_run: DryRun,
    /// json, yaml, name, …
    #[arg(short, long, value_name = "FORM")]
    output: Option<String>,
    #[command(flatten)]
    cluster: cluster::Options,
    /// Kinds and names, or KIND/NAME; then KEY=VALUE, or KEY- to remove it
    #[arg(value_name = "KIND|KIND/NAME")]
    words: Vec<String>,
}

/// Labels or annotations.
struct Marks {
    field: &'static str,
    one: &'static str,
    done: &'static str,
}

const LABELS: Marks = Marks { field: "labels", one: "label", done: "labeled" };
const ANNOTATIONS: Marks = Marks { field: "annotations", one: "annotation", done: "annotated" };

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| LABELS.run(session, args))
}

pub(crate) fn annotate(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| ANNOTATIONS.run(session, args))
}

/// What is to be set, or removed.
fn changes(words: &[String]) -> (Vec<String>, Vec<(String, Option<String>)>) {
    let mut names = Vec::new();
    let mut changes = Vec::new();
    for word in words {
        if let Some((key, value)) = word.split_once('=') {
            changes.push((key.to_owned(), Some(value.to_owned())));
        } else if let Some(key) = word.strip_suffix('-').filter(|_| !names.is_empty()) {
            changes.push((key.to_owned(), None));
        } else {
            names.push(word.clone());
        }
    }
    (names, changes)
}

impl Marks {
    fn run(&self, session: &Session, args: &Args) -> Outcome<i32> {
        let (names, changes) = changes(&args.words);
        if changes.is_empty() && !args.list {
            return Err(Trouble::local(format!("at least one {} update is required", self.one)));
        }
        let cluster = args.cluster.connect(session)?;
        let mut items = select::all(&cluster, &names, &args.files)?;
        if args.all_namespaces {
            items.iter_mut().for_each(|item| item.namespace.clear());
        }
        let is_open = items.iter().any(|item| item.name.is_none());
        if is_open && !args.all && args.selectors.is_empty() {
            return Err(Trouble::local("resource(s) were provided, but no name was specified"));
        }
        let printed = Printed::new(session, args.output.as_deref())?;
        let found = select::each(&cluster, items, &args.selectors.query())?;
        if found.is_empty() {
            return Err(Trouble::local("no resources found"));
        }
        let mut code = 0;
        for (item, object) in found {
            if args.list {
                self.list(session, &object)?;
                continue;
            }
            match self.change(session, &cluster, args, (&item, &object), &changes) {
                Ok((object, what)) => {
                    printed.show(&object, &args.dry_run.says(what), cluster.kinds()?)?;
                }
                Err(trouble) => {
                    trouble.tell();
                    code = 1;
                }
            }
        }
        Ok(code)
    }

    fn list(&self, session: &Session, object: &Value) -> Outcome<()> {
        let pairs = super::super::cluster::table::pairs(&object["metadata"][self.field], "\n");
        Ok(pairs.map_or(Ok(()), |pairs| session.say(pairs))?)
    }

    fn change(
        &self,
        session: &Session,
        cluster: &Cluster,
        args: &Args,
        (item, object): (&Item, &Value),
        changes: &[(String, Option<String>)],
    ) -> Outcome<(Value, &'static str)> {
        let now = &object["metadata"][self.field];
        let mut patch = Map::new();
        for (key, value) in changes {
            match (value, now[key].as_str()) {
                (Some(value), Some(before)) if !args.overwrite && before != value => {
                    return Err(Trouble::local(match self.one {
                        "label" => format!(
                            "'{key}' already has a value ({before}), and --overwrite is false"
                        ),
                        _ => format!(
                            "--overwrite is false but found the following declared annotation(s): '{key}' already has a value ({before})"
                        ),
                    }));
                }
                (None, None) if self.one == "label" => {
                    session.say(format!("label \"{key}\" not found."))?;
                }
                (Some(value), before) if before != Some(value) => {
                    patch.insert(key.clone(), value.as_str().into());
                }
                (None, Some(_)) => {
                    patch.insert(key.clone(), Value::Null);
                }
                _ => {}
            }
        }
        let what = match (self.one, patch.is_empty()) {
            ("label", true) => "not labeled",
            ("label", false) if patch.values().all(Value::is_null) => "unlabeled",
            _ => self.done,
        };
        if patch.is_empty() || args.dry_run.is_client() {
            return Ok((object.clone(), what));
        }
        let mut patch = json!({"metadata": {self.field: patch}});
        if let Some(revision) = &args.resource_version {
            patch["metadata"]["resourceVersion"] = revision.as_str().into();
        }
        let place = (item.namespace.as_str(), item.name.as_deref().unwrap_or_default());
        let mut query = args.dry_run.query();
        query.push((
            "fieldManager",
            format!("kubectl-{}", if self.one == "label" { "label" } else { "annotate" }),
        ));
        cluster.merge(&item.kind, place, &query, &patch).map(|object| (object, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_names_or_changes() {
        let words = ["pod", "x-", "y", "a=b", "c-"].map(str::to_owned);
        let (names, changes) = changes(&words);
        assert_eq!(names, ["pod", "y"]);
        let expected = [("x", None), ("a", Some("b")), ("c", None)]
            .map(|(k, v): (&str, Option<&str>)| (k.to_owned(), v.map(str::to_owned)));
        assert_eq!(changes, expected);
    }
}
