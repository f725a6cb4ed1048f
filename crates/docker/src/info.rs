//! `GET /info` and `GET /version`

use engine::{Engine, Machine, Result};
use serde_json::{Value, json};

/// The version of Docker's API whose objects these are.
pub const API_VERSION: &str = "1.50";
/// The oldest that clients may ask for.
pub const API_VERSION_MIN: &str = "1.24";

/// The machine as Docker's API shows it; `version` is ours.
///
/// # Errors
/// If the machine cannot be looked at.
pub fn info(engine: &Engine, version: &str) -> Result<Value> {
    let machine = engine.machine()?;
    let (running, paused, stopped) = machine.containers;
    let cgroup = &machine.cgroup;
    let mut info = json!({
        "ID": machine.id,
        "Containers": running + paused + stopped,
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": stopped,
        "Images": machine.images,
        "Driver": machine.driver,
        "DriverStatus": [["Backing Filesystem", machine.backing]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Authorization": null,
            "Log": ["journald", "json-file", "local", "syslog"],
        },
        "MemoryLimit": cgroup.memory,
        "SwapLimit": cgroup.swap,
        "CpuCfsPeriod": cgroup.cpu_quota,
        "CpuCfsQuota": cgroup.cpu_quota,
        "CPUShares": cgroup.cpu_shares,
        "CPUSet": cgroup.cpuset,
        "PidsLimit": cgroup.pids,
        "IPv4Forwarding": machine.forwards,
        "Debug": false,
        "OomKillDisable": cgroup.oom_kill_disable,
        "SystemTime": engine::clock::now(),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroup.version.to_string(),
        "KernelVersion": machine.kernel,
        "OperatingSystem": machine.system.0,
        "OSVersion": machine.system.1,
        "OSType": "linux",
        "Architecture": machine.architecture,
    });
    let rest = json!({
        "IndexServerAddress": "https://index.docker.io/v1/",
        "NCPU": machine.processors,
        "MemTotal": machine.memory_bytes,
        "DockerRootDir": engine.root(),
        "Name": machine.name,
        "Labels": [],
        "ExperimentalBuild": false,
        "ServerVersion": version,
        "Runtimes": { "cais": { "path": "cais" } },
        "DefaultRuntime": "cais",
        "Swarm": { "LocalNodeState": "inactive" },
        "LiveRestoreEnabled": true,
        "InitBinary": "cais",
        "SecurityOptions": machine.security,
        "Warnings": warnings(&machine),
    });
    if let (Some(info), Value::Object(rest)) = (info.as_object_mut(), rest) {
        info.extend(rest);
    }
    Ok(info)
}

/// What cannot be limited here, in Docker's words.
fn warnings(machine: &Machine) -> Vec<String> {
    let cgroup = &machine.cgroup;
    let mut missing = Vec::new();
    let mut need = |has: bool, what: &str| {
        if !has {
            missing.push(format!("WARNING: {what}"));
        }
    };
    need(cgroup.memory, "No memory limit support");
    need(cgroup.swap, "No swap limit support");
    need(cgroup.cpu_quota, "No cpu cfs quota support");
    need(cgroup.cpu_quota, "No cpu cfs period support");
    need(cgroup.cpu_shares, "No cpu shares support");
    need(cgroup.cpuset, "No cpuset support");
    need(cgroup.pids, "No pids limit support");
    need(cgroup.blkio, "No io limit support");
    need(machine.forwards, "IPv4 forwarding is disabled");
    missing
}

/// The versions of client and server, which are one program here.
///
/// # Errors
/// If the program's own platform has no name, which does not happen.
#[must_use]
pub fn version(version: &str) -> Value {
    let platform = oci::Platform::host();
    let uname = rustix::system::uname();
    let kernel = uname.release().to_string_lossy();
    let common = |fields: Value| {
        let mut all = json!({
            "Version": version,
            "ApiVersion": API_VERSION,
            "GitCommit": "",
            "GoVersion": "",
            "Os": platform.os,
            "Arch": platform.architecture,
        });
        if let (Some(all), Value::Object(fields)) = (all.as_object_mut(), fields) {
            all.extend(fields);
        }
        all
    };
    let details = json!({
        "ApiVersion": API_VERSION,
        "Arch": platform.architecture,
        "Experimental": "false",
        "KernelVersion": kernel,
        "MinAPIVersion": API_VERSION_MIN,
        "Os": platform.os,
    });
    json!({
        "Client": common(json!({
            "Platform": { "Name": "Cais" },
            "DefaultAPIVersion": API_VERSION,
            "BuildTime": "",
            "Context": "default",
        })),
        "Server": common(json!({
            "Platform": { "Name": "Cais" },
            "Components": [{ "Name": "Engine", "Version": version, "Details": details }],
            "MinAPIVersion": API_VERSION_MIN,
            "KernelVersion": kernel,
            "Experimental": false,
            "BuildTime": "",
        })),
    })
}
