//! How many pods a measurement asks for (kube-controller-manager, `replica_calculator.go`).

use std::collections::BTreeMap;
use std::time::Duration;

use client::Object;
use jiff::Timestamp;
use objects::Quantity;
use serde_json::{Value, json};

use crate::object::{condition, is_ending, items, name, namespace, selector, selects, time};
use crate::plan::World;
use crate::pod;

/// Within a tenth of what is wanted, nothing changes.
const TOLERANCE_PERCENT: i64 = 10;
/// What a processor does in this time after a start says little.
const CPU_START: Duration = Duration::from_secs(300);
/// One that was never ready within this time of its start is starting still.
const FIRST_READY: Duration = Duration::from_secs(30);

/// What is wanted by what is measured.
pub(super) struct Measured {
    /// `status.currentMetrics`.
    pub(super) current: Value,
    /// How many pods, and which metric says so; or a reason and why not.
    pub(super) desired: Result<(i64, String), (&'static str, String)>,
}

/// What one metric asks for.
struct Proposal {
    replicas: i64,
    status: Value,
    name: String,
}

/// The most that any of the metrics asks for.
pub(super) fn replicas(world: &World<'_>, own: &Value, target: &Object, now: i64) -> Measured {
    let specs = items(&own["spec"]["metrics"]);
    let look = Look { world, own, target, now };
    let mut best: Option<(i64, String)> = None;
    let (mut current, mut failure) = (Vec::new(), None);
    for spec in specs {
        match look.proposal(spec) {
            Ok(proposal) => {
                current.push(proposal.status);
                if best.as_ref().is_none_or(|(replicas, _)| proposal.replicas > *replicas) {
                    best = Some((proposal.replicas, proposal.name));
                }
            }
            Err(why) => failure = failure.or(Some(why)),
        }
    }
    let desired = match (best, failure) {
        // What is not known may ask for more: nothing is taken away meanwhile.
        (Some((replicas, name)), None) => Ok((replicas, name)),
        (Some((replicas, name)), Some(_)) if replicas >= now => Ok((replicas, name)),
        (_, Some(why)) => Err(why),
        (None, None) => Err(("InvalidMetricSourceType", "there are no metrics".to_owned())),
    };
    let current = if current.is_empty() { Value::Null } else { current.into() };
    Measured { current, desired }
}

struct Look<'a> {
    world: &'a World<'a>,
    own: &'a Value,
    target: &'a Object,
    now: i64,
}

type Failure = (&'static str, String);

impl Look<'_> {
    fn proposal(&self, spec: &Value) -> Result<Proposal, Failure> {
        match spec["type"].as_str() {
            Some("Resource") => self.resource(spec, "resource"),
            Some("ContainerResource") => self.resource(spec, "containerResource"),
            Some("Pods") => self.of_pods(spec),
            Some("Object") => self.of_object(spec),
            Some("External") => self.external(spec),
            other => {
                let why = format!("unknown metric source type {other:?}");
                Err(("InvalidMetricSourceType", why))
            }
        }
    }

    fn pods(&self) -> Vec<Object> {
        let selector = selector(self.target);
        let mut pods = self.world.cache.list("Pod", namespace(self.own));
        pods.retain(|pod| selects(&selector, pod));
        pods
    }

    fn resource(&self, spec: &Value, field: &'static str) -> Result<Proposal, Failure> {
        let source = &spec[field];
        let resource = source["name"].as_str().unwrap_or_default();
        let container = source["container"].as_str();
        let reason = match field {
            "resource" => "FailedGetResourceMetric",
            _ => "FailedGetContainerResourceMetric",
        };
        let failed = |why: String| (reason, format!("failed to get {resource} utilization: {why}"));
        let pods = self.pods();
        if pods.is_empty() {
            return Err(failed(
                "no pods returned by selector while calculating replica count".into(),
            ));
        }
        let metrics = self.usage(resource, container).map_err(failed)?;
        let groups = Groups::of(self.world.now, &pods, &metrics, resource);
        let target = &source["target"];
        let (computed, status) = match target["averageUtilization"].as_i64() {
            Some(wanted) => {
                let requests = requests(&pods, resource, container).map_err(failed)?;
                self.by_utilization(&groups, &requests, wanted).map_err(failed)?
            }
            None => {
                let wanted = milli(&target["averageValue"]).unwrap_or(0).max(1);
                let computed = groups.compute(self.now, |_| wanted, |_| wanted);
                (computed.ok_or_else(|| failed(NO_METRICS.into()))?, json!({}))
            }
        };
        let mut current = status;
        current["averageValue"] = Quantity::milli(groups.average()).to_string().into();
        let mut status = json!({"name": resource, "current": current});
        if let Some(container) = container {
            status["container"] = container.into();
        }
        let kind = if field == "resource" { "Resource" } else { "ContainerResource" };
        let share = if target["averageUtilization"].is_null() {
            ""
        } else {
            " utilization (percentage of request)"
        };
        Ok(Proposal {
            replicas: computed,
            status: json!({"type": kind, field: status}),
            name: match container {
                Some(container) => {
                    format!("{resource} container resource{share} of container {container}")
                }
                None => format!("{resource} resource{share}"),
            },
        })
    }

    fn by_utilization(
        &self,
        groups: &Groups,
        requests: &BTreeMap<String, i64>,
        wanted: i64,
    ) -> Result<(i64, Value), String> {
        let request = |pod: &str| requests.get(pod).copied().unwrap_or(0);
        let all: i64 = groups.ready.keys().map(|pod| request(pod)).sum();
        if all == 0 {
            return Err(NO_METRICS.to_owned());
        }
        let used: i64 = groups.ready.values().sum();
        let part = |pod: &str| request(pod) * wanted / 100;
        let missing = |pod: &str| request(pod) * wanted.max(100) / 100;
        let computed = groups.compute(self.now, part, missing).ok_or(NO_METRICS)?;
        Ok((computed, json!({"averageUtilization": used * 100 / all})))
    }

    /// What pods use, in thousandths.
    fn usage(
        &self,
        resource: &str,
        container: Option<&str>,
    ) -> Result<BTreeMap<String, Sample>, String> {
        let selector = labels(&selector(self.target));
        let parts =
            ["apis", "metrics.k8s.io", "v1beta1", "namespaces", namespace(self.own), "pods"];
        let document = self.world.metrics.get(&parts, &[("labelSelector", &selector)])?;
        let mut found = BTreeMap::new();
        for pod in items(&document["items"]) {
            let all = items(&pod["containers"]).iter();
            let own = all.filter(|own| container.is_none_or(|wanted| own["name"] == wanted));
            let used: Option<Vec<i64>> = own.map(|own| milli(&own["usage"][resource])).collect();
            let Some(used) = used.filter(|used| !used.is_empty()) else { continue };
            let sample = Sample {
                used: used.iter().sum(),
                at: time(&pod["timestamp"]),
                window: window(pod),
            };
            found.insert(name(pod).to_owned(), sample);
        }
        match found.is_empty() {
            true => Err(
                "unable to get metrics for resource: no metrics returned from resource metrics API"
                    .into(),
            ),
            false => Ok(found),
        }
    }

    fn of_pods(&self, spec: &Value) -> Result<Proposal, Failure> {
        let source = &spec["pods"];
        let metric = source["metric"]["name"].as_str().unwrap_or_default();
        let failed =
            |why: String| ("FailedGetPodsMetric", format!("unable to get metric {metric}: {why}"));
        let own = labels(&selector(self.target));
        let filter = labels(&source["metric"]["selector"]);
        let parts = [
            "apis",
            "custom.metrics.k8s.io",
            "v1beta1",
            "namespaces",
            namespace(self.own),
            "pods",
            "*",
            metric,
        ];
        let query = [("labelSelector", &*own), ("metricLabelSelector", &*filter)];
        let document = self.world.metrics.get(&parts, &query).map_err(failed)?;
        let sample = |item: &Value| {
            let pod = item["describedObject"]["name"].as_str()?.to_owned();
            Some((pod, Sample { used: milli(&item["value"])?, at: None, window: Duration::ZERO }))
        };
        let metrics: BTreeMap<String, Sample> =
            items(&document["items"]).iter().filter_map(sample).collect();
        let groups = Groups::of(self.world.now, &self.pods(), &metrics, "");
        let wanted = milli(&source["target"]["averageValue"]).unwrap_or(0).max(1);
        let replicas = groups.compute(self.now, |_| wanted, |_| wanted);
        let average = Quantity::milli(groups.average()).to_string();
        Ok(Proposal {
            replicas: replicas.ok_or_else(|| failed(NO_METRICS.into()))?,
            status: json!({"type": "Pods", "pods": {"metric": source["metric"],
                "current": {"averageValue": average}}}),
            name: format!("pods metric {metric}"),
        })
    }

    fn of_object(&self, spec: &Value) -> Result<Proposal, Failure> {
        let source = &spec["object"];
        let metric = source["metric"]["name"].as_str().unwrap_or_default();
        let failed = |why: String| {
            ("FailedGetObjectMetric", format!("unable to get metric {metric}: {why}"))
        };
        let about = &source["describedObject"];
        let word = |field: &str| about[field].as_str().unwrap_or_default();
        let resource =
            objects::resource::Resource::built_in().iter().find(|own| own.kind == word("kind"));
        let plural = resource.map_or_else(
            || word("kind").to_ascii_lowercase(),
            |own| match own.group {
                "" => own.plural.to_owned(),
                group => format!("{}.{group}", own.plural),
            },
        );
        let parts = [
            "apis",
            "custom.metrics.k8s.io",
            "v1beta1",
            "namespaces",
            namespace(self.own),
            &plural,
            word("name"),
            metric,
        ];
        let document = self.world.metrics.get(&parts, &[]).map_err(failed)?;
        let value = milli(&document["items"][0]["value"]);
        let value = value.ok_or_else(|| failed(NO_METRICS.into()))?;
        let (replicas, current) = self.by_value(value, &source["target"]);
        let status =
            json!({"metric": source["metric"], "describedObject": about, "current": current});
        let name = format!("{} metric {metric}", word("kind"));
        Ok(Proposal { replicas, status: json!({"type": "Object", "object": status}), name })
    }

    fn external(&self, spec: &Value) -> Result<Proposal, Failure> {
        let source = &spec["external"];
        let metric = source["metric"]["name"].as_str().unwrap_or_default();
        let failed = |why: String| {
            ("FailedGetExternalMetric", format!("unable to get external metric {metric}: {why}"))
        };
        let parts = [
            "apis",
            "external.metrics.k8s.io",
            "v1beta1",
            "namespaces",
            namespace(self.own),
            metric,
        ];
        let filter = labels(&source["metric"]["selector"]);
        let document =
            self.world.metrics.get(&parts, &[("labelSelector", &filter)]).map_err(failed)?;
        let values: Vec<i64> =
            items(&document["items"]).iter().filter_map(|own| milli(&own["value"])).collect();
        if values.is_empty() {
            return Err(failed("no metrics returned from external metrics API".to_owned()));
        }
        let (replicas, current) = self.by_value(values.iter().sum(), &source["target"]);
        let status = json!({"metric": source["metric"], "current": current});
        let name = format!("external metric {metric}");
        Ok(Proposal { replicas, status: json!({"type": "External", "external": status}), name })
    }

    /// By a value of the whole: so much of it for each pod, or so much for all that are ready.
    fn by_value(&self, value: i64, target: &Value) -> (i64, Value) {
        match milli(&target["averageValue"]) {
            Some(wanted) => {
                let wanted = wanted.max(1);
                let replicas = match is_close(value, wanted * self.now) {
                    true => self.now,
                    false => value.div_euclid(wanted) + i64::from(value.rem_euclid(wanted) > 0),
                };
                let average = Quantity::milli(value / self.now.max(1)).to_string();
                (replicas, json!({"averageValue": average}))
            }
            None => {
                let wanted = milli(&target["value"]).unwrap_or(0).max(1);
                let ready = self.pods().iter().filter(|own| pod::is_ready(own)).count();
                let ready = i64::try_from(ready).unwrap_or(i64::MAX);
                let replicas = match is_close(value, wanted) {
                    true => self.now,
                    false => ceiling(value, ready, wanted),
                };
                (replicas, json!({"value": Quantity::milli(value).to_string()}))
            }
        }
    }
}

const NO_METRICS: &str = "did not receive metrics for targeted pods (pods might be unready)";

/// What a pod used.
#[derive(Debug, Clone, Copy)]
struct Sample {
    used: i64,
    at: Option<Timestamp>,
    window: Duration,
}

fn window(pod: &Value) -> Duration {
    let text = pod["window"].as_str().unwrap_or_default();
    let span: Option<jiff::SignedDuration> = text.parse().ok();
    span.and_then(|span| Duration::try_from(span).ok()).unwrap_or_default()
}

/// Pods by what is known of them.
#[derive(Debug, Default)]
struct Groups {
    /// What those that count use.
    ready: BTreeMap<String, i64>,
    starting: Vec<String>,
    missing: Vec<String>,
}

impl Groups {
    fn of(
        now: Timestamp,
        pods: &[Object],
        metrics: &BTreeMap<String, Sample>,
        resource: &str,
    ) -> Self {
        let mut groups = Self::default();
        for own in pods.iter().filter(|own| !is_ending(own) && pod::phase(own) != "Failed") {
            let pod = name(own).to_owned();
            if pod::phase(own) == "Pending" {
                groups.starting.push(pod);
                continue;
            }
            match metrics.get(&pod) {
                None => groups.missing.push(pod),
                Some(sample) if resource == "cpu" && is_starting(now, own, sample) => {
                    groups.starting.push(pod);
                }
                Some(sample) => drop(groups.ready.insert(pod, sample.used)),
            }
        }
        groups
    }

    fn average(&self) -> i64 {
        let count = i64::try_from(self.ready.len()).unwrap_or(i64::MAX).max(1);
        self.ready.values().sum::<i64>() / count
    }

    /// How many pods there shall be if each is to use `wanted`; those that are not known of use
    /// `missing`, or nothing, whichever changes less. None if nothing is known.
    fn compute(
        &self,
        now: i64,
        wanted: impl Fn(&str) -> i64,
        missing: impl Fn(&str) -> i64,
    ) -> Option<i64> {
        if self.ready.is_empty() {
            return None;
        }
        let mut used: i64 = self.ready.values().sum();
        let mut due: i64 = self.ready.keys().map(|pod| wanted(pod)).sum();
        let mut count = self.ready.len();
        let is_up = used > due;
        let counts_starting = !self.starting.is_empty() && is_up;
        if !counts_starting && self.missing.is_empty() {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            return Some(if is_close(used, due) { now } else { ceiling(used, count, due) });
        }
        if used != due {
            for pod in &self.missing {
                used += if is_up { 0 } else { missing(pod) };
                due += wanted(pod);
                count += 1;
            }
        }
        if counts_starting {
            for pod in &self.starting {
                due += wanted(pod);
                count += 1;
            }
        }
        if is_close(used, due) || is_up != (used > due) {
            return Some(now);
        }
        let replicas = ceiling(used, i64::try_from(count).unwrap_or(i64::MAX), due);
        // What is only supposed must not turn the direction.
        let is_turned = if is_up { replicas < now } else { replicas > now };
        Some(if is_turned { now } else { replicas })
    }
}

/// Whether one number is another one, as far as it matters.
fn is_close(value: i64, wanted: i64) -> bool {
    let distance = i128::from(value) - i128::from(wanted);
    distance.abs() * 100 <= i128::from(wanted) * i128::from(TOLERANCE_PERCENT)
}

/// `value × count ÷ due`, rounded up.
fn ceiling(value: i64, count: i64, due: i64) -> i64 {
    let due = i128::from(due.max(1));
    let product = i128::from(value) * i128::from(count);
    i64::try_from(product.div_euclid(due) + i128::from(product.rem_euclid(due) > 0))
        .unwrap_or(i64::MAX)
}

/// Whether what a pod's processor does says nothing yet.
fn is_starting(now: Timestamp, own: &Value, sample: &Sample) -> bool {
    let (Some(ready), Some(started)) = (condition(own, "Ready"), time(&own["status"]["startTime"]))
    else {
        return true;
    };
    let since = |from: Timestamp, to: Timestamp| {
        Duration::try_from(to.duration_since(from)).unwrap_or_default()
    };
    let is_ready = ready["status"] != "False";
    let moved = time(&ready["lastTransitionTime"]).unwrap_or(started);
    if since(started, now) < CPU_START {
        let is_old = sample.at.is_some_and(|at| since(moved, at) < sample.window);
        return !is_ready || is_old;
    }
    !is_ready && since(started, moved) < FIRST_READY
}

/// What pods ask for, in thousandths.
fn requests(
    pods: &[Object],
    resource: &str,
    container: Option<&str>,
) -> Result<BTreeMap<String, i64>, String> {
    let mut found = BTreeMap::new();
    for pod in pods {
        let spec = &pod["spec"];
        let sidecars =
            items(&spec["initContainers"]).iter().filter(|own| own["restartPolicy"] == "Always");
        let mut sum = 0;
        for own in items(&spec["containers"]).iter().chain(sidecars) {
            if container.is_some_and(|wanted| own["name"] != wanted) {
                continue;
            }
            let Some(request) = milli(&own["resources"]["requests"][resource]) else {
                let own = own["name"].as_str().unwrap_or_default();
                return Err(format!(
                    "missing request for {resource} in container {own} of Pod {}",
                    name(pod)
                ));
            };
            sum += request;
        }
        found.insert(name(pod).to_owned(), sum);
    }
    Ok(found)
}

fn milli(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse::<Quantity>().ok().map(Quantity::milli_value),
        Value::Number(number) => number.as_i64().map(|number| number.saturating_mul(1000)),
        _ => None,
    }
}

/// A selector as it stands in a query.
fn labels(selector: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let mut all: Vec<String> = equal.map(|(key, value)| format!("{key}={}", word(value))).collect();
    for own in items(&selector["matchExpressions"]) {
        let key = word(&own["key"]);
        let values = items(&own["values"]).iter().map(word).collect::<Vec<_>>().join(",");
        all.push(match own["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key,
        });
    }
    all.join(",")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn groups(ready: &[i64], starting: usize, missing: usize) -> Groups {
        let named = |what: &'static str, count: usize| {
            (0..count).map(move |at| format!("{what}{at}")).collect()
        };
        let ready =
            ready.iter().enumerate().map(|(at, used)| (format!("ready{at}"), *used)).collect();
        Groups { ready, starting: named("starting", starting), missing: named("missing", missing) }
    }

    fn compute(
        ready: &[i64],
        starting: usize,
        missing: usize,
        wanted: i64,
        now: i64,
    ) -> Option<i64> {
        groups(ready, starting, missing).compute(now, |_| wanted, |_| wanted)
    }

    #[test]
    fn the_number_follows_the_share_of_what_is_wanted() {
        assert_eq!(compute(&[900, 900], 0, 0, 500, 2), Some(4));
        assert_eq!(compute(&[100, 100, 100, 100], 0, 0, 500, 4), Some(1));
        // Within a tenth nothing changes.
        assert_eq!(compute(&[545, 545], 0, 0, 500, 2), Some(2));
        assert_eq!(compute(&[], 3, 0, 500, 3), None);
    }

    #[test]
    fn what_is_not_known_changes_as_little_as_it_can() {
        // Those that start count for nothing when it grows, and not at all when it shrinks.
        assert_eq!(compute(&[1000, 1000], 2, 0, 500, 4), Some(4));
        assert_eq!(compute(&[2000, 2000], 2, 0, 500, 4), Some(8));
        assert_eq!(compute(&[100, 100], 2, 0, 500, 4), Some(1));
        // Those of which nothing is known use what is wanted when it shrinks, and nothing when it grows.
        assert_eq!(compute(&[100, 100], 0, 2, 500, 4), Some(3));
        assert_eq!(compute(&[600, 600], 0, 2, 500, 4), Some(4));
    }

    #[test]
    fn a_selector_is_written_as_queries_have_it() {
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["d", "e"]},
            {"key": "f", "operator": "DoesNotExist"}]});
        assert_eq!(labels(&selector), "a=b,c in (d,e),!f");
    }

    #[test]
    fn a_pod_without_a_request_is_told() {
        let pod: Object = Arc::new(json!({"metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"memory": "1Mi"}}}]}}));
        let why = requests(std::slice::from_ref(&pod), "cpu", None).unwrap_err();
        assert_eq!(why, "missing request for cpu in container c of Pod p");
        assert_eq!(requests(&[pod], "memory", None).unwrap()["p"], 1_048_576_000);
    }
}
