//! `cais rollout`

mod history;
mod status;

use serde_json::{Value, json};

use super::super::cluster::file::Files;
use super::super::cluster::select::{self, Item, Selectors};
use super::super::cluster::{self, Cluster, Outcome, Query, Trouble};
use super::report::Printed;
use crate::session::Session;

pub(crate) use history::{Args as HistoryArgs, UndoArgs, run as history, undo};
pub(crate) use status::{Args as StatusArgs, run as status};

/// What `rollout restart`, `pause` and `resume` take.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    /// json, yaml, name, …
    #[arg(short, long, value_name = "FORM")]
    output: Option<String>,
    #[command(flatten)]
    cluster: cluster::Options,
    /// Kinds and names, or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME")]
    words: Vec<String>,
}

pub(crate) fn restart(session: &Session, args: &Args) -> engine::Result<i32> {
    args.each(session, "restarted", &|item, object| {
        if !matches!(item.kind.kind.as_str(), "Deployment" | "DaemonSet" | "StatefulSet") {
            return Err(unsupported(item, "restarting"));
        }
        if object["spec"]["paused"] == true {
            return Err(Trouble::local(
                "can't restart paused deployment (run rollout resume first)",
            ));
        }
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let annotations = json!({"kubectl.kubernetes.io/restartedAt": now});
        Ok(json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}))
    })
}

pub(crate) fn pause(session: &Session, args: &Args) -> engine::Result<i32> {
    args.each(session, "paused", &|item, object| {
        paused(item, object, true)?;
        Ok(json!({"spec": {"paused": true}}))
    })
}

pub(crate) fn resume(session: &Session, args: &Args) -> engine::Result<i32> {
    args.each(session, "resumed", &|item, object| {
        paused(item, object, false)?;
        Ok(json!({"spec": {"paused": null}}))
    })
}

fn paused(item: &Item, object: &Value, wanted: bool) -> Outcome<()> {
    let (doing, is) = if wanted { ("pausing", "already") } else { ("resuming", "not") };
    if item.kind.kind != "Deployment" {
        return Err(unsupported(item, doing));
    }
    match (object["spec"]["paused"] == true) == wanted {
        false => Ok(()),
        true => Err(Trouble::local(format!(
            "{} \"{}\" is {is} paused",
            item.kind.resource(),
            item.name.as_deref().unwrap_or_default()
        ))),
    }
}

fn unsupported(item: &Item, doing: &str) -> Trouble {
    let (kind, name) = (item.kind.resource(), item.name.as_deref().unwrap_or_default());
    Trouble::local(format!("{kind} \"{name}\" {doing} is not supported"))
}

/// A patch of an object, if it can be made.
type Change<'a> = &'a dyn Fn(&Item, &Value) -> Outcome<Value>;

impl Args {
    fn each(&self, session: &Session, done: &str, change: Change<'_>) -> engine::Result<i32> {
        cluster::told(|| {
            let cluster = self.cluster.connect(session)?;
            let printed = Printed::new(session, self.output.as_deref())?;
            let mut code = 0;
            for (item, object) in objects(&cluster, &self.words, &self.files, &self.selectors)? {
                let place = (item.namespace.as_str(), item.name.as_deref().unwrap_or_default());
                let changed = change(&item, &object).and_then(|patch| {
                    let query: Query = vec![("fieldManager", "kubectl-rollout".to_owned())];
                    cluster.merge(&item.kind, place, &query, &patch)
                });
                match changed {
                    Ok(object) => printed.show(&object, done, cluster.kinds()?)?,
                    Err(trouble) => {
                        trouble.tell();
                        code = 1;
                    }
                }
            }
            Ok(code)
        })
    }
}

/// The objects that are meant, of which there must be some.
fn objects(
    cluster: &Cluster,
    words: &[String],
    files: &Files,
    selectors: &Selectors,
) -> Outcome<Vec<(Item, Value)>> {
    if words.is_empty() && files.is_empty() {
        return Err(Trouble::local("required resource not specified"));
    }
    let items = select::all(cluster, words, files)?;
    select::each(cluster, items, &selectors.query())
}
