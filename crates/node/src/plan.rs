//! What is to be done for a pod: from what there is and what is wanted, and nothing else.
//!
//! Everything that waits is a time: whoever has carried out a plan looks again when something has
//! happened to the pod, or when the plan says.

use crate::pod::{Kind, Restart};

/// What there is of a pod on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// What holds its namespaces.
    pub sandbox: Sandbox,
    /// Its containers, in the order of [`Desired::parts`].
    pub parts: Vec<Seen>,
}

/// What holds a pod's namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// It was not made, or is removed.
    #[default]
    None,
    /// It has ended, or was never started.
    Ended,
    /// It is there: this is its id.
    Running(String),
}

/// What there is of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its last run.
    pub run: Option<Run>,
    /// Whether what comes after it may begin: its hook has been called, and its startup probe has
    /// succeeded.
    pub is_started: bool,
    /// Whether something demands that it ends, so that it begins anew.
    pub must_end: bool,
    /// Whether it is being ended already.
    pub is_ending: bool,
    /// It is not to be started before this time (ms).
    pub not_before: i64,
}

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Whether it goes on; else it has ended with the code.
    pub end: Option<i32>,
    /// Which sandbox it ran in.
    pub sandbox: String,
}

/// What is wanted of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Whether it is to end: the time (ms) at which its processes are killed.
    pub ends: Option<i64>,
    /// Whether nothing of it is to stay: it was deleted.
    pub is_deleted: bool,
    /// Its containers, in the order in which they begin.
    pub parts: Vec<Wanted>,
}

/// What is wanted of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What it is in its pod.
    pub kind: Kind,
    /// Whether it runs again.
    pub restart: Restart,
}

/// A step; containers by their numbers in the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the namespaces.
    StartSandbox,
    /// Let go of the namespaces.
    EndSandbox,
    /// Start a container; again if it ran before.
    Start(usize),
    /// Ask a container to end.
    End(usize),
    /// Kill a container.
    Kill(usize),
    /// Remove everything of the pod, and its object.
    Forget,
    /// Look again at this time (ms).
    LookAt(i64),
}

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not everything has begun.
    Pending,
    /// Something runs, or will again.
    Running,
    /// All has ended well.
    Succeeded,
    /// All has ended, and something not well.
    Failed,
}

impl Phase {
    /// The word of the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

impl Seen {
    /// Whether it runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.end.is_none())
    }

    fn code(&self) -> Option<i32> {
        self.run.as_ref()?.end
    }
}

impl Wanted {
    /// Whether one that has ended so runs again.
    #[must_use]
    pub fn runs_again(&self, code: i32) -> bool {
        match self.restart {
            Restart::Always => true,
            Restart::OnFailure => code != 0,
            Restart::Never => false,
        }
    }
}

/// Which phase a pod is in (upstream's `getPhase`).
#[must_use]
pub fn phase(observed: &Observed, desired: &Desired) -> Phase {
    let both = || observed.parts.iter().zip(&desired.parts);
    let failed = |(seen, wanted): &(&Seen, &Wanted)| {
        seen.code().is_some_and(|code| code != 0 && !wanted.runs_again(code))
    };
    if both().filter(|(_, wanted)| wanted.kind == Kind::Init).any(|pair| failed(&pair)) {
        return Phase::Failed;
    }
    let regular = || both().filter(|(_, wanted)| wanted.kind == Kind::Regular);
    if regular().any(|(seen, _)| seen.run.is_none()) {
        return Phase::Pending;
    }
    let goes_on = |(seen, wanted): (&Seen, &Wanted)| match seen.code() {
        None => true,
        Some(code) => desired.ends.is_none() && wanted.runs_again(code),
    };
    if regular().any(goes_on) {
        return Phase::Running;
    }
    // Who ends it, be it its own deadline, decides that those that would run again have ended.
    match regular().all(|(seen, _)| seen.code() == Some(0)) {
        true => Phase::Succeeded,
        false => Phase::Failed,
    }
}

/// The steps that bring a pod nearer to what is wanted, at a time (ms).
#[must_use]
pub fn plan(observed: &Observed, desired: &Desired, now: i64) -> Vec<Action> {
    if let Some(deadline) = desired.ends {
        let mut steps = end(observed, desired, deadline, now);
        if steps.is_empty() {
            steps.push(if desired.is_deleted { Action::Forget } else { Action::EndSandbox });
        }
        return without_idle(steps, observed);
    }
    if phase(observed, desired).is_final() {
        let mut steps = end(observed, desired, i64::MAX, now);
        if steps.is_empty() {
            steps.push(Action::EndSandbox);
        }
        return without_idle(steps, observed);
    }
    let Sandbox::Running(sandbox) = &observed.sandbox else {
        // What still runs is in namespaces that nobody else can join any more.
        let left: Vec<Action> = running(observed).map(Action::Kill).collect();
        return if left.is_empty() { vec![Action::StartSandbox] } else { left };
    };
    let mut steps = Vec::new();
    for (number, (seen, wanted)) in observed.parts.iter().zip(&desired.parts).enumerate() {
        let is_over = match wanted.kind {
            Kind::Init => initialize(number, (seen, wanted), sandbox, &mut steps, now),
            Kind::Sidecar => {
                keep(number, (seen, wanted), &mut steps, now);
                seen.runs() && seen.is_started
            }
            Kind::Regular | Kind::Ephemeral => {
                keep(number, (seen, wanted), &mut steps, now);
                true
            }
        };
        if !is_over {
            break;
        }
    }
    steps
}

/// Runs a container to its end; whether it has reached it.
fn initialize(
    number: usize,
    (seen, wanted): (&Seen, &Wanted),
    sandbox: &str,
    steps: &mut Vec<Action>,
    now: i64,
) -> bool {
    match &seen.run {
        Some(run) if run.end == Some(0) && run.sandbox == sandbox => return true,
        Some(Run { end: Some(code), .. }) if *code != 0 && !wanted.runs_again(*code) => {}
        Some(Run { end: None, .. }) => {}
        _ => start(number, seen, steps, now),
    }
    false
}

/// Has a container run, unless it has ended for good.
fn keep(number: usize, (seen, wanted): (&Seen, &Wanted), steps: &mut Vec<Action>, now: i64) {
    match &seen.run {
        Some(Run { end: None, .. }) => {
            if seen.must_end && !seen.is_ending {
                steps.push(Action::End(number));
            }
        }
        Some(Run { end: Some(code), .. }) if !wanted.runs_again(*code) => {}
        _ => start(number, seen, steps, now),
    }
}

fn start(number: usize, seen: &Seen, steps: &mut Vec<Action>, now: i64) {
    steps.push(match seen.not_before > now {
        true => Action::LookAt(seen.not_before),
        false => Action::Start(number),
    });
}

/// Ends what runs: first the others, then sidecars, the last first.
fn end(observed: &Observed, desired: &Desired, deadline: i64, now: i64) -> Vec<Action> {
    let is_sidecar = |number: &usize| desired.parts[*number].kind == Kind::Sidecar;
    let all: Vec<usize> = running(observed).collect();
    if deadline <= now {
        return all.into_iter().map(Action::Kill).collect();
    }
    let mut now_ending: Vec<usize> = all.iter().copied().filter(|n| !is_sidecar(n)).collect();
    if now_ending.is_empty() {
        now_ending.extend(all.into_iter().next_back());
    }
    let mut steps: Vec<Action> = now_ending
        .iter()
        .filter(|number| !observed.parts[**number].is_ending)
        .map(|number| Action::End(*number))
        .collect();
    if !now_ending.is_empty() {
        steps.push(Action::LookAt(deadline));
    }
    steps
}

fn running(observed: &Observed) -> impl Iterator<Item = usize> {
    let all = observed.parts.iter().enumerate();
    all.filter(|(_, seen)| seen.runs()).map(|(number, _)| number)
}

/// Leaves out what would do nothing.
fn without_idle(mut steps: Vec<Action>, observed: &Observed) -> Vec<Action> {
    let has_sandbox = matches!(observed.sandbox, Sandbox::Running(_));
    steps.retain(|step| match step {
        Action::EndSandbox => has_sandbox,
        Action::LookAt(time) => *time != i64::MAX,
        _ => true,
    });
    steps
}

#[cfg(test)]
mod tests;
