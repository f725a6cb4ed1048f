//! Programs that tests make, written by processes of their own: a descriptor that is open for
//! writing here could be inherited by the child of another test, and keep the program from being
//! executed (execve(2), `ETXTBSY`).

use std::path::Path;
use std::process::{Command, Stdio};

/// Copies a program.
///
/// # Panics
/// If it cannot be copied.
#[track_caller]
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let status = Command::new("cp").args([from.as_ref(), to.as_ref()]).status();
    assert!(status.is_ok_and(|status| status.success()), "copy {}", from.as_ref().display());
}

/// Writes a script that can be executed.
///
/// # Panics
/// If it cannot be written.
#[track_caller]
pub fn write_script(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"]).arg(path).stdin(Stdio::piped());
    let mut child = shell.spawn().expect("a shell is there");
    let mut input = child.stdin.take().expect("its input is ours");
    std::io::Write::write_all(&mut input, text.as_bytes()).expect("it reads the text");
    drop(input);
    assert!(child.wait().is_ok_and(|status| status.success()), "write {}", path.display());
}
