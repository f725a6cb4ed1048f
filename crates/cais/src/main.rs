//! The `cais` binary.

#![allow(dead_code, unused_imports, reason = "the commands that print are to come")]

mod output;
mod template;

fn main() {}
