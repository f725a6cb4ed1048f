//! Signals by name, and processes by the time they started.

use std::io;

use rustix::process::Signal;

use crate::procfs;

const NAMES: [(&str, Signal); 31] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ILL", Signal::ILL),
    ("TRAP", Signal::TRAP),
    ("ABRT", Signal::ABORT),
    ("BUS", Signal::BUS),
    ("FPE", Signal::FPE),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("SEGV", Signal::SEGV),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("STKFLT", Signal::STKFLT),
    ("CHLD", Signal::CHILD),
    ("CONT", Signal::CONT),
    ("STOP", Signal::STOP),
    ("TSTP", Signal::TSTP),
    ("TTIN", Signal::TTIN),
    ("TTOU", Signal::TTOU),
    ("URG", Signal::URG),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
    ("VTALRM", Signal::VTALARM),
    ("PROF", Signal::PROF),
    ("WINCH", Signal::WINCH),
    ("IO", Signal::IO),
    ("PWR", Signal::POWER),
    ("SYS", Signal::SYS),
];

/// A signal by its name, with or without `SIG` and in any case, or by its number.
#[must_use]
pub fn signal(text: &str) -> Option<Signal> {
    if let Ok(number) = text.parse::<i32>() {
        return Signal::from_named_raw(number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal)
}

/// The name of a signal, as in `SIGTERM`; its number where it has none.
#[must_use]
pub fn signal_name(signal: Signal) -> String {
    match NAMES.iter().find(|(_, known)| *known == signal) {
        Some((name, _)) => format!("SIG{name}"),
        None => signal.as_raw().to_string(),
    }
}

/// When a process started, in clock ticks since boot: tells it from a later one with its number
/// (field 22 of proc(5)'s `/proc/pid/stat`).
///
/// # Errors
/// If there is no such process.
pub fn start_time(pid: i32) -> io::Result<u64> {
    stat(pid).map(|(_, start)| start)
}

/// Whether the process that has this number, and had it when it was started at `start`, has not
/// ended.
pub fn is_alive(pid: i32, start: u64) -> bool {
    stat(pid).is_ok_and(|(state, found)| found == start && !matches!(state, 'Z' | 'X'))
}

/// Whether a signal that is sent to a process from outside of its process namespace does nothing:
/// it ignores it, or is the first process there, has no handler for it, and does not wait for it
/// either (pid_namespaces(7): such a signal is dropped; `SIGKILL` and `SIGSTOP` are not).
///
/// # Errors
/// If there is no such process.
pub fn is_deaf(pid: i32, signal: Signal) -> io::Result<bool> {
    let status = procfs::read(&format!("/proc/{pid}/status"))?;
    Ok(deaf_by(&status, signal) && !takes_signals(pid))
}

/// Whether a process is in sigtimedwait(2), as small inits are: while it waits, the signals that it
/// waits for are not shown as blocked, and are not dropped either.
fn takes_signals(pid: i32) -> bool {
    let read = |name: &str| procfs::read(&format!("/proc/{pid}/{name}")).unwrap_or_default();
    let call = read("syscall").split_whitespace().next().and_then(|number| number.parse().ok());
    call == Some(libc::SYS_rt_sigtimedwait) || read("wchan").contains("sigtimedwait")
}

fn deaf_by(status: &str, signal: Signal) -> bool {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim()
    };
    let has = |name: &str| {
        let mask = u64::from_str_radix(field(name), 16).unwrap_or(0);
        mask & (1 << (signal.as_raw() - 1)) != 0
    };
    if matches!(signal, Signal::KILL | Signal::STOP) {
        return false;
    }
    // Its number in each of its namespaces, the innermost last.
    let is_first = field("NSpid").split_whitespace().nth(1).is_some()
        && field("NSpid").split_whitespace().next_back() == Some("1");
    // What is blocked waits for whoever takes it, as by sigwait(3) or a descriptor.
    has("SigIgn") || is_first && !has("SigCgt") && !has("SigBlk")
}

/// How a process has ended that nobody has waited for yet, as wait(2) reports it (field 52 of
/// proc_pid_stat(5)); `None` if it is no zombie.
pub(crate) fn zombie_status(pid: i32) -> Option<i32> {
    let stat = procfs::read(&format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace();
    (fields.next()? == "Z").then(|| fields.nth(48)?.parse().ok()).flatten()
}

/// State and start time (proc_pid_stat(5)).
fn stat(pid: i32) -> io::Result<(char, u64)> {
    let stat = procfs::read(&format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses, which may contain anything.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next().and_then(|field| field.chars().next());
    let start = fields.nth(18).and_then(|field| field.parse().ok());
    state.zip(start).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_found_by_name_and_number() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(signal(text), Some(Signal::TERM), "{text}");
        }
        for text in ["", "SIG", "NOPE", "0", "99", "-1"] {
            assert_eq!(signal(text), None, "{text}");
        }
    }

    #[test]
    fn who_hears_a_signal() {
        let check = |pids: &str, masks: [&str; 3], expected| {
            let [blocked, ignored, caught] = masks;
            let status = format!(
                "Name:\tx\nNSpid:\t{pids}\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\nSigCgt:\t{caught}\n"
            );
            assert_eq!(deaf_by(&status, Signal::TERM), expected, "{status}");
            assert!(!deaf_by(&status, Signal::KILL));
        };
        let (none, term) = ("0000000000000000", "0000000000004000");
        check("40\t1", [none, none, none], true);
        check("40\t1", [none, none, term], false);
        check("40\t1", [term, none, none], false);
        check("40\t1", [none, term, none], true);
        check("40\t7", [none, none, none], false);
        check("40", [none, none, none], false);
        check("40", [none, term, none], true);
        check("1", [none, none, none], false);
    }

    #[test]
    fn our_own_start_is_known() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(pid).unwrap() > 0);
        assert!(start_time(i32::MAX).is_err());
    }
}
