//! The architectures a filter can tell apart.

use oci::runtime::{Arch as OciArch, LinuxSeccomp};

/// A calling convention with its own table of system calls; the value is its column there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
}

/// Set in the number of every x32 call, which otherwise looks like x86_64 (asm/unistd.h).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The private calls of 32-bit ARM start here, far above all others (asm/unistd.h).
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

impl Arch {
    /// Where in a row of the system call table this architecture stands.
    pub(super) fn column(self) -> usize {
        self as usize
    }

    /// `AUDIT_ARCH_*` of linux/audit.h, as `seccomp_data.arch` holds it. x32 shares x86_64's.
    pub(super) fn token(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
        }
    }

    /// Whether argument registers have 64 bits. x32's have, though its pointers do not.
    pub(super) fn is_wide(self) -> bool {
        !matches!(self, Self::X86 | Self::Arm)
    }

    /// What this build itself runs on.
    pub(super) fn native() -> Self {
        if cfg!(target_arch = "x86_64") {
            Self::X86_64
        } else if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else if cfg!(target_arch = "arm") {
            Self::Arm
        } else if cfg!(target_arch = "x86") {
            Self::X86
        } else {
            Self::Riscv64
        }
    }

    fn from_oci(arch: OciArch) -> Option<Self> {
        match arch {
            OciArch::ScmpArchNative => Some(Self::native()),
            OciArch::ScmpArchX86 => Some(Self::X86),
            OciArch::ScmpArchX86_64 => Some(Self::X86_64),
            OciArch::ScmpArchX32 => Some(Self::X32),
            OciArch::ScmpArchArm => Some(Self::Arm),
            OciArch::ScmpArchAarch64 => Some(Self::Aarch64),
            OciArch::ScmpArchRiscv64 => Some(Self::Riscv64),
            // No kernel this builds for can enter the others, and would it, the call kills.
            _ => None,
        }
    }
}

/// The native architecture, then the others `profile` lists, each once.
pub(super) fn listed(profile: &LinuxSeccomp) -> Vec<Arch> {
    let mut found = vec![Arch::native()];
    for arch in profile.architectures().iter().flatten().filter_map(|a| Arch::from_oci(*a)) {
        if !found.contains(&arch) {
            found.push(arch);
        }
    }
    found
}
