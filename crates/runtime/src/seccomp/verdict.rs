//! What a compiled filter says about one call.

use super::Filter;
use super::arch::Arch;

/// Where `struct seccomp_data` (linux/seccomp.h) has its fields.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

impl Filter {
    /// Whether it lets the call `number` of this architecture through, with these arguments.
    pub(crate) fn permits(&self, number: libc::c_long, args: [u64; 6]) -> bool {
        self.judge(number as u32, args) == Some(libc::SECCOMP_RET_ALLOW)
    }

    /// Runs the program; `None` for an instruction that the compiler does not write.
    fn judge(&self, number: u32, args: [u64; 6]) -> Option<u32> {
        let (mut at, mut value) = (0, 0_u32);
        loop {
            let instruction = self.code.get(at)?;
            at += 1;
            let operand = instruction.k;
            let holds = match u32::from(instruction.code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    value = load(operand, number, args)?;
                    continue;
                }
                code if code == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K => {
                    value &= operand;
                    continue;
                }
                code if code == libc::BPF_JMP | libc::BPF_JA => {
                    at += operand as usize;
                    continue;
                }
                code if code == libc::BPF_RET | libc::BPF_K => return Some(operand),
                code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => value == operand,
                code if code == libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K => value > operand,
                code if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => value >= operand,
                _ => return None,
            };
            at += usize::from(if holds { instruction.jt } else { instruction.jf });
        }
    }
}

/// Half a field: what an instruction loads.
fn load(offset: u32, number: u32, args: [u64; 6]) -> Option<u32> {
    match offset {
        NUMBER => Some(number),
        ARCH => Some(Arch::native().token()),
        _ => {
            let index = offset.checked_sub(ARGUMENTS)? as usize;
            let bytes = args.get(index / 8)?.to_ne_bytes();
            let half = bytes.get(index % 8..index % 8 + 4)?;
            half.try_into().ok().map(u32::from_ne_bytes)
        }
    }
}
