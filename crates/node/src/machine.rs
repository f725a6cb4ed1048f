//! What this host is, for its object.

use std::fs;
use std::net::{IpAddr, UdpSocket};

use serde_json::{Value, json};

/// Pods that a node takes at most; upstream's default.
const PODS_MAX: u32 = 110;

/// What does not change while this process runs.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The address that others reach it by.
    pub(crate) address: String,
    pub(crate) processors: usize,
    pub(crate) memory_bytes: u64,
    disk_bytes: u64,
    info: Value,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The host's name, in the form that names of objects have.
#[must_use]
pub fn hostname() -> String {
    read("/proc/sys/kernel/hostname").to_lowercase()
}

fn memory_bytes() -> u64 {
    let text = read("/proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

/// The address that packets to elsewhere have; nothing is sent.
#[must_use]
pub fn address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Facts {
    /// Looks at this host; `directory` is where pods keep what they write.
    pub(crate) fn look(directory: &std::path::Path, version: &str, given: Option<IpAddr>) -> Self {
        let release = read("/etc/os-release");
        let system = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let uuid = read("/sys/class/dmi/id/product_uuid");
        let id = match read("/etc/machine-id") {
            id if id.is_empty() => read("/proc/sys/kernel/random/boot_id").replace('-', ""),
            id => id,
        };
        let info = json!({
            "machineID": id,
            "systemUUID": if uuid.is_empty() { id.clone() } else { uuid },
            "bootID": read("/proc/sys/kernel/random/boot_id"),
            "kernelVersion": read("/proc/sys/kernel/osrelease"),
            "osImage": system.unwrap_or("Linux").trim_matches('"'),
            "containerRuntimeVersion": format!("cais://{version}"),
            "kubeletVersion": format!("v1.34.0+cais-{version}"),
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": architecture(),
        });
        let disk = rustix::fs::statvfs(directory).ok();
        Self {
            address: given
                .or_else(address)
                .map_or_else(|| "127.0.0.1".to_owned(), |own| own.to_string()),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: memory_bytes(),
            disk_bytes: disk.map_or(0, |disk| disk.f_blocks * disk.f_frsize),
            info,
        }
    }

    /// The labels of a node of this host.
    pub(crate) fn labels(&self, name: &str) -> Value {
        json!({
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": architecture(),
            "beta.kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": architecture(),
        })
    }

    /// The status of its node; `images` are those that it has, `before` is what was said last.
    pub(crate) fn status(&self, name: &str, images: &[Value], before: &Value, now: &str) -> Value {
        let amounts = json!({
            "cpu": self.processors.to_string(),
            "memory": format!("{}Ki", self.memory_bytes / 1024),
            "ephemeral-storage": format!("{}Ki", self.disk_bytes / 1024),
            "pods": PODS_MAX.to_string(),
        });
        let condition = |kind: &str, status: &str, reason: &str, message: &str| {
            let old = crate::field::items(before, "conditions");
            let old = old.iter().find(|old| old["type"] == kind && old["status"] == status);
            let since = old.map_or(json!(now), |old| old["lastTransitionTime"].clone());
            json!({
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": since,
            })
        };
        json!({
            "capacity": amounts,
            "allocatable": amounts,
            "addresses": [
                {"type": "InternalIP", "address": self.address},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": self.info,
            "images": images,
            "conditions": [
                condition(
                    "MemoryPressure", "False", "KubeletHasSufficientMemory",
                    "kubelet has sufficient memory available",
                ),
                condition(
                    "DiskPressure", "False", "KubeletHasNoDiskPressure",
                    "kubelet has no disk pressure",
                ),
                condition(
                    "PIDPressure", "False", "KubeletHasSufficientPID",
                    "kubelet has sufficient PID available",
                ),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            ],
        })
    }
}
