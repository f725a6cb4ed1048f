//! `cais rollout status`

use std::time::Instant;

use serde_json::Value;

use super::super::super::cluster::file::Files;
use super::super::super::cluster::select::{Item, Selectors};
use super::super::super::cluster::watch::watched;
use super::super::super::cluster::{self, Outcome, Trouble, list, word};
use crate::session::Session;

/// What `rollout status` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Wait until it is done
    #[arg(short, long, value_name = "BOOL", action = clap::ArgAction::Set, default_value = "true", num_args = 0..=1,
        require_equals = true, default_missing_value = "true",
        value_parser = super::super::super::grammar::Bool)]
    watch: bool,
    /// How long to wait; 0 for as long as it takes
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true)]
    timeout: String,
    /// Wait for this revision and no other; 0 for the present one
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

pub(crate) fn run(session: &Session, args: &Args) -> engine::Result<i32> {
    cluster::told(|| {
        let cluster = args.cluster.connect(session)?;
        let limit = cluster::duration(&args.timeout)?;
        let until = (!limit.is_zero()).then(|| Instant::now() + limit);
        for (item, _) in super::objects(&cluster, &args.words, &args.files, &args.selectors)? {
            let place = (item.namespace.as_str(), item.name.as_deref().unwrap_or_default());
            let mut said = String::new();
            let is_done = watched(&cluster, &item.kind, place, until, &mut |_, object| {
                let Some(object) = object else {
                    return Err(Trouble::local("object has been deleted"));
                };
                let (text, is_done) = progress(&item, object, args.revision)?;
                if text != said {
                    session.print(&text)?;
                    said = text;
                }
                Ok(is_done || !args.watch)
            })?;
            if !is_done {
                return Err(Trouble::local("timed out waiting for the condition"));
            }
        }
        Ok(0)
    })
}

/// How far an object has come: what is said of it, and whether that is all.
fn progress(item: &Item, object: &Value, revision: i64) -> Outcome<(String, bool)> {
    match item.kind.kind.as_str() {
        "Deployment" => deployment(object, revision),
        "DaemonSet" => daemon_set(object),
        "StatefulSet" => stateful_set(object),
        kind => Err(Trouble::local(format!("no status viewer has been implemented for {kind}"))),
    }
}

fn count(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn is_observed(object: &Value) -> bool {
    count(object, "/metadata/generation") <= count(object, "/status/observedGeneration")
}

fn waits(text: String) -> Outcome<(String, bool)> {
    Ok((text, false))
}

fn deployment(of: &Value, revision: i64) -> Outcome<(String, bool)> {
    let name = cluster::name(of);
    if revision > 0 {
        let own = &of["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
        let own: i64 = own.as_str().and_then(|own| own.parse().ok()).unwrap_or(0);
        if own != revision {
            return Err(Trouble::local(format!(
                "desired revision ({revision}) is different from the running revision ({own})"
            )));
        }
    }
    if !is_observed(of) {
        return waits("Waiting for deployment spec update to be observed...\n".to_owned());
    }
    let is_late =
        |own: &Value| own["type"] == "Progressing" && own["reason"] == "ProgressDeadlineExceeded";
    if list(of, "/status/conditions").any(is_late) {
        return Err(Trouble::local(format!(
            "deployment \"{name}\" exceeded its progress deadline"
        )));
    }
    let head = format!("Waiting for deployment \"{name}\" rollout to finish:");
    let wanted = of["spec"]["replicas"].as_i64();
    let (all, updated) = (count(of, "/status/replicas"), count(of, "/status/updatedReplicas"));
    let available = count(of, "/status/availableReplicas");
    match wanted {
        Some(wanted) if updated < wanted => {
            waits(format!("{head} {updated} out of {wanted} new replicas have been updated...\n"))
        }
        _ if all > updated => {
            waits(format!("{head} {} old replicas are pending termination...\n", all - updated))
        }
        _ if available < updated => {
            waits(format!("{head} {available} of {updated} updated replicas are available...\n"))
        }
        _ => Ok((format!("deployment \"{name}\" successfully rolled out\n"), true)),
    }
}

fn daemon_set(of: &Value) -> Outcome<(String, bool)> {
    let name = cluster::name(of);
    if word(of, "/spec/updateStrategy/type") != "RollingUpdate" {
        return Err(Trouble::local(
            "rollout status is only available for RollingUpdate strategy type",
        ));
    }
    if !is_observed(of) {
        return waits("Waiting for daemon set spec update to be observed...\n".to_owned());
    }
    let head = format!("Waiting for daemon set \"{name}\" rollout to finish:");
    let wanted = count(of, "/status/desiredNumberScheduled");
    let (updated, available) =
        (count(of, "/status/updatedNumberScheduled"), count(of, "/status/numberAvailable"));
    if updated < wanted {
        return waits(format!("{head} {updated} out of {wanted} new pods have been updated...\n"));
    }
    if available < wanted {
        return waits(format!("{head} {available} of {wanted} updated pods are available...\n"));
    }
    Ok((format!("daemon set \"{name}\" successfully rolled out\n"), true))
}

fn stateful_set(of: &Value) -> Outcome<(String, bool)> {
    if word(of, "/spec/updateStrategy/type") != "RollingUpdate" {
        return Err(Trouble::local(
            "rollout status is only available for RollingUpdate strategy type",
        ));
    }
    if count(of, "/status/observedGeneration") == 0 || !is_observed(of) {
        return waits("Waiting for statefulset spec update to be observed...\n".to_owned());
    }
    let (wanted, ready) = (count(of, "/spec/replicas"), count(of, "/status/readyReplicas"));
    if ready < wanted {
        return waits(format!("Waiting for {} pods to be ready...\n", wanted - ready));
    }
    let updated = count(of, "/status/updatedReplicas");
    let partition = count(of, "/spec/updateStrategy/rollingUpdate/partition");
    if partition > 0 {
        if updated < wanted - partition {
            return waits(format!(
                "Waiting for partitioned roll out to finish: {updated} out of {} new pods have been updated...\n",
                wanted - partition
            ));
        }
        return Ok((
            format!("partitioned roll out complete: {updated} new pods have been updated...\n"),
            true,
        ));
    }
    let new = word(of, "/status/updateRevision");
    if new != word(of, "/status/currentRevision") {
        return waits(format!(
            "waiting for statefulset rolling update to complete {updated} pods at revision {new}...\n"
        ));
    }
    let current = count(of, "/status/currentReplicas");
    let now = word(of, "/status/currentRevision");
    Ok((format!("statefulset rolling update complete {current} pods at revision {now}...\n"), true))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_tells_how_far_it_is() {
        let says = |status: Value| {
            let of = json!({"metadata": {"name": "w", "generation": 2}, "spec": {"replicas": 3}, "status": status});
            deployment(&of, 0).map_or_else(|trouble| trouble.message(), |(text, _)| text)
        };
        let status = |updated: i64, all: i64, available: i64| json!({"observedGeneration": 2, "updatedReplicas": updated, "replicas": all, "availableReplicas": available});
        assert!(says(json!({"observedGeneration": 1})).contains("to be observed"));
        assert!(says(status(1, 3, 3)).contains("1 out of 3 new replicas"));
        assert!(says(status(3, 4, 3)).contains("1 old replicas are pending"));
        assert!(says(status(3, 3, 2)).contains("2 of 3 updated replicas are available"));
        assert_eq!(says(status(3, 3, 3)), "deployment \"w\" successfully rolled out\n");
        let mut late = status(3, 3, 2);
        late["conditions"] = json!([{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]);
        assert!(says(late).contains("exceeded its progress deadline"));
    }
}
