//! A profile in Docker's format: refused, or a program that the kernel would load.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| runtime::fuzzing::seccomp(data));
