//! What became of a container's memory: how much it used at most, and whom the kernel killed for it.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use runtime::cgroup::Cgroup;
use serde::{Deserialize, Serialize};

/// The kernel's messages (Documentation/ABI/testing/dev-kmsg).
const MESSAGES: &str = "/dev/kmsg";
/// The longest message, in bytes (`PRINTK_MESSAGE_MAX` and its head).
const MESSAGE_BYTES: usize = 8192;
/// Messages that are looked through at most.
const MESSAGES_MAX: usize = 100_000;

/// One second in this many is how far two clocks of the kernel may drift apart: NTP corrects one of
/// them by 500 ppm at most (adjtimex(2)).
const DRIFT_MAX: u32 = 2000;
/// Processes that are remembered at most.
const VICTIMS_MAX: usize = 16;

/// What became of a container's memory in one run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryEnd {
    /// The most that it used, in bytes; 0 if that is not known.
    pub peak_bytes: u64,
    /// How many of its processes the kernel killed for want of memory.
    pub oom_kills: u64,
    /// Some of those, the first first, as far as the kernel said who they were.
    pub victims: Vec<Victim>,
}

/// A process that was killed for want of memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    /// Its name, of at most 15 bytes.
    pub name: String,
    /// Its id on this machine.
    pub pid: i32,
}

impl MemoryEnd {
    /// Looks at a control group whose processes have ended, of the container `id`, which ran for
    /// `ran`. `whole` asks for the peak, too.
    pub(crate) fn of(cgroup: &Cgroup, id: &str, ran: Duration, whole: bool) -> Self {
        let oom_kills = cgroup.oom_kills();
        let peak_bytes = if whole { cgroup.memory_peak_bytes() } else { 0 };
        let victims = match oom_kills {
            0 => Vec::new(),
            _ => find_victims(id, ran),
        };
        Self { peak_bytes, oom_kills, victims }
    }
}

/// Whom the kernel says it has killed in the container's group since it was started. Without the
/// right to read its messages, nobody.
fn find_victims(id: &str, ran: Duration) -> Vec<Victim> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.unsigned_abs(), 0)
        + Duration::from_nanos(now.tv_nsec.unsigned_abs());
    // The kernel's own clock is not corrected as this one is: they drift apart with time.
    let apart = Duration::from_millis(100) + now / DRIFT_MAX;
    let since = now.saturating_sub(ran).saturating_sub(apart);
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = std::fs::File::options().read(true).custom_flags(nonblocking).open(MESSAGES);
    let Ok(mut messages) = opened else { return Vec::new() };
    let (mut found, mut message) = (Vec::new(), vec![0; MESSAGE_BYTES]);
    for _ in 0..MESSAGES_MAX {
        let length = match messages.read(&mut message) {
            Ok(length) => length,
            // Some were overwritten before they were read.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => continue,
            Err(_) => break,
        };
        let text = String::from_utf8_lossy(&message[..length]);
        found.extend(victim(&text, id, since));
        if found.len() == VICTIMS_MAX {
            break;
        }
    }
    found
}

/// Who was killed, if a message says that of a process of the container's after a time.
fn victim(message: &str, id: &str, since: Duration) -> Option<Victim> {
    let (head, text) = message.split_once(';')?;
    let time: u64 = head.split(',').nth(2)?.parse().ok()?;
    let text = text.strip_prefix("oom-kill:")?.lines().next()?;
    let (group, rest) = text.split_once(",task_memcg=")?.1.split_once(",task=")?;
    if Duration::from_micros(time) < since || !group.split('/').any(|part| part.contains(id)) {
        return None;
    }
    // A name may have commas in it, and numbers have none.
    let (rest, _uid) = rest.rsplit_once(",uid=")?;
    let (name, pid) = rest.rsplit_once(",pid=")?;
    Some(Victim { name: name.to_owned(), pid: pid.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_killed_is_found_in_a_message() {
        let message = "6,99,5000000,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=abc,\
            mems_allowed=0,oom_memcg=/cais/abc,task_memcg=/cais/abc,task=tail,odd,pid=42,uid=0\n";
        let expected = Victim { name: "tail,odd".into(), pid: 42 };
        assert_eq!(victim(message, "abc", Duration::from_secs(5)), Some(expected));
        assert_eq!(victim(message, "abc", Duration::from_secs(6)), None);
        assert_eq!(victim(message, "other", Duration::ZERO), None);
        assert_eq!(victim("6,99,5000000,-;something else", "abc", Duration::ZERO), None);
    }
}
