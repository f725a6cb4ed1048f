//! A `config.json`: refused, or checked to the end.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| runtime::fuzzing::config(data));
