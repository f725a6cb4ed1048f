//! A pull that is killed leaves nothing that can be seen, and the next one continues.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use testkit::{Sandbox, many_files};

/// How long a pull may take until it has stored as much as a test waits for.
const STORED_MAX: Duration = Duration::from_secs(180);

#[test]
fn a_pull_can_be_killed_at_any_byte() {
    let sandbox = Sandbox::new();
    for megabytes in [0, 1, 30, 90, 180] {
        let mut pull = sandbox.start(["pull", "many-files"]);
        wait_until_stored(&sandbox.root(), megabytes << 20, &mut || pull.ended());
        if !pull.ended() {
            pull.signal(Signal::KILL);
        }
        let outcome = pull.finish();
        // Killed late, it may have finished all but its own end; what is visible is whole then.
        let images = sandbox.cais(["images", "-aq"]);
        if outcome.code == 0 || !images.ok().is_empty() {
            whole(&sandbox);
            let _ = sandbox.cais(["rmi", "many-files"]).ok();
        }
    }
    let _ = sandbox.cais(["pull", "many-files"]).ok();
    whole(&sandbox);
}

/// Demands that every file of the image is there and right.
#[track_caller]
fn whole(sandbox: &Sandbox) {
    let probe = format!("{}:/probe:ro", sandbox.probe_program().display());
    let run = [
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        &probe,
        "many-files",
        "/probe",
        "files",
        "/data",
    ];
    let answer: serde_json::Value =
        serde_json::from_str(sandbox.cais(run).ok()).expect("the probe answers in JSON");
    let (count, digest) = many_files::summary();
    assert_eq!(answer, serde_json::json!({ "count": count, "digest": digest.to_string() }));
}

/// Waits until files below `root` hold so many bytes, or the pull has ended.
fn wait_until_stored(root: &Path, bytes: u64, ended: &mut dyn FnMut() -> bool) {
    let deadline = Instant::now() + STORED_MAX;
    while stored(root) < bytes && !ended() {
        assert!(Instant::now() < deadline, "a pull stores {bytes} bytes in {STORED_MAX:?}");
        std::thread::yield_now();
    }
}

fn stored(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => stored(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}
