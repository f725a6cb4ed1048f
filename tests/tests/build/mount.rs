//! RUN --mount.

use testkit::Sandbox;

use super::{again, build, run};

#[test]
fn caches_outlive_builds_and_are_in_no_layer() {
    let sandbox = Sandbox::new();
    let files = |line: &str| {
        format!(
            "//- Dockerfile\nFROM busybox\n\
             RUN --network=none --mount=type=cache,target=/var/c/x,id=k {line}\n"
        )
    };
    let add = |word: &str| files(&format!("echo {word} >> /var/c/x/n; cp /var/c/x/n /seen"));
    let _ = build(&sandbox, &add("one"), &[]).ok();
    let _ = build(&sandbox, &add("two"), &[]).ok();
    let line = "cat /seen; ls -d /var/c 2>/dev/null; true";
    assert_eq!(run(&sandbox, line), "one\ntwo\n");
    let pruned = sandbox.cais(["builder", "prune", "-af"]);
    assert!(pruned.ok().contains("Total"), "{pruned}");
    let _ = build(&sandbox, &add("three"), &[]).ok();
    assert_eq!(run(&sandbox, "cat /seen"), "three\n");
}

#[test]
fn caches_belong_to_whom_they_are_for() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox AS from
RUN --network=none mkdir /seed && echo seed > /seed/s
FROM busybox
RUN --network=none --mount=type=cache,target=/c,uid=5,gid=6,mode=0700 stat -c '%u %g %a' /c > /owner
RUN --network=none --mount=type=cache,target=/d,from=from,source=/seed cat /d/s > /seed
";
    let _ = build(&sandbox, files, &[]).ok();
    assert_eq!(run(&sandbox, "cat /owner /seed"), "5 6 700\nseed\n");
}

#[test]
fn secrets_are_nowhere_but_in_their_command() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work().join("token"), "hunter2hunter2").unwrap();
    let files = "//- Dockerfile
FROM busybox
RUN --network=none --mount=type=secret,id=t wc -c < /run/secrets/t > /length
RUN --network=none --mount=type=secret,id=t,env=T test ${#T} = 14 && echo set > /set
RUN --network=none --mount=type=secret,id=t,target=/x/y,mode=0444,uid=3 stat -c '%u %a' /x/y > /stat
RUN --network=none --mount=type=secret,id=other ls /run/secrets 2>/dev/null || true
";
    let _ = build(&sandbox, files, &["--secret", "id=t,src=token"]).ok();
    let line = "cat /length /set /stat; ls -d /run/secrets /x 2>/dev/null; true";
    assert_eq!(run(&sandbox, line), "14\nset\n3 444\n");
    let found = sandbox.shell("grep -rl hunter2hunter2 $CAIS_ROOT $CAIS_RUN; true");
    assert_eq!(found.ok(), "", "a secret stays nowhere");
    let again = again(&sandbox, &[]);
    assert!(again.stderr.contains("CACHED"), "a secret is no part of a key: {again}");
    let needed = "//- Dockerfile
FROM busybox
RUN --mount=type=secret,id=x,required=true cat /run/secrets/x
";
    let built = build(&sandbox, needed, &[]);
    built.code(1);
    assert!(built.stderr.contains("secret x: not found"), "{built}");
}

#[test]
fn files_are_mounted_and_what_is_written_to_them_is_lost() {
    let sandbox = Sandbox::new();
    let files = "//- d/f
f
//- ignored
x
//- .dockerignore
ignored
//- Dockerfile
FROM busybox AS a
RUN echo a > /a
FROM busybox
RUN --mount=target=/ctx cat /ctx/d/f > /f; ls /ctx/ignored || echo ignored >> /f
RUN --mount=target=/ctx touch /ctx/x || echo read-only >> /f
RUN --mount=from=a,source=/a,target=/from-a cat /from-a > /g
RUN --mount=source=d,target=/rw,rw echo new > /rw/new && cat /rw/new > /h
RUN --mount=type=tmpfs,target=/t,size=1m df /t | tail -n 1 | awk '{print $2}' > /i
";
    let _ = build(&sandbox, files, &["--network", "none"]).ok();
    let line = "cat /f /g /h /i; ls -d /ctx /from-a /rw /t 2>/dev/null; true";
    assert_eq!(run(&sandbox, line), "f\nignored\nread-only\na\nnew\n1024\n");
    assert!(!sandbox.work().join("ctx/d/new").exists());
}

/// Asks an agent by its socket: the kind of the answer, and how many keys there are.
const ASK: &str = r#"import os, socket, struct, sys
def ask(kind):
    agent = socket.socket(socket.AF_UNIX)
    agent.connect(os.environ["SSH_AUTH_SOCK"])
    agent.send(struct.pack(">IB", 1, kind))
    return agent.recv(4096)
keys, refused = ask(11), ask(19)
print(os.environ["SSH_AUTH_SOCK"], keys[4], struct.unpack(">I", keys[5:9])[0], refused[4])
"#;

#[test]
fn commands_reach_ssh_agents_and_nothing_else_does() {
    let sandbox = Sandbox::new();
    let _ = sandbox.shell("ssh-keygen -q -t ed25519 -N '' -f key").ok();
    let files = format!(
        "//- ask.py\n{ASK}//- Dockerfile
FROM python
COPY ask.py /ask.py
RUN --network=none --mount=type=ssh,required python3 /ask.py > /one
RUN --network=none --mount=type=ssh,id=other,target=/agent,mode=0666,uid=5 python3 /ask.py > /two && \\
    stat -c '%a %u' /agent >> /two
RUN --network=none --mount=type=ssh,id=missing test -z $SSH_AUTH_SOCK && echo none > /three
"
    );
    let _ = build(&sandbox, &files, &["--ssh", "default=key", "--ssh", "other=key"]).ok();
    let expected = "/run/buildkit/ssh_agent.0 12 1 5\n/agent 12 1 5\n666 5\nnone\n";
    let line = "cat /one /two /three; ls -d /run/buildkit /agent 2>/dev/null; true";
    assert_eq!(run(&sandbox, line), expected);
    let refused = again(&sandbox, &["--no-cache"]);
    refused.code(1);
    assert!(refused.stderr.contains("unset ssh forward key default"), "{refused}");
    let agent = "eval $(ssh-agent -a $PWD/agent) >&2 && ssh-add -q key && \
        $E build -t built --ssh default --ssh other=$PWD/agent --no-cache ctx; \
        code=$?; ssh-agent -k >&2; exit $code";
    let _ = sandbox.shell(agent).ok();
    assert_eq!(run(&sandbox, line), expected);
    for wrong in ["default", "a=nothing", "a=ctx/ask.py"] {
        again(&sandbox, &["--ssh", wrong]).code(1);
    }
}

#[test]
fn a_secret_that_would_stay_is_refused() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work().join("token"), "hunter2hunter2\n").unwrap();
    let attempts = [
        ("RUN --network=none --mount=type=secret,id=t cp /run/secrets/t /root/kept", "/root/kept"),
        ("RUN --network=none --mount=type=secret,id=t ln -s $(cat /run/secrets/t) /l", "/l"),
        ("COPY npmrc /etc/", "/etc/npmrc"),
        ("ENV TOKEN=hunter2hunter2", "config.Env[1]"),
        ("LABEL a=xhunter2hunter2", "config.Labels.a"),
        ("RUN --network=none echo hunter2hunter2 | wc -c", "history[0].created_by"),
    ];
    for (line, place) in attempts {
        let files =
            format!("//- npmrc\n_auth=hunter2hunter2\n//- Dockerfile\nFROM busybox\n{line}\n");
        let refused = build(&sandbox, &files, &["--secret", "id=t,src=token"]);
        refused.code(1);
        let message = refused.stderr.lines().find(|line| line.starts_with("cais: "));
        let message = message.unwrap_or_default();
        assert!(message.contains("the secret t") && message.contains(place), "{refused}");
        assert!(!message.contains("hunter2"), "{refused}");
    }
    let files = "//- Dockerfile
FROM busybox
RUN --network=none --mount=type=secret,id=t cat /run/secrets/t && cp /run/secrets/t /x && rm /x
";
    let built = build(&sandbox, files, &["--secret", "id=t,src=token"]);
    let _ = built.ok();
    assert!(built.stderr.contains(" *****\n") && !built.stderr.contains("hunter2"), "{built}");
}

#[test]
fn a_secret_in_a_cache_goes_nowhere() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work().join("token"), "hunter2hunter2\n").unwrap();
    let files = "//- Dockerfile
FROM busybox
RUN --network=none --mount=type=secret,id=t --mount=type=cache,id=c,target=/c \\
    mkdir -p /c/d && cp /run/secrets/t /c/d/kept
";
    let secret = ["--secret", "id=t,src=token"];
    let with = |target: &'static str| [&secret[..], &["--cache-to", target]].concat();
    let refused = build(&sandbox, files, &with("type=local,dest=cache,mode=max"));
    refused.code(1).says("the cache c has the secret t in /d/kept");
    let told = again(&sandbox, &with("type=local,dest=cache,mode=max,ignore-error=true"));
    told.code(0).says("ERROR: the cache c has the secret t in /d/kept");
    let _ = again(&sandbox, &with("type=local,dest=cache")).ok();
    let found =
        sandbox.shell("for f in cache/blobs/sha256/*; do zcat -f $f; done | grep -c hunter2");
    assert_eq!(found.stdout, "0\n", "{found}");
}

#[test]
fn a_secret_that_cannot_be_looked_for_says_so() {
    let sandbox = Sandbox::new();
    let _ = sandbox.shell("printf s3cret >short; printf hunter2hunter2 >long").ok();
    let files = "//- Dockerfile\nFROM busybox\n";
    let built =
        build(&sandbox, files, &["--secret", "id=a,src=short", "--secret", "id=b,src=long"]);
    let said = "WARN: it is too short to be looked for in files and in output";
    built.code(0).says("[internal] secret a").says(said);
    assert!(!built.stderr.contains("secret b"), "{built}");
}

#[test]
fn options_of_mounts_have_variables_and_defaults() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work().join("token"), "hunter2hunter2").unwrap();
    let files = |bust: &str| {
        format!(
            "//- cachebust
{bust}
//- a.txt
a
//- b.txt
b
//- Dockerfile
ARG META_PATH=/tmp/meta
FROM busybox AS build
COPY cachebust /
RUN mkdir out && echo foo > out/foo
FROM busybox AS base
ENV SOME_PATH=/mycache MNT_ID=named
ARG MNT_TYPE=cache
ARG META_PATH
RUN --mount=type=cache,target=/mycache touch /mycache/foo
RUN --mount=type=cache,target=/mycache2 test ! -f /mycache2/foo
RUN --mount=type=cache,target=$SOME_PATH test -f $SOME_PATH/foo
RUN --mount=type=$MNT_TYPE,id=$MNT_ID,target=/abc touch /abc/foo
RUN --mount=type=cache,id=named,target=$META_PATH test -f /tmp/meta/foo
RUN --mount=from=build,src=out,target=/out,rw touch /out/bar && \\
    cat /proc/sys/kernel/random/uuid > /unique
RUN --mount=type=tmpfs,target=/dev/shm,size=128m mount | grep /dev/shm > /shm
RUN --mount=source=.,target=/tmp/test --mount=source=b.txt,target=/tmp/b.txt \\
    cat /tmp/test/a.txt /tmp/b.txt > /both
RUN --mount=type=secret,required=false,mode=741,uid=100,gid=102,target=/token \\
    stat -c '%u %g %f' /token > /secret
RUN test ! -e /token
FROM base
RUN --mount=type=$MNT_TYPE,id=$MNT_ID,target=/whatever test -f /whatever/foo
"
        )
    };
    let flags = ["--network", "none", "--secret", "id=token,src=token"];
    let _ = build(&sandbox, &files("0"), &flags).ok();
    let line = "cat /both /secret; grep -o 'size=[0-9]*k' /shm";
    assert_eq!(run(&sandbox, line), "a\nb\n100 102 81e1\nsize=131072k\n");
    let unique = run(&sandbox, "cat /unique");
    let _ = build(&sandbox, &files("1"), &flags).ok();
    assert_eq!(run(&sandbox, "cat /unique"), unique, "what is mounted has not changed");
    for (flag, said) in [
        ("--mont=target=/mytmp,type=tmpfs", "unknown flag: --mont (did you mean mount?)"),
        ("--mount=typ=tmpfs", "unexpected key 'typ' in 'typ=tmpfs' (did you mean type?)"),
        ("--mount=type=tmp", "unsupported mount type \"tmp\" (did you mean tmpfs?)"),
        ("--mount=from=$x,type=cache,target=/tmp", "'from' doesn't support variable expansion"),
        ("--device=vendor.com/device=foo", "hint: --security=insecure"),
    ] {
        let files = format!("//- Dockerfile\nFROM busybox\nENV x=y\nRUN {flag} true\n");
        build(&sandbox, &files, &[]).code(1).says(said);
    }
}
