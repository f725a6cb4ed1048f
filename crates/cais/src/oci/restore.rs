//! `restore`.

use anyhow::{Context as _, Result};
use runtime::container::{Bundle, Console, Foreground, Restore, Started};

use super::checkpoint::{self, Options};
use super::flag::Flag;
use super::{Args, Call, Verb, cgroup_is_optional, create, run};

pub(super) const VERB: Verb = Verb {
    name: "restore",
    about: "restore a container from a previous checkpoint",
    usage: "<container-id>",
    flags: &[
        create::CONSOLE_SOCKET,
        checkpoint::IMAGE_PATH,
        checkpoint::WORK_PATH,
        checkpoint::TCP_ESTABLISHED,
        checkpoint::EXT_UNIX_SK,
        checkpoint::SHELL_JOB,
        checkpoint::FILE_LOCKS,
        checkpoint::MANAGE_CGROUPS_MODE,
        create::BUNDLE,
        Flag::switch("detach", "detach from the container's process").short('d'),
        create::PID_FILE,
        Flag::switch(
            "no-subreaper",
            "disable the use of the subreaper used to reap reparented processes",
        ),
        create::NO_PIVOT,
        checkpoint::EMPTY_NS,
        checkpoint::AUTO_DEDUP,
        checkpoint::LAZY_PAGES,
        Flag::value("lsm-profile", "an LSM profile to be used during restore, as TYPE:NAME"),
        Flag::value("lsm-mount-context", "an LSM mount context to be used during restore"),
    ],
    args: Args::Exactly(1),
    sealed: false,
    run: restore,
};

fn restore(call: &Call<'_>) -> Result<i32> {
    let own = &call.own;
    let detach = own.is_on("detach");
    let mut started = make(call, detach)?;
    if detach {
        started.unlock();
        return Ok(0);
    }
    // Only now: CRIU would inherit that signals are kept from it.
    let outcome = stay(&mut started, !own.is_on("no-subreaper"));
    started.unlock();
    run::clean(call, started);
    outcome
}

/// Stays with it until it ends.
fn stay(started: &mut Started, subreaper: bool) -> Result<i32> {
    let mut foreground = Foreground::new(subreaper).context("take the signals")?;
    started.unlock();
    let master = started.master.take();
    let status = foreground.attend(&started.process, master).context("wait for the container")?;
    Ok(status.code())
}

fn make(call: &Call<'_>, detach: bool) -> Result<Started> {
    let own = &call.own;
    let options = Options::of(call)?;
    if own.is_on("no-pivot") {
        call.log.warn("--no-pivot changes nothing: CRIU makes the root of what it restores");
    }
    let bundle = Bundle::load(&create::path(call, "bundle").unwrap_or_else(|| ".".into()))?;
    bundle.warnings.iter().for_each(|warning| call.log.warn(warning));
    let process = bundle.spec.process().as_ref();
    let terminal = process.is_some_and(|process| process.terminal() == Some(true));
    let console = Console::of(detach, terminal, create::path(call, "console-socket"))?;
    let pid_file = create::path(call, "pid-file");
    let restored = Restore {
        root: call.root,
        id: call.id()?,
        bundle: &bundle,
        console,
        pid_file: pid_file.as_deref(),
        systemd_cgroup: call.global.is_on("systemd-cgroup"),
        cgroup_optional: cgroup_is_optional(call.global)?,
        now_ns: create::now_ns().context("look at the clock")?,
        images: options.images(),
        lsm_profile: own.text("lsm-profile"),
        lsm_mount_context: own.text("lsm-mount-context"),
    };
    Ok(restored.restore()?)
}
