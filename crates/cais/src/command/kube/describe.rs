//! `cais describe`

use serde_json::Value;

use super::super::cluster::describe::describe;
use super::super::cluster::file::Files;
use super::super::cluster::select::{self, Item, Selectors};
use super::super::cluster::{self, Cluster, Outcome, Query, Trouble, note};
use crate::session::Session;

/// What `describe` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    /// Objects of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Show what has happened to them
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value = "true", num_args = 0..=1,
        require_equals = true, default_missing_value = "true", value_parser = super::super::grammar::Bool)]
    show_events: bool,
    #[command(flatten)]
    cluster: cluster::Options,
    /// Kinds and names or beginnings of names, or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME")]
    words: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        if args.words.is_empty() && args.files.is_empty() {
            return Err(Trouble::local(
                "You must specify the type of resource to describe. Use \"cais api-resources\" for a complete list of supported resources.",
            ));
        }
        let cluster = args.cluster.connect(session)?;
        let mut items = select::all(&cluster, &args.words, &args.files)?;
        if args.all_namespaces {
            items.iter_mut().for_each(|item| item.namespace.clear());
        }
        let query = args.selectors.query();
        let (mut first, mut code) = (true, 0);
        for item in &items {
            let found = objects(&cluster, item, &query);
            let objects = match found {
                Ok(objects) => objects,
                Err(trouble) => {
                    trouble.tell();
                    code = 1;
                    continue;
                }
            };
            for object in objects {
                let text = describe(&cluster, &item.kind, &object, args.show_events)?;
                let between = if first { "" } else { "\n\n" };
                session.print(&format!("{between}{text}"))?;
                first = false;
            }
        }
        if first && code == 0 {
            match args.all_namespaces {
                true => note("No resources found"),
                false => note(&format!("No resources found in {} namespace.", cluster.namespace)),
            }
        }
        Ok(code)
    })
}

/// The objects that are meant; those whose names begin so, if none is called so.
fn objects(cluster: &Cluster, item: &Item, query: &Query) -> Outcome<Vec<Value>> {
    let missing = match item.objects(cluster, query) {
        Err(trouble) if trouble.is_not_found() => trouble,
        found => return found,
    };
    let Some(name) = &item.name else { return Err(missing) };
    let all = cluster.list(&item.kind, &item.namespace, query)?;
    let found: Vec<Value> =
        all.into_iter().filter(|object| cluster::name(object).starts_with(name.as_str())).collect();
    if found.is_empty() { Err(missing) } else { Ok(found) }
}
