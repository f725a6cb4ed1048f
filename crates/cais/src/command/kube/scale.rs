//! `cais scale`

use serde_json::json;

use super::super::cluster::file::Files;
use super::super::cluster::select::{self, Selectors};
use super::super::cluster::{self, Cluster, Outcome, Trouble};
use super::report::{DryRun, Printed};
use crate::session::Session;

/// What `scale` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many there are to be
    #[arg(long, value_name = "NUMBER", required = true)]
    replicas: i64,
    /// Only if there are so many now
    #[arg(long, value_name = "NUMBER")]
    current_replicas: Option<i64>,
    /// All objects of the kinds
    #[arg(long)]
    all: bool,
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
    /// Kinds and names, or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME")]
    words: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        if args.replicas < 0 {
            return Err(Trouble::local(
                "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0",
            ));
        }
        let cluster = args.cluster.connect(session)?;
        let printed = Printed::new(session, args.output.as_deref())?;
        let items = select::all(&cluster, &args.words, &args.files)?;
        let is_open = items.iter().any(|item| item.name.is_none());
        if is_open && !args.all && args.selectors.is_empty() {
            return Err(Trouble::local("resource(s) were provided, but no name was specified"));
        }
        let mut code = 0;
        let found = select::each(&cluster, items, &args.selectors.query())?;
        if found.is_empty() {
            return Err(Trouble::local("no objects passed to scale"));
        }
        for (item, object) in found {
            let scaled = scale(&cluster, args, &item);
            match scaled {
                Ok(()) => printed.show(&object, &args.dry_run.says("scaled"), cluster.kinds()?)?,
                Err(trouble) => {
                    trouble.tell();
                    code = 1;
                }
            }
        }
        Ok(code)
    })
}

fn scale(cluster: &Cluster, args: &Args, item: &select::Item) -> Outcome<()> {
    let name = item.name.as_deref().unwrap_or_default();
    let path = |query: &cluster::Query| item.kind.path(&item.namespace, &[name, "scale"], query);
    let mut patch = json!({"spec": {"replicas": args.replicas}});
    if let Some(wanted) = args.current_replicas {
        let scale = cluster.ask(&cluster::get(path(&Vec::new()), "application/json"))?;
        let now = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if now != wanted {
            return Err(Trouble::local(format!("Expected replicas to be {wanted}, was {now}")));
        }
        patch["metadata"] = json!({"resourceVersion": scale["metadata"]["resourceVersion"]});
    }
    if args.dry_run.is_client() {
        return Ok(());
    }
    let path = path(&args.dry_run.query());
    cluster.send("PATCH", path, "application/merge-patch+json", &patch).map(drop)
}
