//! `cais.lock`: what a build gets from the network, and nothing else.

use std::fs;

use testkit::{Running, Sandbox};

use super::{again, build, run};

fn serve(sandbox: &Sandbox) -> Running {
    super::write(&sandbox.work().join("served"), "//- f.txt\nfetched\n");
    let server = sandbox
        .start_script("cd served && exec python3 -u -m http.server --bind 127.0.0.1 8098 2>&1");
    server.wait_for("Serving HTTP");
    server
}

const FILES: &str = "//- Dockerfile
FROM nginx:latest AS unused
FROM busybox
ADD http://127.0.0.1:8098/f.txt /f
COPY --from=debian /etc/debian_version /
";

#[test]
fn only_what_is_locked_is_used() {
    let sandbox = Sandbox::new();
    let _server = serve(&sandbox);
    let missing = build(&sandbox, FILES, &["--locked"]);
    missing.code(1);
    assert!(missing.stderr.contains("/ctx/cais.lock\n"), "{missing}");
    assert!(missing.stderr.contains("`cais build --update-lock` makes it"), "{missing}");

    let _ = again(&sandbox, &["--update-lock"]).ok();
    let path = sandbox.work().join("ctx/cais.lock");
    let lock = fs::read_to_string(&path).unwrap();
    for part in [
        "\nversion = 1\n",
        "name = \"docker.io/library/busybox:latest\"\n",
        "name = \"docker.io/library/debian:latest\"\n",
        "digest = \"sha256:",
        "url = \"http://127.0.0.1:8098/f.txt\"\nchecksum = \"sha256:",
    ] {
        assert!(lock.contains(part), "{part}: {lock}");
    }
    assert!(!lock.contains("nginx"), "{lock}");

    // Elsewhere, where the tag stands for something else meanwhile.
    let _ = sandbox.shell("$E rmi -f $($E images -q); $E builder prune -af").ok();
    let _ = sandbox.shell("$E pull -q nginx && $E tag nginx busybox").ok();
    let _ = again(&sandbox, &["--locked"]).ok();
    assert_eq!(run(&sandbox, "cat /f; ls /usr/sbin/nginx 2>&1 | grep -c No"), "fetched\n1\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), lock, "it is not written");

    fs::write(sandbox.work().join("served/f.txt"), "changed\n").unwrap();
    let _ = again(&sandbox, &["--locked"]).ok();
    let _ = sandbox.cais(["builder", "prune", "-af"]).ok();
    let changed = again(&sandbox, &["--locked"]);
    changed.code(1);
    assert!(changed.stderr.contains("does not match: expected sha256:"), "{changed}");

    let other = FILES.replace("debian /etc/debian_version", "python:3 /etc/debian_version");
    fs::write(sandbox.work().join("ctx/Dockerfile"), other.split_once('\n').unwrap().1).unwrap();
    let refused = again(&sandbox, &["--locked"]);
    refused.code(1);
    assert!(refused.stderr.contains("the lock file has no image python:3 for linux/"), "{refused}");
    assert!(refused.stderr.contains("Dockerfile:4"), "{refused}");
    let _ = again(&sandbox, &["--update-lock"]).ok();
    let lock = fs::read_to_string(&path).unwrap();
    assert!(lock.contains("python:3") && !lock.contains("debian:latest"), "{lock}");
    let _ = again(&sandbox, &["--locked"]).ok();
    let both = again(&sandbox, &["--locked", "--update-lock"]);
    both.code(2);
    fs::write(&path, "version = 9\n").unwrap();
    let wrong = again(&sandbox, &["--locked"]);
    wrong.code(1);
    assert!(wrong.stderr.contains("version 9 is not known"), "{wrong}");
}
