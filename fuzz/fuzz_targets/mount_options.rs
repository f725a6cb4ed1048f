//! Options of a mount, one word a line.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| runtime::fuzzing::mount_options(data));
