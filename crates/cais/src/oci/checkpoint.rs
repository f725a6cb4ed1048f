//! `checkpoint`, and the flags that it shares with `restore`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use runtime::container::{CgroupMode, Checkpoint, Images, Switch, default_images, is_rootless};

use super::flag::{Flag, Matches};
use super::{Args, Call, Verb, words};

pub(super) const VERB: Verb = Verb {
    name: "checkpoint",
    about: "checkpoint a running container",
    usage: "<container-id>",
    flags: &[
        IMAGE_PATH,
        WORK_PATH,
        Flag::value("parent-path", "path for previous criu image files in pre-dump"),
        Flag::switch("leave-running", "leave the process running after checkpointing"),
        TCP_ESTABLISHED,
        Flag::switch("tcp-skip-in-flight", "skip in-flight tcp connections"),
        Flag::switch("link-remap", "allow one to link unlinked files back when possible"),
        EXT_UNIX_SK,
        SHELL_JOB,
        LAZY_PAGES,
        Flag::value("status-fd", "criu writes \\0 to this FD once lazy-pages is ready"),
        Flag::value("page-server", "ADDRESS:PORT of the page server"),
        FILE_LOCKS,
        Flag::switch(
            "pre-dump",
            "dump container's memory information only, leave the container running after this",
        ),
        MANAGE_CGROUPS_MODE,
        EMPTY_NS,
        AUTO_DEDUP,
    ],
    args: Args::Exactly(1),
    sealed: false,
    run,
};

pub(super) const IMAGE_PATH: Flag =
    Flag::value("image-path", "path for criu image files (default: ./checkpoint)");
pub(super) const WORK_PATH: Flag = Flag::value("work-path", "path for work files and logs");
pub(super) const TCP_ESTABLISHED: Flag =
    Flag::switch("tcp-established", "allow open tcp connections");
pub(super) const EXT_UNIX_SK: Flag = Flag::switch("ext-unix-sk", "allow external unix sockets");
pub(super) const SHELL_JOB: Flag = Flag::switch("shell-job", "allow shell jobs");
pub(super) const LAZY_PAGES: Flag =
    Flag::switch("lazy-pages", "use userfaultfd to lazily restore memory pages");
pub(super) const FILE_LOCKS: Flag = Flag::switch("file-locks", "handle file locks, for safety");
pub(super) const MANAGE_CGROUPS_MODE: Flag =
    Flag::value("manage-cgroups-mode", "cgroups mode: soft|full|strict|ignore (default: soft)");
pub(super) const EMPTY_NS: Flag =
    Flag::value("empty-ns", "create a namespace, but don't restore its properties");
pub(super) const AUTO_DEDUP: Flag =
    Flag::switch("auto-dedup", "enable auto deduplication of memory images");

/// What each switch turns on.
const SWITCHES: [(&str, Switch); 8] = [
    ("tcp-established", Switch::TcpEstablished),
    ("tcp-skip-in-flight", Switch::TcpSkipInFlight),
    ("link-remap", Switch::LinkRemap),
    ("ext-unix-sk", Switch::ExtUnixSk),
    ("shell-job", Switch::ShellJob),
    ("file-locks", Switch::FileLocks),
    ("auto-dedup", Switch::AutoDedup),
    ("lazy-pages", Switch::LazyPages),
];

/// What the flags of either command say.
#[derive(Debug)]
pub(super) struct Options {
    criu: Option<PathBuf>,
    directory: PathBuf,
    work: Option<PathBuf>,
    switches: Vec<Switch>,
    cgroups: CgroupMode,
}

impl Options {
    pub(super) fn of(call: &Call<'_>) -> Result<Options> {
        if is_rootless() {
            call.log.warn("checkpoint and restore are untested without the machine's privilege");
        }
        let own = &call.own;
        if let Some(kind) = own.values("empty-ns").find(|kind| *kind != "network") {
            bail!("--empty-ns: namespace \"{kind}\" is not supported");
        }
        let mode = own.value("manage-cgroups-mode").unwrap_or_default();
        let Some(cgroups) = CgroupMode::of(mode) else {
            bail!("invalid --manage-cgroups-mode value \"{mode}\": soft, full, strict or ignore");
        };
        let on = |(name, switch): &(&str, Switch)| own.is_on(name).then_some(*switch);
        let path = |name: &str| own.text(name).map(PathBuf::from);
        let options = Options {
            criu: call.global.text("criu").map(PathBuf::from),
            directory: path("image-path").unwrap_or_else(default_images),
            work: path("work-path"),
            switches: SWITCHES.iter().filter_map(on).collect(),
            cgroups,
        };
        call.log.debug(&format!("criu: {options:?}"));
        Ok(options)
    }

    pub(super) fn images(&self) -> Images<'_> {
        Images {
            criu: self.criu.as_deref(),
            directory: &self.directory,
            work: self.work.as_deref(),
            switches: &self.switches,
            cgroups: self.cgroups,
        }
    }
}

fn run(call: &Call<'_>) -> Result<i32> {
    let options = Options::of(call)?;
    let own = &call.own;
    let parent = own.text("parent-path").map(Path::new);
    check_parent(&options.directory, parent)?;
    let checkpoint = Checkpoint {
        root: call.root,
        id: call.id()?,
        images: options.images(),
        parent,
        pre_dump: own.is_on("pre-dump"),
        leave_running: own.is_on("leave-running"),
        page_server: page_server(own)?,
        // A negative one is none, as in runc.
        status_fd: own.number::<i32>("status-fd")?.filter(|number| *number >= 0),
    };
    for error in checkpoint.run()? {
        call.log.warn(&words(&error.into()));
    }
    Ok(0)
}

/// The earlier checkpoint lies where both can be moved together.
fn check_parent(images: &Path, parent: Option<&Path>) -> Result<()> {
    let Some(parent) = parent else { return Ok(()) };
    if parent.is_absolute() {
        bail!("--parent-path must be relative");
    }
    // Relative to the directory of the images, which need not exist yet: by the words alone.
    let mut path = std::path::absolute(images).context("look for the images")?;
    for part in parent.components() {
        match part {
            std::path::Component::ParentDir => drop(path.pop()),
            other => path.push(other),
        }
    }
    let shown = path.display();
    let found =
        std::fs::metadata(&path).with_context(|| format!("invalid --parent-path: stat {shown}"))?;
    if !found.is_dir() {
        bail!("invalid --parent-path: stat {shown}: not a directory");
    }
    Ok(())
}

fn page_server(own: &Matches) -> Result<Option<(&str, u16)>> {
    let Some(text) = own.text("page-server") else { return Ok(None) };
    let split =
        text.rsplit_once(':').filter(|(address, port)| !address.is_empty() && !port.is_empty());
    let Some((address, port)) = split else {
        bail!("Use --page-server ADDRESS:PORT to specify page server");
    };
    let address =
        address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match port.parse() {
        Ok(port) if port > 0 => Ok(Some((address, port))),
        _ => bail!("--page-server: \"{port}\" is no port number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_relative_to_the_images() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("before")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        let check = |parent: &str| {
            check_parent(&at("images"), Some(Path::new(parent))).map_err(|error| error.to_string())
        };
        assert_eq!(check("../before"), Ok(()));
        assert_eq!(check("/before"), Err("--parent-path must be relative".into()));
        for wrong in ["../file", "../missing", "before"] {
            let error = check(wrong).unwrap_err();
            assert!(error.starts_with("invalid --parent-path: stat /"), "{error}");
        }
    }

    #[test]
    fn a_page_server_has_an_address_and_a_port() {
        let read = |text: &str| {
            let args = [format!("--page-server={text}")];
            let matches = super::super::flag::parse(VERB.flags, &args, None).unwrap();
            page_server(&matches).map(|server| server.map(|(host, port)| format!("{host} {port}")))
        };
        assert_eq!(read("1.2.3.4:5").unwrap(), Some("1.2.3.4 5".into()));
        assert_eq!(read("[::1]:27").unwrap(), Some("::1 27".into()));
        assert_eq!(read("").unwrap(), None);
        for wrong in ["x", ":5", "x:", "x:y", "x:0", "x:70000"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
