//! Limits of version 2 of control groups, on a host that has nothing else: the virtual machine of
//! `testkit`. Elsewhere each test says that it is skipped.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use runtime::cgroup::{Cgroup, Error};

use super::bundle::Bundle;
use super::cgroup::{Guard, Shell, assert_gone, content, fresh, resources};

const MIB: u64 = 1 << 20;

/// Whether every controller is bound to version 2 here. In the machine made for it that must be
/// so, or these tests would pass by not running.
fn is_here() -> bool {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let all = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];
    let here = all.iter().all(|one| controllers.split_whitespace().any(|found| found == *one));
    let promised = std::env::var_os("CAIS_TEST_MACHINE").is_some();
    assert!(here || !promised, "controllers: {controllers}");
    if !here {
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), "skipped: not every controller is of version 2 here");
    }
    here
}

/// A group with limits and a shell in it.
struct Confined {
    group: Cgroup,
    shell: Shell,
    guard: Guard,
}

impl Confined {
    fn new(limits: &str) -> Confined {
        let path = fresh();
        let guard = Guard(path.clone());
        let group = Cgroup::create(&path, Some(&resources(limits))).unwrap();
        let shell = Shell::start();
        group.attach(shell.pid(), false).unwrap();
        Confined { group, shell, guard }
    }

    fn path(&self) -> &Path {
        &self.guard.0
    }

    fn content(&self, file: &str) -> String {
        content(self.path(), file)
    }

    /// The exit code of a command.
    fn code(&mut self, command: &str) -> i32 {
        self.shell.order(&format!("{command} >/dev/null 2>&1; echo $?"));
        self.shell.answer().parse().unwrap()
    }

    fn end(self) {
        drop(self.shell);
        self.group.delete().unwrap();
        assert_gone(&self.guard.0);
    }
}

#[test]
fn memory_ends_where_memory_and_swap_end() {
    if !is_here() {
        return;
    }
    // dd takes a buffer of one block, and touches all of it.
    const TAKE: &str = "dd if=/dev/zero of=/dev/null bs=48M count=1";
    let mut swapless = Confined::new(&format!(
        r#"{{"memory": {{"limit": {0}, "swap": {0}, "reservation": {1}}},
             "unified": {{"memory.high": "{1}"}}}}"#,
        32 * MIB,
        16 * MIB
    ));
    assert_eq!(swapless.content("memory.swap.max"), "0");
    assert_eq!(swapless.content("memory.low"), (16 * MIB).to_string());
    assert_eq!(swapless.content("memory.high"), (16 * MIB).to_string());
    swapless.group.update(&resources(r#"{"unified": {"memory.high": "max"}}"#)).unwrap();
    assert_eq!(swapless.code(TAKE), 137);
    let stats = swapless.group.stats().unwrap().memory;
    assert_eq!((stats.oom_kills, swapless.group.oom_kills()), (1, 1), "{stats:?}");
    assert!(stats.oom_events >= 1, "{stats:?}");
    assert!(stats.peak_bytes.unwrap() > 31 * MIB, "{stats:?}");
    assert!(stats.raw["pgfault"] > 0 && stats.raw.contains_key("anon"), "{stats:?}");
    assert!(stats.pressure.unwrap().some.total_us > 0, "{stats:?}");
    swapless.end();

    let limits = format!(r#"{{"memory": {{"limit": {}, "swap": {}}}}}"#, 32 * MIB, 96 * MIB);
    let mut swapping = Confined::new(&limits);
    assert_eq!(swapping.content("memory.swap.max"), (64 * MIB).to_string());
    assert_eq!(swapping.code(TAKE), 0);
    let stats = swapping.group.stats().unwrap().memory;
    assert_eq!(stats.oom_kills, 0, "{stats:?}");
    assert!(stats.raw["pgscan"] > 0, "{stats:?}");
    assert_eq!(stats.with_swap.limit_bytes, Some(96 * MIB));
    swapping.group.update(&resources(r#"{"memory": {"limit": -1, "swap": -1}}"#)).unwrap();
    assert_eq!(swapping.content("memory.max"), "max");
    assert_eq!(swapping.content("memory.swap.max"), "max");
    swapping.end();
}

#[test]
fn a_limit_below_the_usage_is_refused_when_asked_to_look() {
    if !is_here() {
        return;
    }
    let mut confined = Confined::new(r#"{"memory": {"limit": 67108864}}"#);
    // What a process had before it joined is not the group's.
    confined.shell.order("x=$(head -c 1000000 /dev/zero | tr '\\0' x); echo $?");
    assert_eq!(confined.shell.answer(), "0");
    let request = r#"{"memory": {"limit": 4096, "checkBeforeUpdate": true}}"#;
    let error = confined.group.update(&resources(request)).unwrap_err();
    assert!(matches!(&error, Error::Busy(text) if text.contains("are in use")), "{error}");
    assert_eq!(confined.content("memory.max"), (64 * MIB).to_string());
    confined.end();
}

#[test]
fn processor_time_is_weighed_and_withheld() {
    if !is_here() {
        return;
    }
    let mut confined = Confined::new(
        r#"{"cpu": {"shares": 512, "quota": 5000, "period": 100000, "burst": 1000}}"#,
    );
    assert_eq!(confined.content("cpu.weight"), "59");
    assert_eq!(confined.content("cpu.max"), "5000 100000");
    assert_eq!(confined.content("cpu.max.burst"), "1000");
    let stat = Path::new("/sys/fs/cgroup").join(confined.path().strip_prefix("/").unwrap());
    let stat = stat.join("cpu.stat");
    confined.shell.order(&format!(
        "until grep -q 'nr_throttled [1-9]' {}; do :; done; echo done",
        stat.display()
    ));
    assert_eq!(confined.shell.answer(), "done");
    let stats = confined.group.stats().unwrap().cpu;
    assert!(stats.throttled_periods > 0 && stats.throttled_ns > 0, "{stats:?}");
    assert!(stats.periods >= stats.throttled_periods, "{stats:?}");
    assert!(stats.pressure.unwrap().some.total_us > 0, "{stats:?}");
    // An idle group has no weight; the order of the two matters.
    confined.group.update(&resources(r#"{"cpu": {"quota": -1, "idle": 1}}"#)).unwrap();
    assert_eq!(confined.content("cpu.idle"), "1");
    confined.group.update(&resources(r#"{"cpu": {"shares": 1024, "idle": 0}}"#)).unwrap();
    assert_eq!(confined.content("cpu.idle"), "0");
    assert_eq!(confined.content("cpu.weight"), "100");
    confined.end();
}

#[test]
fn processors_and_nodes_are_chosen() {
    if !is_here() {
        return;
    }
    let mut confined = Confined::new(
        r#"{"cpu": {"cpus": "1", "mems": "0"}, "unified": {"cpuset.cpus.partition": "member"}}"#,
    );
    confined.shell.order("grep Cpus_allowed_list /proc/self/status");
    assert_eq!(confined.shell.answer(), "Cpus_allowed_list:\t1");
    let stats = confined.group.stats().unwrap().cpuset;
    assert_eq!((stats.cpus, stats.mems), (vec![1], vec![0]));
    confined.end();
}

#[test]
fn traffic_with_a_device_is_limited_and_counted() {
    if !is_here() {
        return;
    }
    let device = fs::read_to_string("/sys/block/nullb0/dev").unwrap();
    let (major, minor) = device.trim().split_once(':').unwrap();
    let place = format!(r#""major": {major}, "minor": {minor}"#);
    let mut confined = Confined::new(&format!(
        r#"{{"blockIO": {{"weight": 500,
            "throttleReadBpsDevice": [{{{place}, "rate": 104857600}}],
            "throttleWriteIOPSDevice": [{{{place}, "rate": 30}}]}}}}"#
    ));
    // The module of the BFQ scheduler is there, so its file is.
    assert_eq!(confined.content("io.bfq.weight"), "default 500");
    let max = format!("{major}:{minor} rbps=104857600 wbps=max riops=max wiops=30");
    assert_eq!(confined.content("io.max"), max);
    assert_eq!(confined.code("dd if=/dev/nullb0 of=/dev/null bs=64k count=16 iflag=direct"), 0);
    let stats = confined.group.stats().unwrap();
    let traffic = stats.io.iter().find(|entry| entry.major.to_string() == major);
    let traffic = traffic.unwrap_or_else(|| panic!("{stats:?}"));
    assert_eq!((traffic.read_bytes, traffic.write_bytes), (MIB, 0), "{stats:?}");
    assert!(stats.io_pressure.is_some());
    let lift = format!(r#"{{"blockIO": {{"throttleReadBpsDevice": [{{{place}, "rate": 0}}]}}}}"#);
    confined.group.update(&resources(&lift)).unwrap();
    assert_eq!(confined.content("io.max"), max.replace("104857600", "max"));
    confined.end();
}

#[test]
fn huge_pages_are_limited() {
    if !is_here() {
        return;
    }
    let mount = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| {
        assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success());
    };
    let place = mount.path().to_str().unwrap();
    run(&["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "huge", place]);
    let mut confined =
        Confined::new(r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}]}"#);
    assert_eq!(confined.content("hugetlb.2MB.max"), "2097152");
    assert_eq!(confined.content("hugetlb.2MB.rsvd.max"), "2097152");
    let one = confined.code(&format!("fallocate -l 2M {place}/one"));
    let more = confined.code(&format!("fallocate -l 4M {place}/more"));
    let usage = confined.content("hugetlb.2MB.current");
    let failures = confined.group.stats().unwrap().hugetlb["2MB"].failures;
    run(&["umount", place]);
    assert_eq!((one, usage.as_str()), (0, "2097152"));
    assert!(more != 0 && failures > 0, "{more} {failures}");
    confined.end();
}

#[test]
fn files_of_version_2_are_passed_through_in_their_order() {
    if !is_here() {
        return;
    }
    let confined = Confined::new(
        r#"{"pids": {"limit": 7}, "unified": {"pids.max": "9", "cgroup.max.descendants": "3",
            "memory.oom.group": "1", "misc.max": ""}}"#,
    );
    assert_eq!(confined.content("pids.max"), "9");
    assert_eq!(confined.content("cgroup.max.descendants"), "3");
    assert_eq!(confined.content("memory.oom.group"), "1");
    for (request, wants) in [
        (r#"{"unified": {"memory.nothing": "1"}}"#, &["unified = 1", "memory.nothing"][..]),
        (r#"{"unified": {"pids.max": "many"}}"#, &["pids.max", "refuses the value"]),
        (r#"{"unified": {"net_cls.classid": "1"}}"#, &["net_cls.classid = 1", "not bound"]),
        (r#"{"network": {"classID": 7}}"#, &["network.classID = 7", "version 1"]),
        (r#"{"memory": {"swappiness": 10}}"#, &["memory.swappiness = 10", "no such limit"]),
    ] {
        let error = confined.group.update(&resources(request)).unwrap_err().to_string();
        assert!(wants.iter().all(|want| error.contains(want)), "{request}: {error}");
    }
    confined.end();
}

#[test]
fn a_group_is_killed_with_all_that_forks_in_it() {
    if !is_here() {
        return;
    }
    let mut confined = Confined::new(r#"{"pids": {"limit": 300}}"#);
    confined.shell.order("f() { f | f & }; f 2>/dev/null; echo forks");
    assert_eq!(confined.shell.answer(), "forks");
    confined.group.kill().unwrap();
    let Confined { group, shell, guard } = confined;
    assert_eq!(shell.wait().signal(), Some(9));
    group.delete().unwrap();
    assert_gone(&guard.0);
}

#[test]
fn a_container_is_born_in_its_group() {
    if !is_here() {
        return;
    }
    let path = fresh();
    let _guard = Guard(path.clone());
    let mut bundle = Bundle::script("cat /proc/self/cgroup; cat /sys/fs/cgroup/pids.max");
    bundle.remove_mount("/sys");
    bundle.add_mount(super::bundle::mount("sysfs", "sysfs", "/sys", "ro"));
    bundle.add_mount(super::bundle::mount("cgroup", "cgroup", "/sys/fs/cgroup", "ro"));
    // One process: the first one counts, and nothing needed a second one.
    bundle.args(&["/bin/cat", "/proc/self/cgroup", "/sys/fs/cgroup/pids.max"]);
    bundle.annotate("cgroup", &path);
    bundle.config["linux"]["resources"] = serde_json::json!({"pids": {"limit": 0}});
    assert_eq!(bundle.run().ok(), "0::/\n1\n");
    assert_gone(&path);
}
