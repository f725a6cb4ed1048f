//! `cais rollout history` and `cais rollout undo`

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::super::cluster::columns::Columns;
use super::super::super::cluster::file::Files;
use super::super::super::cluster::select::{Item, Selectors};
use super::super::super::cluster::{self, Cluster, Outcome, Query, Trouble, describe, list};
use super::super::report::{DryRun, Printed};
use crate::session::Session;

/// The annotation with the number of a set's revision.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// The annotation with the reason of a change.
const CAUSE: &str = "kubernetes.io/change-cause";
/// The label that tells the pods of sets apart.
const HASH: &str = "pod-template-hash";

/// What `rollout history` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show the template of this revision
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    revision: i64,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    #[command(flatten)]
    cluster: cluster::Options,
    /// Kinds and names, or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME")]
    words: Vec<String>,
}

/// What `rollout undo` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct UndoArgs {
    /// The revision to go back to; 0 for the one before
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    to_revision: i64,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    #[command(flatten)]
    cluster: cluster::Options,
    /// Kinds and names, or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME")]
    words: Vec<String>,
}

/// A revision: what it was changed to, and why.
struct Revision {
    cause: String,
    /// The template of its pods.
    template: Value,
    /// What brings it back: a patch, and its form.
    patch: (Value, &'static str),
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        let cluster = args.cluster.connect(session)?;
        for (item, object) in super::objects(&cluster, &args.words, &args.files, &args.selectors)? {
            let revisions = revisions(&cluster, &item, &object)?;
            let text = match args.revision {
                0 => format!("{} \n{}\n", item.reference(), table(&revisions)),
                number => {
                    let found = revisions
                        .get(&number)
                        .ok_or_else(|| Trouble::local("unable to find the specified revision"))?;
                    format!(
                        "{} with revision #{number}\n{}\n",
                        item.reference(),
                        describe::template(&found.template)
                    )
                }
            };
            session.print(&text)?;
        }
        Ok(0)
    })
}

fn table(revisions: &BTreeMap<i64, Revision>) -> String {
    if revisions.is_empty() {
        return "No rollout history found.".to_owned();
    }
    let mut text = "REVISION\tCHANGE-CAUSE\n".to_owned();
    for (number, own) in revisions {
        text += &format!("{number}\t{}\n", own.cause);
    }
    Columns::of_descriptions().set(&text)
}

pub(crate) fn undo(session: &Session, args: &UndoArgs) -> engine::Result<i32> {
    cluster::told(|| {
        let cluster = args.cluster.connect(session)?;
        let printed = Printed::new(session, None)?;
        for (item, object) in super::objects(&cluster, &args.words, &args.files, &args.selectors)? {
            let what = back(&cluster, args, &item, &object)?;
            printed.show(&object, &args.dry_run.says(&what), cluster.kinds()?)?;
        }
        Ok(0)
    })
}

fn back(cluster: &Cluster, args: &UndoArgs, item: &Item, object: &Value) -> Outcome<String> {
    if object["spec"]["paused"] == true {
        return Err(Trouble::local(format!(
            "you cannot rollback a paused deployment; resume it first with 'cais rollout resume {}' and try again",
            item.reference()
        )));
    }
    let revisions = revisions(cluster, item, object)?;
    let name = item.name.as_deref().unwrap_or_default();
    let number = match args.to_revision {
        0 => match revisions.keys().rev().nth(1) {
            Some(number) => *number,
            None => {
                let kind = item.kind.kind.to_lowercase();
                return Err(Trouble::local(format!(
                    "no rollout history found for {kind} \"{name}\""
                )));
            }
        },
        number => number,
    };
    let Some(revision) = revisions.get(&number) else {
        return Err(Trouble::local(format!(
            "unable to find specified revision {number} in history"
        )));
    };
    if revisions.keys().next_back() == Some(&number) {
        return Ok(format!(
            "skipped rollback (current template already matches revision {number})"
        ));
    }
    if !args.dry_run.is_client() {
        let path = item.path(&args.dry_run.query());
        let (patch, form) = &revision.patch;
        cluster.send("PATCH", path, form, patch)?;
    }
    Ok("rolled back".to_owned())
}

/// All revisions that there are of an object, by their numbers.
fn revisions(cluster: &Cluster, item: &Item, object: &Value) -> Outcome<BTreeMap<i64, Revision>> {
    let kind = match item.kind.kind.as_str() {
        "Deployment" => "replicasets.apps",
        "DaemonSet" | "StatefulSet" => "controllerrevisions.apps",
        kind => {
            return Err(Trouble::local(format!(
                "no history viewer has been implemented for \"{kind}\""
            )));
        }
    };
    let of = cluster.kind(kind)?;
    let selector = describe::selector(&object["spec"]["selector"]);
    let query: Query = vec![("labelSelector", selector)];
    let uid = &object["metadata"]["uid"];
    let mut all = BTreeMap::new();
    for own in cluster.list(&of, &item.namespace, &query)? {
        let is_own = list(&own, "/metadata/ownerReferences")
            .any(|owner| owner["controller"] == true && owner["uid"] == *uid);
        if is_own && let Some((number, revision)) = revision(&own, object) {
            all.insert(number, revision);
        }
    }
    Ok(all)
}

fn revision(own: &Value, object: &Value) -> Option<(i64, Revision)> {
    let annotations = &own["metadata"]["annotations"];
    let cause = match annotations[CAUSE].as_str() {
        None | Some("") => "<none>".to_owned(),
        Some(cause) => cause.to_owned(),
    };
    if own["kind"] == "ReplicaSet" {
        let number = annotations[REVISION].as_str()?.parse().ok()?;
        let template = own["spec"]["template"].clone();
        let mut bare = template.clone();
        if let Some(labels) = bare.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.remove(HASH);
        }
        let patch = json!([{"op": "replace", "path": "/spec/template", "value": bare}]);
        let patch = (patch, "application/json-patch+json");
        return Some((number, Revision { cause, template, patch }));
    }
    let number = own["revision"].as_i64()?;
    let mut whole = object["spec"]["template"].clone();
    objects::patch::merge(&mut whole, own["data"]["spec"]["template"].clone());
    let patch = (own["data"].clone(), "application/strategic-merge-patch+json");
    Some((number, Revision { cause, template: whole, patch }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_of_sets_are_read() {
        let set = json!({
            "kind": "ReplicaSet",
            "metadata": {"annotations": {REVISION: "3", CAUSE: "better"}},
            "spec": {"template": {"metadata": {"labels": {"a": "b", HASH: "x"}}}},
        });
        let (number, own) = revision(&set, &Value::Null).unwrap();
        assert_eq!((number, own.cause.as_str()), (3, "better"));
        assert_eq!(own.patch.0[0]["value"], json!({"metadata": {"labels": {"a": "b"}}}));
        let all = BTreeMap::from([(number, own)]);
        assert_eq!(table(&all), "REVISION  CHANGE-CAUSE\n3         better\n");
    }
}
