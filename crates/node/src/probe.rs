//! Probes: whether a container has started, is ready, and is alive, with upstream's semantics.
//!
//! A container that has probes has a thread for them, which ends with its run. Others cost nothing.

pub(crate) mod grpc;
pub(crate) mod tls;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::Object;
use engine::Container;
use serde_json::Value;

use crate::field::text;
use crate::handler::{Asked, Outcome};
use crate::host::Host;
use crate::pod::{Part, grace_s};
use crate::slot::Slot;

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Startup,
    Readiness,
    Liveness,
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// The thread of a container's probes; it ends when this is dropped.
pub(crate) struct Prober(Arc<Stop>);

#[derive(Default)]
struct Stop {
    is_stopped: Mutex<bool>,
    changed: Condvar,
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prober")
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        *self.0.is_stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }
}

impl Stop {
    /// Waits until a time; whether it was stopped before.
    fn wait(&self, until: Instant) -> bool {
        let mut stopped = self.is_stopped.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if *stopped || left.is_zero() {
                return *stopped;
            }
            let waited = self.changed.wait_timeout(stopped, left);
            stopped = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A probe and what it has found.
#[derive(Debug, Clone)]
struct Probe {
    purpose: Purpose,
    handler: Value,
    period: Duration,
    timeout: Duration,
    successes_wanted: u32,
    failures_wanted: u32,
    next: Instant,
    tally: Tally,
}

/// Outcomes in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    last: Option<bool>,
    count: u32,
}

impl Tally {
    /// Counts one more; the verdict, if it has one.
    fn count(&mut self, is_good: bool, (good, bad): (u32, u32)) -> Option<bool> {
        if self.last != Some(is_good) {
            *self = Self { last: Some(is_good), count: 0 };
        }
        self.count = self.count.saturating_add(1);
        let wanted = if is_good { good } else { bad };
        (self.count >= wanted).then_some(is_good)
    }
}

impl Probe {
    fn of(purpose: Purpose, spec: &Value, begun: Instant) -> Option<Self> {
        let field = match purpose {
            Purpose::Startup => "startupProbe",
            Purpose::Readiness => "readinessProbe",
            Purpose::Liveness => "livenessProbe",
        };
        let handler = spec[field].as_object()?;
        let number = |field: &str, default: u64| {
            handler.get(field).and_then(Value::as_u64).filter(|n| *n > 0).unwrap_or(default)
        };
        let small = |field, default| u32::try_from(number(field, default)).unwrap_or(u32::MAX);
        Some(Self {
            purpose,
            handler: spec[field].clone(),
            period: Duration::from_secs(number("periodSeconds", 10)),
            timeout: Duration::from_secs(number("timeoutSeconds", 1)),
            successes_wanted: small("successThreshold", 1),
            failures_wanted: small("failureThreshold", 3),
            next: begun + Duration::from_secs(number("initialDelaySeconds", 0)),
            tally: Tally::default(),
        })
    }
}

/// Whom probes are about.
struct Subject {
    slot: Arc<Slot>,
    pod: Object,
    name: String,
    spec: Value,
    container: Container,
    address: String,
}

impl Host {
    /// Calls what is to be called after a start, and begins the probes.
    pub(crate) fn begin_checks(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        pod: &Object,
        part: &Part<'_>,
        (container, addresses): (&Container, &[String]),
    ) {
        let id = &container.record.id;
        let container = self.engine.find(id).unwrap_or_else(|_| container.clone());
        let address = addresses.first().cloned().unwrap_or_default();
        let hook = &part.spec["lifecycle"]["postStart"];
        if hook.is_object() {
            let of = Asked { container: &container, spec: part.spec, address: &address };
            let longest = Duration::from_secs(u64::MAX / 4);
            if let Outcome::Failure(why) | Outcome::Error(why) = self.ask(hook, of, longest) {
                let message = format!("PostStartHook failed: {why}");
                self.recorder.warn(pod, part.name, "FailedPostStartHook", message);
                slot.learn(part.name, id, |facts| facts.must_end = true);
                self.kick(slot);
                return;
            }
        }
        self.begin_probes(slot, pod, part, (container, address), false);
    }

    /// Begins the probes of a run. `was_ready` is what is known of one that goes on.
    pub(crate) fn begin_probes(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        pod: &Object,
        part: &Part<'_>,
        (container, address): (Container, String),
        was_ready: bool,
    ) {
        let begun = Instant::now();
        let all = [Purpose::Startup, Purpose::Readiness, Purpose::Liveness];
        let probes: Vec<Probe> =
            all.into_iter().filter_map(|purpose| Probe::of(purpose, part.spec, begun)).collect();
        let has = |purpose| probes.iter().any(|probe: &Probe| probe.purpose == purpose);
        let id = container.record.id.clone();
        let is_started = !has(Purpose::Startup) || was_ready;
        let is_ready = is_started && !has(Purpose::Readiness) || was_ready;
        let stop = Arc::new(Stop::default());
        let prober = (!probes.is_empty()).then(|| Prober(stop.clone()));
        slot.learn(part.name, &id, |facts| {
            (facts.is_started, facts.is_ready, facts.prober) = (is_started, is_ready, prober);
        });
        if probes.is_empty() {
            return;
        }
        let subject = Subject {
            slot: slot.clone(),
            pod: pod.clone(),
            name: part.name.to_owned(),
            spec: part.spec.clone(),
            container,
            address,
        };
        let host = self.clone();
        let work = move || host.probe(&subject, probes, is_started, &stop);
        // Without the thread it is never ready, which is seen.
        let _ = std::thread::Builder::new().name("probes".to_owned()).spawn(work);
    }

    fn probe(
        self: &Arc<Self>,
        subject: &Subject,
        mut probes: Vec<Probe>,
        mut is_started: bool,
        stop: &Stop,
    ) {
        if is_started {
            probes.retain(|probe| probe.purpose != Purpose::Startup);
        }
        loop {
            let may = |probe: &&mut Probe| is_started || probe.purpose == Purpose::Startup;
            let Some(probe) = probes.iter_mut().filter(may).min_by_key(|probe| probe.next) else {
                return;
            };
            if stop.wait(probe.next) {
                return;
            }
            let of = Asked {
                container: &subject.container,
                spec: &subject.spec,
                address: &subject.address,
            };
            let outcome = self.ask(&probe.handler, of, probe.timeout);
            probe.next = (probe.next + probe.period).max(Instant::now());
            if stop.wait(Instant::now()) {
                return;
            }
            let Some(is_good) = self.judge(subject, probe, &outcome) else { continue };
            let purpose = probe.purpose;
            if self.learn(subject, probe, is_good) {
                // A run that is to end is probed no more, but for its readiness.
                probes.retain(|probe| probe.purpose == Purpose::Readiness);
            }
            if purpose == Purpose::Startup && is_good {
                is_started = true;
                probes.retain(|probe| probe.purpose != Purpose::Startup);
                let now = Instant::now();
                probes.iter_mut().for_each(|probe| probe.next = probe.next.min(now));
            }
        }
    }

    /// Counts an outcome; the verdict, if it has one.
    fn judge(&self, subject: &Subject, probe: &mut Probe, outcome: &Outcome) -> Option<bool> {
        let is_good = match outcome {
            Outcome::Success(_) => true,
            Outcome::Failure(why) => {
                let message = format!("{} probe failed: {why}", probe.purpose.word());
                self.recorder.warn(&subject.pod, &subject.name, "Unhealthy", message);
                false
            }
            Outcome::Error(why) => {
                let message = format!("{} probe errored: {why}", probe.purpose.word());
                self.recorder.warn(&subject.pod, &subject.name, "Unhealthy", message);
                // Upstream does not count what it could not find out.
                return None;
            }
        };
        probe.tally.count(is_good, (probe.successes_wanted, probe.failures_wanted))
    }

    /// Takes a verdict; whether the run is to end.
    fn learn(self: &Arc<Self>, subject: &Subject, probe: &Probe, is_good: bool) -> bool {
        let mut is_news = false;
        let ends = !is_good && probe.purpose != Purpose::Readiness;
        let has_readiness = subject.spec["readinessProbe"].is_object();
        subject.slot.learn(&subject.name, &subject.container.record.id, |facts| {
            match (probe.purpose, is_good) {
                (Purpose::Startup, true) => {
                    is_news = !facts.is_started;
                    facts.is_started = true;
                    facts.is_ready |= !has_readiness;
                }
                (Purpose::Readiness, is_good) => {
                    is_news = facts.is_ready != is_good;
                    facts.is_ready = is_good;
                }
                (Purpose::Liveness, true) => {}
                (Purpose::Startup | Purpose::Liveness, false) => {
                    is_news = !facts.must_end;
                    facts.must_end = true;
                }
            }
        });
        if ends && is_news {
            let what = probe.purpose.word().to_lowercase();
            let message =
                format!("Container {} failed {what} probe, will be restarted", subject.name);
            self.recorder.normal(&subject.pod, &subject.name, "Killing", message);
        }
        if is_news {
            self.kick(&subject.slot);
        }
        ends
    }

    /// Ends a container: its hook, the signal, and SIGKILL at last.
    pub(crate) fn end_part(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        pod: &Object,
        part: &Part<'_>,
        container: &Container,
    ) {
        let id = container.record.id.clone();
        let mut was_ending = true;
        let mut must_end = false;
        slot.learn(part.name, &id, |facts| {
            was_ending = std::mem::replace(&mut facts.is_ending, true);
            must_end = facts.must_end;
        });
        if was_ending {
            return;
        }
        if !must_end {
            let message = format!("Stopping container {}", part.name);
            self.recorder.normal(pod, part.name, "Killing", message);
        }
        // A probe may allow less.
        let own = ["livenessProbe", "startupProbe"].iter().find_map(|probe| {
            part.spec[probe]["terminationGracePeriodSeconds"].as_i64().filter(|_| must_end)
        });
        let grace = own.unwrap_or_else(|| grace_s(pod)).max(0);
        let (host, pod, container) = (self.clone(), pod.clone(), container.clone());
        let (name, spec) = (part.name.to_owned(), part.spec.clone());
        let work = move || host.end(&pod, (&name, &spec), &container, grace);
        // Whoever plans next kills it when its time is over.
        let _ = std::thread::Builder::new().name("end".to_owned()).spawn(work);
    }

    fn end(&self, pod: &Object, (name, spec): (&str, &Value), container: &Container, grace: i64) {
        let longest = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let begun = Instant::now();
        let hook = &spec["lifecycle"]["preStop"];
        if hook.is_object() && grace > 0 {
            let address = text(pod, &["status", "podIP"]);
            let of = Asked { container, spec, address };
            if let Outcome::Failure(why) | Outcome::Error(why) = self.ask(hook, of, longest) {
                let message = format!("PreStopHook failed: {why}");
                self.recorder.warn(pod, name, "FailedPreStopHook", message);
            }
        }
        let left = longest.saturating_sub(begun.elapsed()).as_secs();
        // What upstream gives a container at least after its hook.
        let left = if grace > 0 { left.max(2.min(grace.unsigned_abs())) } else { 0 };
        // Who is gone is ended, and anything else is tried again.
        let _ = self.engine.stop(container, Some(i64::try_from(left).unwrap_or(grace)), None);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn verdicts_need_outcomes_in_a_row() {
        let mut tally = Tally::default();
        let mut count = |is_good| tally.count(is_good, (2, 3));
        let verdicts: Vec<Option<bool>> =
            [true, true, true, false, false, true, false, false, false].map(&mut count).into();
        let expected = [None, Some(true), Some(true), None, None, None, None, None, Some(false)];
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn defaults_are_upstreams() {
        let now = Instant::now();
        let probe = Probe::of(Purpose::Liveness, &json!({"livenessProbe": {"exec": {}}}), now);
        let probe = probe.unwrap();
        assert_eq!((probe.period.as_secs(), probe.timeout.as_secs()), (10, 1));
        assert_eq!((probe.successes_wanted, probe.failures_wanted, probe.next), (1, 3, now));
        assert!(Probe::of(Purpose::Startup, &json!({}), now).is_none());
    }
}
