//! `cais delete`

use std::time::Instant;

use serde_json::{Value, json};

use super::super::cluster::file::Files;
use super::super::cluster::select::{self, Item, Selectors};
use super::super::cluster::watch::watched;
use super::super::cluster::{self, Cluster, Outcome, Query, Trouble, get, note};
use super::report::DryRun;
use crate::session::Session;

/// What `delete` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    selectors: Selectors,
    /// All objects of the kinds
    #[arg(long)]
    all: bool,
    /// Objects of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// What becomes of what belongs to them: background, orphan or foreground
    #[arg(long, value_name = "HOW", default_value = "background", num_args = 0..=1,
        require_equals = true, default_missing_value = "background",
        value_parser = ["background", "orphan", "foreground"])]
    cascade: String,
    /// Seconds for pods to end; -1 is what they say themselves
    #[arg(long, value_name = "SECONDS", default_value_t = -1, hide_default_value = true)]
    grace_period: i64,
    /// Do not wait for the node to say that a pod has ended
    #[arg(long)]
    force: bool,
    /// The same as --grace-period=1
    #[arg(long)]
    now: bool,
    /// Say nothing of objects that are not there
    #[arg(long)]
    ignore_not_found: bool,
    /// Wait until they are gone
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value = "true", num_args = 0..=1,
        require_equals = true, default_missing_value = "true", value_parser = super::super::grammar::Bool)]
    wait: bool,
    /// How long to wait; 0 for as long as it takes
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true)]
    timeout: String,
    #[command(flatten)]
    dry_run: DryRun,
    /// name for names alone
    #[arg(short, long, value_name = "FORM", value_parser = ["name"])]
    output: Option<String>,
    #[command(flatten)]
    cluster: cluster::Options,
    /// Kinds and names, or KIND/NAME
    #[arg(value_name = "KIND|KIND/NAME")]
    words: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        args.check()?;
        let cluster = args.cluster.connect(session)?;
        let mut items = select::all(&cluster, &args.words, &args.files)?;
        if args.all_namespaces {
            items.iter_mut().for_each(|item| item.namespace.clear());
        }
        let is_open = items.iter().any(|item| item.name.is_none());
        if is_open && !args.all && args.selectors.is_empty() {
            return Err(Trouble::local("resource(s) were provided, but no name was specified"));
        }
        if items.is_empty() {
            return Err(Trouble::local(
                "You must provide one or more resources by argument or filename.",
            ));
        }
        if args.force {
            note(
                "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely.",
            );
        }
        let (named, troubles) = named(&cluster, items, args)?;
        Delete { session, args, cluster: &cluster }.all(&named, troubles, is_open)
    })
}

/// Each object that is meant by its name.
fn named(cluster: &Cluster, items: Vec<Item>, args: &Args) -> Outcome<(Vec<Item>, Vec<Trouble>)> {
    let mut all = Vec::new();
    for item in items {
        if item.name.is_some() {
            all.push(item);
            continue;
        }
        let query = args.selectors.query();
        all.extend(select::each(cluster, vec![item], &query)?.into_iter().map(|(item, _)| item));
    }
    Ok((all, Vec::new()))
}

impl Args {
    fn check(&self) -> Outcome<()> {
        let why = match () {
            () if self.now && self.grace_period >= 0 => {
                "--now and --grace-period cannot be specified together"
            }
            () if self.force && self.grace_period > 0 => {
                "--force and --grace-period greater than 0 cannot be specified together"
            }
            () if self.all && !self.selectors.is_empty() => {
                "cannot set --all and --selector at the same time"
            }
            () => return Ok(()),
        };
        Err(Trouble::local(why))
    }

    fn options(&self) -> Value {
        let propagation = match self.cascade.as_str() {
            "orphan" => "Orphan",
            "foreground" => "Foreground",
            _ => "Background",
        };
        let mut options = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation,
        });
        let grace = match (self.force, self.now, self.grace_period) {
            (_, true, _) => Some(1),
            (true, _, grace) if grace < 0 => Some(0),
            (_, _, grace) => Some(grace).filter(|grace| *grace >= 0),
        };
        if let Some(grace) = grace {
            options["gracePeriodSeconds"] = grace.into();
        }
        if self.dry_run.dry_run == "server" {
            options["dryRun"] = json!(["All"]);
        }
        options
    }
}

struct Delete<'a> {
    session: &'a Session,
    args: &'a Args,
    cluster: &'a Cluster,
}

impl Delete<'_> {
    fn all(&self, items: &[Item], mut troubles: Vec<Trouble>, is_open: bool) -> Outcome<i32> {
        let options = self.args.options();
        let mut going = Vec::new();
        let mut count = 0;
        for item in items {
            match self.one(item, &options) {
                Ok(answer) => {
                    count += 1;
                    going.push((item, answer));
                    self.say(item)?;
                }
                Err(trouble)
                    if trouble.is_not_found() && (self.args.ignore_not_found || is_open) => {}
                Err(trouble) => troubles.push(trouble),
            }
        }
        if count == 0 && troubles.is_empty() && self.args.output.is_none() {
            self.session.say("No resources found")?;
        }
        if self.args.wait && !self.args.dry_run.is_on() && !self.args.force {
            let limit = cluster::duration(&self.args.timeout)?;
            let until = (!limit.is_zero()).then(|| Instant::now() + limit);
            for (item, answer) in going {
                troubles.extend(gone(self.cluster, item, &answer, until).err());
            }
        }
        troubles.iter().for_each(Trouble::tell);
        Ok(i32::from(!troubles.is_empty()))
    }

    fn one(&self, item: &Item, options: &Value) -> Outcome<Value> {
        let path = item.path(&Query::new());
        if self.args.dry_run.is_client() {
            return self.cluster.ask(&get(path, "application/json"));
        }
        self.cluster.send("DELETE", path, "application/json", options).map(|(_, answer)| answer)
    }

    fn say(&self, item: &Item) -> Outcome<()> {
        if self.args.output.is_some() {
            return Ok(self.session.say(item.reference())?);
        }
        let what = if self.args.force { "force deleted" } else { "deleted" };
        let name = item.name.as_deref().unwrap_or_default();
        let place = match item.namespace.as_str() {
            "" => String::new(),
            namespace => format!(" from {namespace} namespace"),
        };
        let what = self.args.dry_run.says(&format!("{what}{place}"));
        Ok(self.session.say(format!("{} \"{name}\" {what}", item.kind.short()))?)
    }
}

/// Waits until an object is gone: it, not another of its name.
pub(super) fn gone(
    cluster: &Cluster,
    item: &Item,
    answer: &Value,
    until: Option<Instant>,
) -> Outcome<()> {
    let name = item.name.as_deref().unwrap_or_default();
    let uid = match answer["kind"] == "Status" {
        true => answer["details"]["uid"].clone(),
        false => answer["metadata"]["uid"].clone(),
    };
    watched(cluster, &item.kind, (&item.namespace, name), until, &mut |_, object| {
        Ok(object.is_none_or(|object| !uid.is_null() && object["metadata"]["uid"] != uid))
    })
    .and_then(|is_so| match is_so {
        true => Ok(()),
        false => Err(Trouble::local(format!(
            "timed out waiting for the condition on {}/{name}",
            item.kind.resource()
        ))),
    })
}
