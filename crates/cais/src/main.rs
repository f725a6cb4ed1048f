//! The binary: a table of subcommands, and nothing clever.
//!
//! **What it is.** The command line in Docker's grammar, configuration, and what users read:
//! tables, templates, progress, errors with hints. One file per command in `command`; the OCI
//! runtime's command line, which is runc's, in `oci`.
//!
//! **What it must not know.** The kernel, registries, files of the store: it asks `engine`, and
//! `runtime` for `oci`.
//!
//! **Front doors.** [`main`], the tables of `command`, `oci::VERBS`.
//!
//! **How to test it.** `cargo test -p cais` for what is pure; `cargo test -p tests` runs the binary.

mod command;
mod config;
mod oci;
mod output;
mod progress;
mod session;
mod template;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = oci::main(&args) {
        return code;
    }
    if let Some(code) = command::complete::names(&args) {
        return code;
    }
    let args = command::route::route(args);
    if let Err(code) = command::seal(&args) {
        return code;
    }
    let matches = match command::parse(&args) {
        Ok(matches) => matches,
        Err(code) => return code,
    };
    let code = command::run(&matches);
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}
