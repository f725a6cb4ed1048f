//! The driver of the runtime whose defences the environment variable `WEAKEN` takes away.

extern crate weakened as runtime;

#[path = "../../../../crates/runtime/src/bin/oci-run.rs"]
mod driver;

fn main() -> std::process::ExitCode {
    driver::main()
}
