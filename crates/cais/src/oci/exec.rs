//! `exec`.

use std::fs;

use anyhow::{Context as _, Result, bail};
use oci::runtime::{Capability, LinuxCapabilities, Process};
use runtime::container::{Console, Container, Execute, Foreground, Subgroup};

use super::create::{CONSOLE_SOCKET, PID_FILE, PIDFD_SOCKET, PRESERVE_FDS, path};
use super::flag::{Flag, Matches};
use super::{Args, Call, Verb, trace};

pub(super) const VERB: Verb = Verb {
    name: "exec",
    about: "execute new process inside the container",
    usage: "<container-id> <command> [command options]  || -p process.json <container-id>",
    flags: &[
        CONSOLE_SOCKET,
        PIDFD_SOCKET,
        Flag::value("cwd", "current working directory in the container"),
        Flag::value("env", "set environment variables").short('e'),
        Flag::switch("tty", "allocate a pseudo-TTY").short('t'),
        Flag::value("user", "UID (format: <uid>[:<gid>])").short('u'),
        Flag::value("additional-gids", "additional gids").short('g'),
        Flag::value("process", "path to the process.json").short('p'),
        Flag::switch("detach", "detach from the container's process").short('d'),
        PID_FILE,
        Flag::value("process-label", "set the asm process label for the process"),
        Flag::value("apparmor", "set the apparmor profile for the process"),
        Flag::switch("no-new-privs", "set the no new privileges value for the process"),
        Flag::value("cap", "add a capability to the bounding set for the process").short('c'),
        PRESERVE_FDS,
        Flag::value(
            "cgroup",
            "run the process in an (existing) sub-cgroup(s). Format is [<controller>:]<cgroup>.",
        ),
        Flag::switch("ignore-paused", "allow exec in a paused container"),
    ],
    args: Args::AtLeast(1),
    sealed: true,
    run,
};

fn run(call: &Call<'_>) -> Result<i32> {
    let own = &call.own;
    let container = Container::open_running(call.root, call.id()?, own.is_on("ignore-paused"))?;
    let process = match own.text("process") {
        Some(path) => read(path, call)?,
        None => described(container.process()?, own)?,
    };
    runtime::process_warnings(&process).iter().for_each(|warning| call.log.warn(warning));
    let detach = own.is_on("detach");
    let terminal = process.terminal().unwrap_or(false);
    let (pid_file, pidfd_socket) = (path(call, "pid-file"), path(call, "pidfd-socket"));
    let subgroups = subgroups(own.values("cgroup"))?;
    let execute = Execute {
        process: &process,
        console: Console::of(detach, terminal, path(call, "console-socket"))?,
        pid_file: pid_file.as_deref(),
        pidfd_socket: pidfd_socket.as_deref(),
        preserved: call.inherited.preserved,
        subgroups: &subgroups,
    };
    let foreground = || Foreground::new(false).context("take the signals");
    let foreground = (!detach).then(foreground).transpose()?;
    trace::executing(call.log, &process);
    let (process, master) = container.execute(&execute)?;
    trace::executed(call.log);
    container.unlock();
    let Some(mut foreground) = foreground else { return Ok(0) };
    let status = foreground.attend(&process, master).context("wait for the process")?;
    Ok(status.code())
}

fn read(path: &str, call: &Call<'_>) -> Result<Process> {
    let bytes = fs::read(path).with_context(|| format!("open {path}"))?;
    let parsed = oci::parse_process(&bytes).with_context(|| format!("read {path}"))?;
    parsed.warnings.iter().for_each(|warning| call.log.warn(warning));
    Ok(parsed.value)
}

/// The bundle's process, changed as the flags say.
fn described(mut process: Process, own: &Matches) -> Result<Process> {
    let args = own.args.get(1..).filter(|args| !args.is_empty());
    process.set_args(Some(args.context("exec args cannot be empty")?.to_vec()));
    if let Some(cwd) = own.text("cwd") {
        process.set_cwd(cwd.into());
    }
    if let Some(profile) = own.text("apparmor") {
        process.set_apparmor_profile(Some(profile.into()));
    }
    if let Some(label) = own.text("process-label") {
        process.set_selinux_label(Some(label.into()));
    }
    add_capabilities(&mut process, own)?;
    let env = process.env_mut().get_or_insert_default();
    env.extend(own.values("env").map(str::to_owned));
    process.set_terminal(Some(own.is_on("tty")));
    if own.value("no-new-privs").is_some() {
        process.set_no_new_privileges(Some(own.is_on("no-new-privs")));
    }
    set_user(&mut process, own)?;
    Ok(process)
}

fn set_user(process: &mut Process, own: &Matches) -> Result<()> {
    let user = process.user_mut();
    if let Some(text) = own.text("user") {
        let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
        user.set_uid(uid.parse().with_context(|| format!("bad uid: \"{uid}\""))?);
        if let Some(gid) = gid {
            user.set_gid(gid.parse().with_context(|| format!("bad gid: \"{gid}\""))?);
        }
    }
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    for text in own.values("additional-gids").flat_map(|list| list.split(',')) {
        let gid = text
            .parse()
            .with_context(|| format!("additional-gids must be a positive number {text}"))?;
        groups.push(gid);
    }
    if !groups.is_empty() {
        user.set_additional_gids(Some(groups));
    }
    Ok(())
}

/// Adds to the sets that a process needs to use a capability; to the ambient one where some are
/// inherited, as runc does.
fn add_capabilities(process: &mut Process, own: &Matches) -> Result<()> {
    let names: Vec<&str> = own.values("cap").collect();
    if names.is_empty() {
        return Ok(());
    }
    let mut sets = process.capabilities().clone().unwrap_or_else(no_capabilities);
    for name in names {
        let capability = serde_json::from_value::<Capability>(name.into());
        let capability = capability.with_context(|| format!("unknown capability \"{name}\""))?;
        let inheritable = sets.inheritable().is_some();
        let add = |set: &Option<std::collections::HashSet<Capability>>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let (bounding, effective) = (add(sets.bounding()), add(sets.effective()));
        let (permitted, ambient) = (add(sets.permitted()), add(sets.ambient()));
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
        if inheritable {
            sets.set_ambient(ambient);
        }
    }
    process.set_capabilities(Some(sets));
    Ok(())
}

fn no_capabilities() -> LinuxCapabilities {
    let mut none = LinuxCapabilities::default();
    none.set_bounding(None)
        .set_effective(None)
        .set_inheritable(None)
        .set_permitted(None)
        .set_ambient(None);
    none
}

/// `CONTROLLER[,CONTROLLER]:PATH`, or a single `PATH` in version 2.
fn subgroups<'a>(args: impl Iterator<Item = &'a str>) -> Result<Vec<Subgroup>> {
    let args: Vec<&str> = args.collect();
    let mut groups: Vec<Subgroup> = Vec::new();
    for arg in &args {
        let Some((controllers, path)) = arg.split_once(':') else {
            if args.len() != 1 {
                bail!("invalid --cgroup argument: {arg} (missing <controller>: prefix)");
            }
            return Ok(vec![Subgroup { controller: None, path: arg.into() }]);
        };
        for controller in controllers.split(',') {
            if controller.is_empty() {
                bail!("invalid --cgroup argument: {arg} (empty <controller> prefix)");
            }
            let name = controller;
            let controller = Some(controller.to_owned());
            if groups.iter().any(|group| group.controller == controller) {
                bail!("invalid --cgroup argument(s): controller {name} specified multiple times");
            }
            groups.push(Subgroup { controller, path: path.into() });
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subgroups_are_named_by_controller() {
        let group = |controller: Option<&str>, path: &str| Subgroup {
            controller: controller.map(str::to_owned),
            path: path.into(),
        };
        let read = |args: &[&str]| subgroups(args.iter().copied());
        assert_eq!(read(&[]).unwrap(), []);
        assert_eq!(read(&["x/y"]).unwrap(), [group(None, "x/y")]);
        assert_eq!(
            read(&["cpu,cpuacct:a", "memory:b"]).unwrap(),
            [group(Some("cpu"), "a"), group(Some("cpuacct"), "a"), group(Some("memory"), "b")]
        );
        for wrong in [&["a", "b"][..], &[":a"], &["cpu,:a"], &["cpu:a", "cpu:b"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
