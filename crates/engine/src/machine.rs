//! What there is on this machine, in numbers, and what it can do.

use std::fs;
use std::path::Path;

use crate::Engine;
use crate::container::Status;
use crate::error::Result;
use crate::image::from_cgroup;

/// The machine, as a whole.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Names these roots on this machine; the same each time.
    pub id: String,
    /// Containers that run, that are paused, and all others.
    pub containers: (usize, usize, usize),
    /// Images.
    pub images: usize,
    /// How layers are kept.
    pub driver: String,
    /// The file system of the root, as Docker names it.
    pub backing: &'static str,
    /// Which limits can be applied.
    pub cgroup: runtime::cgroup::Support,
    /// Whether packets are forwarded between networks.
    pub forwards: bool,
    /// Processors that may be used.
    pub processors: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The name of the host.
    pub name: String,
    /// The kernel's release.
    pub kernel: String,
    /// As `uname -m` has it.
    pub architecture: String,
    /// `PRETTY_NAME` and `VERSION_ID` of os-release(5).
    pub system: (String, String),
    /// `name=apparmor`, `name=seccomp,profile=default` and their like, as Docker writes them.
    pub security: Vec<String>,
}

impl Engine {
    /// Looks at the machine.
    ///
    /// # Errors
    /// If the containers or images cannot be listed, or no control groups are mounted.
    pub fn machine(&self) -> Result<Machine> {
        let containers = self.list()?;
        let of = |status| containers.iter().filter(|c| c.state.status == status).count();
        let running = of(Status::Running) + of(Status::Restarting);
        let paused = of(Status::Paused);
        let uname = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        // What the kernel counts, and not more than a boundary of this process allows.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Machine {
            id: self.machine_id(),
            containers: (running, paused, containers.len() - running - paused),
            images: self.images()?.len(),
            driver: self.store.driver()?.to_string(),
            backing: backing(&self.root),
            cgroup: runtime::cgroup::support().map_err(from_cgroup)?,
            forwards: read("/proc/sys/net/ipv4/ip_forward") == "1",
            processors,
            memory_bytes: memory_bytes(&read("/proc/meminfo")),
            name: text(uname.nodename()),
            kernel: text(uname.release()),
            architecture: text(uname.machine()),
            system: system(),
            security: security(),
        })
    }

    /// A name for these roots, made from the machine's own (machine-id(5)), which stays secret.
    fn machine_id(&self) -> String {
        let machine = read("/etc/machine-id");
        let seed = format!("cais\0{machine}\0{}", self.root.display());
        let hex = oci::Digest::of(seed.as_bytes()).hex().to_owned();
        let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
        parts.map(|(from, to)| &hex[from..to]).join("-")
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// `MemTotal` of proc_meminfo(5).
fn memory_bytes(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}

fn system() -> (String, String) {
    let text = ["/etc/os-release", "/usr/lib/os-release"].map(read);
    let text = text.iter().find(|text| !text.is_empty()).map_or("", String::as_str);
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    let name = field("PRETTY_NAME");
    (if name.is_empty() { "Linux".to_owned() } else { name }, field("VERSION_ID"))
}

fn security() -> Vec<String> {
    let mut all = Vec::new();
    if read("/sys/module/apparmor/parameters/enabled") == "Y" {
        all.push("name=apparmor".to_owned());
    }
    if fs::exists("/proc/sys/kernel/seccomp/actions_avail").unwrap_or(false) {
        all.push("name=seccomp,profile=default".to_owned());
    }
    if fs::exists("/sys/fs/selinux/enforce").unwrap_or(false) {
        all.push("name=selinux".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        all.push("name=rootless".to_owned());
    }
    all
}

/// The file system that a path is on, in Docker's words (statfs(2)).
fn backing(path: &Path) -> &'static str {
    const KNOWN: [(i64, &str); 9] = [
        (0xef53, "extfs"),
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0x0102_1994, "tmpfs"),
        (0x794c_7630, "overlayfs"),
        (0x2fc1_2fc1, "zfs"),
        (0x6969, "nfs"),
        (0xf2f5_2010, "f2fs"),
        (0x9fa0, "proc"),
    ];
    let mut above = path.ancestors().filter_map(|path| rustix::fs::statfs(path).ok());
    let kind = above.next().map(|found| found.f_type);
    let name = KNOWN.iter().find(|(number, _)| Some(*number) == kind);
    name.map_or("<unknown>", |(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_understood() {
        assert_eq!(memory_bytes("MemTotal:       2 kB\nMemFree: 1 kB\n"), 2048);
        assert_eq!(memory_bytes(""), 0);
        assert!(memory_bytes(&read("/proc/meminfo")) > 0);
        assert_eq!(backing(Path::new("/proc/self/none")), "proc");
        assert!(!system().0.is_empty());
    }
}
