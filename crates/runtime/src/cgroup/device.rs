//! Device rules: for version 1 lines to write, for version 2 a program.
//!
//! Rules are read in order and the last one about a device and an access wins. What no rule speaks
//! about is denied, so that a list of allowed devices is one even without a first rule that denies
//! all.

use std::collections::BTreeMap;

use oci::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::Error;
use super::bpf::Insn;

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const EVERY_ACCESS: u8 = MKNOD | READ | WRITE;

/// The values are `BPF_DEVCG_DEV_*` of linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Block = 1,
    Char = 2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    device: Device,
    access: u8,
}

/// Which devices a rule is about; `None` stands for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Device {
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
}

impl Device {
    const ALL: Self = Self { kind: None, major: None, minor: None };

    /// The same devices, block devices apart from character devices, as version 1 keeps them.
    fn by_kind(self) -> impl Iterator<Item = Self> {
        let kinds = [Kind::Block, Kind::Char];
        let wanted = move |kind: &Kind| meets(self.kind, Some(*kind));
        kinds.into_iter().filter(wanted).map(move |kind| Self { kind: Some(kind), ..self })
    }

    /// The register that tells these devices from others of their kind, and what is in it then;
    /// `None` for all.
    ///
    /// # Errors
    /// For numbers that no device has.
    fn number(&self) -> Result<Option<(u8, u32)>, OutOfRange> {
        let in_range = |number: u32, bits: u32| number.checked_shr(bits) == Some(0);
        let minor_bits = MINOR_BITS as u32;
        let fits = self.major.is_none_or(|major| in_range(major, u32::BITS - minor_bits))
            && self.minor.is_none_or(|minor| in_range(minor, minor_bits));
        match (self.major, self.minor) {
            _ if !fits => Err(OutOfRange),
            (Some(major), Some(minor)) => Ok(Some((NUMBER, major << MINOR_BITS | minor))),
            (Some(major), None) => Ok(Some((MAJOR, major))),
            (None, Some(minor)) => Ok(Some((MINOR, minor))),
            (None, None) => Ok(None),
        }
    }

    /// Whether every device of `other` is one of `self`.
    fn covers(&self, other: &Self) -> bool {
        covers(self.kind, other.kind)
            && covers(self.major, other.major)
            && covers(self.minor, other.minor)
    }

    /// Whether some device is of both.
    fn meets(&self, other: &Self) -> bool {
        meets(self.kind, other.kind)
            && meets(self.major, other.major)
            && meets(self.minor, other.minor)
    }
}

/// No device of the kernel has such a number.
struct OutOfRange;

fn covers<T: PartialEq + Copy>(wide: Option<T>, narrow: Option<T>) -> bool {
    wide.is_none() || wide == narrow
}

fn meets<T: PartialEq + Copy>(a: Option<T>, b: Option<T>) -> bool {
    a.is_none() || b.is_none() || a == b
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.allow { "allow" } else { "deny" };
        write!(f, "{word} {}", line(&self.device, self.access))
    }
}

/// The form of `devices.allow`, such as `c 1:3 rwm`.
fn line(device: &Device, access: u8) -> String {
    let kind = match device.kind {
        None => 'a',
        Some(Kind::Block) => 'b',
        Some(Kind::Char) => 'c',
    };
    let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
    format!("{kind} {}:{} {}", number(device.major), number(device.minor), letters(access))
}

fn letters(access: u8) -> String {
    let all = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    all.iter().filter(|letter| access & letter.0 != 0).map(|letter| letter.1).collect()
}

/// A checked list of rules.
#[derive(Debug)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    /// Checks `rules` and drops those before the last one about everything.
    pub(super) fn read(rules: &[LinuxDeviceCgroup]) -> Result<Self, Error> {
        let mut read = rules.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
        let last = read.iter().rposition(|r| r.device == Device::ALL && r.access == EVERY_ACCESS);
        read.drain(..last.unwrap_or(0));
        Ok(Self(read))
    }

    /// A `BPF_PROG_TYPE_CGROUP_DEVICE` program that decides by these rules; `None` where they deny
    /// nothing.
    ///
    /// It asks the last rule first and keeps in a register which accesses are still undecided. A
    /// rule about devices that a later one decides in every way is not asked at all.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for more rules than a jump reaches over.
    pub(super) fn program(&self) -> Result<Option<Vec<Insn>>, Error> {
        // Whatever about all devices is decided in every way is the first rule.
        let first = self.0.first().filter(|r| r.device == Device::ALL && r.access == EVERY_ACCESS);
        let otherwise = first.is_some_and(|rule| rule.allow);
        if otherwise && self.0.iter().all(|rule| rule.allow) {
            return Ok(None);
        }
        let mut asked: Vec<&Rule> = Vec::new();
        for rule in self.0.iter().skip(usize::from(first.is_some())).rev() {
            let decides =
                |later: &&Rule| later.access == EVERY_ACCESS && later.device.covers(&rule.device);
            if !asked.iter().any(decides) {
                asked.push(rule);
            }
        }
        let mut program = Program::new();
        for rules in asked.chunk_by(|one, next| one.device.kind == next.device.kind) {
            program.ask(rules);
        }
        program.end(otherwise).map(Some)
    }

    /// What to write to reach these rules from those in `devices.list`: file and line.
    pub(super) fn lines(&self, list: &str) -> Result<Vec<(&'static str, String)>, Error> {
        let mut wanted = self.exceptions()?;
        let present = listed(list);
        let file = |allow: bool| if allow { "devices.allow" } else { "devices.deny" };
        let mut lines = Vec::new();
        // The kernel does not list what is denied where all is allowed: start afresh from there.
        let known = if wanted.allow || present.allow { BTreeMap::new() } else { present.devices };
        if wanted.allow || present.allow {
            lines.push((file(wanted.allow), "a".to_owned()));
        }
        for (device, access) in &known {
            let gone = access & !wanted.devices.get(device).unwrap_or(&0);
            if gone != 0 {
                lines.push((file(wanted.allow), line(device, gone)));
            }
        }
        // In the order of the rules, which is that of the kernel's list then.
        let exceptions = self.0.iter().filter(|rule| rule.allow != wanted.allow);
        for device in exceptions.flat_map(|rule| rule.device.by_kind()) {
            let access = wanted.devices.remove(&device).unwrap_or(0);
            let new = access & !known.get(&device).unwrap_or(&0);
            if new != 0 {
                lines.push((file(!wanted.allow), line(&device, new)));
            }
        }
        Ok(lines)
    }

    /// What is allowed as systemd names it (`DeviceAllow=` of systemd.resource-control(5)): paths
    /// and accesses; `None` where everything is but for a few. Devices of every major number with
    /// one minor number have no name there.
    pub(super) fn allowed(&self) -> Result<Option<Vec<(String, String)>>, Error> {
        let found = self.exceptions()?;
        if found.allow {
            return Ok(None);
        }
        let named = found.devices.iter().filter_map(|(device, access)| {
            let kind = if device.kind == Some(Kind::Block) { "block" } else { "char" };
            let path = match (device.major, device.minor) {
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
                (Some(major), None) => format!("{kind}-{major}"),
                (None, None) => format!("{kind}-*"),
                (None, Some(_)) => return None,
            };
            Some((path, letters(*access)))
        });
        Ok(Some(named.collect()))
    }

    /// The rules in the form version 1 keeps them: a default and exceptions from it.
    fn exceptions(&self) -> Result<Exceptions, Error> {
        let mut found = Exceptions { allow: false, devices: BTreeMap::new() };
        for rule in &self.0 {
            if rule.device == Device::ALL && rule.access == EVERY_ACCESS {
                found = Exceptions { allow: rule.allow, devices: BTreeMap::new() };
                continue;
            }
            for device in rule.device.by_kind() {
                found.add(rule, device)?;
            }
        }
        Ok(found)
    }
}

/// What the kernel holds for version 1 (security/device_cgroup.c).
struct Exceptions {
    /// Whether what is no exception is allowed.
    allow: bool,
    devices: BTreeMap<Device, u8>,
}

impl Exceptions {
    fn add(&mut self, rule: &Rule, device: Device) -> Result<(), Error> {
        if rule.allow != self.allow {
            *self.devices.entry(device).or_default() |= rule.access;
            return Ok(());
        }
        let concerned =
            self.devices.iter_mut().filter(|(d, a)| device.meets(d) && **a & rule.access != 0);
        for (exception, access) in concerned {
            if !device.covers(exception) {
                return Err(Error::Unsupported(format!(
                    "limit devices: version 1 of control groups cannot {rule} out of {}: list the \
                     devices one by one instead",
                    line(exception, *access)
                )));
            }
            *access &= !rule.access;
        }
        self.devices.retain(|_, access| *access != 0);
        Ok(())
    }
}

/// Reads `devices.list`.
fn listed(text: &str) -> Exceptions {
    let mut found = Exceptions { allow: false, devices: BTreeMap::new() };
    for line in text.lines() {
        let mut words = line.split([' ', ':']);
        let kind = match words.next() {
            Some("a") => {
                found.allow = true;
                continue;
            }
            Some("b") => Kind::Block,
            Some("c") => Kind::Char,
            _ => continue,
        };
        let mut number = || words.next().and_then(|n| n.parse().ok());
        let device = Device { kind: Some(kind), major: number(), minor: number() };
        if let Some(access) = words.next().and_then(access_bits) {
            found.devices.insert(device, access);
        }
    }
    found
}

fn access_bits(text: &str) -> Option<u8> {
    text.chars().try_fold(0, |bits, letter| match letter {
        'r' => Some(bits | READ),
        'w' => Some(bits | WRITE),
        'm' => Some(bits | MKNOD),
        // As runc reads it: there is a kind of device of this name, and profiles mix them up.
        'a' => Some(bits),
        _ => None,
    })
}

fn rule(rule: &LinuxDeviceCgroup) -> Result<Rule, Error> {
    let invalid = |what: String| Error::Invalid(format!("limit devices: {what}"));
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(Kind::Block),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(Kind::Char),
        Some(LinuxDeviceType::P) => return Err(invalid("a FIFO is no device".into())),
    };
    let number = |name: &str, n: Option<i64>| match n {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| invalid(format!("{name} number {n}"))),
    };
    let text = rule.access().as_deref().filter(|text| !text.is_empty()).unwrap_or("rwm");
    let access = access_bits(text).filter(|bits| *bits != 0).ok_or_else(|| {
        invalid(format!("access {text:?} is made of other letters than r, w and m"))
    })?;
    let (major, minor) = (number("major", rule.major())?, number("minor", rule.minor())?);
    Ok(Rule { allow: rule.allow(), device: Device { kind, major, minor }, access })
}

// Registers: the result, the context on entry, and what the context holds.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// Both numbers, as the kernel keeps them in `dev_t`.
const NUMBER: u8 = 6;
/// Bits of a minor number there (`MINORBITS` of linux/kdev_t.h).
const MINOR_BITS: i32 = 20;

// Operations, as linux/bpf.h composes them.
const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbc;
const MOVE: u8 = 0xb4;
const AND: u8 = 0x54;
const SHIFT_LEFT: u8 = 0x64;
const SHIFT_RIGHT: u8 = 0x74;
const OR_REGISTER: u8 = 0x4c;
const JUMP: u8 = 0x05;
const JUMP_IF_EQUAL: u8 = 0x16;
const JUMP_UNLESS_EQUAL: u8 = 0x56;
const JUMP_IF_SET: u8 = 0x46;
const EXIT: u8 = 0x95;

/// Loads a word of `struct bpf_cgroup_dev_ctx`.
fn load(to: u8, offset: i16) -> Insn {
    Insn { code: LOAD_WORD, registers: to | CONTEXT << 4, offset, immediate: 0 }
}

fn alu(code: u8, to: u8, from: u8, immediate: i32) -> Insn {
    Insn { code, registers: to | from << 4, offset: 0, immediate }
}

/// A jump whose way is not known yet.
fn jump(code: u8, register: u8, immediate: u32) -> Insn {
    Insn { code, registers: register, offset: 0, immediate: immediate as i32 }
}

/// A program that is being written.
struct Program {
    code: Vec<Insn>,
    /// Which instructions jump to the end that allows, or that denies.
    leaving: Vec<(usize, bool)>,
}

impl Program {
    fn new() -> Self {
        let code = vec![
            load(KIND, 0),
            alu(MOVE_REGISTER, ACCESS, KIND, 0),
            alu(AND, KIND, 0, 0xffff),
            alu(SHIFT_RIGHT, ACCESS, 0, 16),
            load(MAJOR, 4),
            load(MINOR, 8),
            alu(MOVE_REGISTER, NUMBER, MAJOR, 0),
            alu(SHIFT_LEFT, NUMBER, 0, MINOR_BITS),
            alu(OR_REGISTER, NUMBER, MINOR, 0),
        ];
        Self { code, leaving: Vec::new() }
    }

    /// Asks rules about one kind of device, the last first.
    ///
    /// What decides leaves at once: the verifier follows every jump, and the rest of the program
    /// once more for whatever it knows then.
    fn ask(&mut self, rules: &[&Rule]) {
        let kind = rules.first().and_then(|rule| rule.device.kind);
        let other_kind = kind.map(|kind| self.add(jump(JUMP_UNLESS_EQUAL, KIND, kind as u32)));
        for rule in rules {
            let Ok(number) = rule.device.number() else { continue };
            if rule.access == EVERY_ACCESS {
                self.leave(
                    rule.allow,
                    match number {
                        Some((register, value)) => jump(JUMP_IF_EQUAL, register, value),
                        None => jump(JUMP, 0, 0),
                    },
                );
                continue;
            }
            let other =
                number.map(|(register, value)| self.add(jump(JUMP_UNLESS_EQUAL, register, value)));
            if rule.allow {
                self.add(alu(AND, ACCESS, 0, i32::from(!rule.access & EVERY_ACCESS)));
                self.leave(true, jump(JUMP_IF_EQUAL, ACCESS, 0));
            } else {
                self.leave(false, jump(JUMP_IF_SET, ACCESS, u32::from(rule.access)));
            }
            self.land(other);
        }
        self.land(other_kind);
    }

    fn add(&mut self, insn: Insn) -> usize {
        self.code.push(insn);
        self.code.len() - 1
    }

    fn leave(&mut self, allow: bool, jump: Insn) {
        let at = self.add(jump);
        self.leaving.push((at, allow));
    }

    /// Lets a jump end here.
    fn land(&mut self, jump: Option<usize>) {
        if let Some(at) = jump {
            self.code[at].offset = (self.code.len() - at - 1) as i16;
        }
    }

    /// Writes the ends: what nobody has decided is decided so.
    fn end(mut self, otherwise: bool) -> Result<Vec<Insn>, Error> {
        if i16::try_from(self.code.len()).is_err() {
            return Err(Error::Unsupported("limit devices: there are too many rules".into()));
        }
        for allow in [otherwise, !otherwise] {
            let leaving: Vec<usize> =
                self.leaving.iter().filter(|(_, how)| *how == allow).map(|(at, _)| *at).collect();
            // The verifier refuses what nobody reaches.
            if allow == otherwise || !leaving.is_empty() {
                leaving.into_iter().for_each(|at| self.land(Some(at)));
                self.add(alu(MOVE, RESULT, 0, i32::from(allow)));
                self.add(alu(EXIT, 0, 0, 0));
            }
        }
        Ok(self.code)
    }
}
