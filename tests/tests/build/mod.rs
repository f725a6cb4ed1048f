//! Dockerfiles as people write them, built and run: a file for each group of instructions.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod attack;
mod attest;
mod bake;
mod cache;
mod collection;
mod config;
mod context;
mod copy;
mod exchange;
mod failure;
mod lock;
mod mount;
mod node;
mod normalize;
mod output;
mod parity;
mod platform;
mod recipes;
mod reproducible;
mod run;
mod stage;
mod url;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};

use testkit::{Outcome, Sandbox};

/// Writes files below `directory`: each begins with a line `//- PATH`.
fn write(directory: &Path, text: &str) {
    for part in text.split("//- ").skip(1) {
        let (name, content) = part.split_once('\n').unwrap();
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Builds the files below `ctx` as the image `built`, with further flags.
fn build(sandbox: &Sandbox, files: &str, flags: &[&str]) -> Outcome {
    let context = sandbox.work().join("ctx");
    let _ = fs::remove_dir_all(&context);
    write(&context, files);
    again(sandbox, flags)
}

/// Builds what lies there once more.
fn again(sandbox: &Sandbox, flags: &[&str]) -> Outcome {
    sandbox.words(&[&["build", "-t", "built"], flags, &["ctx"]].concat())
}

/// Runs a line of the shell in what was built.
fn run(sandbox: &Sandbox, line: &str) -> String {
    let words = ["run", "--rm", "--network", "none", "--entrypoint", "sh", "built", "-c", line];
    sandbox.cais(words).code(0).stdout.clone()
}

/// The files of a cache mount of builds.
fn cache_mount(sandbox: &Sandbox, id: &str) -> PathBuf {
    let key = oci::Digest::of(id.as_bytes());
    sandbox.root().join("build/mounts").join(key.hex()).join("files")
}

/// A field of the image's configuration.
fn inspect(sandbox: &Sandbox, format: &str) -> String {
    sandbox.cais(["image", "inspect", "-f", format, "built"]).ok().trim_end().to_owned()
}
