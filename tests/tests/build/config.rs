//! What an image says of itself.

use testkit::Sandbox;

use super::{build, inspect, run};

const FILES: &str = r#"//- Dockerfile
FROM python:3
LABEL a=b "c d"="e f"
EXPOSE 80 53/udp
VOLUME ["/data"]
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD test -e /x
ENV A=1 B="two words"
USER 1:2
WORKDIR /w
SHELL ["/bin/sh", "-xc"]
ENTRYPOINT ["echo"]
CMD ["hello", "you"]
"#;

#[test]
fn instructions_become_the_configuration() {
    let sandbox = Sandbox::new();
    let _ = build(&sandbox, FILES, &["--label", "c d=over", "--label", "x=y"]).ok();
    let check = |format: &str, expected: &str| assert_eq!(inspect(&sandbox, format), expected);
    check("{{json .Config.Labels}}", r#"{"a":"b","c d":"over","x":"y"}"#);
    check("{{json .Config.ExposedPorts}}", r#"{"53/udp":{},"80/tcp":{}}"#);
    check("{{json .Config.Volumes}}", r#"{"/data":{}}"#);
    check("{{.Config.StopSignal}} {{.Config.User}} {{.Config.WorkingDir}}", "SIGINT 1:2 /w");
    check("{{json .Config.Healthcheck.Test}}", r#"["CMD-SHELL","test -e /x"]"#);
    check("{{json .Config.Shell}}", r#"["/bin/sh","-xc"]"#);
    check("{{json .Config.Entrypoint}} {{json .Config.Cmd}}", r#"["echo"] ["hello","you"]"#);
    assert!(inspect(&sandbox, "{{json .Config.Env}}").contains(r#""A=1","B=two words""#));
    sandbox.cais(["run", "--rm", "--network", "none", "built"]).code(0).out("hello you\n");
}

#[test]
fn the_history_tells_how_it_came_to_be() {
    let sandbox = Sandbox::new();
    let files = "//- f
f
//- Dockerfile
FROM busybox
ARG V=1
RUN echo $V > /v
COPY f /f
RUN true
CMD x
";
    let _ = build(&sandbox, files, &["--network", "none"]).ok();
    let format = "{{.CreatedBy}}|{{.Comment}}|{{.Size}}";
    let history = sandbox.cais(["history", "--no-trunc", "--format", format, "built"]);
    let lines: Vec<&str> = history.ok().lines().take(5).collect();
    let expected = [
        "CMD [\"/bin/sh\" \"-c\" \"x\"]|buildkit.dockerfile.v0|0B",
        "RUN |1 V=1 /bin/sh -c true # buildkit|buildkit.dockerfile.v0|0B",
        "COPY f /f # buildkit|buildkit.dockerfile.v0|2B",
        "RUN |1 V=1 /bin/sh -c echo $V > /v # buildkit|buildkit.dockerfile.v0|2B",
        "ARG V=1|buildkit.dockerfile.v0|0B",
    ];
    assert_eq!(lines, expected);
    let layers = inspect(&sandbox, "{{len .RootFS.Layers}}");
    assert_eq!(layers, "3", "what changed nothing is no layer");
}

#[test]
fn files_record_what_was_made() {
    let sandbox = Sandbox::new();
    let flags = ["-q", "--iidfile", "id", "--metadata-file", "meta.json"];
    let built = build(&sandbox, "//- Dockerfile\nFROM busybox\n", &flags);
    let id = inspect(&sandbox, "{{.Id}}");
    assert_eq!((built.ok(), built.stderr.as_str()), (id.as_str(), ""));
    let read = |name: &str| std::fs::read_to_string(sandbox.work().join(name)).unwrap();
    assert_eq!(read("id"), id);
    let meta: serde_json::Value = serde_json::from_str(&read("meta.json")).unwrap();
    assert_eq!(meta["containerimage.config.digest"], id.as_str());
    assert_eq!(meta["image.name"], "docker.io/library/built:latest");
}

#[test]
fn checks_are_made_without_building() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile\nFROM busybox:latest\nRUN false\nCMD x\n";
    let checked = build(&sandbox, files, &["--check"]);
    checked.code(1);
    let out = &checked.stdout;
    assert!(out.starts_with("Check complete, 2 warnings have been found!"), "{checked}");
    let rule = "WARNING: JSONArgsRecommended - https://docs.docker.com/";
    assert!(out.contains(rule) && out.contains("   3 | >>> CMD x"), "{checked}");
    let clean = build(&sandbox, "//- Dockerfile\nFROM scratch\nCMD [\"x\"]\n", &["--check"]);
    clean.code(0).out("Check complete, no warnings found.\n");
    let called = build(&sandbox, files, &["--call", "check"]);
    assert_eq!((called.code(1).stdout.as_str(), &called.stderr), (out.as_str(), &checked.stderr));
    build(&sandbox, files, &["--call", "outline"]).code(1).says("--call outline is not supported");
    let strict = "//- Dockerfile\n# check=error=true\nFROM busybox\nCMD x\n";
    let built = build(&sandbox, strict, &[]);
    built.code(1);
    let expected = "lint violation found for rules: JSONArgsRecommended";
    assert!(built.stderr.contains(expected), "{built}");
}

#[test]
fn python_runs_as_its_image_says() {
    let sandbox = Sandbox::new();
    let files = "//- app.py
print('from python')
//- Dockerfile
FROM python:3
COPY app.py /app/
RUN --network=none python3 -m compileall -q /app
CMD [\"python3\", \"/app/app.py\"]
";
    let _ = build(&sandbox, files, &[]).ok();
    sandbox.cais(["run", "--rm", "--network", "none", "built"]).code(0).out("from python\n");
    assert!(run(&sandbox, "ls /app/__pycache__").contains(".pyc"));
}

#[test]
fn variables_are_what_arguments_make_of_them() {
    let sandbox = Sandbox::new();
    let files = r#"//- Dockerfile
ARG a1="foo bar" a2=box
ARG a3="$a2-foo"
ARG image=idlebox
FROM busy${image#idle} AS base
RUN env | grep -c TARGETSTAGE= > /before; true
ARG a3 a4="123 456" a1
ARG TARGETSTAGE
ARG FOO
ARG BAR=
ARG my_arg
ENV my_arg "my_arg=${my_arg:-def_val}"
ENV my_trimmed_arg "${my_arg%%e*}"
ENV format foo%sbar
RUN echo "$a1:$a3:$a4:$TARGETSTAGE:$my_arg:$my_trimmed_arg:$format" > /all
RUN env | grep -e '^FOO=' -e '^BAR=' > /set
FROM base AS final
ARG PORTS="3000 4000/udp"
EXPOSE $PORTS
EXPOSE 5000
"#;
    let check = |flags: &[&str], expected: &str| {
        let flags = [&["--network", "none"], flags].concat();
        let _ = build(&sandbox, files, &flags).ok();
        assert_eq!(run(&sandbox, "cat /before /all /set"), expected);
    };
    let whole = "0\nfoo bar:box-foo:123 456:final:my_arg=def_val:my_arg=d:foo%sbar\nBAR=\n";
    check(&["--build-arg", "my_arg="], whole);
    let given = "0\nfoo bar:box-foo:123 456:base:my_arg=override:my_arg=ov:foo%sbar\nBAR=\n";
    check(&["--build-arg", "my_arg=override", "--target", "base"], given);
    check(&[], whole);
    let ports = r#"{"3000/tcp":{},"4000/udp":{},"5000/tcp":{}}"#;
    assert_eq!(inspect(&sandbox, "{{json .Config.ExposedPorts}}"), ports);
}

#[test]
fn arguments_can_be_demanded() {
    let sandbox = Sandbox::new();
    let before = "//- Dockerfile\nARG FOO=${FOO:?\"custom error\"}\nFROM busybox\n";
    build(&sandbox, before, &[]).code(1).says("FOO: custom error");
    let _ = build(&sandbox, before, &["--build-arg", "FOO=bar"]).ok();
    let inside = "//- Dockerfile\nFROM busybox\nARG FOO\nARG BAR=${FOO:?\"foo missing\"}\n";
    build(&sandbox, inside, &[]).code(1).says("FOO: foo missing");
    for given in ["FOO=123", "BAR=123"] {
        let _ = build(&sandbox, inside, &["--build-arg", given]).ok();
    }
}

#[test]
fn proxies_are_known_and_change_nothing() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox
ARG FOO
RUN --network=none echo $HTTP_PROXY::$NO_PROXY::$FOO > /out
";
    let check = |args: &[&str], expected: &str| {
        let flags: Vec<&str> = args.iter().flat_map(|arg| ["--build-arg", *arg]).collect();
        let _ = build(&sandbox, files, &flags).ok();
        assert_eq!(run(&sandbox, "cat /out"), expected);
    };
    check(&["FOO=1", "http_proxy=a", "NO_PROXY=b"], "a::b::1\n");
    check(&["FOO=1", "http_proxy=other"], "a::b::1\n");
    check(&["FOO=2", "http_proxy=other"], "other::::2\n");
    let history = sandbox.cais(["history", "--no-trunc", "built"]);
    assert!(!history.ok().contains("other"), "{history}");
}

#[test]
fn an_entrypoint_takes_the_shell_and_no_command_of_its_base() {
    let sandbox = Sandbox::new();
    let base = "//- f\n//- Dockerfile\nFROM scratch\nCOPY f /\nCMD [\"test\"]\n";
    let _ = build(&sandbox, base, &["-t", "base"]).ok();
    let env = inspect(&sandbox, "{{json .Config.Env}}");
    assert_eq!(env, r#"["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]"#);
    let files = "//- Dockerfile\nFROM base\nSHELL [\"ls\"]\nENTRYPOINT my entrypoint\n";
    let _ = build(&sandbox, files, &[]).ok();
    let both = inspect(&sandbox, "{{json .Config.Entrypoint}} {{json .Config.Cmd}}");
    assert_eq!(both, r#"["ls","my entrypoint"] null"#);
}
