//! A bundle with busybox in it, and the check that nothing of it is left.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long an event may take on a machine that does other things too.
const DEADLINE: Duration = Duration::from_secs(60);

const DRIVER: &str = env!("CARGO_BIN_EXE_oci-run");

pub(crate) struct Bundle {
    directory: tempfile::TempDir,
    pub(crate) config: Value,
}

/// What a run printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// The output of a run that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// The complaint of a run that must have failed so.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.stderr
    }
}

/// A mount as JSON; the options are separated by commas.
pub(crate) fn mount(kind: &str, source: impl AsRef<Path>, on: &str, options: &str) -> Value {
    let options: Vec<&str> = options.split(',').collect();
    json!({"type": kind, "source": source.as_ref(), "destination": on, "options": options})
}

impl Bundle {
    pub(crate) fn new() -> Bundle {
        let directory = tempfile::tempdir().unwrap();
        fill(&directory.path().join("rootfs"));
        let marker = format!("BUNDLE={}", directory.path().display());
        let config = json!({
            "ociVersion": "1.2.0",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["/bin/true"],
                "env": ["PATH=/bin", marker],
                "cwd": "/",
                "noNewPrivileges": true,
            },
            "root": {"path": "rootfs"},
            "hostname": "box",
            "mounts": [
                mount("proc", "proc", "/proc", "nosuid,noexec,nodev"),
                mount("tmpfs", "tmpfs", "/dev", "nosuid,strictatime,mode=755,size=65536k"),
                mount("devpts", "devpts", "/dev/pts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620"),
                mount("tmpfs", "shm", "/dev/shm", "nosuid,noexec,nodev,mode=1777"),
                mount("mqueue", "mqueue", "/dev/mqueue", "nosuid,noexec,nodev"),
                mount("sysfs", "sysfs", "/sys", "nosuid,noexec,nodev,ro"),
            ],
            "linux": {
                "namespaces": [
                    {"type": "pid"}, {"type": "network"}, {"type": "ipc"},
                    {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"},
                ],
                "maskedPaths": ["/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware", "/nothing"],
                "readonlyPaths": ["/proc/sys", "/proc/irq", "/nothing"],
            },
            "annotations": {},
        });
        Bundle { directory, config }
    }

    /// A bundle that runs a shell script.
    pub(crate) fn script(script: &str) -> Bundle {
        let mut bundle = Bundle::new();
        bundle.args(&["/bin/sh", "-c", script]);
        bundle
    }

    pub(crate) fn args(&mut self, args: &[&str]) {
        self.config["process"]["args"] = json!(args);
    }

    pub(crate) fn annotate(&mut self, name: &str, value: impl AsRef<Path>) {
        self.config["annotations"][format!("run.{name}")] = json!(value.as_ref());
    }

    pub(crate) fn add_mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// Takes the mount on a destination out of the configuration.
    pub(crate) fn remove_mount(&mut self, destination: &str) {
        let mounts = self.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != destination);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn rootfs(&self, name: &str) -> PathBuf {
        self.path("rootfs").join(name)
    }

    /// Makes a directory in the bundle, beside the root.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A user namespace whose root is the host's id 100000.
    pub(crate) fn map_ids(&mut self) {
        self.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        self.config["linux"]["uidMappings"] = map.clone();
        self.config["linux"]["gidMappings"] = map;
        self.annotate("map-rootfs", "");
    }

    fn save(&self) {
        fs::write(self.path("config.json"), self.config.to_string()).unwrap();
    }

    pub(crate) fn command(&self) -> Command {
        self.save();
        let mut command = Command::new(DRIVER);
        command.arg(self.directory.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self) -> Ran {
        self.command().output().unwrap().into()
    }

    /// Runs the driver below a shell that leaves descriptors 3 to 7 open on the host's root.
    pub(crate) fn run_with_leaks(&self) -> Ran {
        self.save();
        let script = "exec 3</ 4</ 5</ 6</ 7</; exec \"$0\" \"$1\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, DRIVER]).arg(self.directory.path()).output().unwrap().into()
    }

    /// Starts the container and waits until its program runs: it must print a line first.
    pub(crate) fn start(&mut self) -> Running {
        self.annotate("pid-file", self.path("pid"));
        let command = self.command();
        self.start_with(command)
    }

    /// The same, as a user without privilege.
    pub(crate) fn start_as_nobody(&mut self) -> Running {
        self.annotate("pid-file", self.path("pid"));
        let command = self.as_nobody(&self.command());
        self.start_with(command)
    }

    /// A command, run by `nobody` from a copy that everybody may execute.
    pub(crate) fn as_nobody(&self, command: &Command) -> Command {
        self.as_user(65534, command)
    }

    /// The same of any user.
    pub(crate) fn as_user(&self, id: u32, command: &Command) -> Command {
        let driver = self.path("driver");
        if !driver.exists() {
            copy_program(command.get_program().as_ref(), &driver);
        }
        let mut other = Command::new("setpriv");
        let id = id.to_string();
        other.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
        other.arg(driver).args(command.get_args()).stdin(Stdio::null());
        other
    }

    /// The driver's `container`: what the OCI command line does in turn.
    pub(crate) fn container(&self, id: &str) -> Command {
        self.save();
        let mut command = Command::new(DRIVER);
        command.arg("container").arg(self.path("state")).arg(id).arg(self.directory.path());
        command.stdin(Stdio::null());
        command
    }

    /// A user namespace for a user without privilege, who owns the bundle then.
    pub(crate) fn give_to(&mut self, id: u32, further: Option<(u32, u32)>) {
        self.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let mut map = vec![json!({"containerID": 0, "hostID": id, "size": 1})];
        if let Some((first, size)) = further {
            map.push(json!({"containerID": 1, "hostID": first, "size": size}));
        }
        self.config["linux"]["uidMappings"] = json!(map);
        self.config["linux"]["gidMappings"] = json!(map);
        fs::create_dir_all(self.path("state")).unwrap();
        for path in ["", "rootfs", "rootfs/dev", "state"] {
            std::os::unix::fs::chown(self.path(path), Some(id), Some(id)).unwrap();
        }
    }

    fn start_with(&self, mut command: Command) -> Running {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Running { child: Some(child), pid: 0 };
        running.read_line();
        match fs::read_to_string(self.path("pid")) {
            Ok(pid) => running.pid = pid.parse().unwrap(),
            Err(_) => panic!("the container did not start: {:?}", running.wait()),
        }
        running
    }

    pub(crate) fn exec_command(&self, running: &Running, args: &[&str]) -> Command {
        self.save();
        let mut command = Command::new(DRIVER);
        command.arg("exec").arg(self.directory.path()).arg(running.pid.to_string());
        command.args(args).stdin(Stdio::null());
        command
    }

    pub(crate) fn exec(&self, running: &Running, args: &[&str]) -> Ran {
        self.exec_command(running, args).output().unwrap().into()
    }

    /// The configuration of an overlay: layers below the bundle, topmost first.
    pub(crate) fn overlay(&mut self, layers: &[String]) {
        let layers: Vec<PathBuf> = layers.iter().map(|name| self.directory(name)).collect();
        let layers: Vec<&str> = layers.iter().map(|path| path.to_str().unwrap()).collect();
        let (upper, work) = (self.directory("upper"), self.directory("work"));
        self.annotate("lower", layers.join(":"));
        self.annotate("upper", upper);
        self.annotate("work", work);
    }
}

/// Fills a directory with what a small image has.
pub(crate) fn fill(root: &Path) {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    copy_program(Path::new("/bin/busybox"), &root.join("bin/busybox"));
    for name in [
        "sh", "true", "cat", "ls", "id", "readlink", "grep", "sleep", "stat", "touch", "mkdir",
        "chmod", "tty", "stty", "hostname", "env", "mount", "umount", "dd", "kill", "find",
    ] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nweb:x:34:\nlog:x:4:web\nbig:x:77:\n").unwrap();
}

/// Copies in a process of its own: a descriptor that is open for writing here could be inherited
/// by the child of another test, and keep the program from being executed.
fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// Whether a process has this in its environment.
fn has_process(marker: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment.split(|&b| b == 0).any(|entry| entry == marker.as_bytes())
    })
}

impl Drop for Bundle {
    /// After every test nothing is left: no mount on the host, no process.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let path = self.directory.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(path), "a mount is left: {mounts}");
        let marker = format!("BUNDLE={path}");
        let deadline = Instant::now() + DEADLINE;
        // One that was killed may take a moment to die.
        while has_process(&marker) {
            assert!(Instant::now() < deadline, "a process is left");
            std::thread::yield_now();
        }
    }
}

/// A container whose program runs.
pub(crate) struct Running {
    child: Option<Child>,
    /// Its first process, on the host.
    pub(crate) pid: i32,
}

impl Running {
    /// The next line that the program prints.
    pub(crate) fn read_line(&mut self) -> String {
        use std::io::Read as _;
        let mut line = String::new();
        let mut byte = [0];
        let output = self.child.as_mut().unwrap().stdout.as_mut().unwrap();
        while output.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(byte[0].into());
        }
        line
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn wait(mut self) -> Ran {
        let mut child = self.child.take().unwrap();
        wait_for("the end of the container", || child.try_wait().unwrap());
        child.wait_with_output().unwrap().into()
    }

    pub(crate) fn kill(self) -> Ran {
        self.signal(rustix::process::Signal::KILL);
        self.wait()
    }
}

impl Drop for Running {
    /// A test that fails leaves nothing either.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            if self.pid > 0 {
                self.signal(rustix::process::Signal::KILL);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Polls until there is an answer.
pub(crate) fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = poll() {
            return answer;
        }
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::yield_now();
    }
}
