//! `create`.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use runtime::container::{Bundle, Console, Create, Started};

use super::flag::Flag;
use super::{Args, Call, Verb, cgroup_is_optional, trace};

/// What `create` and `run` share.
pub(super) const BUNDLE: Flag = Flag::value(
    "bundle",
    "path to the root of the bundle directory, defaults to the current directory",
)
.short('b');
pub(super) const CONSOLE_SOCKET: Flag = Flag::value(
    "console-socket",
    "path to an AF_UNIX socket which will receive a file descriptor referencing the master end of the console's pseudoterminal",
);
pub(super) const PIDFD_SOCKET: Flag = Flag::value(
    "pidfd-socket",
    "path to an AF_UNIX socket which will receive a file descriptor referencing the process",
);
pub(super) const PID_FILE: Flag =
    Flag::value("pid-file", "specify the file to write the process id to");
pub(super) const NO_PIVOT: Flag = Flag::switch(
    "no-pivot",
    "do not use pivot root to jail process inside rootfs; for a rootfs on top of a ramdisk",
);
pub(super) const NO_NEW_KEYRING: Flag =
    Flag::switch("no-new-keyring", "do not create a new session keyring for the container");
pub(super) const PRESERVE_FDS: Flag = Flag::value(
    "preserve-fds",
    "pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total)",
);

pub(super) const VERB: Verb = Verb {
    name: "create",
    about: "create a container",
    usage: "<container-id>",
    flags: &[
        BUNDLE,
        CONSOLE_SOCKET,
        PIDFD_SOCKET,
        PID_FILE,
        NO_PIVOT,
        NO_NEW_KEYRING,
        PRESERVE_FDS,
    ],
    args: Args::Exactly(1),
    sealed: true,
    run,
};

fn run(call: &Call<'_>) -> Result<i32> {
    create(call, true, false).map(|_| 0)
}

/// Creates the container that the flags describe; `at_once` if the caller is to start it.
pub(super) fn create(call: &Call<'_>, detach: bool, at_once: bool) -> Result<Started> {
    let (id, own) = (call.id()?, &call.own);
    let bundle = Bundle::load(Path::new(own.text("bundle").unwrap_or(".")))?;
    bundle.warnings.iter().for_each(|warning| call.log.warn(warning));
    let process = bundle.spec.process().as_ref();
    let terminal = process.is_some_and(|process| process.terminal() == Some(true));
    let console = Console::of(detach, terminal, path(call, "console-socket"))?;
    trace::creating(call.log, &bundle.spec);
    let started = Create {
        root: call.root,
        id,
        bundle,
        console,
        at_once,
        pid_file: path(call, "pid-file").as_deref(),
        pidfd_socket: path(call, "pidfd-socket").as_deref(),
        listening: call.inherited.listening,
        preserved: call.inherited.preserved,
        supervised: supervisor().is_some(),
        systemd_cgroup: call.global.is_on("systemd-cgroup"),
        cgroup_optional: cgroup_is_optional(call.global)?,
        no_pivot: own.is_on("no-pivot"),
        keep_keyring: own.is_on("no-new-keyring"),
        now_ns: now_ns().context("look at the clock")?,
    }
    .create()?;
    trace::created(call.log);
    Ok(started)
}

/// Where to say that the program is ready (sd_notify(3)).
pub(super) fn supervisor() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
}

pub(super) fn path(call: &Call<'_>, name: &str) -> Option<PathBuf> {
    call.own.text(name).map(PathBuf::from)
}

pub(super) fn now_ns() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}
