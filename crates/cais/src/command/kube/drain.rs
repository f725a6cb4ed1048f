//! `cais cordon`, `cais uncordon` and `cais drain`

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::cluster::kind::Kind;
use super::super::cluster::select::{self, Item, Selectors};
use super::super::cluster::watch::watched;
use super::super::cluster::{
    self, Cluster, Outcome, Query, Trouble, list, name, namespace, note, word,
};
use super::report::{DryRun, Printed};
use crate::session::Session;

/// How soon an eviction is asked for again that a budget forbids.
const AGAIN: Duration = Duration::from_secs(5);

/// What `cordon` and `uncordon` take.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    selectors: Selectors,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    cluster: cluster::Options,
    /// The nodes
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| cordon_all(session, args, true))
}

pub(crate) fn uncordon(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| cordon_all(session, args, false))
}

fn cordon_all(session: &Session, args: &Args, is_closed: bool) -> Outcome<i32> {
    let cluster = args.cluster.connect(session)?;
    let printed = Printed::new(session, None)?;
    for (item, node) in nodes(&cluster, &args.nodes, &args.selectors)? {
        cordon(&cluster, (&item, &node), is_closed, &args.dry_run, &printed)?;
    }
    Ok(0)
}

fn nodes(
    cluster: &Cluster,
    names: &[String],
    selectors: &Selectors,
) -> Outcome<Vec<(Item, Value)>> {
    if names.is_empty() && selectors.is_empty() {
        return Err(Trouble::local("USAGE: a node or a selector (-l) is required"));
    }
    let words: Vec<String> = match names.iter().any(|name| name.contains('/')) {
        true => names.to_vec(),
        false => std::iter::once("node".to_owned()).chain(names.iter().cloned()).collect(),
    };
    let items = select::words(cluster, &words)?;
    select::each(cluster, items, &selectors.query())
}

fn cordon(
    cluster: &Cluster,
    (item, node): (&Item, &Value),
    is_closed: bool,
    dry_run: &DryRun,
    printed: &Printed<'_>,
) -> Outcome<()> {
    let done = if is_closed { "cordoned" } else { "uncordoned" };
    let is_so = node["spec"]["unschedulable"].as_bool().unwrap_or(false) == is_closed;
    if !is_so && !dry_run.is_client() {
        let patch =
            json!({"spec": {"unschedulable": if is_closed { json!(true) } else { Value::Null }}});
        cluster.merge(&item.kind, ("", name(node)), &dry_run.query(), &patch)?;
    }
    let what = if is_so { format!("already {done}") } else { done.to_owned() };
    printed.show(node, &dry_run.says(&what), cluster.kinds()?)
}

/// What `drain` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    /// Remove pods, too, that nobody makes again
    #[arg(long)]
    force: bool,
    /// Leave pods of DaemonSets
    #[arg(long)]
    ignore_daemonsets: bool,
    /// Remove pods, too, whose data in emptyDir volumes is lost
    #[arg(long)]
    delete_emptydir_data: bool,
    /// Delete pods rather than evict them, whatever budgets say
    #[arg(long)]
    disable_eviction: bool,
    /// Seconds for pods to end; -1 is what they say themselves
    #[arg(long, value_name = "SECONDS", default_value_t = -1, hide_default_value = true)]
    grace_period: i64,
    /// Only pods with these labels
    #[arg(long, value_name = "SELECTOR")]
    pod_selector: Option<String>,
    /// How long to wait; 0 for as long as it takes
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true)]
    timeout: String,
    #[command(flatten)]
    selectors: Selectors,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    cluster: cluster::Options,
    /// The nodes
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
}

pub(crate) fn drain(session: &Session, args: &DrainArgs) -> engine::Result<i32> {
    cluster::told(|| {
        let cluster = args.cluster.connect(session)?;
        let printed = Printed::new(session, None)?;
        let nodes = nodes(&cluster, &args.nodes, &args.selectors)?;
        for (item, node) in &nodes {
            cordon(&cluster, (item, node), true, &args.dry_run, &printed)?;
        }
        let pods = cluster.kind("pods")?;
        let drain = Drain { session, args, cluster: &cluster, pods };
        let mut left: Vec<(&str, String)> = Vec::new();
        for (_, node) in &nodes {
            match drain.node(node) {
                Ok(()) => printed.show(node, &args.dry_run.says("drained"), cluster.kinds()?)?,
                Err(trouble) => {
                    let why = trouble.message();
                    note(&format!(
                        "error: unable to drain node \"{}\" due to error: {why}, continuing command...",
                        name(node)
                    ));
                    left.push((name(node), why));
                }
            }
        }
        if left.is_empty() {
            return Ok(0);
        }
        note("There are pending nodes to be drained:");
        left.iter().for_each(|(node, _)| note(&format!(" {node}")));
        left.iter().for_each(|(_, why)| {
            why.trim_matches(['[', ']']).split("; ").for_each(note);
        });
        Ok(1)
    })
}

/// What becomes of a pod when its node is drained.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Removed,
    /// Why that is told.
    Warned(&'static str),
    /// It stays.
    Left(&'static str),
    Stays,
    /// Why nothing is done.
    Refused(&'static str),
}

struct Drain<'a> {
    session: &'a Session,
    args: &'a DrainArgs,
    cluster: &'a Cluster,
    pods: Kind,
}

impl Drain<'_> {
    fn node(&self, node: &Value) -> Outcome<()> {
        let mut query: Query = vec![("fieldSelector", format!("spec.nodeName={}", name(node)))];
        query.extend(self.args.pod_selector.clone().map(|own| ("labelSelector", own)));
        let pods = self.cluster.list(&self.pods, "", &query)?;
        let (mut removed, mut warned, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for pod in &pods {
            let fate = self.fate(pod);
            match fate {
                Fate::Stays => {}
                Fate::Removed => removed.push(pod),
                Fate::Warned(why) => {
                    warned.push((why, pod));
                    removed.push(pod);
                }
                Fate::Left(why) => warned.push((why, pod)),
                Fate::Refused(why) => refused.push((why, pod)),
            }
        }
        if !refused.is_empty() {
            return Err(Trouble::local(told(&refused).join("; ")));
        }
        if !warned.is_empty() {
            note(&format!("Warning: {}", told(&warned).join("; ")));
        }
        self.remove(&removed)
    }

    fn fate(&self, pod: &Value) -> Fate {
        let args = self.args;
        if !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null() {
            return Fate::Stays;
        }
        let has_ended = matches!(word(pod, "/status/phase"), "Succeeded" | "Failed");
        let owner =
            list(pod, "/metadata/ownerReferences").find(|owner| owner["controller"] == true);
        if owner.is_some_and(|owner| owner["kind"] == "DaemonSet") && !has_ended {
            return match args.ignore_daemonsets {
                true => Fate::Left("ignoring DaemonSet-managed Pods"),
                false => Fate::Refused(
                    "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)",
                ),
            };
        }
        let has_data = list(pod, "/spec/volumes").any(|volume| !volume["emptyDir"].is_null());
        if has_data && !has_ended && !args.delete_emptydir_data {
            return Fate::Refused(
                "cannot delete Pods with local storage (use --delete-emptydir-data to override)",
            );
        }
        match (owner.is_some() || has_ended, args.force) {
            (true, _) => Fate::Removed,
            (false, true) => Fate::Warned("deleting Pods that declare no controller"),
            (false, false) => Fate::Refused(
                "cannot delete Pods that declare no controller (use --force to override)",
            ),
        }
    }

    fn remove(&self, pods: &[&Value]) -> Outcome<()> {
        let limit = cluster::duration(&self.args.timeout)?;
        let until = (!limit.is_zero()).then(|| Instant::now() + limit);
        let what = if self.args.disable_eviction { "deleting" } else { "evicting" };
        let done = if self.args.disable_eviction { "deleted" } else { "evicted" };
        for pod in pods {
            let says = format!("{what} pod {}/{}", namespace(pod), name(pod));
            note(&self.args.dry_run.says(&says));
        }
        if self.args.dry_run.is_client() {
            return Ok(());
        }
        for pod in pods {
            self.evict(pod, until)?;
        }
        if self.args.dry_run.is_on() {
            return Ok(());
        }
        for pod in pods {
            if !self.is_gone(pod, until)? {
                return Err(Trouble::local(format!(
                    "error when waiting for pod \"{}\" in namespace \"{}\" to terminate: global timeout reached: {}",
                    name(pod),
                    namespace(pod),
                    self.args.timeout
                )));
            }
            self.session.say(format!("pod/{} {done}", name(pod)))?;
        }
        Ok(())
    }

    /// Asks for an eviction until it is granted.
    fn evict(&self, pod: &Value, until: Option<Instant>) -> Outcome<()> {
        let mut options = json!({});
        if self.args.grace_period >= 0 {
            options["gracePeriodSeconds"] = self.args.grace_period.into();
        }
        if self.args.dry_run.is_on() {
            options["dryRun"] = json!(["All"]);
        }
        let own = name(pod);
        loop {
            let asked = if self.args.disable_eviction {
                let path = self.pods.path(namespace(pod), &[own], &Query::new());
                self.cluster.send("DELETE", path, "application/json", &options)
            } else {
                let eviction = json!({
                    "apiVersion": "policy/v1", "kind": "Eviction", "deleteOptions": options,
                    "metadata": {"name": own, "namespace": namespace(pod)},
                });
                let path = self.pods.path(namespace(pod), &[own, "eviction"], &Query::new());
                self.cluster.send("POST", path, "application/json", &eviction)
            };
            match asked {
                Err(trouble) if trouble.is_not_found() => return Ok(()),
                Err(Trouble::Refused(status)) if status["code"] == 429 => {
                    let why = word(&status, "/message");
                    note(&format!(
                        "error when evicting pods/\"{own}\" -n \"{}\" (will retry after 5s): {why}",
                        namespace(pod)
                    ));
                    if until.is_some_and(|until| Instant::now() >= until) {
                        return Err(Trouble::local(format!(
                            "error when evicting pods/\"{own}\" -n \"{}\": global timeout reached: {}",
                            namespace(pod),
                            self.args.timeout
                        )));
                    }
                    if self.is_gone(pod, Some(Instant::now() + AGAIN))? {
                        return Ok(());
                    }
                }
                outcome => return outcome.map(drop),
            }
        }
    }

    fn is_gone(&self, pod: &Value, until: Option<Instant>) -> Outcome<bool> {
        let uid = &pod["metadata"]["uid"];
        let place = (namespace(pod), name(pod));
        watched(self.cluster, &self.pods, place, until, &mut |_, found| {
            Ok(found.is_none_or(|found| found["metadata"]["uid"] != *uid))
        })
    }
}

/// Each reason with the pods that it is about.
fn told(all: &[(&str, &Value)]) -> Vec<String> {
    let mut reasons: Vec<&str> = all.iter().map(|(why, _)| *why).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let line = |why: &str| {
        let own = all.iter().filter(|(own, _)| *own == why);
        let pods: Vec<String> =
            own.map(|(_, pod)| format!("{}/{}", namespace(pod), name(pod))).collect();
        format!("{why}: {}", pods.join(", "))
    };
    reasons.into_iter().map(line).collect()
}
