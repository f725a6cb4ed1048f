//! What a profile says about each number of each architecture.

use oci::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator,
    LinuxSyscall,
};

use super::arch::{ARM_PRIVATE, Arch};
use super::syscall::{self, Numbers};
use super::{Error, order};

/// What the kernel does when the stub for unknown calls decides: `ENOSYS`.
pub(super) const RETURN_ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// seccomp(2) clamps an errno at `MAX_ERRNO` of linux/err.h.
const ERRNO_MAX: u32 = 4095;
/// A tracer receives 16 bits (`SECCOMP_RET_DATA`).
const TRACE_MAX: u32 = 0xffff;
/// A system call takes six arguments.
const ARGUMENTS: usize = 6;

/// A profile, checked, with names resolved to rows of numbers.
pub(super) struct Rules {
    /// What happens to a call no rule speaks about, as the filter returns it.
    pub default: u32,
    /// Whether calls younger than the profile return `ENOSYS`.
    pub stub: bool,
    pub notifies: bool,
    pub unknown: Vec<String>,
    rules: Vec<Rule>,
    calls: Vec<Call>,
}

struct Rule {
    action: u32,
    /// Any of these lists of conditions must hold; none at all means always.
    alternatives: Vec<Vec<Condition>>,
}

/// One name of one rule.
struct Call {
    numbers: Numbers,
    /// `None` when the rule repeats the default action: the name counts only as known.
    rule: Option<u32>,
    /// How some architectures reach the same call through `socketcall` or `ipc`.
    multiplexed: Option<Multiplexed>,
}

#[derive(Clone, Copy)]
pub(super) struct Multiplexed {
    numbers: Numbers,
    condition: Condition,
}

/// One number of one architecture in one rule.
#[derive(Clone, Copy)]
struct Mention {
    number: u32,
    rule: u32,
    /// The number is `socketcall`'s or `ipc`'s, and this their first argument.
    multiplexed: Option<Condition>,
}

/// What a filter does with one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Return(u32),
    /// The first check that holds decides, else the default.
    Check(Vec<Check>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub conditions: Vec<Condition>,
    pub action: u32,
}

/// `(argument & mask) test value`, or its opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub argument: u8,
    pub mask: u64,
    pub test: Test,
    pub value: u64,
    pub negated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    Above,
    AtLeast,
}

impl Rules {
    /// Reads and checks `profile`.
    pub(super) fn read(profile: &LinuxSeccomp) -> Result<Self, Error> {
        let action = profile.default_action();
        if action == Action::ScmpActNotify {
            return Err(Error::invalid("SCMP_ACT_NOTIFY cannot be the default action"));
        }
        let default = return_value(action, profile.default_errno_ret())?;
        // A tracer as default is expected to answer for calls to come, as is an allow list's
        // opposite.
        let open = [Action::ScmpActAllow, Action::ScmpActLog, Action::ScmpActTrace];
        let mut rules = Self {
            default,
            stub: !open.contains(&action),
            notifies: false,
            unknown: Vec::new(),
            rules: Vec::new(),
            calls: Vec::new(),
        };
        for entry in profile.syscalls().iter().flatten() {
            rules.add(entry)?;
        }
        Ok(rules)
    }

    fn add(&mut self, entry: &LinuxSyscall) -> Result<(), Error> {
        if entry.action() == Action::ScmpActNotify {
            // Whoever installs the filter hands the listener over by writing to a socket.
            if entry.names().iter().any(|n| n == "write") {
                return Err(Error::invalid("SCMP_ACT_NOTIFY cannot be used for the write syscall"));
            }
            self.notifies = true;
        }
        let action = return_value(entry.action(), entry.errno_ret())?;
        let alternatives = alternatives(entry.args().as_deref().unwrap_or_default())?;
        let rule = (action != self.default).then_some(self.rules.len() as u32);
        for name in entry.names() {
            match syscall::numbers(name) {
                Some(numbers) => {
                    self.calls.push(Call { numbers, rule, multiplexed: multiplexed(name) });
                }
                None => self.unknown.push(name.clone()),
            }
        }
        self.rules.push(Rule { action, alternatives });
        Ok(())
    }

    /// The first number on `arch` above all that the profile names, from which on calls are younger
    /// than the profile; `None` if they are treated as all others.
    ///
    /// As in runc, a profile that names none but number 0 says nothing about its age, and names
    /// that libseccomp multiplexes do not count. Unlike in runc, neither do ARM's private calls:
    /// every profile with one of them would seem to know all calls to come.
    pub(super) fn end(&self, arch: Arch) -> Option<u32> {
        let counts = |call: &&Call| !(arch.multiplexes() && call.multiplexed.is_some());
        let numbers = self.calls.iter().filter(counts).filter_map(|call| call.numbers.on(arch));
        let last = numbers.filter(|number| !is_private(arch, *number)).max()?;
        (self.stub && last != 0).then_some(last + 1)
    }

    /// What the profile says about numbers on `arch`, ascending, each number once.
    pub(super) fn verdicts(&self, arch: Arch) -> Vec<(u32, Verdict)> {
        let mut mentions: Vec<Mention> = Vec::with_capacity(self.calls.len());
        for call in &self.calls {
            let Some(rule) = call.rule else { continue };
            if let Some(number) = call.numbers.on(arch) {
                mentions.push(Mention { number, rule, multiplexed: None });
            }
            let Some(m) = call.multiplexed.filter(|_| arch.multiplexes()) else { continue };
            if let Some(number) = m.numbers.on(arch)
                && self.holds_multiplexed(&self.rules[rule as usize])
            {
                mentions.push(Mention { number, rule, multiplexed: Some(m.condition) });
            }
        }
        mentions.sort_by_key(|mention| (mention.number, mention.rule));
        let end = self.end(arch);
        let mut found: Vec<(u32, Verdict)> = mentions
            .chunk_by(|a, b| a.number == b.number)
            .map(|same| (same[0].number, self.verdict(same, arch)))
            .filter(|(number, _)| end.is_none_or(|end| *number < end) || is_private(arch, *number))
            .collect();
        // Private calls count as known by their name alone.
        for number in self.calls.iter().filter_map(|call| call.numbers.on(arch)) {
            if is_private(arch, number) && found.iter().all(|(known, _)| *known != number) {
                found.push((number, Verdict::Return(self.default)));
            }
        }
        found.sort_by_key(|(number, _)| *number);
        if end.is_some() && matches!(arch, Arch::S390 | Arch::S390X) {
            // The kernel leaves 0 for a number too large for the instruction (arch/s390).
            found.retain(|(number, _)| *number != 0);
            found.insert(0, (0, Verdict::Return(RETURN_ENOSYS)));
        }
        found
    }

    /// Whether a rule holds also for a call whose arguments lie behind a pointer, out of a filter's
    /// sight: with conditions, only if the rule takes something away.
    fn holds_multiplexed(&self, rule: &Rule) -> bool {
        rule.alternatives.is_empty() || strictness(rule.action) < strictness(self.default)
    }

    fn verdict(&self, mentions: &[Mention], arch: Arch) -> Verdict {
        let mut checks = Vec::new();
        for mention in mentions {
            let rule = &self.rules[mention.rule as usize];
            let action = rule.action;
            if let Some(condition) = mention.multiplexed {
                checks.push(Check { conditions: vec![condition.on(arch)], action });
                continue;
            }
            if rule.alternatives.is_empty() {
                return Verdict::Return(action);
            }
            for conditions in &rule.alternatives {
                let conditions = conditions.iter().map(|condition| condition.on(arch));
                let conditions: Vec<_> = conditions.filter(|c| !c.always_holds()).collect();
                if conditions.is_empty() {
                    return Verdict::Return(action);
                }
                checks.push(Check { conditions, action });
            }
        }
        Verdict::Check(order::as_libseccomp(checks, arch))
    }
}

impl Condition {
    /// What of it `arch` can see.
    fn on(self, arch: Arch) -> Self {
        let seen = if arch.is_wide() { u64::MAX } else { u64::from(u32::MAX) };
        Self { mask: self.mask & seen, value: self.value & seen, ..self }
    }

    /// Only a mask without bits: other conditions that cannot fail count as conditions.
    fn always_holds(self) -> bool {
        self.mask == 0
    }
}

fn is_private(arch: Arch, number: u32) -> bool {
    arch == Arch::Arm && number >= ARM_PRIVATE
}

/// Where an action stands when the kernel chooses among the answers of several filters: it takes
/// the least, as a signed number (kernel/seccomp.c).
fn strictness(action: u32) -> i32 {
    (action & libc::SECCOMP_RET_ACTION_FULL) as i32
}

/// The value a filter returns for an action (linux/seccomp.h).
pub(super) fn return_value(action: Action, data: Option<u32>) -> Result<u32, Error> {
    let (value, unset, max) = match action {
        Action::ScmpActErrno => (libc::SECCOMP_RET_ERRNO, libc::EPERM as u32, ERRNO_MAX),
        Action::ScmpActTrace => (libc::SECCOMP_RET_TRACE, libc::EPERM as u32, TRACE_MAX),
        Action::ScmpActKill | Action::ScmpActKillThread => (libc::SECCOMP_RET_KILL_THREAD, 0, 0),
        Action::ScmpActKillProcess => (libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        Action::ScmpActTrap => (libc::SECCOMP_RET_TRAP, 0, 0),
        Action::ScmpActNotify => (libc::SECCOMP_RET_USER_NOTIF, 0, 0),
        Action::ScmpActLog => (libc::SECCOMP_RET_LOG, 0, 0),
        Action::ScmpActAllow => (libc::SECCOMP_RET_ALLOW, 0, 0),
    };
    let data = data.unwrap_or(unset);
    if data > max {
        return Err(Error::invalid(format!("errnoRet {data} with {action}: at most {max}")));
    }
    Ok(value | data)
}

fn alternatives(args: &[LinuxSeccompArg]) -> Result<Vec<Vec<Condition>>, Error> {
    let mut conditions = args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let twice = (0..ARGUMENTS).any(|i| args.iter().filter(|a| a.index() == i).count() > 1);
    Ok(match conditions.len() {
        0 => Vec::new(),
        _ if twice => conditions.into_iter().map(|condition| vec![condition]).collect(),
        _ => {
            conditions.sort_by_key(|condition| condition.argument);
            vec![conditions]
        }
    })
}

fn condition(arg: &LinuxSeccompArg) -> Result<Condition, Error> {
    if arg.index() >= ARGUMENTS {
        return Err(Error::invalid(format!("argument index {} is above 5", arg.index())));
    }
    let (test, negated) = match arg.op() {
        Operator::ScmpCmpEq | Operator::ScmpCmpMaskedEq => (Test::Equal, false),
        Operator::ScmpCmpNe => (Test::Equal, true),
        Operator::ScmpCmpGe => (Test::AtLeast, false),
        Operator::ScmpCmpLt => (Test::AtLeast, true),
        Operator::ScmpCmpGt => (Test::Above, false),
        Operator::ScmpCmpLe => (Test::Above, true),
    };
    let (mask, value) = if arg.op() == Operator::ScmpCmpMaskedEq {
        (arg.value(), arg.value_two().unwrap_or(0) & arg.value())
    } else {
        (u64::MAX, arg.value())
    };
    Ok(Condition { argument: arg.index() as u8, mask, test, value, negated })
}

/// Some architectures reach sockets and System V IPC also through one call each, whose first
/// argument tells which (linux/net.h, linux/ipc.h).
pub(super) fn multiplexed(name: &str) -> Option<Multiplexed> {
    const SOCKETCALL: &str = "socketcall";
    const IPC: &str = "ipc";
    /// The upper half of `ipc`'s first argument is a version the kernel masks off.
    const IPC_CALL_MASK: u64 = 0xffff;
    let (through, value) = match name {
        "socket" => (SOCKETCALL, 1),
        "bind" => (SOCKETCALL, 2),
        "connect" => (SOCKETCALL, 3),
        "listen" => (SOCKETCALL, 4),
        "accept" => (SOCKETCALL, 5),
        "getsockname" => (SOCKETCALL, 6),
        "getpeername" => (SOCKETCALL, 7),
        "socketpair" => (SOCKETCALL, 8),
        "send" => (SOCKETCALL, 9),
        "recv" => (SOCKETCALL, 10),
        "sendto" => (SOCKETCALL, 11),
        "recvfrom" => (SOCKETCALL, 12),
        "shutdown" => (SOCKETCALL, 13),
        "setsockopt" => (SOCKETCALL, 14),
        "getsockopt" => (SOCKETCALL, 15),
        "sendmsg" => (SOCKETCALL, 16),
        "recvmsg" => (SOCKETCALL, 17),
        "accept4" => (SOCKETCALL, 18),
        "recvmmsg" => (SOCKETCALL, 19),
        "sendmmsg" => (SOCKETCALL, 20),
        "semop" => (IPC, 1),
        "semget" => (IPC, 2),
        "semctl" => (IPC, 3),
        "semtimedop" => (IPC, 4),
        "msgsnd" => (IPC, 11),
        "msgrcv" => (IPC, 12),
        "msgget" => (IPC, 13),
        "msgctl" => (IPC, 14),
        "shmat" => (IPC, 21),
        "shmdt" => (IPC, 22),
        "shmget" => (IPC, 23),
        "shmctl" => (IPC, 24),
        _ => return None,
    };
    let mask = if through == IPC { IPC_CALL_MASK } else { u64::MAX };
    let condition = Condition { argument: 0, mask, test: Test::Equal, value, negated: false };
    Some(Multiplexed { numbers: syscall::numbers(through)?, condition })
}
