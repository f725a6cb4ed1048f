//! The compiler against a plain reading of the rules, on a machine for classic BPF.

use std::collections::{BTreeSet, HashSet};

use oci::runtime::{
    Arch as OciArch, Capability, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompOperator as Operator, LinuxSyscall,
};
use proptest::prelude::*;

use super::arch::{Arch, X32_BIT};
use super::syscall::{NO, numbers};
use super::{Error, Filter, compile, default_profile, docker_profile};

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// A system call as a filter sees it.
#[derive(Clone, Debug)]
struct Call {
    arch: u32,
    number: u32,
    args: [u64; 6],
}

/// Runs `filter` as net/core/filter.c would, refusing what the kernel's checker refuses.
fn run(filter: &Filter, call: &Call) -> u32 {
    let mut data = Vec::new();
    data.extend(call.number.to_le_bytes());
    data.extend(call.arch.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    call.args.iter().for_each(|arg| data.extend(arg.to_le_bytes()));
    let (mut at, mut a) = (0, 0_u32);
    loop {
        let i = filter.instructions()[at];
        at += 1;
        let jump = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
        match u32::from(i.code) {
            0x20 => {
                let from = i.k as usize;
                assert_eq!(from % 4, 0);
                a = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
            }
            0x54 => a &= i.k,
            0x05 => at += i.k as usize,
            0x15 => at += jump(a == i.k),
            0x25 => at += jump(a > i.k),
            0x35 => at += jump(a >= i.k),
            0x06 => return i.k,
            other => panic!("instruction {other:#x} is not expected"),
        }
    }
}

fn column(arch: OciArch) -> Arch {
    match arch {
        OciArch::ScmpArchX86_64 => Arch::X86_64,
        OciArch::ScmpArchX86 => Arch::X86,
        OciArch::ScmpArchX32 => Arch::X32,
        OciArch::ScmpArchAarch64 => Arch::Aarch64,
        OciArch::ScmpArchArm => Arch::Arm,
        OciArch::ScmpArchRiscv64 => Arch::Riscv64,
        other => panic!("{other} has no table"),
    }
}

const ARCHES: [OciArch; 6] = [
    OciArch::ScmpArchX86_64,
    OciArch::ScmpArchX86,
    OciArch::ScmpArchX32,
    OciArch::ScmpArchAarch64,
    OciArch::ScmpArchArm,
    OciArch::ScmpArchRiscv64,
];

/// The documented precedence, read out naively.
fn expected(profile: &LinuxSeccomp, call: &Call) -> u32 {
    let listed = |arch: OciArch| {
        column(arch) == Arch::native()
            || profile.architectures().iter().flatten().any(|a| *a == arch)
    };
    let x86 = call.arch == Arch::X86_64.token();
    if x86 && call.number == u32::MAX && !listed(OciArch::ScmpArchX32) {
        return expected(profile, &Call { number: X32_BIT - 1, ..call.clone() });
    }
    let arch = ARCHES.into_iter().find(|a| {
        column(*a).token() == call.arch
            && (!x86 || (*a == OciArch::ScmpArchX32) == (call.number >= X32_BIT))
    });
    let Some(arch) = arch.filter(|a| listed(*a)).map(column) else { return KILL };
    let number = if arch == Arch::X32 { call.number - X32_BIT } else { call.number };
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    let of = |name: &str| numbers(name).map_or(NO, |n| n[arch.column()]);
    let rules: Vec<&LinuxSyscall> = profile.syscalls().iter().flatten().collect();
    let matching: Vec<&&LinuxSyscall> = rules
        .iter()
        .filter(|r| number != NO && r.names().iter().any(|n| of(n) == number))
        .filter(|r| r.action().as_u32(r.errno_ret()) != default)
        .collect();
    let value = |r: &LinuxSyscall| r.action().as_u32(r.errno_ret());
    if let Some(rule) = matching.iter().find(|r| r.args().iter().flatten().count() == 0) {
        return value(rule);
    }
    for rule in &matching {
        let args: Vec<LinuxSeccompArg> = rule.args().iter().flatten().copied().collect();
        let distinct: BTreeSet<usize> = args.iter().map(LinuxSeccompArg::index).collect();
        let holds = |arg: &LinuxSeccompArg| holds(arg, call, arch.is_wide());
        let matches = if distinct.len() < args.len() {
            args.iter().any(holds)
        } else {
            args.iter().all(holds)
        };
        if matches {
            return value(rule);
        }
    }
    let known = rules.iter().flat_map(|r| r.names()).map(|n| of(n));
    let known = known.filter(|n| *n < 0xf_0000).max();
    let open = [Action::ScmpActAllow, Action::ScmpActLog, Action::ScmpActTrace];
    match known {
        Some(last)
            if matching.is_empty()
                && number > last
                && !open.contains(&profile.default_action()) =>
        {
            ENOSYS
        }
        _ => default,
    }
}

fn holds(arg: &LinuxSeccompArg, call: &Call, wide: bool) -> bool {
    let cut = |v: u64| if wide { v } else { v & 0xffff_ffff };
    let (have, want) = (cut(call.args[arg.index()]), cut(arg.value()));
    match arg.op() {
        Operator::ScmpCmpNe => have != want,
        Operator::ScmpCmpLt => have < want,
        Operator::ScmpCmpLe => have <= want,
        Operator::ScmpCmpEq => have == want,
        Operator::ScmpCmpGe => have >= want,
        Operator::ScmpCmpGt => have > want,
        Operator::ScmpCmpMaskedEq => have & want == cut(arg.value_two().unwrap_or(0)) & want,
    }
}

/// Names on several architectures, on one only, ARM's far numbers, and nonsense. None that i386
/// multiplexes: that has its own test.
const NAMES: [&str; 22] = [
    "read",
    "write",
    "open",
    "close",
    "stat",
    "mmap",
    "ioctl",
    "clone",
    "clone3",
    "personality",
    "arch_prctl",
    "mmap2",
    "cacheflush",
    "set_tls",
    "riscv_hwprobe",
    "openat2",
    "mseal",
    "getpid",
    "pwritev2",
    "fsopen",
    "restart_syscall",
    "no_such_call",
];

fn any_action() -> impl Strategy<Value = (Action, Option<u32>)> {
    prop_oneof![
        4 => Just((Action::ScmpActAllow, None)),
        3 => (0_u32..40).prop_map(|e| (Action::ScmpActErrno, Some(e))),
        1 => Just((Action::ScmpActErrno, None)),
        1 => Just((Action::ScmpActKillProcess, None)),
        1 => Just((Action::ScmpActKillThread, None)),
        1 => Just((Action::ScmpActTrap, None)),
        1 => (0_u32..9).prop_map(|e| (Action::ScmpActTrace, Some(e))),
        1 => Just((Action::ScmpActLog, None)),
    ]
}

/// Values that collide often, in both halves.
fn any_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..4,
        Just(u64::MAX),
        Just(0xffff_ffff_u64),
        (0_u64..3, 0_u64..3).prop_map(|(high, low)| high << 32 | low),
        any::<u64>(),
    ]
}

fn any_argument() -> impl Strategy<Value = LinuxSeccompArg> {
    let ops = prop::sample::select(vec![
        Operator::ScmpCmpNe,
        Operator::ScmpCmpLt,
        Operator::ScmpCmpLe,
        Operator::ScmpCmpEq,
        Operator::ScmpCmpGe,
        Operator::ScmpCmpGt,
        Operator::ScmpCmpMaskedEq,
    ]);
    (0_usize..3, any_value(), any_value(), ops).prop_map(|(index, value, two, op)| {
        LinuxSeccompArgBuilder::default()
            .index(index)
            .value(value)
            .value_two(two)
            .op(op)
            .build()
            .unwrap()
    })
}

fn any_rule() -> impl Strategy<Value = LinuxSyscall> {
    let names = prop::collection::vec(prop::sample::select(NAMES.to_vec()), 1..6);
    let args = prop::collection::vec(any_argument(), 0..4);
    (names, any_action(), args, any::<bool>()).prop_map(|(names, (action, errno), args, plain)| {
        let mut rule = LinuxSyscall::default();
        rule.set_names(names.into_iter().map(str::to_owned).collect());
        rule.set_action(action).set_errno_ret(errno);
        rule.set_args(Some(if plain { Vec::new() } else { args }));
        rule
    })
}

fn any_profile() -> impl Strategy<Value = LinuxSeccomp> {
    let arches = prop::sample::subsequence(ARCHES.to_vec(), 0..=6);
    let rules = prop::collection::vec(any_rule(), 0..12);
    (arches, rules, any_action()).prop_map(|(arches, rules, (action, errno))| {
        let mut profile = LinuxSeccomp::default();
        profile.set_default_action(action).set_default_errno_ret(errno);
        profile.set_architectures(Some(arches)).set_syscalls(Some(rules));
        profile
    })
}

fn any_call() -> impl Strategy<Value = Call> {
    let token = prop::sample::select(vec![
        Arch::X86_64.token(),
        Arch::X86_64.token(),
        Arch::X86.token(),
        Arch::Aarch64.token(),
        Arch::Arm.token(),
        Arch::Riscv64.token(),
        0x1234,
    ]);
    let name = (prop::sample::select(NAMES.to_vec()), 0_usize..6)
        .prop_map(|(name, arch)| numbers(name).map_or(999, |n| n[arch]));
    let number = prop_oneof![
        6 => name,
        2 => 0_u32..600,
        1 => 0xf_0000_u32..0xf_0008,
        1 => any::<u32>(),
        1 => Just(u32::MAX),
        1 => Just(X32_BIT),
    ];
    let x32 = prop::bool::weighted(0.2);
    let args = prop::array::uniform6(any_value());
    (token, number, x32, args).prop_map(|(arch, number, x32, args)| Call {
        arch,
        number: if x32 { number | X32_BIT } else { number },
        args,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn filter_does_what_the_rules_say(
        profile in any_profile(),
        calls in prop::collection::vec(any_call(), 40),
    ) {
        let filter = compile(&profile).unwrap();
        for call in calls {
            let (have, want) = (run(&filter, &call), expected(&profile, &call));
            prop_assert_eq!(have, want, "{:?} under {:?}: {:#x} for {:#x}", call, profile, have, want);
        }
    }
}

fn caps(list: &[Capability]) -> HashSet<Capability> {
    list.iter().copied().collect()
}

fn native(name: &str) -> u32 {
    numbers(name).unwrap()[Arch::native().column()]
}

fn ask(filter: &Filter, name: &str, args: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    run(filter, &Call { arch: Arch::native().token(), number: native(name), args: all })
}

#[test]
fn default_profile_answers_as_dockers() {
    let plain = compile(&default_profile(&caps(&[]))).unwrap();
    let admin = compile(&default_profile(&caps(&[Capability::SysAdmin]))).unwrap();
    let newuser = libc::CLONE_NEWUSER as u64;
    #[rustfmt::skip]
    let table: &[(&str, &[u64], u32, u32)] = &[
        ("read", &[], ALLOW, ALLOW),
        ("ptrace", &[], ALLOW, ALLOW),
        ("mount", &[], EPERM, ALLOW),
        ("keyctl", &[], EPERM, EPERM),
        ("io_uring_setup", &[], EPERM, EPERM),
        ("userfaultfd", &[], EPERM, EPERM),
        ("reboot", &[], EPERM, EPERM),
        ("clone", &[0x11], ALLOW, ALLOW),
        ("clone", &[0x11 | newuser], EPERM, ALLOW),
        ("clone", &[0xffff_ffff_0000_0011], ALLOW, ALLOW),
        ("clone3", &[], ENOSYS, ALLOW),
        ("unshare", &[newuser], EPERM, ALLOW),
        ("socket", &[libc::AF_INET as u64], ALLOW, ALLOW),
        ("socket", &[libc::AF_UNIX as u64], ALLOW, ALLOW),
        ("socket", &[libc::AF_ALG as u64], EPERM, EPERM),
        ("socket", &[39], ALLOW, ALLOW),
        ("socket", &[libc::AF_VSOCK as u64], EPERM, EPERM),
        ("socket", &[1 << 32 | libc::AF_VSOCK as u64], EPERM, EPERM),
        ("socket", &[libc::AF_XDP as u64], ALLOW, ALLOW),
        ("personality", &[0], ALLOW, ALLOW),
        ("personality", &[0xffff_ffff], ALLOW, ALLOW),
        ("personality", &[0x4_0000], EPERM, EPERM),
        ("personality", &[1 << 32], EPERM, EPERM),
        ("file_setattr", &[], ENOSYS, ENOSYS),
    ];
    for (name, args, without, with) in table {
        assert_eq!(ask(&plain, name, args), *without, "{name} {args:?} without privilege");
        assert_eq!(ask(&admin, name, args), *with, "{name} {args:?} with CAP_SYS_ADMIN");
    }
    for family in 0..64 {
        let want = if family == 38 || family == 40 { EPERM } else { ALLOW };
        assert_eq!(ask(&plain, "socket", &[family]), want, "address family {family}");
    }
    assert!(plain.unknown_names().is_empty(), "{:?}", plain.unknown_names());
}

#[test]
fn every_capability_opens_its_calls() {
    for (capability, name) in [
        (Capability::DacReadSearch, "open_by_handle_at"),
        (Capability::SysBoot, "reboot"),
        (Capability::SysChroot, "chroot"),
        (Capability::SysModule, "finit_module"),
        (Capability::SysPacct, "acct"),
        (Capability::SysPtrace, "pidfd_getfd"),
        (Capability::SysTime, "clock_settime"),
        (Capability::SysTtyConfig, "vhangup"),
        (Capability::SysNice, "mbind"),
        (Capability::Syslog, "syslog"),
        (Capability::Bpf, "bpf"),
        (Capability::Perfmon, "perf_event_open"),
    ] {
        let without = compile(&default_profile(&caps(&[]))).unwrap();
        let with = compile(&default_profile(&caps(&[capability]))).unwrap();
        assert_eq!(ask(&without, name, &[]), EPERM, "{name}");
        assert_eq!(ask(&with, name, &[]), ALLOW, "{name} with {capability}");
    }
}

#[test]
fn default_profile_compiles_to_few_instructions() {
    let mut profile = default_profile(&caps(&[]));
    let all = compile(&profile).unwrap().instructions().len();
    profile.set_architectures(None);
    let native = compile(&profile).unwrap().instructions().len();
    println!("{native} instructions for the native architecture, {all} with its subordinates");
    assert!(native <= 180, "{native}");
    assert!(all <= 520, "{all}");
}

#[test]
fn multiplexed_calls_of_i386_follow_rules_without_arguments() {
    let json = br#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [{"names": ["socket", "shmget"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let filter = compile(&docker_profile(json, &caps(&[])).unwrap()).unwrap();
    let on = |number, first| {
        run(&filter, &Call { arch: Arch::X86.token(), number, args: [first, 0, 0, 0, 0, 0] })
    };
    assert_eq!(on(359, 2), EPERM, "socket");
    assert_eq!(on(102, 1), EPERM, "socketcall(SYS_SOCKET)");
    assert_eq!(on(102, 2), ALLOW, "socketcall(SYS_BIND)");
    assert_eq!(on(117, 23), EPERM, "ipc(SHMGET)");
    assert_eq!(on(117, 1 << 16 | 23), EPERM, "ipc(SHMGET), version 1");
    assert_eq!(on(117, 21), ALLOW, "ipc(SHMAT)");
}

#[test]
fn dockers_format_resolves_conditions() {
    let json = br#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 7,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null},
            {"architecture": "SCMP_ARCH_OF_TOMORROW", "subArchitectures": null}],
        "syscalls": [
            {"name": "read", "action": "SCMP_ACT_ALLOW", "args": null, "comment": "old"},
            {"names": ["write"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["close"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
            {"names": ["dup"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.8"}},
            {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
            {"names": ["bpf"], "action": "SCMP_ACT_ALLOW",
             "includes": {"caps": ["CAP_SYS_CHROOT", "CAP_BPF"]}},
            {"names": ["getpid"], "action": "SCMP_ACT_ALLOW",
             "excludes": {"caps": ["CAP_SYS_CHROOT", "CAP_BPF"]}},
            {"names": ["getuid"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
            {"names": ["getgid"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["s390x"]}},
            {"names": ["geteuid"], "action": "SCMP_ACT_ALLOW", "includes": {}, "excludes": {}}]}"#;
    let profile = docker_profile(json, &caps(&[Capability::SysChroot])).unwrap();
    let names: Vec<&str> = profile
        .syscalls()
        .iter()
        .flatten()
        .flat_map(LinuxSyscall::names)
        .map(String::as_str)
        .collect();
    assert_eq!(names, ["read", "write", "chroot", "getgid", "geteuid"]);
    assert_eq!(profile.default_errno_ret(), Some(7));
    let architectures = profile.architectures().as_deref().unwrap_or_default();
    if cfg!(target_arch = "x86_64") {
        assert_eq!(architectures, [OciArch::ScmpArchX86_64, OciArch::ScmpArchX86]);
    }
}

#[test]
fn bad_profiles_are_refused() {
    for (json, want) in [
        (r#"{"syscalls": []}"#, "no defaultAction"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
                "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
            "both architectures and archMap",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"name": "read", "names": ["write"], "action": "SCMP_ACT_TRAP"}]}"#,
            "both name and names",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_TRAP", "includes": {"minKernel": "5"}}]}"#,
            "minKernel",
        ),
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "default action"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            "cannot be used for write",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}]}"#,
            "errnoRet 5000",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO",
                "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}]}"#,
            "errnoRet 1",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"],
                "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            "argument index 6",
        ),
    ] {
        let error = docker_profile(json.as_bytes(), &caps(&[])).and_then(|p| compile(&p));
        let Err(Error::Invalid(text)) = error else { panic!("{json} gave {error:?}") };
        assert!(text.contains(want), "{text}");
    }
    assert!(matches!(docker_profile(b"{", &caps(&[])), Err(Error::Json(_))));
}

#[test]
fn overlong_profiles_are_refused() {
    let mut rules = Vec::new();
    for value in 0..3000 {
        let arg = LinuxSeccompArgBuilder::default().index(0_usize).value(value as u64 * 3);
        let mut rule = LinuxSyscall::default();
        rule.set_names(vec!["read".into()]).set_action(Action::ScmpActErrno);
        rule.set_args(Some(vec![arg.op(Operator::ScmpCmpEq).build().unwrap()]));
        rules.push(rule);
    }
    let mut profile = LinuxSeccomp::default();
    profile.set_default_action(Action::ScmpActAllow).set_syscalls(Some(rules.clone()));
    assert!(matches!(compile(&profile), Err(Error::TooLong(_))));
    // Below the limit, but far beyond one jump's reach.
    profile.set_syscalls(Some(rules[..800].to_vec()));
    let filter = compile(&profile).unwrap();
    assert_eq!(ask(&filter, "read", &[3 * 799]), EPERM);
    assert_eq!(ask(&filter, "read", &[3 * 799 + 1]), ALLOW);
    assert_eq!(ask(&filter, "write", &[0]), ALLOW);
}
