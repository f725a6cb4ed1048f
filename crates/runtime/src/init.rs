//! The small init of `--init`: process 1 that does what the kernel expects of one.

use rustix::process::{Pid, WaitOptions, WaitStatus, getpid, setpgid, wait};

use crate::seccomp::Filter;
use crate::sync::Sync;
use crate::sys;
use crate::sys::memory::Given;

/// What process 1 is called in lists of processes.
pub(crate) const NAME: &str = "init";

/// What the program waits for until it may look around.
const GO: i32 = libc::SIGCONT;

/// Whether a process under this filter may forget what it was given, and tell so.
pub(crate) fn may_forget(filter: &Filter) -> bool {
    let advise = [0, 0, libc::MADV_DONTNEED as u64, 0, 0, 0];
    filter.permits(libc::SYS_madvise, advise)
        && filter.permits(libc::SYS_rt_sigtimedwait, [0; 6])
        && filter.permits(libc::SYS_kill, [0, GO as u64, 0, 0, 0, 0])
}

/// Starts `program` as a child, serves it until it ends, and exits with its code.
///
/// What was `given` is forgotten, the heap included, before the program could read it.
///
/// `program` executes the container's program; it returns only when that failed, and has then
/// reported the failure over `sync`.
pub(crate) fn serve(sync: &Sync, given: Option<Given>, program: impl FnOnce() -> i32) -> ! {
    sys::block_signals();
    let forgets = given.is_some();
    let child = match sys::fork(|| {
        while forgets && sys::next_signal() != Some(GO) {}
        lead_the_terminal();
        sys::reset_signals();
        program()
    }) {
        Ok(child) => child,
        Err(error) => {
            sync.fail(&crate::Error::kernel("start the program below init", error));
            sys::exit(125);
        }
    };
    // With our end of the socket closed, its end tells the parent that the program runs. The filter
    // may refuse to close the rest at once, of which there is none but what the program inherits.
    sync.close_in_child();
    let _ = sys::close_from_three();
    // From here on, everything is on the stack.
    if let Some(given) = given {
        given.forget_heap();
        let _ = sys::kill(child, GO);
    }
    loop {
        match sys::next_signal() {
            Some(libc::SIGCHLD) => {
                if let Some(code) = reap(child) {
                    sys::exit(code);
                }
            }
            // Those two ask this process, which has nothing to do with the terminal, to stop.
            None | Some(libc::SIGTTIN | libc::SIGTTOU) => {}
            Some(signal) => {
                let _ = sys::kill(child, signal);
            }
        }
    }
}

/// The program leads its own process group, in the foreground if there is a terminal.
fn lead_the_terminal() {
    let stdin = rustix::stdio::stdin();
    if setpgid(None, None).is_ok() && rustix::termios::isatty(stdin) {
        // SIGTTOU is still blocked, so this does not stop us.
        let _ = rustix::termios::tcsetpgrp(stdin, getpid());
    }
}

/// Collects all that have ended; the code of `child` if it is among them.
fn reap(child: i32) -> Option<i32> {
    let child = Pid::from_raw(child);
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if Some(pid) == child {
            code = exit_code(status);
        }
    }
    code
}

fn exit_code(status: WaitStatus) -> Option<i32> {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}
