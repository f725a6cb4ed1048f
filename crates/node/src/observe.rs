//! What the engine has of a pod.

use engine::{Container, Status};

use crate::backoff::Backoff;
use crate::field::millis;
use crate::host::Host;
use crate::plan::{Observed, Run, Sandbox, Seen};
use crate::pod::Part;
use crate::slot::{PartWork, Slot, Work};

/// Labels by which the tools of Kubernetes know containers.
pub(crate) const LABEL_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const LABEL_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const LABEL_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const LABEL_CONTAINER: &str = "io.kubernetes.container.name";
/// How often the container was started before.
pub(crate) const LABEL_NUMBER: &str = "io.kubernetes.container.restartCount";
/// Which node it is of.
pub(crate) const LABEL_NODE: &str = "cais.node";

/// The code of a container that could not be started; containerd's.
const START_ERROR_CODE: i32 = 128;

/// What there is of a pod, in the engine's words too.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) observed: Observed,
    pub(crate) sandbox: Option<Container>,
    /// The runs of each container, the oldest first.
    pub(crate) runs: Vec<Vec<Container>>,
}

impl View {
    /// The last run of a container.
    pub(crate) fn last(&self, number: usize) -> Option<&Container> {
        self.runs[number].last()
    }

    /// The addresses of the pod, as containers have them.
    pub(crate) fn addresses(&self, host: &str) -> Vec<String> {
        let Some(sandbox) = self.sandbox.as_ref().filter(|sandbox| sandbox.is_running()) else {
            return Vec::new();
        };
        if sandbox.record.settings.network == engine::NetworkMode::Host {
            return vec![host.to_owned()];
        }
        let places = sandbox.state.places.iter();
        let all = places.flat_map(|place| place.endpoint.addresses().collect::<Vec<_>>());
        all.map(|address| address.to_string()).collect()
    }
}

/// How a run has ended; none while it goes on.
pub(crate) fn end_of(container: &Container) -> Option<i32> {
    match container.state.status {
        Status::Running | Status::Paused | Status::Restarting => None,
        // It was made, and could not be started.
        Status::Created if !container.state.error.is_empty() => Some(START_ERROR_CODE),
        _ => Some(container.state.exit_code),
    }
}

/// When a run has ended (ms).
pub(crate) fn ended_ms(container: &Container) -> i64 {
    let times = [&container.state.finished_at, &container.record.created];
    times.into_iter().find_map(|time| millis(time)).unwrap_or(0)
}

/// When a run was started (ms).
pub(crate) fn started_ms(container: &Container) -> i64 {
    millis(&container.state.started_at).unwrap_or_else(|| ended_ms(container))
}

impl PartWork {
    /// Takes up a run that was made by a process before this one.
    pub(crate) fn adopt(&mut self, container: &Container) {
        let number = container.record.config.labels.get(LABEL_NUMBER);
        let number: u32 = number.and_then(|number| number.parse().ok()).unwrap_or(0);
        self.runs.push(container.record.id.clone());
        self.next = self.next.max(number + 1);
        self.backoff = Backoff::after(number);
    }
}

impl Host {
    /// Looks at what there is of a pod.
    pub(crate) fn observe(&self, slot: &Slot, work: &mut Work, parts: &[Part<'_>]) -> View {
        let mut view = View::default();
        let find = |id: &String| self.engine.find(id).ok();
        view.sandbox = work.sandbox.as_ref().and_then(find);
        view.observed.sandbox = match &view.sandbox {
            Some(sandbox) if sandbox.is_running() => Sandbox::Running(sandbox.record.id.clone()),
            Some(_) => Sandbox::Ended,
            None => {
                work.sandbox = None;
                Sandbox::None
            }
        };
        let not_before = work.not_before;
        for part in parts {
            let own = work.parts.entry(part.name.to_owned()).or_default();
            let runs: Vec<Container> = own.runs.iter().filter_map(find).collect();
            own.runs.retain(|id| runs.iter().any(|run| run.record.id == *id));
            let mut seen = self.see(slot, part.name, own, runs.last());
            seen.not_before = seen.not_before.max(not_before);
            view.observed.parts.push(seen);
            view.runs.push(runs);
        }
        view
    }

    fn see(&self, slot: &Slot, name: &str, own: &mut PartWork, last: Option<&Container>) -> Seen {
        let Some(last) = last else {
            return Seen { not_before: own.not_before, ..Seen::default() };
        };
        let id = &last.record.id;
        let end = end_of(last);
        if end.is_some() && own.ended != *id {
            own.ended.clone_from(id);
            let ended = ended_ms(last);
            let ran = ended - started_ms(last);
            let wait = own.backoff.next(ran);
            (own.not_before, own.is_news) = (ended + wait, wait > 0);
            slot.learn(name, id, |facts| {
                (facts.prober, facts.is_ending, facts.is_ready) = (None, false, false);
            });
        }
        let run = Some(Run { end, sandbox: last.record.settings.in_pod.clone() });
        let mut seen = Seen { run, not_before: own.not_before, ..Seen::default() };
        slot.learn(name, id, |facts| {
            seen.is_started = facts.is_started;
            seen.must_end = facts.must_end;
            seen.is_ending = facts.is_ending;
        });
        seen
    }
}
