//! `cais describe`: kinds in kubectl's layout.

mod cluster_wide;
mod generic;
mod network;
mod page;
mod pod;
mod template;
mod volume;
mod workload;

use jiff::Timestamp;
use serde_json::Value;

use super::kind::Kind;
use super::{Cluster, Outcome, Query, name, namespace, word};

use page::Page;

/// What is described, and what can be asked about it.
struct Subject<'a> {
    cluster: &'a Cluster,
    kind: &'a Kind,
    object: &'a Value,
}

/// An object, described.
pub(crate) fn describe(
    cluster: &Cluster,
    kind: &Kind,
    object: &Value,
    with_events: bool,
) -> Outcome<String> {
    let subject = Subject { cluster, kind, object };
    let mut page = Page::default();
    let describer = match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => pod::describe,
        ("apps", "Deployment") => workload::deployment,
        ("apps", "ReplicaSet") => workload::replica_set,
        ("apps", "StatefulSet") => workload::stateful_set,
        ("apps", "DaemonSet") => workload::daemon_set,
        ("batch", "Job") => workload::job,
        ("batch", "CronJob") => workload::cron_job,
        ("", "Service") => network::service,
        ("networking.k8s.io", "Ingress") => network::ingress,
        ("autoscaling", "HorizontalPodAutoscaler") => workload::autoscaler,
        ("", "Node") => cluster_wide::node,
        ("", "Namespace") => cluster_wide::namespace,
        ("", "ResourceQuota") => cluster_wide::quota,
        ("", "LimitRange") => cluster_wide::range,
        ("", "ServiceAccount") => cluster_wide::account,
        ("scheduling.k8s.io", "PriorityClass") => cluster_wide::priority,
        ("", "PersistentVolumeClaim") => volume::claim,
        ("", "ConfigMap") => generic::config_map,
        ("", "Secret") => generic::secret,
        _ => generic::any,
    };
    describer(&subject, &mut page)?;
    let has_events = !matches!(
        (kind.group.as_str(), kind.kind.as_str()),
        ("", "Namespace" | "Secret" | "ResourceQuota" | "LimitRange")
    );
    if with_events && has_events {
        events(&mut page, &subject.events()?);
    }
    Ok(page.set())
}

impl Subject<'_> {
    /// Objects of a kind in the namespace of the subject that a query selects.
    fn list(&self, kind: &str, query: &Query) -> Outcome<Vec<Value>> {
        let kind = self.cluster.kind(kind)?;
        self.cluster.list(&kind, namespace(self.object), query)
    }

    /// Pods that a selector of the subject's means and that belong to it.
    fn own_pods(&self) -> Outcome<Vec<Value>> {
        let selector = selector(&self.object["spec"]["selector"]);
        let pods = self.list("pods", &vec![("labelSelector", selector)])?;
        let uid = word(self.object, "/metadata/uid");
        Ok(pods
            .into_iter()
            .filter(|pod| page::owner(pod).is_some_and(|own| own["uid"] == uid))
            .collect())
    }

    /// What has happened to the subject, in order.
    fn events(&self) -> Outcome<Vec<Value>> {
        let mut fields = vec![format!("involvedObject.name={}", name(self.object))];
        let own = namespace(self.object);
        if !own.is_empty() {
            fields.push(format!("involvedObject.namespace={own}"));
        }
        fields.push(format!("involvedObject.kind={}", self.kind.kind));
        // What happens to nodes is told of their names.
        let is_node = self.kind.kind == "Node";
        if !is_node {
            fields.push(format!("involvedObject.uid={}", word(self.object, "/metadata/uid")));
        }
        let query = vec![("fieldSelector", fields.join(","))];
        let events = self.cluster.kind("events.v1.")?;
        let mut found = self.cluster.list(&events, own, &query)?;
        found.sort_by(|a, b| word(a, "/lastTimestamp").cmp(word(b, "/lastTimestamp")));
        Ok(found)
    }
}

/// `a=b,c in (d,e)`, of a selector of labels; of a map, too.
pub(crate) fn selector(of: &Value) -> String {
    let labels = if of.get("matchLabels").is_some() || of.get("matchExpressions").is_some() {
        &of["matchLabels"]
    } else {
        of
    };
    let mut all: Vec<String> = super::table::pairs(labels, "\n")
        .map(|pairs| pairs.lines().map(str::to_owned).collect())
        .unwrap_or_default();
    for expression in super::list(of, "/matchExpressions") {
        let key = word(expression, "/key");
        let mut values: Vec<&str> =
            super::list(expression, "/values").filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        all.push(match word(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    all.join(",")
}

fn events(page: &mut Page, events: &[Value]) {
    if events.is_empty() {
        return page.line(0, "Events:\t<none>");
    }
    page.line(0, "Events:");
    page.line(1, "Type\tReason\tAge\tFrom\tMessage");
    page.line(1, "----\t------\t----\t----\t-------");
    for event in events {
        let or = |first: &str, second: &str| {
            let first = word(event, first);
            if first.is_empty() { word(event, second).to_owned() } else { first.to_owned() }
        };
        let first = since(&or("/eventTime", "/firstTimestamp"));
        let count = event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(0);
        let last = or("/series/lastObservedTime", "/lastTimestamp");
        let age = match count > 1 || !event["series"].is_null() {
            true => format!("{} (x{count} over {first})", since(&last)),
            false => first,
        };
        page.line(
            1,
            &format!(
                "{}\t{}\t{age}\t{}\t{}",
                word(event, "/type"),
                word(event, "/reason"),
                or("/source/component", "/reportingComponent"),
                word(event, "/message").trim()
            ),
        );
    }
}

/// How long ago a time was.
fn since(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => objects::table::human(Timestamp::now().as_second() - time.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// The template of pods, described; its columns are not set.
pub(crate) fn template(of: &Value) -> String {
    let mut page = Page::default();
    template::template(&mut page, of);
    page.bare()
}
