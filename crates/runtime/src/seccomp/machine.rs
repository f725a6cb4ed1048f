//! A machine for the classic BPF of seccomp(2), and the kernel's two judgements of a program:
//! whether it may be loaded, and which calls need no program at all. For tests.

use libc::sock_filter;

/// A system call as a filter sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Its number, with the bits some architectures add.
    pub number: u32,
    /// The registers of its arguments.
    pub args: [u64; 6],
    /// Whether the upper half of an argument comes first in memory.
    pub big_endian: bool,
}

impl Call {
    /// The 32 bits at `offset` of `struct seccomp_data`.
    fn load(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16..=60 => {
                let argument = self.args[(offset as usize - 16) / 8];
                let first = offset.is_multiple_of(8);
                if first == self.big_endian { (argument >> 32) as u32 } else { argument as u32 }
            }
            _ => 0,
        }
    }
}

/// What `code` returns for `call`, and after how many instructions.
///
/// # Panics
/// If `code` is none that [`verify`] accepts.
pub fn run(code: &[sock_filter], call: &Call) -> (u32, usize) {
    let answer = step_through(code, |offset| Some(call.load(offset)));
    answer.expect("every load has a value")
}

/// The answer that `code` gives to a call whatever its arguments are, found as the kernel finds
/// which calls it need not ask a filter about (`seccomp_is_const_allow`).
pub fn constant(code: &[sock_filter], arch: u32, number: u32) -> Option<u32> {
    let known = |offset| match offset {
        0 => Some(number),
        4 => Some(arch),
        _ => None,
    };
    step_through(code, known).map(|answer| answer.0)
}

fn step_through(code: &[sock_filter], load: impl Fn(u32) -> Option<u32>) -> Option<(u32, usize)> {
    let (mut at, mut a, mut steps) = (0, 0_u32, 0);
    loop {
        let i = code[at];
        at += 1;
        steps += 1;
        let jump = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
        match u32::from(i.code) {
            0x20 => a = load(i.k)?,
            0x54 => a &= i.k,
            0x05 => at += i.k as usize,
            0x15 => at += jump(a == i.k),
            0x25 => at += jump(a > i.k),
            0x35 => at += jump(a >= i.k),
            0x45 => at += jump(a & i.k != 0),
            0x06 => return Some((i.k, steps)),
            other => panic!("instruction {other:#x} is not expected"),
        }
    }
}

/// Whether the kernel would load `code` (`bpf_check_classic`, `seccomp_check_filter`), as far as
/// it uses the instructions that this crate and libseccomp write.
///
/// # Errors
/// Says what is wrong.
pub fn verify(code: &[sock_filter]) -> Result<(), String> {
    if code.is_empty() || code.len() > super::INSTRUCTIONS_MAX {
        return Err(format!("{} instructions", code.len()));
    }
    for (at, i) in code.iter().enumerate() {
        let wrong = |what: &str| Err(format!("instruction {at}: {what}"));
        let inside = |distance: usize| at + 1 + distance < code.len();
        match u32::from(i.code) {
            0x20 if i.k.is_multiple_of(4) && i.k < 64 => {}
            0x54 | 0x06 => {}
            0x05 if inside(i.k as usize) => {}
            0x15 | 0x25 | 0x35 | 0x45 if inside(i.jt.into()) && inside(i.jf.into()) => {}
            0x20 => return wrong("loads beside the data"),
            0x05 | 0x15 | 0x25 | 0x35 | 0x45 => return wrong("jumps beyond the end"),
            _ => return wrong("is unknown"),
        }
    }
    match code.last() {
        Some(last) if last.code == 0x06 => Ok(()),
        _ => Err("does not end by returning".into()),
    }
}
