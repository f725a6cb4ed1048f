//! The only place that sets `weaken`: see `crates/runtime/src/weak.rs`.

#![expect(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=weaken");
}
