//! The only place that sets `weaken`: see `crates/runtime/src/weak.rs`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=weaken");
}
