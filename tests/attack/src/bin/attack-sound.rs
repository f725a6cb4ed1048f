//! The driver of the runtime as it is.

#[path = "../../../../crates/runtime/src/bin/oci-run.rs"]
mod driver;

fn main() -> std::process::ExitCode {
    driver::main()
}
