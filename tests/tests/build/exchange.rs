//! `--cache-to` and `--cache-from`: what steps left is had on another machine.

use std::fs;

use oci::Digest;
use testkit::Sandbox;

use super::{again, build, run};

const FILES: &str = "//- f
f
//- Dockerfile
FROM busybox AS tools
RUN --network=none --mount=type=cache,target=/cache,id=objects [ -e /cache/made ] && echo warm >/state || echo cold >/state; touch /cache/made
FROM busybox
WORKDIR /w
COPY f .
RUN --network=none cat /proc/sys/kernel/random/uuid >/once
COPY --from=tools /state /state
";

/// Forgets everything but what a registry or a directory has.
fn forget(sandbox: &Sandbox) {
    let _ = sandbox.shell("$E rmi -f $($E images -q) && $E builder prune -af").ok();
}

/// Which steps were known.
fn cached(built: &testkit::Outcome) -> usize {
    // The image is never done.
    built.ok_stderr().matches("CACHED").count()
}

trait Shown {
    fn ok_stderr(&self) -> &str;
}

impl Shown for testkit::Outcome {
    #[track_caller]
    fn ok_stderr(&self) -> &str {
        let _ = self.ok();
        &self.stderr
    }
}

#[test]
fn all_steps_are_known_on_another_machine() {
    let sandbox = Sandbox::new();
    let storage = tempfile::tempdir().unwrap();
    let _registry = sandbox.registry(5001, storage.path());
    let target = "type=registry,ref=localhost:5001/cache:1,mode=max";
    let _ = build(&sandbox, FILES, &["--cache-to", target]).ok();
    let once = run(&sandbox, "cat /once");
    forget(&sandbox);
    let from = ["--cache-from", "localhost:5001/cache:1", "--cache-from", "localhost:5001/none"];
    let built = again(&sandbox, &from);
    assert!(
        built.stderr.contains("importing cache manifest from localhost:5001/cache:1"),
        "{built}"
    );
    assert!(
        built.stderr.contains("importing cache manifest from localhost:5001/none:latest\n"),
        "{built}"
    );
    assert!(built.stderr.contains(" ERROR: "), "{built}");
    assert_eq!(cached(&built), 6, "{built}");
    assert_eq!(run(&sandbox, "cat /once"), once);

    // The files of the cache mount have come along.
    forget(&sandbox);
    let changed = FILES.replace("|| echo cold", "|| echo very cold");
    let _ = build(&sandbox, &changed, &from[..2]).ok();
    assert_eq!(run(&sandbox, "cat /state"), "warm\n");
}

#[test]
fn a_directory_and_an_image_are_caches_too() {
    let sandbox = Sandbox::new();
    let _ = build(&sandbox, FILES, &["--cache-to", "type=local,dest=cache"]).ok();
    let once = run(&sandbox, "cat /once");
    forget(&sandbox);
    let built = again(&sandbox, &["--cache-from", "type=local,src=cache"]);
    // mode=min has only what the image is made of.
    assert_eq!(cached(&built), 5, "{built}");
    assert_eq!(run(&sandbox, "cat /once"), once);

    let storage = tempfile::tempdir().unwrap();
    let _registry = sandbox.registry(5001, storage.path());
    let push =
        ["build", "-t", "localhost:5001/app:1", "--push", "--cache-to", "type=inline", "ctx"];
    let _ = sandbox.cais(push).ok();
    forget(&sandbox);
    let built = again(&sandbox, &["--cache-from", "type=registry,ref=localhost:5001/app:1"]);
    assert_eq!(cached(&built), 5, "{built}");
    assert_eq!(run(&sandbox, "cat /once"), once);

    for wrong in ["type=gha", "type=local,src=nowhere,dest=x"] {
        let refused = again(&sandbox, &["--cache-to", wrong]);
        refused.code(1);
    }
}

#[test]
fn a_cache_is_not_believed() {
    let sandbox = Sandbox::new();
    let _ = build(&sandbox, FILES, &["--cache-to", "type=local,dest=cache,mode=max"]).ok();
    let blobs = sandbox.work().join("cache/blobs/sha256");
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(sandbox.work().join("cache/index.json")).unwrap())
            .unwrap();
    let read = |digest: &serde_json::Value| -> serde_json::Value {
        let hex = digest.as_str().unwrap().trim_start_matches("sha256:").to_owned();
        serde_json::from_slice(&fs::read(blobs.join(hex)).unwrap()).unwrap()
    };
    let mut manifest = read(&index["manifests"][0]["digest"]);
    let config = read(&manifest["config"]["digest"]);

    // Blobs that are something else than they are called.
    let kept: Vec<_> = manifest["layers"].as_array().unwrap().clone();
    for layer in &kept {
        let hex = layer["digest"].as_str().unwrap().trim_start_matches("sha256:");
        let bytes = fs::read(blobs.join(hex)).unwrap();
        fs::write(blobs.join(hex), vec![0; bytes.len()]).unwrap();
    }
    forget(&sandbox);
    let built = again(&sandbox, &["--cache-from", "type=local,src=cache"]);
    assert!(cached(&built) < 4, "only the images are known: {built}");

    // Steps that leave other layers than one of their own, and files that lead outside.
    let put = |value: &serde_json::Value| -> (String, usize) {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = Digest::of(&bytes);
        fs::write(blobs.join(digest.hex()), &bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let mut poisoned = config.clone();
    let foreign = config["layers"].as_object().unwrap().keys().next().unwrap().clone();
    for (_, layers) in poisoned["steps"].as_object_mut().unwrap() {
        *layers = serde_json::json!([foreign, foreign, foreign]);
    }
    let (digest, size) = put(&poisoned);
    manifest["config"]["digest"] = digest.into();
    manifest["config"]["size"] = size.into();
    let (digest, size) = put(&manifest);
    let mut index = index;
    index["manifests"][0]["digest"] = digest.into();
    index["manifests"][0]["size"] = size.into();
    fs::write(sandbox.work().join("cache/index.json"), index.to_string()).unwrap();
    forget(&sandbox);
    let built = again(&sandbox, &["--cache-from", "type=local,src=cache"]);
    assert!(cached(&built) < 4, "{built}");
    assert_eq!(run(&sandbox, "cat /w/f"), "f\n");
}
