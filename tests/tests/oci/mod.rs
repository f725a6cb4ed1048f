//! The OCI runtime's command line, with bundles of busybox.

mod checkpoint;
mod console;
mod engine;
mod exec;
mod hook;
mod interruption;
mod life;
mod output;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Outcome, Running, Sandbox};

/// How long an event may take on a machine that does other things too.
const EVENT_MAX: Duration = Duration::from_secs(60);

/// A fake host with a state root and one root file system; a bundle for each name.
struct Oci {
    sandbox: Sandbox,
}

impl Oci {
    fn new() -> Oci {
        let oci = Oci { sandbox: Sandbox::new() };
        let bin = oci.path("rootfs/bin");
        fs::create_dir_all(&bin).expect("the work directory takes entries");
        for name in ["dev", "etc", "proc", "sys", "tmp", "run"] {
            fs::create_dir(oci.path("rootfs").join(name))
                .expect("the work directory takes entries");
        }
        testkit::copy_program("/bin/busybox", bin.join("busybox"));
        for applet in [
            "cat", "echo", "env", "false", "id", "ls", "ps", "pwd", "sh", "sleep", "stty", "true",
            "tty",
        ] {
            symlink("busybox", bin.join(applet)).expect("the work directory takes entries");
        }
        oci
    }

    /// A path in the work directory.
    fn path(&self, name: &str) -> PathBuf {
        self.sandbox.work().join(name)
    }

    /// Writes the bundle `name`, whose program is `args`.
    fn bundle(&self, name: &str, args: &[&str], edit: impl FnOnce(&mut Value)) {
        let mut config = config(args);
        config["linux"]["cgroupsPath"] = self.cgroup(name).into();
        config["root"]["path"] = json!(self.path("rootfs"));
        edit(&mut config);
        fs::create_dir_all(self.path(name)).expect("the work directory takes entries");
        fs::write(self.path(name).join("config.json"), config.to_string())
            .expect("the work directory takes entries");
    }

    /// Control groups are the whole machine's, so their names are of this test alone.
    fn cgroup(&self, name: &str) -> String {
        let work = self.sandbox.work();
        let sandbox =
            work.parent().and_then(Path::file_name).expect("the work directory has a parent");
        format!("/{}/{name}", sandbox.to_str().expect("its name is plain"))
    }

    /// Runs `cais oci` with the words of `line`, in the work directory.
    #[track_caller]
    fn line(&self, line: &str) -> Outcome {
        self.words(&line.split_whitespace().collect::<Vec<_>>())
    }

    #[track_caller]
    fn words(&self, words: &[&str]) -> Outcome {
        self.sandbox.words(&[&["oci", "--root", "state"], words].concat())
    }

    fn start(&self, line: &str) -> Running {
        let mut words = vec!["oci", "--root", "state"];
        words.extend(line.split_whitespace());
        self.sandbox.start_line(&words)
    }

    /// As [`Self::start`], for what leaves a process: that has no streams of the test's.
    fn start_detached(&self, line: &str) -> Running {
        self.start_to(line, "out")
    }

    /// What it says goes to `file`.
    fn start_to(&self, line: &str, file: &str) -> Running {
        let redirected = format!("</dev/null >{file} 2>&1");
        self.sandbox.start_script(&format!("exec $E oci --root state {line} {redirected}"))
    }

    /// As [`Self::line`], for what leaves a process.
    #[track_caller]
    fn detached(&self, line: &str) -> Outcome {
        let mut outcome = self.start_detached(line).finish();
        outcome.stderr = fs::read_to_string(self.path("out")).expect("its output was redirected");
        outcome
    }

    /// Creates and starts the container `name` of the bundle `name`, and leaves it alone.
    #[track_caller]
    fn run_detached(&self, name: &str) {
        let _ = self.detached(&format!("run --detach --bundle {name} {name}")).ok();
    }

    /// What `state` shows.
    #[track_caller]
    fn state(&self, id: &str) -> Value {
        serde_json::from_str(self.line(&format!("state {id}")).ok()).expect("a state is JSON")
    }

    #[track_caller]
    fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().expect("a status is text").to_owned()
    }

    #[track_caller]
    fn wait_for_status(&self, id: &str, wanted: &str) {
        wait_until(&format!("{id} is {wanted}"), || self.status(id) == wanted);
    }

    /// Deletes the container and demands that nothing of it is left; the sandbox looks at the rest.
    #[track_caller]
    fn delete(&self, id: &str) {
        let _ = self.line(&format!("delete --force {id}")).ok();
        assert!(!self.path("state").join(id).exists(), "the state of {id} is left");
    }
}

#[track_caller]
fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + EVENT_MAX;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// A specification as small as one can be for a container that others cannot tell from a usual one.
fn config(args: &[&str]) -> Value {
    let mount = |kind: &str, on: &str, options: &[&str]| json!({ "destination": on, "type": kind, "source": kind, "options": options });
    let namespaces: Vec<Value> = ["pid", "network", "ipc", "uts", "mount"]
        .iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/bin"],
            "cwd": "/",
        },
        "root": { "path": "rootfs" },
        "mounts": [
            mount("proc", "/proc", &[]),
            mount("tmpfs", "/dev", &["nosuid", "mode=755"]),
            mount("devpts", "/dev/pts", &["newinstance", "ptmxmode=0666"]),
        ],
        "linux": { "namespaces": namespaces },
    })
}
