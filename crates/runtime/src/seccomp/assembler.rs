//! Verdicts to instructions.
//!
//! The program is: load the architecture and branch to its section; there load the number and
//! search it in a balanced tree over ranges of numbers with the same verdict. It is written from
//! its end to its beginning, because jumps in classic BPF only lead forwards and reach 255
//! instructions: backwards, every target's place is known when the jump to it is written.

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET,
    BPF_W, sock_filter,
};

use super::arch::{Arch, TOKEN_X86_64, X32_BIT};
use super::rule::{Check, Condition, RETURN_ENOSYS, Rules, Test, Verdict};

/// Offsets into `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// How far a conditional jump may lead, less room for the two trampolines of one jump.
const REACH: usize = 253;

/// A place in the program, counted from its end.
type Label = usize;

/// Numbers from `start` to the next range's start have one verdict.
struct Range {
    start: u32,
    verdict: Verdict,
}

/// What becomes of a call through an architecture that is not listed, as libseccomp has it.
pub(super) const UNLISTED: u32 = libc::SECCOMP_RET_KILL_THREAD;

/// The whole program for `rules` on `arches`.
pub(super) fn assemble(rules: &Rules, arches: &[Arch]) -> Vec<sock_filter> {
    let mut asm = Assembler { code: Vec::new(), returns: Vec::new(), big_endian: false };
    let mut distinct: Vec<Arch> = Vec::new();
    for arch in arches {
        if !distinct.iter().any(|other| other.token() == arch.token()) {
            distinct.push(*arch);
        }
    }
    // The native architecture stands first in the list and is written last: nearest to the start.
    let sections: Vec<(u32, Label)> = distinct
        .into_iter()
        .rev()
        .map(|arch| (arch.token(), asm.section(rules, arches, arch)))
        .collect();
    let unlisted = asm.ret(UNLISTED);
    sections
        .into_iter()
        .fold(unlisted, |next, (token, section)| asm.branch(BPF_JEQ, token, section, next));
    asm.load(ARCH);
    asm.code.reverse();
    asm.code
}

struct Assembler {
    /// Last instruction first.
    code: Vec<sock_filter>,
    /// The latest place of every value returned so far.
    returns: Vec<(u32, Label)>,
    /// Whether the upper half of an argument comes first in the section being written.
    big_endian: bool,
}

impl Assembler {
    /// Everything about the architectures that share `arch`'s token.
    fn section(&mut self, rules: &Rules, arches: &[Arch], arch: Arch) -> Label {
        self.big_endian = arch.is_big_endian();
        let ranges = if arch.token() == TOKEN_X86_64 {
            ranges_of_x86_64(rules, arches)
        } else {
            ranges(rules, arch, 0)
        };
        let found = self.search(&ranges, rules.default);
        self.fall_into(found);
        self.load(NUMBER)
    }

    fn search(&mut self, ranges: &[Range], default: u32) -> Label {
        match ranges {
            [one] => self.verdict(&one.verdict, default),
            [left, hole, right]
                if left.verdict == right.verdict && right.start == hole.start + 1 =>
            {
                let around = self.verdict(&left.verdict, default);
                let inside = self.verdict(&hole.verdict, default);
                self.branch(BPF_JEQ, hole.start, inside, around)
            }
            _ => {
                let (low, high) = ranges.split_at(middle(ranges));
                let above = self.search(high, default);
                let below = self.search(low, default);
                self.branch(BPF_JGE, high[0].start, above, below)
            }
        }
    }

    fn verdict(&mut self, verdict: &Verdict, default: u32) -> Label {
        match verdict {
            Verdict::Return(value) => self.ret(*value),
            Verdict::Check(checks) => {
                let otherwise = self.ret(default);
                checks.iter().rev().fold(otherwise, |next, check| self.check(check, next))
            }
        }
    }

    fn check(&mut self, check: &Check, otherwise: Label) -> Label {
        let holds = self.ret(check.action);
        let conditions = check.conditions.iter().rev();
        conditions.fold(holds, |then, condition| self.condition(condition, then, otherwise))
    }

    fn condition(&mut self, c: &Condition, then: Label, otherwise: Label) -> Label {
        let (yes, no) = if c.negated { (otherwise, then) } else { (then, otherwise) };
        let first = ARGUMENTS + 8 * u32::from(c.argument);
        let (high, low) = if self.big_endian { (first, first + 4) } else { (first + 4, first) };
        let (mask_high, value_high) = ((c.mask >> 32) as u32, (c.value >> 32) as u32);
        let op = match c.test {
            Test::Equal => BPF_JEQ,
            Test::Above => BPF_JGT,
            Test::AtLeast => BPF_JGE,
        };
        self.branch(op, c.value as u32, yes, no);
        let equal_so_far = self.masked_load(low, c.mask as u32);
        if mask_high == 0 {
            return equal_so_far;
        }
        let differs = self.branch(BPF_JEQ, value_high, equal_so_far, no);
        if c.test != Test::Equal {
            self.branch(BPF_JGT, value_high, yes, differs);
        }
        self.masked_load(high, mask_high)
    }

    fn masked_load(&mut self, offset: u32, mask: u32) -> Label {
        if mask != u32::MAX {
            self.push(BPF_ALU | BPF_AND | BPF_K, mask, (0, 0));
        }
        self.load(offset)
    }

    fn load(&mut self, offset: u32) -> Label {
        self.push(BPF_LD | BPF_W | BPF_ABS, offset, (0, 0))
    }

    /// A place that returns `value`, near enough to jump to.
    fn ret(&mut self, value: u32) -> Label {
        match self.returns.iter().position(|(known, _)| *known == value) {
            Some(at) if self.code.len() - self.returns[at].1 <= REACH => self.returns[at].1,
            Some(at) => {
                self.returns[at].1 = self.push(BPF_RET | BPF_K, value, (0, 0));
                self.returns[at].1
            }
            None => {
                let label = self.push(BPF_RET | BPF_K, value, (0, 0));
                self.returns.push((value, label));
                label
            }
        }
    }

    fn branch(&mut self, op: u32, value: u32, then: Label, otherwise: Label) -> Label {
        let then = self.near(then);
        let otherwise = self.near(otherwise);
        let at = self.code.len();
        let offsets = ((at - then - 1) as u8, (at - otherwise - 1) as u8);
        self.push(BPF_JMP | op | BPF_K, value, offsets)
    }

    /// `label`, or a stepping stone to it, within a conditional jump's reach.
    fn near(&mut self, label: Label) -> Label {
        let distance = self.code.len() - label;
        if distance <= REACH {
            return label;
        }
        let target = self.code[label];
        if u32::from(target.code) == BPF_RET | BPF_K {
            return self.ret(target.k);
        }
        self.push(BPF_JMP | BPF_JA, (distance - 1) as u32, (0, 0))
    }

    /// Makes the instruction written next continue at `label`.
    fn fall_into(&mut self, label: Label) {
        let distance = self.code.len() - label;
        if distance > 1 {
            self.push(BPF_JMP | BPF_JA, (distance - 1) as u32, (0, 0));
        }
    }

    fn push(&mut self, code: u32, k: u32, (jt, jf): (u8, u8)) -> Label {
        self.code.push(sock_filter { code: code as u16, jt, jf, k });
        self.code.len() - 1
    }
}

/// Where to split: the middle, moved by one if that keeps a lone exception inside a half whole,
/// which then takes one comparison instead of two.
fn middle(ranges: &[Range]) -> usize {
    let half = ranges.len() / 2;
    if ranges.len() > 3 && half.is_multiple_of(2) { half + 1 } else { half }
}

/// All numbers of `arch` from `first` upwards, neighbours with one verdict joined.
fn ranges(rules: &Rules, arch: Arch, first: u32) -> Vec<Range> {
    let end = rules.end(arch);
    let gap = |number: u32| {
        let younger = end.is_some_and(|end| number >= end);
        Verdict::Return(if younger { RETURN_ENOSYS } else { rules.default })
    };
    let mut found = Ranges(Vec::new());
    let mut next = first;
    let fill = |found: &mut Ranges, next: u32, to: u32| {
        if next < to {
            found.add(next, gap(next));
        }
        if let Some(end) = end.filter(|end| next < *end && *end < to) {
            found.add(end, gap(end));
        }
    };
    for (number, verdict) in rules.verdicts(arch) {
        fill(&mut found, next, number);
        found.add(number, verdict);
        next = number + 1;
    }
    fill(&mut found, next, u32::MAX);
    found.0
}

/// All numbers under the token that x86_64 and x32 share, as runc and libseccomp divide them.
fn ranges_of_x86_64(rules: &Rules, arches: &[Arch]) -> Vec<Range> {
    /// Set by nobody, and so seen as neither convention's by the kernel.
    const TOP_BIT: u32 = 0x8000_0000;
    let x32 = arches.contains(&Arch::X32);
    let unlisted = || Verdict::Return(UNLISTED);
    let young = |arch, otherwise| {
        let known = arches.contains(&arch) && rules.end(arch).is_some();
        Verdict::Return(if known { RETURN_ENOSYS } else { otherwise })
    };
    let mut found = Ranges(Vec::new());
    if arches.contains(&Arch::X86_64) {
        found.extend(ranges(rules, Arch::X86_64, 0), X32_BIT);
    } else {
        found.add(0, unlisted());
    }
    if x32 {
        found.extend(ranges(rules, Arch::X32, X32_BIT), TOP_BIT);
    } else {
        found.add(X32_BIT, unlisted());
    }
    let other = if x32 { rules.default } else { UNLISTED };
    found.add(TOP_BIT, young(Arch::X86_64, other));
    found.add(TOP_BIT | X32_BIT, young(Arch::X32, other));
    // A tracer skips a call by setting -1, which is no x32 call though it has the bit.
    found.add(u32::MAX, young(Arch::X32, rules.default));
    found.0
}

struct Ranges(Vec<Range>);

impl Ranges {
    fn add(&mut self, start: u32, verdict: Verdict) {
        if self.0.last().is_none_or(|last| last.verdict != verdict) {
            self.0.push(Range { start, verdict });
        }
    }

    /// Adds those of `ranges` that start below `end`.
    fn extend(&mut self, ranges: Vec<Range>, end: u32) {
        let below = ranges.into_iter().filter(|range| range.start < end);
        below.for_each(|range| self.add(range.start, range.verdict));
    }
}
