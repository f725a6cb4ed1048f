//! What a tree is, and which bytes of its image are changed.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| erofs::fuzzing::image(data));
