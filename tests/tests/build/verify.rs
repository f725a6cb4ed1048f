//! `build --verify`: what differs is named, by instruction, file and byte.

use testkit::Sandbox;

use super::{again, build};

#[test]
fn a_build_without_chance_is_reproducible() {
    let sandbox = Sandbox::new();
    let files = "//- a/b
b
//- Dockerfile
FROM busybox AS first
RUN --network=none --mount=type=cache,target=/cache mkdir -p /d && for i in z y x; do echo $i >/d/$i; done && \\
    ls /d >/list && touch /cache/x && tar cf /archive.tar -C /d x
FROM busybox
WORKDIR /w
COPY a .
COPY --from=first /list /archive.tar /from/
RUN --network=none umask >/mask
";
    let built = build(&sandbox, files, &["--verify"]);
    // tar in busybox records the time of each file.
    let text = &built.code(1).stdout;
    assert!(text.contains("Not reproducible: 1 of 5 steps left something else."), "{built}");
    let files = files.replace(" && tar cf /archive.tar -C /d x", "; touch /archive.tar");
    build(&sandbox, &files, &["--verify"])
        .code(0)
        .out("Reproducible: 5 steps done again left the same layers.\n");
}

#[test]
fn differences_are_named() {
    let sandbox = Sandbox::new();
    let files = r#"//- Dockerfile
FROM busybox
RUN --network=none echo same; hostname >/host
RUN --network=none cut -d. -f1 /proc/uptime >/up; nproc >/cpus; echo "$TZ" >/zone
RUN --network=none if [ -e /host ]; then cat /proc/sys/kernel/random/uuid >/random; chmod 600 /random; fi
RUN --network=none ln -s "$(cat /proc/sys/kernel/random/boot_id | cut -c1-4)$(hostname)" /link
COPY Dockerfile /
RUN --network=none cat /host /random >/carried
"#;
    let built = build(&sandbox, files, &["--verify"]);
    let text = &built.code(1).stdout;
    for part in [
        "Dockerfile:2 [2/7] RUN",
        "  /host: from byte 0: \"buildkitsandbox\\n\", and then \"another-machine\\n\"\n",
        "  /up: from byte ",
        "  /zone: from byte 0: \"\\n\", and then \"VERIFY-13:45\\n\" (1 bytes, and then 13)\n",
        "  /random: from byte ",
        "  /link: leads to ",
        "Not reproducible: 4 of 6 steps left something else.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("carried"), "{text}");
    if std::thread::available_parallelism().is_ok_and(|count| count.get() > 1) {
        assert!(text.contains("  /cpus: from byte 0: "), "{text}");
    }
    // What was seen the second time is not what is built.
    let _ = again(&sandbox, &["--no-cache"]).ok();
    assert_eq!(super::run(&sandbox, "cat /host"), "buildkitsandbox\n");
}
