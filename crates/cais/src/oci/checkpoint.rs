//! `checkpoint` and `restore`, which are not supported yet.

use anyhow::{Result, bail};

use super::flag::Flag;
use super::{Args, Call, Verb};

pub(super) const CHECKPOINT: Verb = Verb {
    name: "checkpoint",
    about: "checkpoint a running container",
    usage: "<container-id>",
    flags: FLAGS,
    args: Args::Exactly(1),
    sealed: false,
    run,
};

pub(super) const RESTORE: Verb = Verb {
    name: "restore",
    about: "restore a container from a previous checkpoint",
    usage: "<container-id>",
    flags: FLAGS,
    args: Args::Exactly(1),
    sealed: false,
    run,
};

/// Those of runc's commands, so that what is refused is the command and not its flags.
const FLAGS: &[Flag] = &[
    Flag::value("bundle", "path to the root of the bundle directory").short('b'),
    Flag::value("console-socket", "path to an AF_UNIX socket for the console"),
    Flag::value("pid-file", "specify the file to write the process id to"),
    Flag::switch("detach", "detach from the container's process").short('d'),
    Flag::switch("no-subreaper", "disable the use of the subreaper"),
    Flag::switch("no-pivot", "do not use pivot root"),
    Flag::value("image-path", "path for criu image files"),
    Flag::value("work-path", "path for work files and logs"),
    Flag::value("parent-path", "path for previous criu image files in pre-dump"),
    Flag::switch("leave-running", "leave the process running after checkpointing"),
    Flag::switch("tcp-established", "allow open tcp connections"),
    Flag::switch("tcp-skip-in-flight", "skip in-flight tcp connections"),
    Flag::switch("link-remap", "allow one to link unlinked files back when possible"),
    Flag::switch("ext-unix-sk", "allow external unix sockets"),
    Flag::switch("shell-job", "allow shell jobs"),
    Flag::switch("lazy-pages", "use userfaultfd to lazily restore memory pages"),
    Flag::value("status-fd", "criu writes to this FD once lazy-pages is ready"),
    Flag::value("page-server", "ADDRESS:PORT of the page server"),
    Flag::switch("file-locks", "handle file locks, for safety"),
    Flag::switch("pre-dump", "dump container's memory information only"),
    Flag::value("manage-cgroups-mode", "cgroups mode: soft|full|strict|ignore"),
    Flag::value("empty-ns", "create a namespace, but don't restore its properties"),
    Flag::switch("auto-dedup", "enable auto deduplication of memory images"),
    Flag::value("lsm-profile", "an LSM profile to be used during restore"),
    Flag::value("lsm-mount-context", "an LSM mount context to be used during restore"),
];

fn run(_: &Call<'_>) -> Result<i32> {
    bail!(
        "checkpoint and restore are not supported yet; runc and crun can, where CRIU is installed"
    );
}
