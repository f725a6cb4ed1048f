//! Conversions, and the layouts this machine may not have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::runtime::LinuxResources;

use super::hierarchy::{Layout, Mount, Version};
use super::limit::{Host, io_weight, settings, swap_alone, weight_of_shares};
use super::{Cgroup, Error, device};

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// What would be written, as `file=value` lines, where `read` answers for present contents.
fn written(
    version: Version,
    json: &str,
    read: &dyn Fn(&str, &str) -> Option<String>,
) -> Result<Vec<String>, Error> {
    let known = |controller: &str| match (version, controller) {
        (Version::V2, "blkio" | "net_cls" | "net_prio") | (Version::V1, "io") => None,
        _ => Some(version),
    };
    let all = settings(&resources(json), &Host { version: &known, read, swaps: &|| true })?;
    let show = |(file, value): &(String, String)| format!("{file}={value}");
    Ok(all.iter().map(|s| s.candidates.iter().map(show).collect::<Vec<_>>().join(" | ")).collect())
}

#[test]
fn shares_become_weights_through_both_ends_and_the_default() {
    for (shares, weight) in
        [(0, 1), (1, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000), (512, 59)]
    {
        assert_eq!(weight_of_shares(shares), weight, "{shares}");
    }
    let all: Vec<u64> = (2..262_145).map(weight_of_shares).collect();
    assert!(all.is_sorted() && all.iter().all(|w| (1..=10_000).contains(w)));
}

#[test]
fn block_weights_span_the_new_range() {
    for (old, new) in [(10, 1), (0, 1), (500, 4950), (1000, 10_000), (2000, 10_000)] {
        assert_eq!(io_weight(old), new, "{old}");
    }
}

#[test]
fn swap_is_told_apart_from_memory() {
    assert_eq!(swap_alone(-1, None).unwrap(), -1);
    assert_eq!(swap_alone(300, Some(100)).unwrap(), 200);
    assert_eq!(swap_alone(100, Some(100)).unwrap(), 0);
    for (total, memory) in [(99, Some(100)), (100, None), (100, Some(-1))] {
        assert!(matches!(swap_alone(total, memory), Err(Error::Invalid(_))), "{total} {memory:?}");
    }
}

#[test]
fn limits_become_files() {
    let none = |_: &str, _: &str| None;
    #[rustfmt::skip]
    let table: &[(&str, &[&str], &[&str])] = &[
        (r#"{}"#, &[], &[]),
        (r#"{"cpu": {"shares": 1024}}"#, &["cpu.shares=1024"], &["cpu.weight=100"]),
        (r#"{"cpu": {"shares": 0, "quota": 0, "period": 0}}"#, &[], &[]),
        (r#"{"cpu": {"quota": 5000, "period": 10000, "burst": 7}}"#,
            &["cpu.cfs_period_us=10000", "cpu.cfs_quota_us=5000", "cpu.cfs_burst_us=7"],
            &["cpu.max=5000 10000", "cpu.max.burst=7"]),
        (r#"{"cpu": {"quota": -5}}"#, &["cpu.cfs_quota_us=-1"], &["cpu.max=max"]),
        (r#"{"cpu": {"period": 9000}}"#, &["cpu.cfs_period_us=9000"], &["cpu.max=max 9000"]),
        (r#"{"cpu": {"shares": 2, "idle": 0}}"#,
            &["cpu.idle=0", "cpu.shares=2"], &["cpu.idle=0", "cpu.weight=1"]),
        (r#"{"cpu": {"shares": 2, "idle": 1}}"#,
            &["cpu.shares=2", "cpu.idle=1"], &["cpu.weight=1", "cpu.idle=1"]),
        (r#"{"cpu": {"cpus": "0-3", "mems": ""}}"#, &["cpuset.cpus=0-3"], &["cpuset.cpus=0-3"]),
        (r#"{"memory": {"limit": 100, "swap": 300, "reservation": 50}}"#,
            &["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=300", "memory.soft_limit_in_bytes=50"],
            &["memory.swap.max=200", "memory.max=100", "memory.low=50"]),
        (r#"{"memory": {"limit": 100, "swap": -1}}"#,
            &["memory.memsw.limit_in_bytes=-1", "memory.limit_in_bytes=100"],
            &["memory.swap.max=max", "memory.max=100"]),
        (r#"{"memory": {"limit": -1, "kernel": 5, "useHierarchy": true}}"#,
            &["memory.limit_in_bytes=-1"], &["memory.max=max"]),
        (r#"{"memory": {"limit": 0, "swap": 0, "disableOOMKiller": false}}"#, &[], &[]),
        (r#"{"pids": {"limit": 5}}"#, &["pids.max=5"], &["pids.max=5"]),
        (r#"{"pids": {"limit": 0}}"#, &["pids.max=1"], &["pids.max=1"]),
        (r#"{"pids": {"limit": -1}}"#, &["pids.max=max"], &["pids.max=max"]),
        (r#"{"blockIO": {"weight": 500}}"#,
            &["blkio.weight=500 | blkio.bfq.weight=500"], &["io.bfq.weight=500 | io.weight=4950"]),
        (r#"{"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}}"#,
            &["blkio.weight_device=8:0 10 | blkio.bfq.weight_device=8:0 10"],
            &["io.bfq.weight=8:0 10 | io.weight=8:0 1"]),
        (r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}],
             "throttleWriteIOPSDevice": [{"major": 8, "minor": 1, "rate": 0}]}}"#,
            &["blkio.throttle.read_bps_device=8:0 9", "blkio.throttle.write_iops_device=8:1 0"],
            &["io.max=8:0 rbps=9", "io.max=8:1 wiops=max"]),
        (r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#,
            &["hugetlb.2MB.limit_in_bytes=4194304", "hugetlb.2MB.rsvd.limit_in_bytes=4194304"],
            &["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304"]),
        (r#"{"rdma": {"m1": {"hcaHandles": 3, "hcaObjects": 4}, "a0": {"hcaObjects": 9}, "b": {}}}"#,
            &["rdma.max=a0 hca_object=9", "rdma.max=m1 hca_handle=3 hca_object=4"],
            &["rdma.max=a0 hca_object=9", "rdma.max=m1 hca_handle=3 hca_object=4"]),
        (r#"{"network": {"classID": 0}}"#, &[], &[]),
    ];
    for (json, v1, v2) in table {
        assert_eq!(written(Version::V1, json, &none).unwrap(), *v1, "{json}");
        assert_eq!(written(Version::V2, json, &none).unwrap(), *v2, "{json}");
    }
    let only_v1 = r#"{"memory": {"swappiness": 60, "disableOOMKiller": true, "kernelTCP": 9},
        "network": {"classID": 7, "priorities": [{"name": "eth0", "priority": 3}]},
        "cpu": {"realtimeRuntime": 10, "realtimePeriod": 20}}"#;
    assert_eq!(
        written(Version::V1, only_v1, &none).unwrap(),
        [
            "cpu.rt_period_us=20",
            "cpu.rt_runtime_us=10",
            "memory.kmem.tcp.limit_in_bytes=9",
            "memory.swappiness=60",
            "memory.oom_control=1",
            "net_cls.classid=7",
            "net_prio.ifpriomap=eth0 3",
        ]
    );
    for (json, what) in [
        (r#"{"memory": {"swappiness": 60}}"#, "memory.swappiness = 60"),
        (r#"{"memory": {"disableOOMKiller": true}}"#, "memory.disableOOMKiller = true"),
        (r#"{"cpu": {"realtimeRuntime": 10}}"#, "cpu.realtimeRuntime = 10"),
        (r#"{"network": {"classID": 7}}"#, "network.classID = 7"),
        (r#"{"blockIO": {"leafWeight": 7}}"#, "blockIO.leafWeight = 7"),
    ] {
        let error = written(Version::V2, json, &none).unwrap_err();
        assert!(matches!(&error, Error::Unsupported(text) if text.contains(what)), "{error}");
    }
    let unified = r#"{"unified": {"memory.high": "9", "io.max": "8:0 rbps=1\n8:1 wbps=2\n",
        "cgroup.max.depth": "3"}}"#;
    assert_eq!(
        written(Version::V2, unified, &none).unwrap(),
        ["cgroup.max.depth=3", "io.max=8:0 rbps=1", "io.max=8:1 wbps=2", "memory.high=9"]
    );
    assert!(matches!(written(Version::V1, unified, &none), Err(Error::Unsupported(_))));
}

#[test]
fn changes_are_ordered_so_that_every_step_is_legal() {
    let v1 = |_: &str, file: &str| {
        let value = match file {
            "memory.limit_in_bytes" => "1000\n",
            "memory.memsw.limit_in_bytes" => "2000\n",
            "cpu.cfs_quota_us" => "5000\n",
            "cpu.cfs_burst_us" => "100\n",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let v2 = |_: &str, file: &str| {
        let value = match file {
            "memory.max" => "1000\n",
            "memory.current" => "900\n",
            "cpu.max" => "5000 100000\n",
            "cpu.max.burst" => "100\n",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let (limit, total) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
    for (json, v1_want, v2_want) in [
        (
            r#"{"memory": {"limit": 3000, "swap": 4000}}"#,
            vec![format!("{total}=4000"), format!("{limit}=3000")],
            vec!["memory.swap.max=1000", "memory.max=3000"],
        ),
        (
            r#"{"memory": {"limit": 300, "swap": 400}}"#,
            vec![format!("{limit}=300"), format!("{total}=400")],
            vec!["memory.swap.max=100", "memory.max=300"],
        ),
        (
            r#"{"memory": {"limit": -1}}"#,
            vec![format!("{total}=-1"), format!("{limit}=-1")],
            vec!["memory.max=max"],
        ),
        (
            r#"{"memory": {"swap": 1500}}"#,
            vec![format!("{total}=1500")],
            vec!["memory.swap.max=500"],
        ),
        (
            r#"{"cpu": {"period": 20000}}"#,
            ["quota_us=-1", "period_us=20000", "quota_us=5000"]
                .map(|rest| format!("cpu.cfs_{rest}"))
                .to_vec(),
            vec!["cpu.max=5000 20000"],
        ),
        (
            r#"{"cpu": {"quota": 50, "burst": 30}}"#,
            ["burst_us=0", "quota_us=50", "burst_us=30"]
                .map(|rest| format!("cpu.cfs_{rest}"))
                .to_vec(),
            vec!["cpu.max.burst=0", "cpu.max=50", "cpu.max.burst=30"],
        ),
    ] {
        assert_eq!(written(Version::V1, json, &v1).unwrap(), v1_want, "{json}");
        assert_eq!(written(Version::V2, json, &v2).unwrap(), v2_want, "{json}");
    }
    let realtime = |json: &str| {
        let read = |_: &str, file: &str| (file == "cpu.rt_runtime_us").then(|| "500\n".to_owned());
        written(Version::V1, json, &read).unwrap()
    };
    let (period, runtime) = ("cpu.rt_period_us", "cpu.rt_runtime_us");
    assert_eq!(
        realtime(r#"{"cpu": {"realtimePeriod": 100, "realtimeRuntime": 50}}"#),
        [format!("{runtime}=50"), format!("{period}=100")]
    );
    assert_eq!(
        realtime(r#"{"cpu": {"realtimePeriod": 9000, "realtimeRuntime": 800}}"#),
        [format!("{period}=9000"), format!("{runtime}=800")]
    );
    let checked = r#"{"memory": {"limit": 899, "checkBeforeUpdate": true}}"#;
    assert!(matches!(written(Version::V2, checked, &v2), Err(Error::Busy(_))));
    assert!(written(Version::V2, &checked.replace("899", "900"), &v2).is_ok());
}

fn rules(list: &str) -> device::Rules {
    let one = |rule: &str| {
        let (allow, rest) = rule.trim().split_once(' ').unwrap();
        let words: Vec<&str> = rest.split([' ', ':']).collect();
        let number = |n: &str| if n == "*" { "-1".to_owned() } else { n.to_owned() };
        format!(
            r#"{{"allow": {}, "type": "{}", "major": {}, "minor": {}, "access": "{}"}}"#,
            allow == "allow",
            words[0],
            number(words[1]),
            number(words[2]),
            words[3]
        )
    };
    let json = list.split(',').map(one).collect::<Vec<_>>().join(",");
    let parsed = resources(&format!(r#"{{"devices": [{json}]}}"#));
    device::Rules::read(parsed.devices().as_ref().unwrap()).unwrap()
}

/// Runs the program as the kernel would.
fn decide(rules: &device::Rules, kind: u32, access: u32, major: u32, minor: u32) -> bool {
    let Some(code) = rules.program().unwrap() else { return true };
    let mut registers = [0_u32; 11];
    let (mut at, mut steps) = (0, 0);
    loop {
        steps += 1;
        assert!(steps <= code.len(), "a jump leads backwards");
        let insn = code[at];
        at += 1;
        let (to, from) = (usize::from(insn.registers & 15), usize::from(insn.registers >> 4));
        let k = insn.immediate as u32;
        let skip = insn.offset as usize;
        match insn.code {
            0x61 => registers[to] = [access << 16 | kind, major, minor][skip / 4],
            0xbc => registers[to] = registers[from],
            0xb4 => registers[to] = k,
            0x54 => registers[to] &= k,
            0x64 => registers[to] <<= k,
            0x16 => at += if registers[to] == k { skip } else { 0 },
            0x4c => registers[to] |= registers[from],
            0x74 => registers[to] >>= k,
            0x05 => at += skip,
            0x56 => at += if registers[to] == k { 0 } else { skip },
            0x46 => at += if registers[to] & k == 0 { 0 } else { skip },
            0x95 => return registers[0] == 1,
            other => panic!("instruction {other:#x}"),
        }
    }
}

const BLOCK: u32 = 1;
const CHAR: u32 = 2;
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;

#[test]
fn the_last_device_rule_about_an_access_wins() {
    let docker =
        rules("deny a *:* rwm, allow c *:* m, allow b *:* m, allow c 1:3 rwm, allow c 136:* rwm");
    for (kind, access, major, minor, want) in [
        (CHAR, MKNOD, 9, 9, true),
        (BLOCK, MKNOD, 8, 0, true),
        (BLOCK, READ, 8, 0, false),
        (CHAR, READ | WRITE, 1, 3, true),
        (CHAR, READ | WRITE | MKNOD, 1, 3, true),
        (CHAR, READ, 1, 4, false),
        (BLOCK, READ, 1, 3, false),
        (CHAR, WRITE, 136, 77, true),
    ] {
        assert_eq!(
            decide(&docker, kind, access, major, minor),
            want,
            "{kind} {access} {major}:{minor}"
        );
    }
    let holes = rules("deny a *:* rwm, allow c 1:* rw, deny c 1:3 w, allow c 1:5 r, allow c 1:5 w");
    assert!(decide(&holes, CHAR, READ | WRITE, 1, 4));
    assert!(decide(&holes, CHAR, READ, 1, 3));
    assert!(!decide(&holes, CHAR, READ | WRITE, 1, 3));
    assert!(decide(&holes, CHAR, READ | WRITE, 1, 5), "two rules together");
    let open = rules("deny c 1:1 r, allow a *:* rwm, deny b 8:0 w");
    assert!(decide(&open, CHAR, READ, 1, 1), "what stands before a rule about all is void");
    assert!(decide(&open, BLOCK, READ, 8, 0));
    assert!(!decide(&open, BLOCK, READ | WRITE, 8, 0));
    let bare = rules("allow c 1:3 ra");
    assert!(decide(&bare, CHAR, READ, 1, 3));
    assert!(!decide(&bare, CHAR, READ, 1, 5), "what no rule speaks about is denied");
    let large =
        rules("allow c 4095:1048575 r, allow c *:7 rwm, allow c 4096:5 rwm, allow c 1:1048576 r");
    assert!(decide(&large, CHAR, READ, 4095, 1_048_575));
    assert!(decide(&large, CHAR, WRITE, 9, 7) && !decide(&large, CHAR, WRITE, 9, 8));
    assert!(!decide(&large, CHAR, READ, 0, 5) && !decide(&large, CHAR, READ, 2, 0));
    for all in ["allow a *:* rwm", "deny c 1:3 r, allow a *:* rwm, allow c 1:5 r"] {
        assert!(rules(all).program().unwrap().is_none(), "{all}");
    }
    let many: Vec<String> = (0..40_000).map(|n| format!("allow c {}:{n} r", n % 4096)).collect();
    assert!(matches!(rules(&many.join(", ")).program(), Err(Error::Unsupported(_))));
    let later =
        rules("deny a *:* rwm, allow c 1:3 r, deny c 1:5 w, deny c 1:3 rwm, allow c 1:* rwm");
    assert!(decide(&later, CHAR, READ | WRITE, 1, 3) && decide(&later, CHAR, WRITE, 1, 5));
    let once = rules("deny a *:* rwm, allow c 1:* rwm");
    assert_eq!(
        later.program().unwrap(),
        once.program().unwrap(),
        "what a later rule decides is not asked"
    );
    let halves = rules("deny a *:* rwm, allow a *:* r");
    assert!(decide(&halves, BLOCK, READ, 1, 1) && !decide(&halves, BLOCK, WRITE, 1, 1));
}

#[test]
fn version_1_is_told_only_what_changes() {
    let lines = |list: &str, present: &str| {
        let lines = rules(list).lines(present).unwrap();
        lines.into_iter().map(|(file, line)| format!("{file} {line}")).collect::<Vec<_>>()
    };
    let confined = "deny a *:* rwm, allow c *:* m, allow c 1:3 rw";
    assert_eq!(
        lines(confined, "a *:* rwm\n"),
        ["devices.deny a", "devices.allow c *:* m", "devices.allow c 1:3 rw"]
    );
    assert_eq!(lines(confined, "c *:* m\nc 1:3 rw\n"), Vec::<String>::new());
    assert_eq!(
        lines(confined, "c 1:3 rwm\nb 8:0 r\n"),
        ["devices.deny b 8:0 r", "devices.deny c 1:3 m", "devices.allow c *:* m"]
    );
    assert_eq!(
        lines("allow a *:* rwm, deny b 8:0 w", "c 1:3 r\n"),
        ["devices.allow a", "devices.deny b 8:0 w"]
    );
    assert_eq!(
        lines("deny a *:* rwm, allow c 1:3 rw, deny c 1:* w", ""),
        ["devices.allow c 1:3 r"]
    );
    assert_eq!(
        lines("deny a *:* rwm, allow a *:* r", ""),
        ["devices.allow b *:* r", "devices.allow c *:* r"]
    );
    assert_eq!(
        lines("deny a *:* rwm, allow c 10:229 rwm, allow b 8:20 r, allow b *:* m", ""),
        ["devices.allow c 10:229 rwm", "devices.allow b 8:20 r", "devices.allow b *:* m"],
        "in the order of the rules"
    );
    let hole = rules("deny a *:* rwm, allow c 1:* rw, deny c 1:3 w").lines("");
    let Err(Error::Unsupported(text)) = hole else { panic!("{hole:?}") };
    assert!(text.contains("deny c 1:3 w out of c 1:* rw"), "{text}");
}

/// A directory that looks like version 2 with `controllers`, where groups already have files.
fn fake_v2(
    controllers: &str,
    group: &str,
    files: &[(&str, &str)],
) -> (tempfile::TempDir, Arc<Layout>) {
    let root = tempfile::tempdir().unwrap();
    let mut level = root.path().to_path_buf();
    let put = |at: &Path, name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
    put(&level, "cgroup.controllers", controllers);
    put(&level, "cgroup.subtree_control", "");
    for part in Path::new(group) {
        level.push(part);
        std::fs::create_dir(&level).unwrap();
        put(&level, "cgroup.subtree_control", "cpu");
        put(&level, "cgroup.procs", "");
    }
    files.iter().for_each(|(name, text)| put(&level, name, text));
    let mount = v2_at(root.path());
    (root, Arc::new(Layout::at(&[mount]).unwrap()))
}

fn v2_at(point: &Path) -> Mount {
    Mount { point: point.to_path_buf(), version: Version::V2, controllers: Vec::new() }
}

#[test]
fn version_2_alone_is_limited_and_read() {
    let files = [
        ("memory.max", ""),
        ("memory.swap.max", ""),
        ("cpu.weight", ""),
        ("memory.current", "5\n"),
        ("memory.stat", "anon 1\nfile 2\ninactive_file 1\n"),
        ("memory.events", "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\n"),
        ("memory.swap.current", "7\n"),
        (
            "cpu.stat",
            "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_throttled 2\nthrottled_usec 6\n",
        ),
        ("pids.current", "2\n"),
        ("pids.max", "max\n"),
        ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n"),
    ];
    let (root, layout) = fake_v2("cpuset cpu io memory pids", "cais-x/a", &files);
    let limits = r#"{"memory": {"limit": 100, "swap": 300}, "cpu": {"shares": 1024}}"#;
    let path = Path::new("/cais-x/a");
    let group = Cgroup::create_in(layout.clone(), (path, &[]), Some(&resources(limits))).unwrap();
    let at = |name: &str| std::fs::read_to_string(root.path().join(name)).unwrap();
    assert_eq!(at("cais-x/a/memory.max"), "100");
    assert_eq!(at("cais-x/a/memory.swap.max"), "200");
    assert_eq!(at("cais-x/a/cpu.weight"), "100");
    assert_eq!(at("cgroup.subtree_control"), "+io", "the last of four writes");
    assert_eq!(at("cais-x/cgroup.subtree_control"), "+io", "the last of three");
    assert_eq!(at("cais-x/a/cgroup.subtree_control"), "cpu", "a leaf delegates nothing");
    assert!(group.v2_fd().is_some());

    let stats = group.stats().unwrap();
    assert_eq!(
        (stats.cpu.usage_ns, stats.cpu.user_ns, stats.cpu.system_ns),
        (30_000, 20_000, 10_000)
    );
    assert_eq!((stats.cpu.throttled_periods, stats.cpu.throttled_ns), (2, 6000));
    assert_eq!((stats.memory.usage_bytes, stats.memory.limit_bytes), (5, Some(100)));
    assert_eq!((stats.memory.cache_bytes, stats.memory.inactive_file_bytes), (2, 1));
    assert_eq!((stats.memory.swap_bytes, stats.memory.peak_bytes), (7, None));
    assert_eq!((stats.memory.oom_events, stats.memory.oom_kills, group.oom_kills()), (4, 3, 3));
    assert_eq!((stats.pids.current, stats.pids.limit), (2, None));
    assert_eq!((stats.io.len(), stats.io[0].write_ops), (1, 4));

    let missing = Cgroup::create_in(
        layout,
        (path, &[]),
        Some(&resources(r#"{"pids": {"limit": 3}, "cpu": {"burst": 4}}"#)),
    );
    let Err(Error::Limit { limit, value, file, remedy, source }) = missing else { panic!() };
    assert_eq!((limit.as_str(), value.as_str()), ("cpu.burst", "4"));
    assert_eq!(file, root.path().join("cais-x/a/cpu.max.burst"));
    assert!(remedy.contains("Linux 5.14"), "{remedy}");
    assert_eq!(source.raw_os_error(), Some(libc::ENOENT));
    assert!(root.path().join("cais-x/a").exists(), "what was there before a failure stays");
}

#[test]
fn symbolic_links_are_not_followed() {
    let (root, layout) = fake_v2("cpu", "cais-x", &[]);
    std::fs::create_dir(root.path().join("real")).unwrap();
    std::os::unix::fs::symlink("../real", root.path().join("cais-x/link")).unwrap();
    let error = Cgroup::create_in(layout, (Path::new("/cais-x/link"), &[]), None).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(root.path().join("real").exists());
}

/// The kernel's version 2 hierarchy and nothing else, as on most machines.
fn kernel_v2() -> Option<Arc<Layout>> {
    let host = Layout::of_host().unwrap();
    let mount = host.v2().map(|v2| v2_at(&v2.mount));
    if mount.is_none() {
        println!("skipped: version 2 of control groups is not mounted");
    }
    mount.map(|mount| Arc::new(Layout::at(&[mount]).unwrap()))
}

/// Removes the group, and who is in it, also when a test fails.
struct Guard(Arc<Layout>, PathBuf);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Ok(group) = Cgroup::open_in(self.0.clone(), &self.1) {
            let _ = group.kill();
            let _ = group.delete();
        }
    }
}

#[test]
fn the_kernel_takes_and_obeys_device_programs() {
    let Some(layout) = kernel_v2() else { return };
    let path = PathBuf::from(format!("/cais-test-{}-bpf/box", std::process::id()));
    let _guard = Guard(layout.clone(), path.clone());
    let null_only = r#"{"devices": [{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "access": "m"},
        {"allow": true, "type": "b", "access": "m"},
        {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"},
        {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
        {"allow": false, "type": "c", "major": 1, "minor": 5, "access": "w"}]}"#;
    let group =
        Cgroup::create_in(layout.clone(), (&path, &[]), Some(&resources(null_only))).unwrap();
    let can = |group: &Cgroup, what: &str| {
        use std::process::{Command, Stdio};
        let script = format!("read go; {what}");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        group.attach(child.id() as i32, false).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap().success()
    };
    let programs = |group: &Cgroup| super::bpf::attached(group.v2_fd().unwrap()).unwrap();
    let first = programs(&group);
    assert_eq!(first.len(), 1);
    for (what, want) in [
        (": </dev/null", true),
        (": >/dev/null", true),
        (": </dev/zero", true),
        (": >/dev/zero", false),
        (": </dev/urandom", false),
    ] {
        assert_eq!(can(&group, what), want, "{what}");
    }
    let other = r#"{"devices": [{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 9, "access": "r"}]}"#;
    group.update(&resources(other)).unwrap();
    assert_eq!(programs(&group).len(), 1, "the old program is gone");
    assert_ne!(programs(&group), first);
    assert!(can(&group, ": </dev/urandom"));
    assert!(!can(&group, ": </dev/null"));
    group.delete().unwrap();
    assert!(matches!(Cgroup::open_in(layout, &path), Err(Error::NotFound(_))));
}
