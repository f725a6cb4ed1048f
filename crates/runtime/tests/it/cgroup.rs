//! Control groups of the running kernel.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use oci::runtime::LinuxResources;
use runtime::cgroup::{Cgroup, Error};

/// Far beyond what any of this takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// A path nobody else uses, under a parent that goes with its last child.
pub(super) fn fresh() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!("/cais-test-{}-{next}/box", std::process::id()))
}

pub(super) fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// Where `path` exists, in any hierarchy.
pub(super) fn directories(path: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points =
        text.lines().filter(|l| l.contains(" - cgroup")).filter_map(|l| l.split(' ').nth(4));
    let inside = points.map(|p| Path::new(p).join(path.strip_prefix("/").unwrap()));
    inside.filter(|p| p.exists()).collect()
}

/// The directory of `path` in the hierarchy that has `file` there.
pub(super) fn find(path: &Path, file: &str) -> Option<PathBuf> {
    directories(path).into_iter().map(|d| d.join(file)).find(|f| f.exists())
}

pub(super) fn content(path: &Path, file: &str) -> String {
    let found = find(path, file).unwrap_or_else(|| panic!("no {file} in {path:?}"));
    std::fs::read_to_string(found).unwrap().trim().to_owned()
}

pub(super) fn assert_gone(path: &Path) {
    assert_eq!(directories(path), Vec::<PathBuf>::new());
    assert_eq!(directories(path.parent().unwrap()), Vec::<PathBuf>::new());
}

/// A shell that waits for orders on its standard input and is killed with the test.
pub(super) struct Shell(Child);

impl Shell {
    pub(super) fn start() -> Self {
        let mut command = Command::new("/bin/sh");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    pub(super) fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    pub(super) fn order(&mut self, line: &str) {
        use std::io::Write;
        self.0.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// One line of output.
    pub(super) fn answer(&mut self) -> String {
        let mut line = String::new();
        BufReader::with_capacity(1, self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub(super) fn wait(mut self) -> std::process::ExitStatus {
        let mut rest = Vec::new();
        self.0.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
        self.0.wait().unwrap()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whatever happens in a test, the group goes.
pub(super) struct Guard(pub(super) PathBuf);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Ok(group) = Cgroup::open(&self.0) {
            let _ = group.thaw();
            let _ = group.kill();
            let _ = group.delete();
        }
    }
}

#[test]
fn a_group_lives_in_every_hierarchy_and_goes_without_trace() {
    let path = fresh();
    let _guard = Guard(path.clone());
    let group = Cgroup::create(&path, None).unwrap();
    let everywhere = directories(&path);
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounted = text.lines().filter(|l| l.contains(" - cgroup")).count();
    assert!(!everywhere.is_empty() && everywhere.len() <= mounted, "{everywhere:?}");

    let shell = Shell::start();
    group.attach(shell.pid(), false).unwrap();
    let of = std::fs::read_to_string(format!("/proc/{}/cgroup", shell.pid())).unwrap();
    let joined = of.lines().filter(|l| l.ends_with(path.to_str().unwrap())).count();
    assert_eq!(joined, everywhere.len(), "{of}");
    assert_eq!(group.pids().unwrap(), [shell.pid()]);

    let again = Cgroup::create(&path, None);
    assert!(matches!(&again, Err(Error::Busy(text)) if text.contains("not empty")), "{again:?}");
    assert_eq!(directories(&path), everywhere, "a failed create must not remove what it found");

    group.kill().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&shell.wait()), Some(9));
    group.delete().unwrap();
    assert_gone(&path);
    assert!(matches!(Cgroup::open(&path), Err(Error::NotFound(_))));
}

#[test]
fn nested_groups_are_killed_and_removed_with_their_container() {
    let path = fresh();
    let _guard = Guard(path.clone());
    let group = Cgroup::create(&path, None).unwrap();
    let mut shell = Shell::start();
    group.attach(shell.pid(), false).unwrap();
    for directory in directories(&path) {
        std::fs::create_dir_all(directory.join("a/b")).unwrap();
    }
    let inner = Cgroup::open(&path.join("a/b")).unwrap();
    // A new cpuset of version 1 takes no process; that is between container and kernel.
    if let Some(cpus) = find(&path.join("a/b"), "cpuset.cpus") {
        for level in [path.join("a"), path.join("a/b")] {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let to = find(&level, file).unwrap();
                std::fs::write(to, content(&path, file)).unwrap();
            }
        }
        assert!(cpus.exists());
    }
    shell.order("sleep 1000 & echo $!; exec 1>&-; wait");
    let sleeper: i32 = shell.answer().parse().unwrap();
    inner.attach(sleeper, false).unwrap();
    assert_eq!(inner.pids().unwrap(), [sleeper]);
    let mut both = vec![shell.pid(), sleeper];
    both.sort_unstable();
    assert_eq!(group.pids().unwrap(), both);
    group.kill().unwrap();
    drop(shell);
    drop(inner);
    group.delete().unwrap();
    assert_gone(&path);
}

#[test]
fn limits_reach_the_kernel_and_can_be_changed() {
    let path = fresh();
    let _guard = Guard(path.clone());
    let mib = 1024 * 1024;
    let group = Cgroup::create(
        &path,
        Some(&resources(&format!(
            r#"{{"memory": {{"limit": {}, "swap": {}, "reservation": {}}},
                 "cpu": {{"shares": 512, "quota": 50000, "period": 100000, "burst": 1000, "cpus": "0"}},
                 "pids": {{"limit": 37}}}}"#,
            64 * mib,
            128 * mib,
            32 * mib
        ))),
    )
    .unwrap();
    let v1 = find(&path, "memory.limit_in_bytes").is_some();
    let memory = |v1_file, v2_file| content(&path, if v1 { v1_file } else { v2_file });
    assert_eq!(memory("memory.limit_in_bytes", "memory.max"), (64 * mib).to_string());
    let swap = if v1 { 128 * mib } else { 64 * mib };
    assert_eq!(memory("memory.memsw.limit_in_bytes", "memory.swap.max"), swap.to_string());
    assert_eq!(memory("memory.soft_limit_in_bytes", "memory.low"), (32 * mib).to_string());
    assert_eq!(content(&path, "pids.max"), "37");
    assert_eq!(content(&path, "cpuset.cpus"), "0");
    if find(&path, "cpu.cfs_quota_us").is_some() {
        assert_eq!(content(&path, "cpu.shares"), "512");
        assert_eq!(content(&path, "cpu.cfs_quota_us"), "50000");
        assert_eq!(content(&path, "cpu.cfs_burst_us"), "1000");
    } else {
        assert_eq!(content(&path, "cpu.max"), "50000 100000");
    }
    let stats = group.stats().unwrap();
    assert_eq!(stats.memory.limit_bytes, Some(64 * mib));
    assert_eq!(stats.pids.limit, Some(37));

    // Both up and both down: the order of the two writes differs.
    for size in [256 * mib, 16 * mib] {
        let request = format!(r#"{{"memory": {{"limit": {size}, "swap": {}}}}}"#, size + mib);
        group.update(&resources(&request)).unwrap();
        assert_eq!(memory("memory.limit_in_bytes", "memory.max"), size.to_string());
    }
    group.update(&resources(r#"{"memory": {"limit": -1}, "pids": {"limit": -1}}"#)).unwrap();
    group.update(&resources(r#"{"cpu": {"period": 50000}}"#)).unwrap();
    group.update(&resources(r#"{"cpu": {"quota": 20000, "burst": 20000}}"#)).unwrap();
    if find(&path, "cpu.cfs_quota_us").is_some() {
        assert_eq!(content(&path, "cpu.cfs_period_us"), "50000");
        assert_eq!(content(&path, "cpu.cfs_quota_us"), "20000");
    } else {
        assert_eq!(content(&path, "cpu.max"), "20000 50000");
    }
    let stats = group.stats().unwrap();
    assert_eq!((stats.memory.limit_bytes, stats.pids.limit), (None, None));
    group.delete().unwrap();
    assert_gone(&path);
}

#[test]
fn a_limit_that_cannot_hold_is_an_error_and_leaves_nothing() {
    for (request, wants) in [
        (r#"{"memory": {"limit": 4096000, "swap": 4000}}"#, &["memory.swap = 4000", "4096000"][..]),
        (r#"{"cpu": {"cpus": "0-4000"}}"#, &["cpu.cpus = 0-4000", "cpuset.cpus", "refuses"]),
        // Without the controller, or without the device.
        (r#"{"rdma": {"mlx5_1": {"hcaHandles": 3}}}"#, &["rdma = mlx5_1 hca_handle=3"]),
        (r#"{"network": {"classID": 7}}"#, &["network.classID = 7", "mount"]),
        (r#"{"unified": {"nonsense.max": "3"}}"#, &["unified.nonsense.max = 3"]),
        (r#"{"unified": {"../x.y": "3"}}"#, &["../x.y"]),
        (r#"{"unified": {"cgroup.procs": "3"}}"#, &["cgroup.procs"]),
        (r#"{"hugepageLimits": [{"pageSize": "../2MB", "limit": 0}]}"#, &["../2MB"]),
        (
            r#"{"devices": [{"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "access": "q"}]}"#,
            &["devices", "\"q\""],
        ),
        (
            r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 1, "rate": 9}]}}"#,
            &["blockIO.throttleReadBpsDevice = 4000:1", "no such device"],
        ),
    ] {
        let path = fresh();
        let _guard = Guard(path.clone());
        let error = Cgroup::create(&path, Some(&resources(request))).unwrap_err();
        let text = error.to_string();
        assert!(wants.iter().all(|want| text.contains(want)), "{request}: {text}");
        assert_gone(&path);
    }
}

#[test]
fn frozen_processes_stand_still() {
    let path = fresh();
    let _guard = Guard(path.clone());
    let group = Cgroup::create(&path, None).unwrap();
    let mut shell = Shell::start();
    group.attach(shell.pid(), false).unwrap();
    shell.order("echo up");
    assert_eq!(shell.answer(), "up");
    assert!(!group.is_frozen().unwrap());
    group.freeze().unwrap();
    assert!(group.is_frozen().unwrap());
    let before = group.stats().unwrap().cpu;
    shell.order("echo thawed");
    assert_eq!(group.stats().unwrap().cpu.user_ns, before.user_ns);
    group.thaw().unwrap();
    assert!(!group.is_frozen().unwrap());
    assert_eq!(shell.answer(), "thawed");
    // Killing works on a frozen group, too.
    group.freeze().unwrap();
    group.kill().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&shell.wait()), Some(9));
    group.delete().unwrap();
    assert_gone(&path);
}

/// What sets a container up is charged to its group, and must not be killed for it.
#[test]
fn a_container_with_two_mebibytes_starts() {
    let path = fresh();
    let _guard = Guard(path.clone());
    for filtered in [false, true] {
        let mut bundle = super::bundle::Bundle::script("echo up");
        bundle.annotate("cgroup", &path);
        let limit = 2 << 20;
        bundle.config["linux"]["resources"] =
            serde_json::json!({"memory": {"limit": limit, "swap": limit}});
        if filtered {
            bundle.config["linux"]["seccomp"] = serde_json::json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}],
            });
        }
        assert_eq!(bundle.run().ok(), "up\n");
        assert_gone(&path);
    }
}

#[test]
fn usage_and_kills_for_memory_are_counted() {
    let path = fresh();
    let _guard = Guard(path.clone());
    let limits = r#"{"memory": {"limit": 16777216, "swap": 16777216}, "pids": {"limit": 20}}"#;
    let group = Cgroup::create(&path, Some(&resources(limits))).unwrap();
    let mut shell = Shell::start();
    group.attach(shell.pid(), false).unwrap();
    assert_eq!(group.oom_kills(), 0);
    shell.order("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done");
    assert_eq!(shell.answer(), "done");
    let stats = group.stats().unwrap();
    assert!(stats.cpu.usage_ns > 0, "{stats:?}");
    assert!(stats.memory.peak_bytes.is_none_or(|peak| peak > 0), "{stats:?}");
    assert_eq!((stats.pids.current, stats.pids.limit), (1, Some(20)));
    // A string that doubles until the shell is killed.
    shell.order("x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done");
    let status = shell.wait();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    assert_eq!(group.oom_kills(), 1);
    assert_eq!(group.stats().unwrap().memory.oom_kills, 1);
    group.delete().unwrap();
    assert_gone(&path);
}

#[test]
fn a_limit_on_processes_stops_forks() {
    let path = fresh();
    let _guard = Guard(path.clone());
    let group = Cgroup::create(&path, Some(&resources(r#"{"pids": {"limit": 1}}"#))).unwrap();
    let mut shell = Shell::start();
    group.attach(shell.pid(), false).unwrap();
    shell.order("/bin/true; echo not reached");
    // A shell that is refused a fork gives up.
    assert_eq!(shell.answer(), "");
    assert!(!shell.wait().success());
    group.delete().unwrap();
    assert_gone(&path);
}

/// Docker's default rules, shortened.
const DEVICES: &str = r#"{"devices": [
    {"allow": false, "access": "rwm"},
    {"allow": true, "type": "c", "access": "m"},
    {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
    {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "r"}]}"#;

#[test]
fn device_rules_hold() {
    let path = fresh();
    let _guard = Guard(path.clone());
    let group = Cgroup::create(&path, Some(&resources(DEVICES))).unwrap();
    let mut shell = Shell::start();
    group.attach(shell.pid(), false).unwrap();
    let mut can = |what: &str| {
        shell.order(&format!("if ( {what} ); then echo yes; else echo no; fi"));
        shell.answer() == "yes"
    };
    assert!(can(": </dev/null"));
    assert!(can(": >/dev/null"));
    assert!(can(": </dev/zero"));
    assert!(!can(": >/dev/zero"));
    assert!(!can(": </dev/urandom"));
    let change = r#"{"devices": [{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 9, "access": "rw"}]}"#;
    group.update(&resources(change)).unwrap();
    assert!(can(": </dev/urandom"));
    assert!(!can(": </dev/null"));
    let open = r#"{"devices": [{"allow": true, "access": "rwm"}]}"#;
    group.update(&resources(open)).unwrap();
    assert!(can(": </dev/zero"));
    drop(shell);
    group.delete().unwrap();
    assert_gone(&path);
}

#[test]
fn a_group_with_processes_is_not_removed() {
    let path = fresh();
    let _guard = Guard(path.clone());
    let group = Cgroup::create(&path, None).unwrap();
    let start = Instant::now();
    let shell = Shell::start();
    group.attach(shell.pid(), false).unwrap();
    let error = group.delete().unwrap_err();
    assert!(matches!(&error, Error::Busy(t) if t.contains(&shell.pid().to_string())), "{error}");
    assert!(start.elapsed() < DEADLINE);
    drop(shell);
    Cgroup::open(&path).unwrap().delete().unwrap();
    assert_gone(&path);
}

#[test]
fn many_containers_share_a_parent_that_comes_and_goes() {
    let parent = fresh();
    let parent = parent.parent().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for round in 0..20 {
                    let path = parent.join(format!("{thread}-{round}"));
                    let _guard = Guard(path.clone());
                    Cgroup::create(&path, None).unwrap().delete().unwrap();
                }
            });
        }
    });
    assert_gone(&parent.join("any"));
}

#[test]
fn a_group_that_is_frozen_is_refused_in_either_version() {
    for (name, frozen, thawed) in
        [("freezer.state", "FROZEN", "THAWED"), ("cgroup.freeze", "1", "0")]
    {
        let path = fresh();
        let _guard = Guard(path.clone());
        let group = Cgroup::create(&path, None).unwrap();
        // Not every machine has both.
        if let Some(file) = find(&path, name) {
            std::fs::write(&file, frozen).unwrap();
            let everywhere = directories(&path);
            let again = Cgroup::create(&path, None);
            let refused =
                matches!(&again, Err(Error::Busy(text)) if text.contains("unexpectedly frozen"));
            assert!(refused, "{name}: {again:?}");
            assert_eq!(directories(&path), everywhere);
            std::fs::write(&file, thawed).unwrap();
        }
        group.delete().unwrap();
        assert_gone(&path);
    }
}
