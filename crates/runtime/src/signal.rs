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
    fn our_own_start_is_known() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(pid).unwrap() > 0);
        assert!(start_time(i32::MAX).is_err());
    }
}
