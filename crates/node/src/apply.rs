//! Carrying out what was planned for a pod.

use std::path::Path;
use std::sync::Arc;

use client::{Deletion, Object, kind};
use engine::RemoveOptions;
use serde_json::{Value, json};

use crate::field::{at, items, millis, text};
use crate::host::Host;
use crate::image::chain;
use crate::observe::View;
use crate::plan::{Action, Desired, Observed, Sandbox, Wanted, phase, plan};
use crate::pod::{Part, grace_s, name, namespace, parts, uid};
use crate::slot::{Facts, Slot, Work};
use crate::source::Origin;
use crate::timer::now_ms;
use crate::volume::{self, Ready};

/// Steps after which a pod is left for others, to be looked at again.
const ROUNDS_MAX: usize = 16;
/// How long it takes until something that failed is tried again, the first time (ms).
const RETRY_MS: i64 = 500;
/// The longest such time (ms).
const RETRY_MS_MAX: i64 = 60_000;
/// How soon an image that could not be pulled is said to wait (ms).
const SAY_WAITING_MS: i64 = 1000;

impl Host {
    /// Looks at a pod, does what is to be done, and reports.
    pub(crate) fn pass(self: &Arc<Self>, slot: &Arc<Slot>, work: &mut Work) {
        self.refresh_object(slot, work);
        self.say_waiting(work);
        for _ in 0..ROUNDS_MAX {
            let Some(object) = work.object.clone() else { return };
            let all = parts(&object);
            let view = self.observe(slot, work, &all);
            if self.resume(slot, work, (&object, &all, &view)) {
                continue;
            }
            let desired = self.desired((slot, work), &object, &all, &view.observed);
            if desired.ends.is_none() && self.resize(slot, work, (&object, &all, &view)) {
                continue;
            }
            self.say_back_off(work, &object, &view, &desired);
            let steps = plan(&view.observed, &desired, now_ms());
            let mut is_again = false;
            for step in steps {
                is_again |= self.apply(slot, work, (&object, &all, &view), &step);
            }
            if work.is_over {
                return;
            }
            if !is_again {
                break;
            }
        }
        self.report(slot, work);
    }

    /// An image that could not be pulled before is being waited for.
    fn say_waiting(&self, work: &mut Work) {
        let Some(object) = work.object.clone() else { return };
        for (name, own) in &mut work.parts {
            let Some((reason, message)) = &mut own.waiting else { continue };
            if reason != "ErrImagePull" || own.not_before <= now_ms() {
                continue;
            }
            "ImagePullBackOff".clone_into(reason);
            let all = parts(&object);
            let part = all.iter().find(|part| part.name == name);
            let image = part.map_or("", |part| text(part.spec, &["image"]));
            *message = format!("Back-off pulling image {image:?}: ErrImagePull: {message}");
            let said = format!("Back-off pulling image {image:?}");
            self.recorder.normal(&object, name, "BackOff", said);
            self.recorder.warn(&object, name, "Failed", "Error: ImagePullBackOff".to_owned());
        }
    }

    /// Tells that containers wait that have failed.
    fn say_back_off(&self, work: &mut Work, pod: &Value, view: &View, desired: &Desired) {
        for (number, part) in parts(pod).iter().enumerate() {
            let Some(own) = work.parts.get_mut(part.name) else { continue };
            if !std::mem::take(&mut own.is_news) || desired.ends.is_some() {
                continue;
            }
            let end = view.last(number).and_then(crate::observe::end_of);
            if end.is_some_and(|code| desired.parts[number].runs_again(code)) {
                let message = format!(
                    "Back-off restarting failed container {} in pod {}_{}({})",
                    part.name,
                    name(pod),
                    namespace(pod),
                    uid(pod)
                );
                self.recorder.warn(pod, part.name, "BackOff", message);
            }
        }
    }

    /// Takes up the checks of containers that were started by a process before this one; whether there
    /// were any.
    fn resume(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        work: &mut Work,
        (object, all, view): (&Object, &[Part<'_>], &View),
    ) -> bool {
        let mut is_news = false;
        for (number, part) in all.iter().enumerate() {
            let Some(run) = view.last(number).filter(|_| view.observed.parts[number].runs()) else {
                continue;
            };
            let id = &run.record.id;
            if slot.facts().get(part.name).is_some_and(|facts| facts.run == *id) {
                continue;
            }
            let facts = Facts { run: id.clone(), ..Facts::default() };
            slot.facts().insert(part.name.to_owned(), facts);
            let said = ["containerStatuses", "initContainerStatuses"];
            let said = said.into_iter().flat_map(|field| items(&object["status"], field));
            let own = format!("cais://{id}");
            let was_ready = said
                .into_iter()
                .any(|one| one["containerID"] == own.as_str() && one["ready"] == true);
            let address =
                view.addresses(&self.facts.address).into_iter().next().unwrap_or_default();
            let addresses = std::slice::from_ref(&address);
            let origin = Origin { host: self, pod: object, addresses };
            // Files that are made of objects may have changed meanwhile.
            let _ = self.ready_volumes(slot, work, &origin);
            self.begin_probes(slot, object, part, (run.clone(), address), was_ready);
            is_news = true;
        }
        is_news
    }

    /// The pod as the API has it; as it had it last, if it has it no more.
    fn refresh_object(&self, slot: &Slot, work: &mut Work) {
        let found = self.cache.get(&slot.key).filter(|found| uid(found) == slot.uid);
        match found {
            Some(object) => {
                self.update_volumes(slot, work, &object);
                work.object = Some(object);
            }
            None => {
                work.is_gone = true;
                if work.object.is_none() {
                    // It was deleted while nobody was here: all that is known is what it left.
                    let containers: Vec<Value> =
                        work.parts.keys().map(|name| json!({"name": name})).collect();
                    let stub = json!({
                        "metadata": {
                            "name": slot.key.name, "namespace": slot.key.namespace, "uid": slot.uid,
                        },
                        "spec": {"containers": containers},
                    });
                    work.object = Some(Object::new(stub));
                }
            }
        }
    }

    /// Brings files of mounted objects up to date.
    fn update_volumes(&self, slot: &Slot, work: &mut Work, object: &Object) {
        let is_old = work.renew_at != 0 && now_ms() >= work.renew_at;
        if !(slot.take_refresh() || is_old) || work.volumes.is_none() {
            return;
        }
        self.renew_later(slot, work, object);
        let origin = Origin { host: self, pod: object, addresses: &[] };
        for volume in items(&object["spec"], "volumes") {
            let place = self.volume_place(&slot.uid, volume);
            if let Err(why) = volume::prepare(object, volume, &place, &origin) {
                let of = text(volume, &["name"]);
                let message = format!("MountVolume.SetUp failed for volume \"{of}\" : {why}");
                self.recorder.warn(object, "", "FailedMount", message);
            }
        }
    }

    /// Looks again at a pod before its tokens are too old, if it has any.
    fn renew_later(&self, slot: &Slot, work: &mut Work, object: &Value) {
        if let Some(seconds) = volume::token_seconds(object) {
            // As upstream: when four fifths of their time are over.
            work.renew_at = now_ms() + seconds * 800;
            self.timer.at(work.renew_at, &slot.uid);
        }
    }

    fn volume_place(&self, uid: &str, volume: &Value) -> std::path::PathBuf {
        self.pod_directory(uid).join("volumes").join(text(volume, &["name"]))
    }

    fn desired(
        &self,
        (slot, work): (&Slot, &mut Work),
        pod: &Value,
        all: &[Part<'_>],
        observed: &Observed,
    ) -> Desired {
        let one = |part: &Part<'_>| Wanted { kind: part.kind, restart: part.restart };
        let mut desired =
            Desired { ends: None, is_deleted: false, parts: all.iter().map(one).collect() };
        let deletion = text(pod, &["metadata", "deletionTimestamp"]);
        if work.is_gone {
            (desired.ends, desired.is_deleted) = (Some(0), true);
        } else if !deletion.is_empty() {
            (desired.ends, desired.is_deleted) = (Some(millis(deletion).unwrap_or(0)), true);
        } else if let Some(why) = slot.eviction() {
            work.ended.get_or_insert_with(|| ("Evicted".to_owned(), why));
            desired.ends = Some(0);
        } else if let Some(deadline) = deadline(pod, work) {
            let now = now_ms();
            if now < deadline {
                self.timer.at(deadline, uid(pod));
            } else if work.ended.is_some() || !phase(observed, &desired).is_final() {
                desired.ends = Some(deadline + grace_s(pod) * 1000);
                work.ended.get_or_insert_with(|| {
                    let message = "Pod was active on the node longer than the specified deadline";
                    self.recorder.normal(pod, "", "DeadlineExceeded", message.to_owned());
                    ("DeadlineExceeded".to_owned(), message.to_owned())
                });
            }
        } else if is_final_word(pod) && work.parts.values().all(|part| part.runs.is_empty()) {
            // Somebody else has ended it, or its containers are removed: nothing begins again.
            desired.ends = Some(0);
        }
        desired
    }

    /// Carries out a step; whether there may be something to do at once behind it.
    fn apply(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        work: &mut Work,
        (object, all, view): (&Object, &[Part<'_>], &View),
        step: &Action,
    ) -> bool {
        match step {
            Action::StartSandbox => self.start_sandbox(slot, work, object),
            Action::EndSandbox => {
                if let Some(sandbox) = &view.sandbox {
                    // What does not end now is looked at with the pod the next time.
                    let _ = self.engine.stop(sandbox, None, None);
                }
                false
            }
            Action::Start(number) => self.start_part(slot, work, (object, view), &all[*number]),
            Action::End(number) => {
                if let Some(container) = view.last(*number) {
                    self.end_part(slot, object, &all[*number], container);
                }
                false
            }
            Action::Kill(number) => {
                if let Some(container) = view.last(*number) {
                    let _ = self.engine.kill(container, rustix::process::Signal::KILL);
                }
                false
            }
            Action::Forget => self.forget(slot, work, (object, view)),
            Action::LookAt(time) => {
                self.timer.at(*time, &slot.uid);
                false
            }
        }
    }

    /// What failed is tried again later.
    fn retry(&self, slot: &Slot, work: &mut Work) {
        let wait = (work.failures.next_wait() / 10_000 * RETRY_MS).clamp(RETRY_MS, RETRY_MS_MAX);
        work.not_before = now_ms() + wait;
        self.timer.at(work.not_before, &slot.uid);
    }

    fn start_sandbox(&self, slot: &Slot, work: &mut Work, object: &Object) -> bool {
        if now_ms() < work.not_before {
            self.timer.at(work.not_before, &slot.uid);
            return false;
        }
        if let Some(old) = work.sandbox.take().and_then(|id| self.engine.find(&id).ok()) {
            let _ = self.engine.remove(&old, RemoveOptions { force: true, volumes: true });
            self.recorder.normal(
                object,
                "",
                "SandboxChanged",
                "Pod sandbox changed, it will be killed and re-created.".to_owned(),
            );
        }
        let settings = self.sandbox_settings(object, 0);
        let network = match crate::pod::is_on_host_network(object) {
            true => Ok(()),
            false => self.ensure_network(),
        };
        let made = network.and_then(|()| self.engine.create_pod(settings)).and_then(|pod| {
            work.sandbox = Some(pod.record.id.clone());
            self.spawner.start(&pod)
        });
        match made {
            Ok(()) => {
                work.failures = crate::backoff::Backoff::default();
                true
            }
            Err(error) => {
                let message = format!("Failed to create pod sandbox: {}", chain(&error));
                self.recorder.warn(object, "", "FailedCreatePodSandBox", message);
                self.retry(slot, work);
                false
            }
        }
    }

    /// Makes all volumes ready, once.
    fn ready_volumes(&self, slot: &Slot, work: &mut Work, origin: &Origin<'_>) -> Option<()> {
        if work.volumes.is_some() {
            return Some(());
        }
        let mut ready: Vec<(String, Ready)> = Vec::new();
        for volume in items(&origin.pod["spec"], "volumes") {
            let of = text(volume, &["name"]).to_owned();
            let place = self.volume_place(&slot.uid, volume);
            let made = volume::prepare(origin.pod, volume, &place, origin);
            let made = made.and_then(|made| match &made {
                Ready::Image(image) => {
                    let policy = text(volume, &["image", "pullPolicy"]);
                    let provided = self.provide(origin.pod, "", image, policy);
                    provided.map(|()| made).map_err(|(_, why)| why)
                }
                _ => Ok(made),
            });
            match made {
                Ok(made) => ready.push((of, made)),
                Err(why) => {
                    let message = format!("MountVolume.SetUp failed for volume \"{of}\" : {why}");
                    self.recorder.warn(origin.pod, "", "FailedMount", message);
                    self.retry(slot, work);
                    return None;
                }
            }
        }
        work.volumes = Some(ready);
        self.renew_later(slot, work, origin.pod);
        Some(())
    }

    fn start_part(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        work: &mut Work,
        (object, view): (&Object, &View),
        part: &Part<'_>,
    ) -> bool {
        let addresses = view.addresses(&self.facts.address);
        let origin = Origin { host: self, pod: object, addresses: &addresses };
        if self.ready_volumes(slot, work, &origin).is_none() {
            return false;
        }
        let Sandbox::Running(sandbox) = &view.observed.sandbox else { return false };
        if let Err(failure) = self.provide_image(object, part.spec) {
            let own = work.parts.entry(part.name.to_owned()).or_default();
            own.waiting = Some(failure);
            own.not_before = now_ms() + own.pull.next_wait();
            self.timer.at(now_ms() + SAY_WAITING_MS, &slot.uid);
            self.timer.at(own.not_before, &slot.uid);
            return false;
        }
        let volumes = work.volumes.clone().unwrap_or_default();
        let own = work.parts.entry(part.name.to_owned()).or_default();
        own.pull = crate::backoff::Backoff::default();
        let target = text(part.spec, &["targetContainerName"]);
        let target = parts(object).iter().position(|other| other.name == target);
        let target = target.and_then(|number| view.last(number)).map(|run| run.record.id.clone());
        let place = (own.next, sandbox.as_str(), target);
        let settings = self.container_settings(part, place, &volumes, &origin);
        let settings = settings.map_err(|why| ("CreateContainerConfigError", why));
        let made = settings.and_then(|settings| {
            let made = self.engine.create(settings);
            made.map_err(|error| ("CreateContainerError", chain(&error)))
        });
        let container = match made {
            Ok(container) => container,
            Err((reason, why)) => {
                self.recorder.warn(object, part.name, "Failed", format!("Error: {why}"));
                own.waiting = Some((reason.to_owned(), why));
                self.retry(slot, work);
                return false;
            }
        };
        let id = container.record.id.clone();
        (own.waiting, own.next) = (None, own.next + 1);
        own.runs.push(id.clone());
        let old = own.runs.len().saturating_sub(2);
        for old in own.runs.drain(..old) {
            if let Ok(old) = self.engine.find(&old) {
                let _ = self.engine.remove(&old, RemoveOptions { force: true, volumes: true });
            }
        }
        let facts = Facts { run: id, ..Facts::default() };
        slot.facts().insert(part.name.to_owned(), facts);
        let message = format!("Created container: {}", part.name);
        self.recorder.normal(object, part.name, "Created", message);
        if let Err(error) = self.spawner.start(&container) {
            self.recorder.warn(object, part.name, "Failed", format!("Error: {}", chain(&error)));
            return true;
        }
        work.failures = crate::backoff::Backoff::default();
        let message = format!("Started container {}", part.name);
        self.recorder.normal(object, part.name, "Started", message);
        self.begin_checks(slot, object, part, (&container, &addresses));
        false
    }

    /// Removes everything of a pod: here, then its object.
    fn forget(&self, slot: &Slot, work: &mut Work, (object, view): (&Object, &View)) -> bool {
        if !work.is_gone {
            // Whoever looks sees how it has ended.
            self.report(slot, work);
        }
        let force = RemoveOptions { force: true, volumes: true };
        let containers = view.runs.iter().flatten().chain(&view.sandbox);
        let mut is_clean = true;
        for container in containers {
            let removed = self.engine.remove(container, force);
            let is_gone = |error: &engine::Error| error.kind() == engine::Kind::NotFound;
            is_clean &= removed.as_ref().map_or_else(is_gone, |()| true);
        }
        is_clean &= self.engine.remove_group(Path::new(&self.group(object))).is_ok();
        let directory = self.pod_directory(&slot.uid);
        is_clean &= std::fs::remove_dir_all(&directory).is_ok() || !directory.exists();
        if !is_clean {
            self.retry(slot, work);
            return false;
        }
        if !work.is_gone {
            let how =
                Deletion { uid: Some(slot.uid.clone()), grace: Some(0), ..Deletion::default() };
            let place = (namespace(object), name(object));
            let deleted = self.client.delete(kind("Pod"), place, &how);
            if deleted.is_err_and(|failure| !failure.is_not_found() && !failure.is_conflict()) {
                self.retry(slot, work);
                return false;
            }
        }
        work.is_over = true;
        false
    }
}

/// When a pod has been active for long enough (ms).
fn deadline(pod: &Value, work: &Work) -> Option<i64> {
    let seconds = at(pod, &["spec", "activeDeadlineSeconds"]).as_i64()?;
    let reported = millis(text(&work.reported, &["startTime"]));
    let started = millis(text(pod, &["status", "startTime"])).or(reported)?;
    Some(started + seconds * 1000)
}

/// Whether the API says that nothing more will happen.
fn is_final_word(pod: &Value) -> bool {
    matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed")
}
