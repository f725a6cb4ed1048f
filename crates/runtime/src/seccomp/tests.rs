//! The compiler, on a machine for classic BPF; beside libseccomp in `differential`.

mod differential;

use std::collections::HashSet;

use oci::runtime::{
    Arch as OciArch, Capability, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompOperator as Operator, LinuxSyscall,
};
use proptest::prelude::*;

use super::arch::{Arch, X32_BIT};
use super::machine::{self, Call};
use super::syscall::numbers;
use super::{Error, Filter, compile, default_profile, docker_profile};

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const LOG: u32 = libc::SECCOMP_RET_LOG;
const TRAP: u32 = libc::SECCOMP_RET_TRAP;
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
const KILL_PROCESS: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

const ARCHES: [OciArch; 6] = [
    OciArch::ScmpArchX86_64,
    OciArch::ScmpArchX86,
    OciArch::ScmpArchX32,
    OciArch::ScmpArchAarch64,
    OciArch::ScmpArchArm,
    OciArch::ScmpArchRiscv64,
];

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

fn any_rule(pool: &[&'static str]) -> impl Strategy<Value = LinuxSyscall> + use<> {
    let names = prop::collection::vec(prop::sample::select(pool.to_vec()), 1..6);
    let args = prop::collection::vec(any_argument(), 0..4);
    let plain = prop::bool::weighted(0.3);
    (names, any_action(), args, plain).prop_map(|(names, (action, errno), args, plain)| {
        let mut rule = LinuxSyscall::default();
        rule.set_names(names.into_iter().map(str::to_owned).collect());
        rule.set_action(action).set_errno_ret(errno);
        rule.set_args(Some(if plain { Vec::new() } else { args }));
        rule
    })
}

fn any_profile() -> impl Strategy<Value = LinuxSeccomp> {
    let arches = prop::sample::subsequence(ARCHES.to_vec(), 0..=6);
    let rules = prop::collection::vec(any_rule(&NAMES), 0..12);
    (arches, rules, any_action()).prop_map(|(arches, rules, (action, errno))| {
        let mut profile = LinuxSeccomp::default();
        profile.set_default_action(action).set_default_errno_ret(errno);
        profile.set_architectures(Some(arches)).set_syscalls(Some(rules));
        profile
    })
}

/// A call on an architecture still to be chosen.
#[derive(Clone, Debug)]
struct Asked {
    name: Option<&'static str>,
    number: u32,
    listed: bool,
    args: [u64; 6],
}

impl Asked {
    fn on(&self, arch: Arch) -> Call {
        let named = self.name.and_then(numbers).and_then(|numbers| numbers.on(arch));
        Call {
            arch: if self.listed { arch.token() } else { 0x1234 },
            number: named.unwrap_or(self.number),
            args: self.args,
            big_endian: arch.is_big_endian(),
        }
    }
}

fn any_call(pool: &[&'static str]) -> impl Strategy<Value = Asked> + use<> {
    let name = prop::option::weighted(0.7, prop::sample::select(pool.to_vec()));
    let number = prop_oneof![
        4 => 0_u32..600,
        1 => 0xf_0000_u32..0xf_0008,
        1 => X32_BIT..X32_BIT + 600,
        1 => any::<u32>(),
        1 => Just(u32::MAX),
    ];
    let args = prop::array::uniform6(any_value());
    let call = (name, number, prop::bool::weighted(0.98), args);
    call.prop_map(|(name, number, listed, args)| Asked { name, number, listed, args })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_filter_can_be_loaded_and_answers(
        profile in any_profile(),
        calls in prop::collection::vec(any_call(&NAMES), 20),
    ) {
        let filter = compile(&profile).unwrap();
        machine::verify(filter.instructions()).unwrap();
        for call in calls {
            let call = call.on(Arch::native());
            let (answer, steps) = machine::run(filter.instructions(), &call);
            prop_assert!(steps <= filter.instructions().len());
            let constant = machine::constant(filter.instructions(), call.arch, call.number);
            prop_assert!(constant.is_none_or(|constant| constant == answer));
        }
    }
}

fn run(filter: &Filter, call: &Call) -> u32 {
    machine::run(filter.instructions(), call).0
}

fn caps(list: &[Capability]) -> HashSet<Capability> {
    list.iter().copied().collect()
}

fn native(name: &str) -> u32 {
    numbers(name).unwrap().on(Arch::native()).unwrap()
}

fn ask(filter: &Filter, name: &str, args: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    let (arch, number) = (Arch::native(), native(name));
    let big_endian = arch.is_big_endian();
    run(filter, &Call { arch: arch.token(), number, args: all, big_endian })
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
        let args = [first, 0, 0, 0, 0, 0];
        run(&filter, &Call { arch: Arch::X86.token(), number, args, big_endian: false })
    };
    assert_eq!(on(359, 2), EPERM, "socket");
    assert_eq!(on(102, 1), EPERM, "socketcall(SYS_SOCKET)");
    assert_eq!(on(102, 2), ALLOW, "socketcall(SYS_BIND)");
    assert_eq!(on(117, 23), EPERM, "ipc(SHMGET)");
    assert_eq!(on(117, 1 << 16 | 23), EPERM, "ipc(SHMGET), version 1");
    assert_eq!(on(117, 21), ALLOW, "ipc(SHMAT)");
}

/// The arguments lie behind a pointer: a rule that opens something opens none of it then, a rule
/// that closes something closes all.
#[test]
fn multiplexed_calls_do_not_evade_arguments() {
    for (default, action, socketcall) in
        [("ERRNO", "ALLOW", EPERM), ("ALLOW", "ERRNO", EPERM), ("KILL", "ERRNO", 0)]
    {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_{default}", "architectures": ["SCMP_ARCH_X86"],
                "flags": [], "syscalls": [
                {{"names": ["sendmmsg", "write"], "action": "SCMP_ACT_{action}"}},
                {{"names": ["socket"], "action": "SCMP_ACT_{action}",
                  "args": [{{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}}]}}]}}"#
        );
        let filter = compile(&docker_profile(json.as_bytes(), &caps(&[])).unwrap()).unwrap();
        let args = [1, 0xffff_0000, 0, 0, 0, 0];
        let call = |number| Call { arch: Arch::X86.token(), number, args, big_endian: false };
        // Without the names that are multiplexed, 102 would be younger than the profile.
        assert!([socketcall, ENOSYS].contains(&run(&filter, &call(102))), "{default} {action}");
    }
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
                "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#,
            "needs a rule with SCMP_ACT_NOTIFY",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            "cannot be used for the write syscall",
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
fn what_is_unknown_is_named() {
    for (json, unknown) in [
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW"]}"#,
            "FLAG_NEW",
        ),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"]}"#, "ARCH_Z80"),
        (r#"{"defaultAction": "SCMP_ACT_PANIC"}"#, "ACT_PANIC"),
    ] {
        let error = docker_profile(json.as_bytes(), &caps(&[])).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(unknown), "{source}");
    }
}

#[test]
fn flags_are_the_kernels() {
    let flags = |list: &str| {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW" {list},
                "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}}]}}"#
        );
        let profile = docker_profile(json.as_bytes(), &caps(&[])).unwrap();
        compile(&profile).unwrap().flags()
    };
    assert_eq!(flags(""), libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    assert_eq!(flags(r#", "flags": []"#), 0);
    assert_eq!(flags(r#", "flags": ["SECCOMP_FILTER_FLAG_TSYNC"]"#), 0);
    let all = r#", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#;
    let want = libc::SECCOMP_FILTER_FLAG_LOG
        | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW
        | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    assert_eq!(flags(all), want);
}

/// What the kernel can cache it never asks the filter about again.
#[test]
fn calls_allowed_whatever_their_arguments_never_need_the_filter() {
    let profile = default_profile(&caps(&[]));
    let filter = compile(&profile).unwrap();
    let plain = |rule: &&LinuxSyscall| rule.args().as_ref().is_none_or(Vec::is_empty);
    let mut steps = Vec::new();
    for arch in [Arch::X86_64, Arch::X86].into_iter().filter(|_| Arch::native() == Arch::X86_64) {
        for rule in profile.syscalls().iter().flatten().filter(plain) {
            for number in rule.names().iter().filter_map(|name| numbers(name)?.on(arch)) {
                let code = filter.instructions();
                assert!(machine::constant(code, arch.token(), number).is_some(), "{number}");
                let call = Call { arch: arch.token(), number, args: [0; 6], big_endian: false };
                steps.push(machine::run(code, &call).1);
            }
        }
    }
    assert!(steps.iter().all(|steps| *steps <= 14), "{steps:?}");
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
