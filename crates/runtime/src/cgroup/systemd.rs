//! Groups that systemd makes: a scope for every container (org.freedesktop.systemd1(5)).
//!
//! systemd owns the tree of groups on most machines and may take back what others make in it, but
//! delegates a scope to whoever asked for it. A scope needs a process from its first moment on, and
//! a container's first process is born in its group; so a placeholder is there until then.

mod dbus;
mod placeholder;
mod property;
mod unit;

use std::io;
use std::path::{Path, PathBuf};

use oci::runtime::LinuxResources;

use super::apply::Plan;
use super::hierarchy::{Layout, Version};
use super::limit::Setting;
use super::{Cgroup, Error};
use crate::procfs;
use dbus::{Connection, Failure, Method, Value};
use placeholder::Placeholder;
use property::Properties;

pub use unit::Unit;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
/// There is a unit of this name.
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// There is none.
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// What a group is still to be freed from, once the container's first process is in it.
#[derive(Debug)]
pub(super) struct Pending {
    placeholder: Placeholder,
    unit: Unit,
    /// The limit on processes, which the placeholder would be counted by.
    later: Vec<Setting>,
    properties: Properties,
}

impl Unit {
    /// Makes the scope and applies `resources` to its group.
    ///
    /// # Errors
    /// [`Error::Systemd`] when systemd cannot be reached or refuses; otherwise as for
    /// [`Cgroup::create`]. Nothing is left then.
    pub fn create(&self, resources: Option<&LinuxResources>) -> Result<Cgroup, Error> {
        let layout = Layout::of_host()?;
        let none = LinuxResources::default();
        let resources = resources.unwrap_or(&none);
        // Whatever is wrong with the request shows before anything is touched.
        let mut plan = Plan::of(resources, &layout, &|_, _| None)?;
        let version = |controller: &str| layout.version(controller);
        let limits = property::of(resources, &version)?;
        let (properties, limits): (Vec<_>, Vec<_>) =
            limits.into_iter().partition(|(name, _)| name == "TasksMax");
        let placeholder = Placeholder::start()?;
        let pid = placeholder.pid();
        self.start(pid, limits)?;
        let pending =
            Pending { placeholder, unit: self.clone(), later: plan.take_pids(), properties };
        let made = group_of(pid, &layout).and_then(|path| {
            let made = Cgroup::adopt(layout.clone(), &path, &plan, pid)?;
            Ok(made.with(pending).of_unit(self))
        });
        made.inspect_err(|_| {
            let _ = self.stop();
        })
    }

    /// Tells systemd of changed limits; the group's files are [`Cgroup::update`]'s.
    ///
    /// # Errors
    /// [`Error::Systemd`]; [`Error::Invalid`] for a limit.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        let layout = Layout::of_host()?;
        self.set(property::of(resources, &|controller: &str| layout.version(controller))?)
    }

    /// Moves a process into the scope's group.
    pub(super) fn attach(&self, pid: i32) -> Result<(), Error> {
        let pids = Value::Array("u".into(), vec![Value::U32(pid.unsigned_abs())]);
        let arguments = [Value::text(self.name()), Value::text("/"), pids];
        self.connect()?
            .call(&manager("AttachProcessesToUnit"), &arguments)
            .map(drop)
            .map_err(self.failed("move a process into"))
    }

    fn set(&self, properties: Properties) -> Result<(), Error> {
        if properties.is_empty() {
            return Ok(());
        }
        let runtime = Value::Bool(true);
        let arguments = [Value::text(self.name()), runtime, Value::properties(properties)];
        self.connect()?
            .call(&manager("SetUnitProperties"), &arguments)
            .map(drop)
            .map_err(self.failed("change the properties of"))
    }

    /// Ends the scope with all that is in it, and lets systemd forget it. One that is not there is
    /// as good.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub fn stop(&self) -> Result<(), Error> {
        let mut connection = self.connect()?;
        let arguments = [Value::text(self.name()), Value::text("replace")];
        match connection.call(&manager("StopUnit"), &arguments) {
            Ok(job) => drop(finished(&mut connection, &job).map_err(self.failed("stop"))?),
            Err(Failure::Refused { name, .. }) if name == NO_SUCH_UNIT => {}
            Err(failure) => return Err(self.failed("stop")(failure)),
        }
        // One that failed, for example because memory ran out, stays until this.
        let _ = connection.call(&manager("ResetFailedUnit"), &arguments[..1]);
        Ok(())
    }

    fn start(&self, pid: i32, limits: Properties) -> Result<(), Error> {
        let mut connection = self.connect()?;
        let properties = self.properties(pid, limits);
        let arguments = [
            Value::text(self.name()),
            Value::text("replace"),
            Value::properties(properties),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        let start = manager("StartTransientUnit");
        let job = match connection.call(&start, &arguments) {
            // A container of this name has failed, and nobody has cleared it away.
            Err(Failure::Refused { name, .. }) if name == UNIT_EXISTS => {
                let _ = connection.call(&manager("ResetFailedUnit"), &arguments[..1]);
                connection.call(&start, &arguments)
            }
            other => other,
        };
        let job = job.map_err(self.failed("start"))?;
        match finished(&mut connection, &job).map_err(self.failed("start"))?.as_str() {
            "done" => Ok(()),
            result => {
                let _ = connection.call(&manager("ResetFailedUnit"), &arguments[..1]);
                let failure = io::Error::other(format!("its job ended as {result:?}"));
                Err(self.failed("start")(failure.into()))
            }
        }
    }

    fn properties(&self, pid: i32, limits: Properties) -> Properties {
        let description = format!("cais container {}", self.name().trim_end_matches(".scope"));
        let pids = Value::Array("u".into(), vec![Value::U32(pid.unsigned_abs())]);
        let yes = || Value::Bool(true);
        let mut all: Properties = [
            ("Description", Value::Text(description)),
            ("Slice", Value::text(self.slice())),
            ("Delegate", yes()),
            ("PIDs", pids),
            ("MemoryAccounting", yes()),
            ("CPUAccounting", yes()),
            ("IOAccounting", yes()),
            ("TasksAccounting", yes()),
            // Otherwise it would end before the services of the machine do.
            ("DefaultDependencies", Value::Bool(false)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        all.extend(limits);
        all
    }

    /// Connects to the manager, by the bus or else by its own socket, and subscribes to what
    /// becomes of jobs.
    fn connect(&self) -> Result<Connection, Error> {
        let places = places(self.is_of_user());
        let mut failure = Failure::Io(io::ErrorKind::NotFound.into());
        for (socket, is_bus) in &places {
            match Connection::open(socket, *is_bus).and_then(|c| subscribe(c, *is_bus)) {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        let shown: Vec<String> = places.iter().map(|(p, _)| p.display().to_string()).collect();
        Err(Error::Systemd {
            action: format!("reach systemd at {}", shown.join(" or ")),
            source: Box::new(failure),
        })
    }

    fn failed(&self, verb: &str) -> impl FnOnce(Failure) -> Error {
        let action = format!("{verb} systemd's unit {}", self.name());
        move |failure| Error::Systemd { action, source: Box::new(failure) }
    }
}

impl Pending {
    /// Ends the placeholder.
    pub(super) fn settle(self, cgroup: &Cgroup) -> Result<(), Error> {
        drop(self.placeholder);
        self.unit.set(self.properties)?;
        self.later.iter().try_for_each(|setting| cgroup.set(setting))
    }
}

fn manager(member: &str) -> Method<'_> {
    Method { destination: SYSTEMD, path: MANAGER_PATH, interface: MANAGER, member }
}

fn subscribe(mut connection: Connection, is_bus: bool) -> Result<Connection, Failure> {
    if is_bus {
        connection.listen(&format!(
            "type='signal',interface='{MANAGER}',member='JobRemoved',path='{MANAGER_PATH}'"
        ))?;
    }
    connection.call(&manager("Subscribe"), &[])?;
    Ok(connection)
}

/// How a job has ended, from the answer that names it.
fn finished(connection: &mut Connection, job: &[Value]) -> Result<String, Failure> {
    let body = connection.wait_signal("JobRemoved", |body| body.get(1) == job.first())?;
    match body.into_iter().nth(3) {
        Some(Value::Text(result)) => Ok(result),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
    }
}

/// The sockets of a manager, and whether a bus listens there.
fn places(user: bool) -> Vec<(PathBuf, bool)> {
    if !user {
        let bus = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
        let bus = bus.as_deref().and_then(dbus::socket_of);
        let bus = bus.unwrap_or_else(|| PathBuf::from("/run/dbus/system_bus_socket"));
        return vec![(bus, true), (PathBuf::from("/run/systemd/private"), false)];
    }
    let mut all = Vec::new();
    let session = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok();
    all.extend(session.as_deref().and_then(dbus::socket_of).map(|socket| (socket, true)));
    if let Some(run) = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        all.push((Path::new(&run).join("bus"), true));
        all.push((Path::new(&run).join("systemd/private"), false));
    }
    all
}

/// Where systemd has put the process, below the root of every hierarchy: its path in version 2's,
/// or in systemd's own where that is of version 1 (proc_pid_cgroup(5)).
fn group_of(pid: i32, layout: &Layout) -> Result<PathBuf, Error> {
    let file = format!("/proc/{pid}/cgroup");
    let text = procfs::read(&file).map_err(Error::io(format!("read {file}")))?;
    let named = |controllers: &str| {
        text.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (found, path) = rest.split_once(':')?;
            (found == controllers && path != "/").then(|| PathBuf::from(path))
        })
    };
    let own = layout.hierarchies.iter().any(|h| h.version == Version::V1 && h.has("name=systemd"));
    let path = if own { named("name=systemd").or_else(|| named("")) } else { named("") };
    path.ok_or_else(|| {
        Error::Unsupported(format!("a unit of systemd whose group cannot be found in {file}"))
    })
}
