//! Dockerfiles that mean harm.

use testkit::Sandbox;

use super::{build, run};

/// CVE-2024-23652: what is removed behind a command is not what its links lead to.
#[test]
fn places_of_mounts_are_removed_in_the_layer_only() {
    let sandbox = Sandbox::new();
    let victim = sandbox.work().join("victim");
    std::fs::create_dir_all(victim.join("x")).unwrap();
    let files = format!(
        "//- Dockerfile
FROM busybox
RUN --mount=type=tmpfs,target=/m/x true
RUN --mount=type=tmpfs,target=/n/x mv /n /moved && ln -s {} /n
RUN --mount=type=cache,target=/o/x ln -s {} /o/y; true
",
        victim.display(),
        victim.display()
    );
    let _ = build(&sandbox, &files, &["--network", "none"]);
    assert!(victim.join("x").exists());
}

/// CVE-2024-1753: the source of a mount is looked for in what it comes from.
#[test]
fn a_mount_shows_nothing_of_the_host() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work().join("host"), "of the host").unwrap();
    let host = sandbox.work().join("host").display().to_string();
    let files = format!(
        "//- Dockerfile
FROM busybox AS a
RUN ln -s / /root-of && ln -s {host} /file && ln -s ../../../../../../../../ /up
FROM busybox
RUN --mount=from=a,source=/root-of,target=/r test ! -e /r{host} && test -e /r/bin
RUN --mount=from=a,source=/up,target=/r test ! -e /r{host} && test -e /r/bin
COPY --from=a /root-of{host}* /got/
RUN test ! -e /got
"
    );
    let _ = build(&sandbox, &files, &["--network", "none"]).ok();
    let files = format!(
        "//- Dockerfile\nFROM busybox AS a\nRUN ln -s {host} /file\nFROM busybox\nCOPY --from=a /file /f\n"
    );
    let built = build(&sandbox, &files, &["--network", "none"]);
    built.code(1);
    assert!(built.stderr.contains("\"/file\": not found"), "{built}");
}

/// CVE-2024-23653: a Dockerfile gets no rights that whoever builds has not granted.
#[test]
fn rights_are_granted_by_whoever_builds() {
    let sandbox = Sandbox::new();
    let insecure = "//- Dockerfile\nFROM busybox\nRUN --security=insecure mount -t tmpfs none /mnt; mkdir /m && mount -t tmpfs none /m && echo mounted > /said\n";
    let built = build(&sandbox, insecure, &["--network", "none"]);
    built.code(1);
    assert!(built.stderr.contains("security.insecure is not allowed"), "{built}");
    let flags = ["--network", "none", "--allow", "security.insecure"];
    let _ = build(&sandbox, insecure, &flags).ok();
    assert_eq!(run(&sandbox, "cat /said"), "mounted\n");
    let host = "//- Dockerfile\nFROM busybox\nRUN --network=host true\n";
    let built = build(&sandbox, host, &[]);
    built.code(1);
    assert!(built.stderr.contains("network.host is not allowed"), "{built}");
    let _ = build(&sandbox, host, &["--allow", "network.host"]).ok();
}

/// What a command writes to a path that a later COPY goes to leads nowhere else.
#[test]
fn copies_do_not_leave_the_image() {
    let sandbox = Sandbox::new();
    let outside = sandbox.work().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let files = format!(
        "//- f\nf\n//- Dockerfile\nFROM busybox\nRUN ln -s {0} /d && ln -s {0}/f /l && ln -s /proc/1/root/{0} /p\nCOPY f /d/f\nCOPY f /l\n",
        outside.display()
    );
    let _ = build(&sandbox, &files, &["--network", "none"]);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

/// Escape sequences of a command do not reach the terminal.
#[test]
fn output_is_printable() {
    let sandbox = Sandbox::new();
    let files =
        "//- Dockerfile\nFROM busybox\nRUN --network=none printf 'a\\033]0;title\\007b\\n'\n";
    let built = build(&sandbox, files, &[]);
    assert!(!built.stderr.contains('\u{1b}') && !built.stderr.contains('\u{7}'), "{built}");
}
