//! Several stages, bases and triggers.

use testkit::Sandbox;

use super::{build, run};

#[test]
fn stages_give_each_other_files() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox AS build
RUN mkdir /out && echo made > /out/app
FROM scratch AS bin
COPY --from=build /out /
FROM build AS tested
RUN test -s /out/app && echo tested > /out/tested
FROM busybox
COPY --from=bin /app /app
COPY --from=2 /out/tested /tested
COPY --from=busybox /bin/busybox /other
";
    let _ = build(&sandbox, files, &["--network", "none"]).ok();
    let line = "cat /app /tested && test -x /other && echo fine";
    assert_eq!(run(&sandbox, line), "made\ntested\nfine\n");
}

#[test]
fn a_stage_on_nothing_has_nothing_else() {
    let sandbox = Sandbox::new();
    let files = "//- f
f
//- Dockerfile
FROM scratch AS a
COPY f /f
FROM scratch
COPY --from=a / /
";
    let _ = build(&sandbox, files, &["-o", "type=local,dest=out"]).ok();
    sandbox.host(["ls", "-A", "out"]).code(0).out("f\n");
}

#[test]
fn what_the_target_does_not_need_is_not_done() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox AS wanted
RUN --network=none echo wanted > /w
FROM busybox AS broken
RUN --network=none false
FROM wanted
COPY --from=broken / /
";
    let _ = build(&sandbox, files, &["--target", "wanted"]).ok();
    assert_eq!(run(&sandbox, "cat /w"), "wanted\n");
    let built = build(&sandbox, files, &["--target", "wnated"]);
    built.code(1);
    let expected = "target stage \"wnated\" could not be found (did you mean wanted?)";
    assert!(built.stderr.contains(expected), "{built}");
}

#[test]
fn independent_stages_run_at_the_same_time() {
    let sandbox = Sandbox::new();
    // Each waits for what the other says, over the cache that they share.
    let meet = |own: &str, other: &str| {
        format!(
            "RUN --network=none --mount=type=cache,target=/c touch /c/{own}; end=$(($(date +%s)+180)); \
             until test -e /c/{other}; do test $(date +%s) -lt $end || exit 9; usleep 10000; done"
        )
    };
    let files = format!(
        "//- Dockerfile\nFROM busybox AS a\n{}\nFROM busybox AS b\n{}\nFROM busybox\n\
         COPY --from=a /bin/sh /a\nCOPY --from=b /bin/sh /b\n",
        meet("a", "b"),
        meet("b", "a")
    );
    let _ = build(&sandbox, &files, &[]).ok();
}

#[test]
fn triggers_work_in_images_built_on_one() {
    let sandbox = Sandbox::new();
    let base = "//- Dockerfile
FROM busybox
WORKDIR /app
ONBUILD COPY . .
ONBUILD RUN cat in > out
";
    let _ = build(&sandbox, base, &["-t", "base"]).ok();
    let kept = super::inspect(&sandbox, "{{json .Config.OnBuild}}");
    assert_eq!(kept, r#"["COPY . .","RUN cat in > out"]"#);
    let files = "//- in\nin\n//- Dockerfile\nFROM base\nCMD [\"cat\", \"out\"]\n";
    let built = build(&sandbox, files, &["--network", "none"]);
    assert!(built.stderr.contains("[2/3] ONBUILD COPY . ."), "{built}");
    let _ = built.ok();
    assert_eq!(run(&sandbox, "cat out"), "in\n");
    assert_ne!(super::inspect(&sandbox, "{{json .Config.OnBuild}}"), kept);
}

#[test]
fn arguments_choose_the_base() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile\nARG base=nothing-like-that\nFROM ${base:-busybox}\n";
    let _ = build(&sandbox, files, &["--build-arg", "base=busybox"]).ok();
    let built = build(&sandbox, files, &[]);
    built.code(1);
    assert!(built.stderr.contains(">>> FROM ${base:-busybox}"), "{built}");
    assert!(built.stderr.contains("nothing-like-that"), "{built}");
}

#[test]
fn named_contexts_stand_for_stages_and_images() {
    let sandbox = Sandbox::new();
    super::write(&sandbox.work(), "//- other/f\nother\n");
    let files = "//- Dockerfile\nFROM tool\nCOPY --from=files f /f\n";
    let flags =
        ["--build-context", "files=other", "--build-context", "tool=docker-image://busybox"];
    let _ = build(&sandbox, files, &flags).ok();
    assert_eq!(run(&sandbox, "cat /f"), "other\n");
}

#[test]
fn names_of_stages_have_no_case_and_come_before_images() {
    let sandbox = Sandbox::new();
    let files = "//- foo
foo
//- Dockerfile
FROM scratch AS STAge0
COPY foo bar
FROM scratch AS staGE1
COPY --from=staGE0 bar baz
FROM busybox AS debian
RUN --network=none echo masked > /etc/masked
FROM busybox
COPY --from=stage1 baz /bax
COPY --from=debian /etc/masked /masked
";
    let _ = build(&sandbox, files, &[]).ok();
    assert_eq!(run(&sandbox, "cat /bax /masked"), "foo\nmasked\n");
    let _ = build(&sandbox, files, &["--target", "Stage1", "-o", "out"]).ok();
    sandbox.host(["ls", "-A", "out"]).code(0).out("baz\n");
}

#[test]
fn stages_come_before_those_that_use_them() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox AS target
COPY --from=build / /out
FROM busybox AS build
COPY Dockerfile /d2
FROM target
";
    let refused = build(&sandbox, files, &[]);
    refused.code(1).says("cannot copy from stage").says("needs to be defined before current stage");
    let none = build(&sandbox, "//- Dockerfile\nARG foo=bar\n", &[]);
    none.code(1).says("no stages to build");
}

#[test]
fn triggers_are_for_one_generation() {
    let sandbox = Sandbox::new();
    let base = "//- Dockerfile
FROM busybox
ONBUILD RUN mkdir -p /out && echo 11 >> /out/foo
ONBUILD RUN <<EOF
echo heredoc > /out/heredoc
EOF
ONBUILD COPY --from=debian /etc/debian_version /out/version
ONBUILD RUN --mount=type=cache,target=/cache echo 42 >> /cache/foo
";
    let network = ["--network", "none"];
    let _ = build(&sandbox, base, &["-t", "base"]).ok();
    let child = "//- Dockerfile
FROM base AS base
RUN test -f /out/foo && rm /out/foo
FROM base AS child
RUN --mount=type=cache,target=/cache test ! -f /out/foo && cat /cache/foo > /cached
";
    let _ = build(&sandbox, child, &[&["-t", "child"], &network[..]].concat()).ok();
    let line = "cat /cached /out/heredoc; test -s /out/version && ls /out";
    assert_eq!(run(&sandbox, line), "42\nheredoc\nheredoc\nversion\n");
    let _ = build(&sandbox, "//- Dockerfile\nFROM child\n", &network).ok();
    assert_eq!(run(&sandbox, "ls /out"), "heredoc\nversion\n");
    let files = "//- Dockerfile
FROM debian AS src
RUN echo 12 > /file
FROM busybox AS base
ONBUILD RUN echo 11 > /run-of-base
ONBUILD COPY --from=src /file /copied
FROM base AS mid
RUN cat /run-of-base /copied > /both
FROM busybox
COPY --from=mid /both /both
";
    let _ = build(&sandbox, files, &network).ok();
    assert_eq!(run(&sandbox, "cat /both"), "11\n12\n");
}

#[test]
fn platforms_name_stages_and_can_be_overruled() {
    let sandbox = Sandbox::new();
    let files = "//- foo
d0
//- Dockerfile
FROM scratch AS build-linux
COPY foo bar
FROM build-${TARGETOS}
COPY foo bar2
";
    let _ = build(&sandbox, files, &["-o", "out"]).ok();
    sandbox.host(["ls", "-A", "out"]).code(0).out("bar\nbar2\n");
    let files = "//- Dockerfile
FROM --platform=$BUILDPLATFORM busybox AS build
ARG TARGETPLATFORM
ARG TARGETOS
RUN --network=none mkdir /out && echo $TARGETPLATFORM > /out/platform && echo $TARGETOS > /out/os
FROM scratch
COPY --from=build out .
";
    let flags =
        ["--platform", "linux/ppc64le", "--build-arg", "TARGETOS=freebsd", "-o", "explicit"];
    let _ = build(&sandbox, files, &flags).ok();
    let said = sandbox.host(["cat", "explicit/platform", "explicit/os"]);
    said.code(0).out("linux/ppc64le\nfreebsd\n");
}
