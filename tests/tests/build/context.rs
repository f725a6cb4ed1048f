//! Where files come from.

use std::fs;

use testkit::{Running, Sandbox};

use super::{again, build, run, write};

#[test]
fn ignored_files_are_out_of_sight() {
    let sandbox = Sandbox::new();
    let files = "//- a.o
//- keep.o
//- d/b.o
//- d/c.c
//- node_modules/m/index.js
//- .git/HEAD
//- .dockerignore
# comment
**/*.o
!keep.o
node_modules
.git
Dockerfile
//- Dockerfile
FROM busybox
COPY . /ctx
";
    let _ = build(&sandbox, files, &[]).ok();
    let line = "cd /ctx && find . -type f | sort";
    assert_eq!(run(&sandbox, line), "./.dockerignore\n./d/c.c\n./keep.o\n");
    write(&sandbox.work().join("ctx"), "//- Dockerfile\nFROM busybox\nCOPY a.o /\n");
    let built = again(&sandbox, &[]);
    built.code(1);
    assert!(built.stderr.contains("hint: it is excluded by .dockerignore"), "{built}");
}

#[test]
fn a_dockerfile_has_its_own_ignore_file() {
    let sandbox = Sandbox::new();
    let files = "//- a
//- b
//- .dockerignore
a
//- other.Dockerfile.dockerignore
b
other*
//- other.Dockerfile
FROM busybox
COPY . /ctx
";
    let _ = build(&sandbox, files, &["-f", "ctx/other.Dockerfile"]).ok();
    assert_eq!(run(&sandbox, "ls -A /ctx"), ".dockerignore\na\n");
}

#[test]
fn standard_input_brings_a_dockerfile_or_everything() {
    let sandbox = Sandbox::new();
    let files = "//- f
f
//- Dockerfile
FROM busybox
COPY f /f
//- sub/own
FROM busybox
COPY f /g
";
    write(&sandbox.work().join("ctx"), files);
    let pipe = |text: &str, words: &str| {
        let _ = sandbox.shell(&format!("printf '{text}' | $E build -t built {words}")).ok();
    };
    pipe("FROM busybox\\nRUN --network=none echo alone > /f\\n", "-");
    assert_eq!(run(&sandbox, "cat /f"), "alone\n");
    pipe("FROM busybox\\nCOPY f /stdin\\n", "-f - ctx");
    assert_eq!(run(&sandbox, "cat /stdin"), "f\n");
    for (pack, file, place) in [("cf", "Dockerfile", "/f"), ("czf", "sub/own", "/g")] {
        let script = format!("tar -C ctx -{pack} - . | $E build -t built -f {file} -");
        let _ = sandbox.shell(&script).ok();
        assert_eq!(run(&sandbox, &format!("cat {place}")), "f\n");
    }
    let alone = sandbox.shell("printf 'FROM busybox\\nCOPY f /f\\n' | $E build -");
    alone.code(1);
    assert!(alone.stderr.contains("there is no context to copy files from"), "{alone}");
    // A link in what comes from somewhere leads nowhere here.
    let script = "mkdir bad && ln -s /etc/passwd bad/Dockerfile && tar -C bad -cf - . | $E build -";
    let linked = sandbox.shell(script);
    linked.code(1);
    assert!(linked.stderr.contains("failed to read dockerfile"), "{linked}");
    let left = fs::read_dir(sandbox.root().join("build/run")).unwrap().count();
    assert_eq!(left, 0, "contexts are removed");
}

#[test]
fn what_cannot_be_a_context_says_so() {
    let sandbox = Sandbox::new();
    let refuse = |words: &[&str], expected: &str| {
        let built = sandbox.words(words);
        built.code(1);
        assert!(built.stderr.contains(expected), "{built}");
    };
    refuse(&["build", "nowhere"], "unable to prepare context: path \"nowhere\"");
    refuse(&["build", "s3://bucket/a"], "contexts from s3:// are not supported");
    refuse(&["build", "git@h:a?subdr=x"], "(did you mean subdir?)");
    refuse(&["build", "--ssh", "default", "."], "make sure SSH_AUTH_SOCK is set");
    let both = ["build", "--platform", "linux/amd64,linux/arm64", "-o", "type=docker,dest=a", "."];
    refuse(&both, "docker exporter does not currently support exporting manifest lists");
    refuse(&["build", "."], "failed to read dockerfile");
    refuse(&["build", "-f", "-", "-"], "can't use stdin for both");
}

/// A repository of two commits, the first of which is `v1`, served on a port of the fake host.
fn repository(sandbox: &Sandbox) -> Running {
    let files = "//- Dockerfile
FROM busybox
COPY . /ctx
//- f
one
//- sub/Dockerfile
FROM busybox
COPY g /ctx/g
//- sub/g
g
//- link/kept
";
    write(&sandbox.work().join("repo"), files);
    let script = "export HOME=$PWD GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=e \
        GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=e; \
        ln -s /etc repo/out && git -C repo init -q -b main . && git -C repo add . && \
        git -C repo commit -qm one && git -C repo tag v1 && echo two > repo/f && \
        git -C repo commit -qam two && git clone -q --bare repo served/r.git && \
        exec $(git --exec-path)/git-daemon --verbose --reuseaddr --export-all --base-path=served \
            --listen=127.0.0.1 --port=9419 2>&1";
    let server = sandbox.start_script(script);
    server.wait_for("Ready to rumble");
    server
}

const REPOSITORY: &str = "git://127.0.0.1:9419/r.git";

#[test]
fn a_repository_is_a_context() {
    let sandbox = Sandbox::new();
    let _server = repository(&sandbox);
    let build = |place: &str, flags: &[&str]| {
        let place = format!("{REPOSITORY}{place}");
        sandbox.words(&[&["build", "-t", "built"], flags, &[&place]].concat())
    };
    let _ = build("", &[]).ok();
    let seen = "cat /ctx/f; stat -c %a /ctx/f /ctx/sub; ls -A /ctx";
    let expected = "two\n644\n755\nDockerfile\nf\nlink\nout\nsub\n";
    assert_eq!(run(&sandbox, seen), expected);
    for place in ["#v1", "?tag=v1", "?ref=v1"] {
        let _ = build(place, &[]).ok();
        assert_eq!(run(&sandbox, "cat /ctx/f"), "one\n", "{place}");
    }
    let _ = build("#v1:sub", &[]).ok();
    assert_eq!(run(&sandbox, "ls /ctx"), "g\n");
    let commit = sandbox.shell("git -C repo rev-parse v1").code(0).stdout.trim().to_owned();
    for place in [format!("?checksum={commit}#{commit}"), format!("?commit={}", &commit[..8])] {
        let _ = build(&place, &[]).ok();
        assert_eq!(run(&sandbox, "cat /ctx/f"), "one\n", "{place}");
    }
    let _ = build(&format!("#{}", &commit[..12]), &[]).ok();
    assert_eq!(run(&sandbox, "cat /ctx/f"), "one\n", "the beginning of a commit");
    let keep = ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"];
    let _ = build("", &keep).ok();
    assert_eq!(run(&sandbox, "ls -d /ctx/.git"), "/ctx/.git\n");
    for (place, expected) in [
        (format!("?branch=main&checksum={commit}"), "expected checksum to match"),
        ("#nothing".to_owned(), "couldn't find remote ref nothing"),
        (":#main:../..".to_owned(), "git fetch"),
        ("#main:out".to_owned(), "find the directory out"),
    ] {
        let refused = build(&place, &[]);
        refused.code(1);
        assert!(refused.stderr.contains(expected), "{refused}");
    }
    let without = sandbox.shell(&format!("PATH=/nowhere exec $E build {REPOSITORY}"));
    without.code(1);
    assert!(without.stderr.contains("hint: install git"), "{without}");
    let left = std::fs::read_dir(sandbox.root().join("build/run")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing of a context stays");
}

#[test]
fn contexts_with_names_come_from_anywhere() {
    let sandbox = Sandbox::new();
    let _server = repository(&sandbox);
    let _ = sandbox.line("cais pull -q busybox").ok();
    let _ = sandbox.line("cais copy -q store:busybox oci:layout:base").ok();
    let files = "//- Dockerfile
FROM base
COPY --from=lib f /f
COPY --from=here h /h
//- here/h
h
";
    let lib = format!("lib={REPOSITORY}#v1");
    let flags = [
        "--build-context",
        &lib,
        "--build-context",
        "here=ctx/here",
        "--build-context",
        "base=oci-layout://layout:base",
    ];
    let _ = build(&sandbox, files, &flags).ok();
    assert_eq!(run(&sandbox, "cat /f /h"), "one\nh\n");
    let files = "//- Dockerfile\nFROM here AS files\nFROM busybox\nCOPY --from=files /h /h\n//- here/h\nh\n";
    let _ = build(&sandbox, files, &["--build-context", "here=ctx/here"]).ok();
    assert_eq!(run(&sandbox, "cat /h"), "h\n");
    let refused = again(&sandbox, &["--build-context", "lib=ftp://h/x"]);
    refused.code(1);
    assert!(refused.stderr.contains("contexts from ftp:// are not supported"), "{refused}");
}

#[test]
fn addresses_are_contexts() {
    let sandbox = Sandbox::new();
    write(
        &sandbox.work().join("served"),
        "//- alone\nFROM busybox\nRUN --network=none echo alone > /f\n",
    );
    write(&sandbox.work().join("ctx"), "//- Dockerfile\nFROM busybox\nCOPY f /f\n//- f\npacked\n");
    let _ = sandbox.shell("tar -C ctx -czf served/ctx.tgz .").ok();
    let server = sandbox
        .start_script("cd served && exec python3 -u -m http.server --bind 127.0.0.1 8099 2>&1");
    server.wait_for("Serving HTTP");
    let build = |words: &str| sandbox.line(&format!("cais build -t built {words}"));
    let _ = build("http://127.0.0.1:8099/ctx.tgz").ok();
    assert_eq!(run(&sandbox, "cat /f"), "packed\n");
    let _ = build("http://127.0.0.1:8099/alone").ok();
    assert_eq!(run(&sandbox, "cat /f"), "alone\n");
    let _ = build("-f http://127.0.0.1:8099/alone ctx").ok();
    assert_eq!(run(&sandbox, "cat /f"), "alone\n");
    build("http://127.0.0.1:8099/nothing").code(1);
}

#[test]
fn repositories_are_added() {
    let sandbox = Sandbox::new();
    let _server = repository(&sandbox);
    let commit = sandbox.shell("git -C repo rev-parse v1").code(0).stdout.trim().to_owned();
    let files = format!(
        "//- Dockerfile
FROM busybox
ADD {REPOSITORY} /new
ADD --checksum={commit} --chown=3:4 {REPOSITORY}#v1 /old/
ADD --keep-git-dir=true {REPOSITORY}#v1:sub /sub
"
    );
    let _ = build(&sandbox, &files, &[]).ok();
    let line = "cat /new/f /old/f /sub/g; stat -c '%u %g' /old/f; ls -A /new";
    let expected = "two\none\ng\n3 4\nDockerfile\nf\nlink\nout\nsub\n";
    assert_eq!(run(&sandbox, line), expected);
    let cached = again(&sandbox, &[]);
    assert_eq!(cached.stderr.matches("CACHED").count(), 4, "{cached}");
    let wrong = files.replace(&commit, "0123456789abcdef");
    let refused = build(&sandbox, &wrong, &[]);
    refused.code(1);
    assert!(refused.stderr.contains("expected checksum to match 0123456789abcdef"), "{refused}");
    let refused = build(&sandbox, &files.replace(&commit, "foobar"), &[]);
    refused.code(1).says("invalid checksum \"foobar\"").says("expected hex commit hash");
}

#[test]
fn submodules_may_be_beside_their_repository() {
    let sandbox = Sandbox::new();
    let script = "export HOME=$PWD GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=e \
        GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=e
        add() {
            git init -q -b main $1 && echo $1 > $1/f && printf 'FROM busybox\\nCOPY . /ctx\\n' > $1/Dockerfile
            if [ $2 ]; then
                git -C $1 -c protocol.file.allow=always submodule --quiet add $PWD/served/$2.git $2
                git -C $1 config -f .gitmodules submodule.$2.url ../$2.git
            fi
            git -C $1 add . && git -C $1 commit -qm one && git clone -q --bare $1 served/$1.git
        }
        add leaf && add middle leaf && add top middle || exit 1
        exec $(git --exec-path)/git-daemon --verbose --reuseaddr --export-all --base-path=served \
            --listen=127.0.0.1 --port=9419 2>&1";
    let server = sandbox.start_script(script);
    server.wait_for("Ready to rumble");
    let _ = sandbox.line("cais build -t built git://127.0.0.1:9419/top.git").ok();
    let line = "cat /ctx/f /ctx/middle/f /ctx/middle/leaf/f; find /ctx -name .git";
    assert_eq!(run(&sandbox, line), "top\nmiddle\nleaf\n");
    let keep = "cais build -t built --build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR=1 git://127.0.0.1:9419/top.git";
    let _ = sandbox.line(keep).ok();
    assert_eq!(run(&sandbox, "grep -c 9419/top.git /ctx/.git/config"), "1\n");
}

#[test]
fn the_time_may_be_that_of_the_last_commit() {
    let sandbox = Sandbox::new();
    let script = "export HOME=$PWD GIT_CONFIG_GLOBAL=/dev/null GIT_COMMITTER_DATE='@1700000000 +0000'
        printf 'FROM busybox\\nARG SOURCE_DATE_EPOCH\\nRUN echo $SOURCE_DATE_EPOCH >/t\\n' >Dockerfile
        mkdir repo && mv Dockerfile repo && git -C repo init -qb main . && git -C repo add . && \
        git -C repo -c user.name=n -c user.email=e commit -qm one && \
        git clone -q --bare repo served/r.git && \
        exec $(git --exec-path)/git-daemon --verbose --reuseaddr --export-all --base-path=served \
            --listen=127.0.0.1 --port=9419 2>&1";
    let server = sandbox.start_script(script);
    server.wait_for("Ready to rumble");
    let built = |place: &str, created: &str, said: &str| {
        let flags = "--network none --build-arg SOURCE_DATE_EPOCH=context";
        let _ = sandbox.line(&format!("cais build -t built {flags} {place}")).ok();
        assert_eq!(super::inspect(&sandbox, "{{.Created}}"), created, "{place}");
        assert_eq!(run(&sandbox, "cat /t"), said, "{place}");
    };
    for place in ["repo", "git://127.0.0.1:9419/r.git"] {
        built(place, "2023-11-14T22:13:20Z", "1700000000\n");
    }
    let _ = sandbox.shell("mkdir bare && cp repo/Dockerfile bare").ok();
    built("bare", "1980-01-01T00:00:00Z", "315532800\n");
    let wrong = ["build", "--build-arg", "SOURCE_DATE_EPOCH=today", "bare"];
    sandbox.cais(wrong).code(1).says("invalid SOURCE_DATE_EPOCH: today");
}
