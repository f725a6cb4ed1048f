//! The `cais` binary.

#![expect(dead_code, reason = "the commands that print are to come")]

mod output;
mod template;

fn main() {}
