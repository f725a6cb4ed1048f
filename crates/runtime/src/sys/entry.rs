//! Where the program begins, before the C library does: sealed right away.
//!
//! Sealing executes the program anew ([`seal_executable`](crate::seal_executable)). Done from
//! `main`, it pays the start of the C library and of Rust's runtime twice, half a millisecond where
//! CPUID is emulated. Whoever links the program makes [`cais_entry`] its entry point
//! (docs/decisions/0010-own-entry-point.md); `main` still checks, so that this is speed alone.
//!
//! Nothing works here yet that the C library sets up: no thread-local storage, and no `memcpy`,
//! `strlen` or `memcmp`, whose variants are not chosen. So memory is read by volatile bytes, in
//! which the compiler recognises none of those.

use core::arch::{asm, naked_asm};

use crate::seal::ATTRIBUTES;

/// The words after which a program may make processes that a container sees. One that is missing
/// is sealed by `main`, and one too many is sealed in vain.
const WORDS: [&[u8]; 4] = [b"run", b"exec", b"create", b"start"];

/// How the kernel calls a program that was executed by a descriptor: this, and its number.
const BY_DESCRIPTOR: &[u8] = b"/dev/fd/";

/// The entry point: seals the program, and goes on with the C library's where that was not to be.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn cais_entry() -> ! {
    naked_asm!(
        // What the kernel has put on the stack and into %rdx is the C library's.
        "mov rbx, rdx",
        "mov rbp, rsp",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {seal}",
        "mov rsp, rbp",
        "mov rdx, rbx",
        "xor ebp, ebp",
        "jmp _start",
        seal = sym seal,
    )
}

/// Executes the program anew, sealed, with the arguments and the environment that lie at `stack`
/// (System V ABI for x86-64, 3.4.1); returns when there is no need to, or it is refused.
extern "C" fn seal(stack: *const usize) {
    // SAFETY: the kernel has put there the number of the arguments, them and a null pointer, the
    // environment and a null pointer, and pairs of numbers that end with `AT_NULL`.
    unsafe {
        let count = stack.read();
        let args = stack.add(1);
        let env = args.add(count + 1);
        if asks_for_container(args) && !is_second(env) {
            execute_sealed(args, env);
        }
    }
}

/// # Safety
/// At `args` are pointers to strings, and a null pointer.
unsafe fn asks_for_container(args: *const usize) -> bool {
    // SAFETY: nothing behind the null pointer is read.
    unsafe {
        let mut next = args;
        while next.read() != 0 {
            let arg = next.read() as *const u8;
            if WORDS.iter().any(|word| begins_with(arg, word) && byte(arg, word.len()) == 0) {
                return true;
            }
            next = next.add(1);
        }
    }
    false
}

/// Whether the program was executed by a descriptor, as [`execute_sealed`] does; so that it never
/// does it again.
///
/// # Safety
/// At `env` are pointers, a null pointer, and the auxiliary vector (getauxval(3)).
unsafe fn is_second(env: *const usize) -> bool {
    // SAFETY: nothing behind `AT_NULL` is read; `AT_EXECFN` is a string.
    unsafe {
        let mut next = env;
        while next.read() != 0 {
            next = next.add(1);
        }
        next = next.add(1);
        while next.read() != libc::AT_NULL as usize {
            if next.read() == libc::AT_EXECFN as usize {
                return begins_with(next.add(1).read() as *const u8, BY_DESCRIPTOR);
            }
            next = next.add(2);
        }
    }
    false
}

/// # Safety
/// At `string` is a string.
unsafe fn begins_with(string: *const u8, start: &[u8]) -> bool {
    // SAFETY: the first byte that differs, at the latest the null character, is the last one read.
    (0..start.len()).all(|at| unsafe { byte(string, at) == byte(start.as_ptr(), at) })
}

/// # Safety
/// The string is that long.
unsafe fn byte(string: *const u8, at: usize) -> u8 {
    // SAFETY: the caller's promise.
    unsafe { string.add(at).read_volatile() }
}

/// What [`seal_executable`](crate::seal_executable) does, by bare system calls. A descriptor that
/// stays after a failure is closed on the next execve(2).
///
/// # Safety
/// At both are pointers to strings, and a null pointer.
unsafe fn execute_sealed(args: *const usize, env: *const usize) {
    /// The size of the structure: `MOUNT_ATTR_SIZE_VER0`.
    const SIZE: usize = size_of::<libc::mount_attr>();
    let tree = libc::OPEN_TREE_CLONE as usize | libc::OPEN_TREE_CLOEXEC as usize;
    let attr = libc::mount_attr { attr_set: ATTRIBUTES, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let (here, path, empty) = (libc::AT_FDCWD as usize, c"/proc/self/exe".as_ptr(), c"".as_ptr());
    let flags = libc::AT_EMPTY_PATH as usize;
    // SAFETY: strings and the structure live across the calls; the caller's promise for the rest.
    unsafe {
        let mount = call(libc::SYS_open_tree, [here, path as usize, tree, 0, 0]);
        if mount < 0 {
            return;
        }
        let (mount, empty) = (mount as usize, empty as usize);
        let attr = &raw const attr as usize;
        if call(libc::SYS_mount_setattr, [mount, empty, flags, attr, SIZE]) < 0 {
            return;
        }
        call(libc::SYS_execveat, [mount, empty, args as usize, env as usize, flags]);
    }
}

/// A system call without the C library; a negative answer is an error's number.
///
/// # Safety
/// That of the system call.
unsafe fn call(number: libc::c_long, args: [usize; 5]) -> isize {
    let answer: isize;
    // SAFETY: the caller's promise; the kernel changes these registers only.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}
