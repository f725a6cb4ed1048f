//! What goes wrong says where, and leaves nothing.

use std::fs;
use std::time::{Duration, Instant};

use testkit::Sandbox;

use super::{again, build};

/// How long the guard of a build that was killed may take.
const END_MAX: Duration = Duration::from_secs(120);

fn left(sandbox: &Sandbox) -> usize {
    fs::read_dir(sandbox.root().join("build/run")).map_or(0, Iterator::count)
}

#[test]
fn a_command_that_fails_is_shown() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox
RUN --network=none echo said && exit 3
RUN true
";
    let built = build(&sandbox, files, &[]);
    built.code(1);
    for expected in [
        " > [2/3] RUN --network=none echo said && exit 3:",
        " said\n------\nDockerfile:2\n",
        "   2 | >>> RUN --network=none echo said && exit 3\n",
        "process \"/bin/sh -c echo said && exit 3\" did not complete successfully: exit code: 3",
    ] {
        assert!(built.stderr.contains(expected), "{expected}: {built}");
    }
    assert_eq!(left(&sandbox), 0);
}

#[test]
fn a_word_that_is_wrong_has_a_caret() {
    let sandbox = Sandbox::new();
    let built = build(&sandbox, "//- Dockerfile\nFROM busybox\nCOPY --frm=a b c\n", &[]);
    built.code(1);
    let expected = "Dockerfile:2
--------------------
   1 |     FROM busybox
   2 | >>> COPY --frm=a b c
     |          ^^^^^^^
--------------------
cais: failed to solve: dockerfile parse error on line 2: unknown flag: --frm (did you mean from?)
hint: the nearest word that is known is from
";
    assert!(built.stderr.ends_with(expected), "{built}");
}

#[test]
fn a_program_that_is_not_there_says_so() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile\nFROM busybox\nRUN --network=none [\"nothing-like-that\"]\n";
    let built = build(&sandbox, files, &[]);
    built.code(1);
    assert!(built.stderr.contains("executable file not found in $PATH"), "{built}");
    assert_eq!(left(&sandbox), 0);
}

#[test]
fn a_build_that_is_killed_leaves_nothing() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox
RUN --network=none echo begun && sleep 600
";
    super::write(&sandbox.work().join("ctx"), files);
    let running = sandbox.start_script("exec $E build ctx 2>&1");
    running.wait_for(" begun\n");
    assert_eq!(left(&sandbox), 1);
    drop(running);
    let deadline = Instant::now() + END_MAX;
    while left(&sandbox) != 0 {
        assert!(Instant::now() < deadline, "the guard of a killed build does not end");
        std::thread::yield_now();
    }
}

#[test]
fn a_step_that_fails_ends_the_others() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox AS long
RUN --network=none --mount=type=cache,target=/c,id=f touch /c/begun && sleep 600
FROM busybox AS short
RUN --network=none --mount=type=cache,target=/c,id=f until test -e /c/begun; do sleep 0.05; done; exit 4
FROM busybox
COPY --from=long / /a
COPY --from=short / /b
";
    let built = build(&sandbox, files, &[]);
    built.code(1);
    assert!(built.stderr.contains("exit code: 4"), "{built}");
    assert_eq!(left(&sandbox), 0);
}

#[test]
fn a_command_that_failed_can_be_looked_at() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work().join("token"), "hunter2hunter2").unwrap();
    let files = |line: &str| {
        format!(
            "//- f\nf\n//- Dockerfile
FROM busybox
ARG A=b
WORKDIR /w
RUN --network=none --mount=type=cache,id=c,target=/c --mount=type=bind,target=/ctx \\
    --mount=type=secret,id=t,env=T {line}
"
        )
    };
    let secret = ["--secret", "id=t,src=token"];
    let built = build(&sandbox, &files("echo 1 > made; echo 2 > /c/made; false"), &secret);
    built.code(1);
    assert!(built.stderr.contains("hint: `cais debug build` shows what failed"), "{built}");
    let shown = sandbox.line("cais debug build ctx");
    for expected in [
        "[3/3] RUN",
        "command: /bin/sh -c 'echo 1 > made; echo 2 > /c/made; false'",
        "exit code: 1",
        "directory: /w",
        "env: A=b",
        "mount: type=cache,id=c,sharing=shared,target=/c",
        "mount: type=bind,source=/,target=/ctx,readonly",
        "mount: type=secret,id=t,env=T",
    ] {
        assert!(shown.ok().contains(expected), "{expected}: {shown}");
    }
    assert!(!shown.stdout.contains("hunter2"), "{shown}");
    let line = "cais debug build ctx -- sh -c";
    let look = "cat made /c/made /ctx/f; echo $A $PWD ${T-unset}; echo 3 > made";
    let looked =
        sandbox.words(&[&line.split(' ').skip(1).collect::<Vec<_>>()[..], &[look]].concat());
    looked.code(0).out("1\n2\nf\nb /w unset\n");
    sandbox.shell("echo 'cat made; exit 7' | $E debug build --shell ctx").code(7).out("3\n");
    // The layers that it needs stay, and all of it goes once the build succeeds.
    let _ = sandbox.line("cais image prune -af").ok();
    sandbox.shell("$E debug build ctx -- cat made").code(0).out("3\n");
    let _ = build(&sandbox, &files("true"), &secret).ok();
    sandbox.line("cais debug build ctx").code(1);
    assert_eq!(left(&sandbox), 0);
}

#[test]
fn a_shell_opens_where_a_command_fails() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile\nFROM busybox\nRUN --network=none echo here > /f && false\n";
    super::write(&sandbox.work().join("ctx"), files);
    let words = ["build", "--shell-on-error", "ctx"];
    let mut building = sandbox.start_on_terminal(words, (100, 30));
    building.wait_for("# ");
    building.wait_for("command: ");
    building.write("cat /f | tr h H; exit\n");
    let ended = building.finish();
    ended.code(1);
    assert!(ended.stdout.contains("Here"), "{ended}");
}

#[test]
fn what_somebody_looks_at_stays() {
    let sandbox = Sandbox::new();
    let files = |line: &str| format!("//- Dockerfile\nFROM busybox\nRUN --network=none {line}\n");
    build(&sandbox, &files("echo first > /made; false"), &[]).code(1);
    let look = ["debug", "build", "ctx", "--", "sh", "-c", "echo in; read go; cat /made; echo $go"];
    let mut looking = sandbox.start(look);
    looking.wait_for("in\n");
    let other = build(&sandbox, &files("echo second > /made; exit 3"), &[]);
    other.code(1).says("exit code: 3").says("hint: its files are not kept: somebody is in those");
    sandbox.cais(["debug", "build", "ctx", "--", "true"]).code(1).says("somebody else is in there");
    let _ = sandbox.cais(["builder", "prune", "-af"]).ok();
    let _ = build(&sandbox, &files("true"), &[]).ok();
    looking.write("on\n");
    looking.finish().code(0).out("in\nfirst\non\n");
    let _ = again(&sandbox, &[]).ok();
    sandbox.cais(["debug", "build", "ctx"]).code(1);
    assert_eq!(left(&sandbox), 0);
}
