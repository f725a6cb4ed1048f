//! A development driver for the crate.
//!
//! `oci-run BUNDLE` reads `BUNDLE/config.json`, creates, starts and waits, and exits with the
//! container's code. `oci-run exec BUNDLE PID ARG…` executes a further process of the same
//! configuration. `oci-run container ROOT ID BUNDLE` does what the OCI command line does in turn:
//! create, start, wait and delete; `run.unit` means systemd's group there, and `run.update` is a
//! file of limits to apply meanwhile. Annotations that begin with `run.` say what is the caller's to decide:
//!
//! | annotation | meaning |
//! |---|---|
//! | `run.lower`, `run.upper`, `run.work` | an overlay in the place of `root.path`; `:` separates layers |
//! | `run.user`, `run.init`, `run.copy-up`, `run.group-add`, `run.map-rootfs`, `run.no-pivot` | as the fields of `Launch` |
//! | `run.terminal` | `ROWSxCOLS`: a terminal, whose output goes to standard output |
//! | `run.cgroup` | a cgroup to create and, at the end, delete |
//! | `run.release` | at the end, take away what a container in the host's mount namespace leaves |
//! | `run.unit` | the same by systemd, as `slice:prefix:name`; `run.user-unit` by the user's |
//! | `run.fail` | the work in the namespaces fails |
//! | `run.hold` | print how many descriptors the container holds before it is started |
//! | `run.hooks-at` | with `run.rounds`: as for hooks that want the host in sight, and the root here |
//! | `run.rounds` | create and kill the container this often, instead of starting it |
//! | `run.seal` | seal the driver's own executable first |
//! | `run.part` | `DESTINATION:SUBPATH`, what of its source a mount shows |
//! | `run.pid-file` | where to write the process id once the container runs |
//! | `run.times` | print how many microseconds each step took, as JSON |

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use oci::runtime::{ContainerState, Spec, State};
use oci::{Lower, Rootfs};
use runtime::cgroup::{Cgroup, Unit};
use runtime::container::{self, Console, Create};
use runtime::{
    Error, Exec, Launch, Oci, Part, Process, Stdio, create, exec, release_root, seal_executable,
};

/// The annotations of a bundle.
struct Bundle {
    spec: Spec,
    directory: PathBuf,
}

impl Bundle {
    fn load(directory: &str) -> Result<Bundle, Error> {
        let directory = PathBuf::from(directory);
        let wrong = |error: &dyn std::error::Error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            Error::Spec(format!("read the bundle's config.json: {error}{cause}"))
        };
        let text = std::fs::read(directory.join("config.json")).map_err(|error| wrong(&error))?;
        let parsed = oci::parse_spec(&text).map_err(|error| wrong(&error))?;
        for warning in parsed.warnings.iter().chain(&runtime::warnings(&parsed.value)) {
            let _ = writeln!(io::stderr(), "oci-run: warning: {warning}");
        }
        Ok(Bundle { spec: parsed.value, directory })
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        let annotations = self.spec.annotations().as_ref()?;
        annotations.get(&format!("run.{name}")).map(String::as_str)
    }

    fn state(&self) -> State {
        let mut state = State::default();
        state.set_version(self.spec.version().clone()).set_id("oci-run".into());
        state.set_bundle(self.directory.clone()).set_annotations(self.spec.annotations().clone());
        state
    }

    fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        self.annotation(name).into_iter().flat_map(|list| list.split(':'))
    }

    fn rootfs(&self) -> Rootfs {
        let lower: Vec<Lower> = self.list("lower").map(|path| lower(path.into())).collect();
        if lower.is_empty() {
            let path = self.spec.root().as_ref().map_or(Path::new("rootfs"), |root| root.path());
            return Rootfs::Dir(self.directory.join(path));
        }
        let path = |name: &str| PathBuf::from(self.annotation(name).unwrap_or_default());
        Rootfs::Overlay { lower, upper: path("upper"), work: path("work"), volatile: true }
    }

    fn stdio(&self) -> Stdio {
        let size = self.annotation("terminal").and_then(|size| size.split_once('x'));
        match size.map(|(rows, cols)| (rows.parse(), cols.parse())) {
            Some((Ok(rows), Ok(cols))) => Stdio::Terminal { rows, cols, plain_newlines: false },
            _ => own_stdio(),
        }
    }
}

fn own_stdio() -> Stdio {
    let copy = |fd: rustix::fd::BorrowedFd<'_>| fd.try_clone_to_owned().ok();
    Stdio::Fds {
        stdin: copy(rustix::stdio::stdin()),
        stdout: copy(rustix::stdio::stdout()),
        stderr: copy(rustix::stdio::stderr()),
    }
}

/// When each step of a container was done.
struct Times(Vec<(&'static str, Instant)>);

impl Times {
    fn new() -> Times {
        Times(vec![("begin", Instant::now())])
    }

    fn done(&mut self, step: &'static str) {
        self.0.push((step, Instant::now()));
    }

    fn print(&self) {
        let pairs = self.0.windows(2);
        let step = |pair: &[(&str, Instant)]| {
            format!("\"{}\":{}", pair[1].0, (pair[1].1 - pair[0].1).as_micros())
        };
        let steps: Vec<String> = pairs.map(step).collect();
        let _ = writeln!(io::stdout(), "{{{}}}", steps.join(","));
    }
}

/// Shows what a terminal prints until the last process that has it ends.
fn show(master: OwnedFd) {
    let mut master = File::from(master);
    // The end is EIO.
    let _ = io::copy(&mut master, &mut io::stdout());
}

fn run(bundle: &Bundle, mut times: Times) -> Result<i32, Error> {
    let unit = unit_of(bundle)?;
    let path = bundle.annotation("cgroup").map(Path::new);
    let resources = bundle.spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let cgroup = match &unit {
        Some(unit) => Some(unit.create(resources)?),
        None => path.map(|path| Cgroup::create(path, resources)).transpose()?,
    };
    times.done("cgroups");
    let result = run_in(bundle, cgroup.as_ref(), &mut times);
    if bundle.annotation("release").is_some() {
        release_root(&bundle.directory.join("rootfs"), 0)?;
    }
    if let Some(unit) = unit {
        unit.stop()?;
    } else if let Some(cgroup) = cgroup {
        let _ = cgroup.delete();
    }
    times.done("remove");
    if bundle.annotation("times").is_some() {
        times.print();
    }
    result
}

/// Creates and kills a container this often.
fn create_often(bundle: &Bundle, rounds: u32) -> Result<i32, Error> {
    let (rootfs, state) = (bundle.rootfs(), State::default());
    let at = bundle.annotation("hooks-at").map(Path::new);
    for _ in 0..rounds {
        let launch = Launch {
            // Nobody comes through this gate.
            oci: at.map(|at| Oci {
                gate: Some(rustix::stdio::stdin()),
                state: &state,
                hooks_at: Some(at),
                inherited: 0,
            }),
            ..Launch::new(&bundle.spec, &rootfs, bundle.stdio())
        };
        // What fails must fail again and again, too.
        let _ = create(&launch, &mut |_| Ok(()));
    }
    Ok(0)
}

fn unit_of(bundle: &Bundle) -> Result<Option<Unit>, Error> {
    let given = [("unit", false), ("user-unit", true)];
    let found = given.iter().find_map(|(name, user)| Some((bundle.annotation(name)?, *user)));
    Ok(found.map(|(path, user)| Unit::parse(path, "box", user)).transpose()?)
}

fn run_in(bundle: &Bundle, cgroup: Option<&Cgroup>, times: &mut Times) -> Result<i32, Error> {
    let rootfs = bundle.rootfs();
    let copy_up: Vec<PathBuf> = bundle.list("copy-up").map(PathBuf::from).collect();
    let group_add: Vec<String> = bundle.list("group-add").map(String::from).collect();
    let part = bundle.annotation("part").and_then(|text| text.split_once(':'));
    let part = part.map(|(destination, subpath)| Part {
        destination: destination.into(),
        subpath: subpath.into(),
        image: None,
    });
    let state = bundle.state();
    let launch = Launch {
        id: "oci-run",
        bundle: Some(&bundle.directory),
        map_rootfs: bundle.annotation("map-rootfs").is_some(),
        cgroup,
        user: bundle.annotation("user"),
        group_add: &group_add,
        init: bundle.annotation("init").is_some(),
        copy_up: &copy_up,
        parts: part.as_slice(),
        state: Some(&state),
        no_pivot: bundle.annotation("no-pivot").is_some(),
        ..Launch::new(&bundle.spec, &rootfs, bundle.stdio())
    };
    let fail = bundle.annotation("fail").is_some();
    let created = create(&launch, &mut |namespaces| {
        times.done("clone and join");
        namespaces.net()?;
        if fail { Err("the caller's work failed".into()) } else { Ok(()) }
    })?;
    if let Some(file) = bundle.annotation("pid-file") {
        write_pid(Path::new(file), created.pid())?;
    }
    if bundle.annotation("hold").is_some() {
        hold(created.pid())?;
    }
    times.done("mounts");
    let process = created.start()?;
    times.done("execute");
    let code = wait(process);
    times.done("run");
    code
}

/// Shows what the container holds before it is started.
fn hold(pid: i32) -> Result<(), Error> {
    let listed = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .map_err(|error| Error::kernel("list the container's descriptors", error))?;
    let _ = writeln!(io::stdout(), "{}", listed.count());
    Ok(())
}

/// Appears at once with its content, for a reader that waits for it.
fn write_pid(file: &Path, pid: i32) -> Result<(), Error> {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, pid.to_string())
        .and_then(|()| std::fs::rename(&fresh, file))
        .map_err(|error| Error::kernel("write the process id", error))
}

fn wait(mut process: Process) -> Result<i32, Error> {
    if let Some(master) = process.take_master() {
        show(master);
    }
    let status = process.wait().map_err(|error| Error::kernel("wait for the container", error))?;
    Ok(status.code())
}

fn execute(bundle: &Bundle, pid: &str, args: &[String]) -> Result<i32, Error> {
    let wrong = || Error::Spec(format!("`{pid}` is no process id"));
    let pid: i32 = pid.parse().map_err(|_| wrong())?;
    let number = rustix::process::Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(wrong)?;
    let pidfd = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty())
        .map_err(|errno| Error::kernel(format!("open the process {pid}"), errno))?;
    let mut process = bundle.spec.process().clone().unwrap_or_default();
    process.set_args(Some(args.to_vec()));
    let cgroup = bundle.annotation("cgroup").map(|path| Cgroup::open(Path::new(path)));
    let cgroup = cgroup.transpose()?;
    let mut state = bundle.state();
    state.set_status(ContainerState::Running).set_pid(Some(pid));
    let linux = bundle.spec.linux().as_ref();
    wait(exec(&Exec {
        linux,
        seccomp: linux.and_then(|linux| linux.seccomp().as_ref()),
        state: Some(&state),
        cgroup: cgroup.as_ref(),
        user: bundle.annotation("user"),
        ..Exec::new((pid, pidfd.as_fd()), &process, bundle.stdio())
    })?)
}

/// A container on disk, from its creation to its deletion.
fn whole_life(root: &Path, id: &str, directory: &str) -> Result<i32, container::Error> {
    let bundle = container::Bundle::load(Path::new(directory))?;
    let annotations = bundle.spec.annotations().clone().unwrap_or_default();
    let annotation = |name: &str| annotations.get(&format!("run.{name}"));
    let mut started = Create {
        root,
        id,
        bundle,
        console: Console::of(true, false, None)?,
        at_once: false,
        pid_file: None,
        pidfd_socket: None,
        listening: 0,
        preserved: 0,
        supervised: false,
        systemd_cgroup: annotation("unit").is_some(),
        cgroup_optional: container::is_rootless(),
        no_pivot: false,
        keep_keyring: false,
        now_ns: 0,
    }
    .create()?;
    let ended = started.start(None, true).and_then(|()| {
        started.unlock();
        if let Some(file) = annotation("update") {
            let bytes = std::fs::read(file)
                .map_err(|error| Error::kernel("read the limits to apply", error))?;
            let resources = serde_json::from_slice(&bytes)
                .map_err(|error| Error::Spec(format!("read the limits to apply: {error}")))?;
            container::update(root, id, &resources)?;
        }
        let status = started.process.wait();
        Ok(status.map_err(|error| Error::kernel("wait for the container", error))?.code())
    });
    started.unlock();
    container::delete(root, id, true)?;
    ended
}

/// The same, with its errors in one.
fn live(root: &str, id: &str, bundle: &str) -> Result<i32, Error> {
    whole_life(Path::new(root), id, bundle).map_err(|error| {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Error::Spec(text)
    })
}

fn dispatch(args: &[String]) -> Result<i32, Error> {
    if let [verb, root, id, bundle] = args
        && verb == "container"
    {
        return live(root, id, bundle);
    }
    let mut times = Times::new();
    let bundle = Bundle::load(match args {
        [verb, bundle, ..] if verb == "exec" => bundle,
        [bundle, ..] => bundle,
        [] => ".",
    })?;
    times.done("read");
    if bundle.annotation("seal").is_some() {
        seal_executable()?;
    }
    match args {
        [_] => match bundle.annotation("rounds").and_then(|rounds| rounds.parse().ok()) {
            Some(rounds) => create_often(&bundle, rounds),
            None => run(&bundle, times),
        },
        [verb, _, pid, args @ ..] if verb == "exec" => execute(&bundle, pid, args),
        _ => Err(Error::Spec(
            "usage: oci-run BUNDLE | oci-run exec BUNDLE PID ARG… | \
                                    oci-run container ROOT ID BUNDLE"
                .into(),
        )),
    }
}

pub(crate) fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let code = dispatch(&args).unwrap_or_else(|error| {
        let mut text = format!("oci-run: {error}");
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        let _ = writeln!(io::stderr(), "{text}");
        error.exit_code()
    });
    std::process::ExitCode::from(u8::try_from(code).unwrap_or(255))
}

/// A layer: a file is an image.
fn lower(path: PathBuf) -> Lower {
    if path.is_file() { Lower::Image { path, devices: Vec::new() } } else { Lower::Directory(path) }
}
