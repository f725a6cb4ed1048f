//! What a profile says about each number of each architecture.

use oci::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator,
    LinuxSyscall,
};

use super::Error;
use super::arch::{ARM_PRIVATE, Arch};
use super::syscall::{self, NO};

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
    numbers: &'static [u32; syscall::ARCHITECTURES],
    /// `None` when the rule repeats the default action: the name counts only as known.
    rule: Option<u32>,
    /// How i386 reaches the same call through `socketcall` or `ipc`.
    multiplexed: Option<Multiplexed>,
}

#[derive(Clone, Copy)]
struct Multiplexed {
    number: u32,
    condition: Condition,
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
                return Err(Error::invalid("SCMP_ACT_NOTIFY cannot be used for write"));
            }
            self.notifies = true;
        }
        let action = return_value(entry.action(), entry.errno_ret())?;
        let alternatives = alternatives(entry.args().as_deref().unwrap_or_default())?;
        let rule = (action != self.default).then_some(self.rules.len() as u32);
        for name in entry.names() {
            match syscall::numbers(name) {
                Some(numbers) => {
                    let multiplexed = alternatives.is_empty().then(|| multiplexed(name)).flatten();
                    self.calls.push(Call { numbers, rule, multiplexed });
                }
                None => self.unknown.push(name.clone()),
            }
        }
        self.rules.push(Rule { action, alternatives });
        Ok(())
    }

    /// The highest number on `arch` among the names of the profile.
    pub(super) fn last(&self, arch: Arch) -> Option<u32> {
        let numbers = self.calls.iter().map(|call| call.numbers[arch.column()]);
        numbers.filter(|number| *number < ARM_PRIVATE).max()
    }

    /// What the profile says about numbers on `arch`, ascending, each number once.
    pub(super) fn verdicts(&self, arch: Arch) -> Vec<(u32, Verdict)> {
        let mut mentions: Vec<(u32, u32, Option<Condition>)> = Vec::new();
        for call in &self.calls {
            let Some(rule) = call.rule else { continue };
            let number = call.numbers[arch.column()];
            if number != NO {
                mentions.push((number, rule, None));
            }
            if let Some(m) = call.multiplexed.filter(|_| arch == Arch::X86) {
                mentions.push((m.number, rule, Some(m.condition)));
            }
        }
        mentions.sort_unstable_by_key(|mention| (mention.0, mention.1));
        mentions.chunk_by(|a, b| a.0 == b.0).map(|same| (same[0].0, self.verdict(same))).collect()
    }

    fn verdict(&self, mentions: &[(u32, u32, Option<Condition>)]) -> Verdict {
        let rule = |index: u32| &self.rules[index as usize];
        let always = mentions.iter().find(|m| m.2.is_none() && rule(m.1).alternatives.is_empty());
        if let Some(mention) = always {
            return Verdict::Return(rule(mention.1).action);
        }
        let mut checks = Vec::new();
        for (_, index, multiplexed) in mentions {
            let action = rule(*index).action;
            if let Some(condition) = multiplexed {
                checks.push(Check { conditions: vec![*condition], action });
            }
            for conditions in &rule(*index).alternatives {
                checks.push(Check { conditions: conditions.clone(), action });
            }
        }
        Verdict::Check(checks)
    }
}

/// The value a filter returns for an action (linux/seccomp.h).
fn return_value(action: Action, data: Option<u32>) -> Result<u32, Error> {
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
    let conditions = args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let twice = (0..ARGUMENTS).any(|i| args.iter().filter(|a| a.index() == i).count() > 1);
    Ok(match conditions {
        none if none.is_empty() => Vec::new(),
        each if twice => each.into_iter().map(|condition| vec![condition]).collect(),
        all => vec![all],
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

/// i386 reaches sockets and System V IPC also through one call each, whose first argument tells
/// which (linux/net.h, linux/ipc.h). A rule without arguments must hold on both ways; the
/// arguments themselves lie behind a pointer there, out of a filter's sight.
fn multiplexed(name: &str) -> Option<Multiplexed> {
    const SOCKETCALL: u32 = 102;
    const IPC: u32 = 117;
    /// The upper half of `ipc`'s first argument is a version the kernel masks off.
    const IPC_CALL_MASK: u64 = 0xffff;
    let (number, mask, value) = match name {
        "socket" => (SOCKETCALL, u64::MAX, 1),
        "bind" => (SOCKETCALL, u64::MAX, 2),
        "connect" => (SOCKETCALL, u64::MAX, 3),
        "listen" => (SOCKETCALL, u64::MAX, 4),
        "accept" => (SOCKETCALL, u64::MAX, 5),
        "getsockname" => (SOCKETCALL, u64::MAX, 6),
        "getpeername" => (SOCKETCALL, u64::MAX, 7),
        "socketpair" => (SOCKETCALL, u64::MAX, 8),
        "send" => (SOCKETCALL, u64::MAX, 9),
        "recv" => (SOCKETCALL, u64::MAX, 10),
        "sendto" => (SOCKETCALL, u64::MAX, 11),
        "recvfrom" => (SOCKETCALL, u64::MAX, 12),
        "shutdown" => (SOCKETCALL, u64::MAX, 13),
        "setsockopt" => (SOCKETCALL, u64::MAX, 14),
        "getsockopt" => (SOCKETCALL, u64::MAX, 15),
        "sendmsg" => (SOCKETCALL, u64::MAX, 16),
        "recvmsg" => (SOCKETCALL, u64::MAX, 17),
        "accept4" => (SOCKETCALL, u64::MAX, 18),
        "recvmmsg" => (SOCKETCALL, u64::MAX, 19),
        "sendmmsg" => (SOCKETCALL, u64::MAX, 20),
        "semop" => (IPC, IPC_CALL_MASK, 1),
        "semget" => (IPC, IPC_CALL_MASK, 2),
        "semctl" => (IPC, IPC_CALL_MASK, 3),
        "semtimedop" => (IPC, IPC_CALL_MASK, 4),
        "msgsnd" => (IPC, IPC_CALL_MASK, 11),
        "msgrcv" => (IPC, IPC_CALL_MASK, 12),
        "msgget" => (IPC, IPC_CALL_MASK, 13),
        "msgctl" => (IPC, IPC_CALL_MASK, 14),
        "shmat" => (IPC, IPC_CALL_MASK, 21),
        "shmdt" => (IPC, IPC_CALL_MASK, 22),
        "shmget" => (IPC, IPC_CALL_MASK, 23),
        "shmctl" => (IPC, IPC_CALL_MASK, 24),
        _ => return None,
    };
    let condition = Condition { argument: 0, mask, test: Test::Equal, value, negated: false };
    Some(Multiplexed { number, condition })
}
