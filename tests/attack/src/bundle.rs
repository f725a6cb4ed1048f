//! A bundle with busybox in it, which every runtime can run.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// What containers have without asking (Docker's list).
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Programs of busybox that attacks use.
const APPLETS: [&str; 18] = [
    "sh", "true", "cat", "chmod", "dd", "echo", "env", "find", "grep", "head", "id", "ls", "mkdir",
    "mknod", "mount", "readlink", "sleep", "wc",
];

/// What is in [`Bundle::secret`].
pub(crate) const SECRET: &str = "the-secret-of-the-host";

/// A directory with `config.json` and `rootfs`, and beside them what stands for the host.
#[derive(Debug)]
pub(crate) struct Bundle {
    directory: tempfile::TempDir,
    pub(crate) config: Value,
}

/// A mount as JSON; the options are separated by commas.
pub(crate) fn mount(kind: &str, source: impl AsRef<Path>, on: &str, options: &str) -> Value {
    let options: Vec<&str> = options.split(',').collect();
    json!({"type": kind, "source": source.as_ref(), "destination": on, "options": options})
}

impl Bundle {
    /// A container as Docker configures it, that runs a shell script.
    pub(crate) fn script(script: &str) -> Bundle {
        let directory = tempfile::tempdir().unwrap();
        fill(&directory.path().join("rootfs"));
        let config = config(directory.path());
        let mut bundle = Bundle { directory, config };
        fs::write(bundle.secret(), SECRET).unwrap();
        bundle.args(&["/bin/sh", "-c", script]);
        bundle.capabilities(&CAPABILITIES);
        bundle
    }

    /// As [`Bundle::script`], with the program for what busybox cannot do.
    pub(crate) fn inside(inside: &Path, args: &[&str]) -> Bundle {
        let mut bundle = Bundle::script("");
        copy(inside, &bundle.rootfs("bin/attack-inside"));
        bundle.args(&[&["/bin/attack-inside"], args].concat());
        bundle
    }

    pub(crate) fn args(&mut self, args: &[&str]) {
        self.config["process"]["args"] = json!(args);
    }

    /// These in four sets; none are inheritable, which is what Docker and runc ask for since
    /// CVE-2022-24769.
    pub(crate) fn capabilities(&mut self, names: &[&str]) {
        self.config["process"]["capabilities"] =
            json!({"bounding": names, "permitted": names, "effective": names});
    }

    pub(crate) fn more_capabilities(&mut self, more: &[&str]) {
        self.capabilities(&[&CAPABILITIES, more].concat());
    }

    /// Something only the development driver can do.
    pub(crate) fn annotate(&mut self, name: &str, value: impl AsRef<Path>) {
        self.config["annotations"][format!("run.{name}")] = json!(value.as_ref());
    }

    pub(crate) fn add_mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// Leaves `/dev` to the image: nothing is mounted there.
    pub(crate) fn without_dev(&mut self) {
        let mounts = self.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    }

    /// With a terminal, whose devpts is the only thing that is mounted below `/dev`.
    pub(crate) fn terminal(&mut self) {
        self.without_dev();
        let options = "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620";
        self.add_mount(mount("devpts", "devpts", "/dev/pts", options));
        self.config["process"]["terminal"] = json!(true);
        self.annotate("terminal", "24x80");
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn rootfs(&self, name: &str) -> PathBuf {
        self.path("rootfs").join(name)
    }

    /// A file of the host that no container may read.
    pub(crate) fn secret(&self) -> PathBuf {
        self.path("secret")
    }

    /// A directory of the host in which nothing may appear.
    pub(crate) fn outside(&self) -> PathBuf {
        self.make("outside")
    }

    /// Makes a directory beside the root.
    pub(crate) fn make(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Puts a link in the place of whatever the image has there.
    pub(crate) fn link(&self, name: &str, target: impl AsRef<Path>) {
        let path = self.rootfs(name);
        if fs::remove_file(&path).is_err() {
            let _ = fs::remove_dir_all(&path);
        }
        symlink(target, path).unwrap();
    }

    pub(crate) fn program(&self, name: &str, text: &str) {
        fs::write(self.rootfs(name), text).unwrap();
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.rootfs(name), mode).unwrap();
    }

    pub(crate) fn save(&self) {
        fs::write(self.path("config.json"), self.config.to_string()).unwrap();
    }
}

fn config(directory: &Path) -> Value {
    let name = directory.file_name().unwrap().to_str().unwrap();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "env": ["PATH=/bin", format!("BUNDLE={}", directory.display())],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            mount("proc", "proc", "/proc", "nosuid,noexec,nodev"),
            mount("tmpfs", "tmpfs", "/dev", "nosuid,strictatime,mode=755,size=65536k"),
            mount("devpts", "devpts", "/dev/pts",
                "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620"),
            mount("sysfs", "sysfs", "/sys", "nosuid,noexec,nodev,ro"),
        ],
        "linux": {
            "cgroupsPath": format!("/cais-attack-{}", name.trim_start_matches('.')),
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"},
                {"type": "uts"}, {"type": "mount"},
            ],
            "maskedPaths": ["/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/irq", "/proc/sysrq-trigger"],
        },
        "annotations": {},
    })
}

fn fill(root: &Path) {
    for directory in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    copy(Path::new("/bin/busybox"), &root.join("bin/busybox"));
    for name in APPLETS {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
}

/// Copies in a process of its own: a descriptor that is open for writing here could be inherited
/// by the child of another test, and keep the program from being executed.
pub(crate) fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}
