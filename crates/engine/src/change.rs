//! Changing a container after it was created: its name, its limits, its restart policy.

use runtime::cgroup::Cgroup;

use crate::Engine;
use crate::container::Container;
use crate::error::{Error, Kind, Result};
use crate::event::Event;
use crate::image::from_cgroup;
use crate::restart::RestartPolicy;
use crate::settings::Limits;
use crate::spec;

/// What is to change; everything else stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Update {
    /// The limits that are set here.
    pub limits: Limits,
    /// Its new restart policy.
    pub restart: Option<RestartPolicy>,
}

impl Engine {
    /// Gives a container another name.
    ///
    /// # Errors
    /// [`Kind::Exists`] if the name is taken, [`Kind::Invalid`] if it is none.
    pub fn rename(&self, container: &Container, name: &str) -> Result<()> {
        let name = name.strip_prefix('/').unwrap_or(name);
        if name.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let mut container = container.clone();
        let _lock = container.lock()?;
        if container.record.name == name {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        self.sweep_name(name);
        let id = container.record.id.clone();
        let new = self.containers.reserve(name, &id)?;
        let old = std::mem::replace(&mut container.record.name, new);
        match self.save_record(&mut container) {
            Ok(()) => {
                self.containers.release(&old, &id);
                let event = Event::container("rename", &container);
                self.emit(event.with("oldName", &format!("/{old}")));
            }
            Err(error) => {
                self.containers.release(name, &id);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Changes limits and the restart policy, of a running container at once.
    ///
    /// # Errors
    /// If the kernel refuses a limit; then nothing has changed that is written down.
    pub fn update(&self, container: &Container, update: &Update) -> Result<()> {
        let mut container = container.clone();
        let _lock = container.lock()?;
        if let Some(restart) = update.restart {
            if container.record.settings.auto_remove && restart != RestartPolicy::No {
                let message = "Restart policy cannot be updated because AutoRemove is enabled for \
                               the container";
                return Err(Error::new(Kind::Conflict, message));
            }
            container.record.settings.restart = restart;
        }
        let before = container.record.settings.limits.clone();
        let limits = &mut container.record.settings.limits;
        limits.change(&update.limits)?;
        if *limits != before {
            let settings = &container.record.settings;
            let devices = spec::devices(settings)?;
            let mut resources = spec::resources(settings, &devices)?;
            if settings.pod.is_some() {
                // Each of its containers says itself what it may reach.
                resources.set_devices(None);
            }
            if container.state.pid != 0 {
                let path = container.cgroup_path();
                // A pod's limits are those of what its containers are in, too.
                let is_pod = container.record.settings.pod.is_some();
                let around = path.parent().filter(|_| is_pod).map(std::path::Path::to_owned);
                for path in around.into_iter().chain([path]) {
                    let cgroup = Cgroup::open(&path).map_err(from_cgroup)?;
                    cgroup.update(&resources).map_err(from_cgroup)?;
                }
            }
        }
        self.save_record(&mut container)?;
        self.emit(Event::container("update", &container));
        Ok(())
    }

    /// Replaces the record; the caller holds the lock.
    pub(crate) fn save_record(&self, container: &mut Container) -> Result<()> {
        crate::record::write(&container.dir, &container.record)?;
        container.state.changes = container.state.changes.wrapping_add(1);
        container.save()
    }
}

impl Limits {
    /// What is asked for that a container has from its start, or never.
    fn fixed(&self) -> Option<&'static str> {
        let all = [
            ("memory swappiness", self.memory_swappiness.is_some()),
            ("block I/O weights of devices", !self.blkio_weight_devices.is_empty()),
            ("limits of block devices", !self.blkio_throttles.is_empty()),
            ("OOM kill disable", self.oom_kill_disable),
            ("rules for devices", !self.device_rules.is_empty()),
            ("ulimits", !self.ulimits.is_empty()),
            ("OOM score adjustment", self.oom_score_adj.is_some()),
        ];
        all.into_iter().find(|(_, asked)| *asked).map(|(name, _)| name)
    }

    /// Takes over the limits that are set in `new`.
    fn change(&mut self, new: &Limits) -> Result<()> {
        if let Some(name) = new.fixed() {
            let text = format!("{name} cannot be changed after a container was created");
            return Err(Error::new(Kind::Unsupported, text).hint("create the container anew"));
        }
        let swap = new.memory_swap.or(self.memory_swap).filter(|swap| *swap > 0);
        if let (Some(memory), Some(swap)) = (new.memory, swap)
            && memory > swap
        {
            return Err(Error::invalid(
                "Memory limit should be smaller than already set memoryswap limit, update the \
                 memoryswap at the same time",
            ));
        }
        if new.nano_cpus.is_some() && (self.cpu_quota_us.is_some() || self.cpu_period_us.is_some())
        {
            return Err(Error::invalid(
                "Conflicting options: Nano CPUs and CPU Period cannot both be set",
            ));
        }
        if self.nano_cpus.is_some() && (new.cpu_quota_us.is_some() || new.cpu_period_us.is_some()) {
            return Err(Error::invalid(
                "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been \
                 set",
            ));
        }
        let text = |own: &mut String, new: &String| {
            if !new.is_empty() {
                own.clone_from(new);
            }
        };
        self.memory = new.memory.or(self.memory);
        self.memory_reservation = new.memory_reservation.or(self.memory_reservation);
        self.memory_swap = new.memory_swap.or(self.memory_swap);
        self.nano_cpus = new.nano_cpus.or(self.nano_cpus);
        self.cpu_shares = new.cpu_shares.or(self.cpu_shares);
        self.cpu_period_us = new.cpu_period_us.or(self.cpu_period_us);
        self.cpu_quota_us = new.cpu_quota_us.or(self.cpu_quota_us);
        self.cpu_rt_runtime_us = new.cpu_rt_runtime_us.or(self.cpu_rt_runtime_us);
        self.cpu_rt_period_us = new.cpu_rt_period_us.or(self.cpu_rt_period_us);
        self.blkio_weight = new.blkio_weight.or(self.blkio_weight);
        self.pids = new.pids.or(self.pids);
        text(&mut self.cpuset_cpus, &new.cpuset_cpus);
        text(&mut self.cpuset_mems, &new.cpuset_mems);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_changes() {
        let mut limits = Limits { memory: Some(1 << 30), pids: Some(9), ..Limits::default() };
        let new = Limits { cpu_shares: Some(512), cpuset_cpus: "0".into(), ..Limits::default() };
        limits.change(&new).unwrap();
        let expected = Limits { memory: Some(1 << 30), pids: Some(9), ..new };
        assert_eq!(limits, expected);
    }

    #[test]
    fn what_is_fixed_at_the_start_is_not_changed() {
        for new in [
            Limits { oom_kill_disable: true, ..Limits::default() },
            Limits { oom_score_adj: Some(1), ..Limits::default() },
            Limits { memory_swappiness: Some(1), ..Limits::default() },
        ] {
            let mut limits = Limits::default();
            assert_eq!(limits.change(&new).unwrap_err().kind(), Kind::Unsupported);
            assert_eq!(limits, Limits::default());
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let mut limits = Limits { memory_swap: Some(100), nano_cpus: Some(1), ..Limits::default() };
        for new in [
            Limits { memory: Some(200), ..Limits::default() },
            Limits { cpu_quota_us: Some(1), ..Limits::default() },
        ] {
            limits.change(&new).unwrap_err();
        }
        let both = Limits { memory: Some(200), memory_swap: Some(200), ..Limits::default() };
        limits.change(&both).unwrap();
    }
}
