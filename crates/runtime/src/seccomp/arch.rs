//! The architectures a filter can tell apart.

use oci::runtime::{Arch as OciArch, LinuxSeccomp};

/// A calling convention with numbers of its own: every one the runtime specification lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
    Loongarch64,
    Mips,
    Mipsel,
    Mips64,
    Mipsel64,
    Mips64N32,
    Mipsel64N32,
    Ppc,
    Ppc64,
    Ppc64Le,
    S390,
    S390X,
    Parisc,
    Parisc64,
    M68k,
    Sh,
    Sheb,
}

/// Set in the number of every x32 call, which otherwise looks like x86_64 (asm/unistd.h).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The private calls of 32-bit ARM start here, far above all others (asm/unistd.h).
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

/// `AUDIT_ARCH_X86_64`, which x32 shares.
pub(super) const TOKEN_X86_64: u32 = WIDE | LITTLE | 62;

/// Parts of `AUDIT_ARCH_*` (linux/audit.h); the rest is the machine's ELF number.
const WIDE: u32 = 0x8000_0000;
const LITTLE: u32 = 0x4000_0000;
const N32: u32 = 0x2000_0000;

impl Arch {
    /// Where in a row of the system call table this architecture stands.
    pub(super) fn column(self) -> usize {
        match self {
            Self::X86_64 => 0,
            Self::X86 => 1,
            Self::X32 => 2,
            Self::Aarch64 => 3,
            Self::Arm => 4,
            Self::Riscv64 => 5,
            Self::Loongarch64 => 6,
            Self::Mips | Self::Mipsel => 7,
            Self::Mips64 | Self::Mipsel64 => 8,
            Self::Mips64N32 | Self::Mipsel64N32 => 9,
            Self::Ppc => 10,
            Self::Ppc64 | Self::Ppc64Le => 11,
            Self::S390 => 12,
            Self::S390X => 13,
            Self::Parisc => 14,
            Self::Parisc64 => 15,
            Self::M68k => 16,
            Self::Sh | Self::Sheb => 17,
        }
    }

    /// What stands in front of every number of the table: MIPS tells its conventions apart by it.
    pub(super) fn base(self) -> u32 {
        match self {
            Self::X32 => X32_BIT,
            Self::Mips | Self::Mipsel => 4000,
            Self::Mips64 | Self::Mipsel64 => 5000,
            Self::Mips64N32 | Self::Mipsel64N32 => 6000,
            _ => 0,
        }
    }

    /// `AUDIT_ARCH_*` of linux/audit.h, as `seccomp_data.arch` holds it.
    pub(super) fn token(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => TOKEN_X86_64,
            Self::X86 => LITTLE | 3,
            Self::Aarch64 => WIDE | LITTLE | 183,
            Self::Arm => LITTLE | 40,
            Self::Riscv64 => WIDE | LITTLE | 243,
            Self::Loongarch64 => WIDE | LITTLE | 258,
            Self::Mips => 8,
            Self::Mipsel => LITTLE | 8,
            Self::Mips64 => WIDE | 8,
            Self::Mipsel64 => WIDE | LITTLE | 8,
            Self::Mips64N32 => WIDE | N32 | 8,
            Self::Mipsel64N32 => WIDE | LITTLE | N32 | 8,
            Self::Ppc => 20,
            Self::Ppc64 => WIDE | 21,
            Self::Ppc64Le => WIDE | LITTLE | 21,
            Self::S390 => 22,
            Self::S390X => WIDE | 22,
            Self::Parisc => 15,
            Self::Parisc64 => WIDE | 15,
            Self::M68k => 4,
            Self::Sh => LITTLE | 42,
            Self::Sheb => 42,
        }
    }

    /// Whether arguments are compared with 64 bits. Those of x32 and n32 are not: the conventions
    /// leave the upper half of an `int` open.
    pub(super) fn is_wide(self) -> bool {
        self.token() & WIDE != 0 && !matches!(self, Self::X32 | Self::Mips64N32 | Self::Mipsel64N32)
    }

    /// Whether the upper half of an argument comes first in memory.
    pub(super) fn is_big_endian(self) -> bool {
        self.token() & LITTLE == 0
    }

    /// Whether sockets and System V IPC are reached also through `socketcall` and `ipc`.
    pub(super) fn multiplexes(self) -> bool {
        use Arch::{M68k, Mips, Mipsel, Ppc, Ppc64, Ppc64Le, S390, S390X, Sh, Sheb, X86};
        let these = [X86, Mips, Mipsel, Ppc, Ppc64, Ppc64Le, S390, S390X, M68k, Sh, Sheb];
        these.contains(&self)
    }

    /// What this build itself runs on.
    ///
    /// # Panics
    /// On a machine that has no seccomp.
    pub(super) fn native() -> Self {
        let little = cfg!(target_endian = "little");
        match std::env::consts::ARCH {
            "x86_64" => Self::X86_64,
            "x86" => Self::X86,
            "aarch64" => Self::Aarch64,
            "arm" => Self::Arm,
            "riscv64" => Self::Riscv64,
            "loongarch64" => Self::Loongarch64,
            "mips" if little => Self::Mipsel,
            "mips" => Self::Mips,
            "mips64" if little => Self::Mipsel64,
            "mips64" => Self::Mips64,
            "powerpc" => Self::Ppc,
            "powerpc64" if little => Self::Ppc64Le,
            "powerpc64" => Self::Ppc64,
            "s390x" => Self::S390X,
            "m68k" => Self::M68k,
            other => unreachable!("{other} has no seccomp"),
        }
    }

    /// The conventions in which a kernel on this machine may be called.
    fn of_one_kernel(self) -> &'static [Self] {
        use Arch::{
            Aarch64, Arm, Mips, Mips64, Mips64N32, Mipsel, Mipsel64, Mipsel64N32, Parisc, Parisc64,
            Ppc, Ppc64, S390, S390X, X32, X86, X86_64,
        };
        const FAMILIES: [&[Arch]; 7] = [
            &[X86_64, X86, X32],
            &[Aarch64, Arm],
            &[Mips64, Mips64N32, Mips],
            &[Mipsel64, Mipsel64N32, Mipsel],
            &[Ppc64, Ppc],
            &[S390X, S390],
            &[Parisc64, Parisc],
        ];
        FAMILIES.into_iter().find(|family| family.contains(&self)).unwrap_or_default()
    }

    pub(super) fn from_oci(arch: OciArch) -> Self {
        match arch {
            OciArch::ScmpArchNative => Self::native(),
            OciArch::ScmpArchX86 => Self::X86,
            OciArch::ScmpArchX86_64 => Self::X86_64,
            OciArch::ScmpArchX32 => Self::X32,
            OciArch::ScmpArchArm => Self::Arm,
            OciArch::ScmpArchAarch64 => Self::Aarch64,
            OciArch::ScmpArchMips => Self::Mips,
            OciArch::ScmpArchMips64 => Self::Mips64,
            OciArch::ScmpArchMips64n32 => Self::Mips64N32,
            OciArch::ScmpArchMipsel => Self::Mipsel,
            OciArch::ScmpArchMipsel64 => Self::Mipsel64,
            OciArch::ScmpArchMipsel64n32 => Self::Mipsel64N32,
            OciArch::ScmpArchPpc => Self::Ppc,
            OciArch::ScmpArchPpc64 => Self::Ppc64,
            OciArch::ScmpArchPpc64le => Self::Ppc64Le,
            OciArch::ScmpArchS390 => Self::S390,
            OciArch::ScmpArchS390x => Self::S390X,
            OciArch::ScmpArchParisc => Self::Parisc,
            OciArch::ScmpArchParisc64 => Self::Parisc64,
            OciArch::ScmpArchRiscv64 => Self::Riscv64,
            OciArch::ScmpArchLoongarch64 => Self::Loongarch64,
            OciArch::ScmpArchM68k => Self::M68k,
            OciArch::ScmpArchSh => Self::Sh,
            OciArch::ScmpArchSheb => Self::Sheb,
        }
    }
}

/// The native architecture, then the others `profile` lists, each once. Those in which no kernel on
/// this machine can be called are left out: no call ever comes to their part of the filter, and
/// one that did would be killed as one of an architecture that is not listed.
pub(super) fn listed(profile: &LinuxSeccomp) -> Vec<Arch> {
    let native = Arch::native();
    let mut found = vec![native];
    for arch in profile.architectures().iter().flatten().map(|arch| Arch::from_oci(*arch)) {
        if native.of_one_kernel().contains(&arch) && !found.contains(&arch) {
            found.push(arch);
        }
    }
    found
}

/// Every architecture, for tests.
#[cfg(test)]
pub(super) const ALL: [Arch; 23] = [
    Arch::X86_64,
    Arch::X86,
    Arch::X32,
    Arch::Aarch64,
    Arch::Arm,
    Arch::Riscv64,
    Arch::Loongarch64,
    Arch::Mips,
    Arch::Mipsel,
    Arch::Mips64,
    Arch::Mipsel64,
    Arch::Mips64N32,
    Arch::Mipsel64N32,
    Arch::Ppc,
    Arch::Ppc64,
    Arch::Ppc64Le,
    Arch::S390,
    Arch::S390X,
    Arch::Parisc,
    Arch::Parisc64,
    Arch::M68k,
    Arch::Sh,
    Arch::Sheb,
];
