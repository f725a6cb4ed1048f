//! Makes the program begin where it is sealed (see `crates/runtime/src/sys/entry.rs`), and leaves
//! out of what is released a tenth that nobody reads.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=discard.ld");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|own| own == value);
    if !is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        return;
    }
    println!("cargo::rustc-link-arg-bins=-Wl,--entry=cais_entry");
    // Where panics abort: `[profile.release]`.
    if is("PROFILE", "release") {
        let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-T,{here}/discard.ld");
    }
}
