//! RUN, and what it finds.

use testkit::Sandbox;

use super::{build, run};

#[test]
fn commands_have_shell_environment_user_and_directory() {
    let sandbox = Sandbox::new();
    let files = r#"//- Dockerfile
FROM busybox
SHELL ["/bin/sh", "-ec"]
RUN --network=none false; echo "not reached"
"#;
    let built = build(&sandbox, files, &[]);
    built.code(1);
    assert!(built.stderr.contains("\"/bin/sh -ec false;"), "{built}");
    let files = r#"//- Dockerfile
FROM busybox
ARG who=world
ENV greeting="hello  there"
RUN echo "$greeting, $who" > /said
RUN ["sh", "-c", "echo exec $0 > /exec", "form"]
RUN mkdir -p /etc && echo me:x:7:8::/:/bin/sh > /etc/passwd && echo "$HOME" > /home-of-root
USER me
WORKDIR /work/here
RUN id -u > id && id -g >> id && pwd >> id
"#;
    let _ = build(&sandbox, files, &["--network", "none", "--build-arg", "who=you"]).ok();
    let all = run(&sandbox, "cat /said /exec /home-of-root /work/here/id");
    assert_eq!(all, "hello  there, you\nexec form\n/root\n7\n8\n/work/here\n");
    assert_eq!(run(&sandbox, "echo $who"), "\n", "arguments are not the image's");
}

#[test]
fn heredocs_run_in_all_forms() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox
RUN <<EOF
echo one > /a
echo two >> /a
EOF
RUN <<-EOF cat > /b
three
EOF
RUN <<SCRIPT
#!/bin/sh
echo \"four $0\" > /c
SCRIPT
RUN cat <<A > /d && cat <<B >> /d
five
A
six
B
";
    let _ = build(&sandbox, files, &["--network", "none"]).ok();
    let expected = "one\ntwo\nthree\nfour /dev/pipes/SCRIPT\nfive\nsix\n";
    assert_eq!(run(&sandbox, "cat /a /b /c /d"), expected);
    assert_eq!(run(&sandbox, "test -e /dev/pipes && echo left; true"), "");
}

#[test]
fn removals_are_part_of_a_layer() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox
RUN mkdir /d && echo a > /d/a && echo b > /d/b && echo c > /c
RUN rm /d/a /c && mv /d/b /d/e
";
    let _ = build(&sandbox, files, &["--network", "none"]).ok();
    assert_eq!(run(&sandbox, "ls /d; ls /c 2>/dev/null; cat /d/e"), "e\nb\n");
}

#[test]
fn a_command_without_a_network_has_none() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox
RUN --network=none ls /sys/class/net > /alone
RUN ls /sys/class/net > /usual
";
    let _ = build(&sandbox, files, &[]).ok();
    assert_eq!(run(&sandbox, "cat /alone /usual"), "lo\neth0\nlo\n");
    let files = "//- Dockerfile\nFROM busybox\nRUN ls /sys/class/net > /all\n";
    let _ = build(&sandbox, files, &["--network", "none"]).ok();
    assert_eq!(run(&sandbox, "cat /all"), "lo\n");
}

#[test]
fn limits_are_kept() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile\nFROM busybox\nRUN --network=none ulimit -n > /n\n";
    let _ = build(&sandbox, files, &["--ulimit", "nofile=77:77"]).ok();
    assert_eq!(run(&sandbox, "cat /n"), "77\n");
    let files = "//- Dockerfile
FROM busybox
RUN --network=none dd if=/dev/zero of=/dev/null bs=200M count=1
";
    let built = build(&sandbox, files, &["--memory", "32m", "--memory-swap", "32m"]);
    built.code(1);
    assert!(built.stderr.contains("exit code: 137"), "{built}");
}

#[test]
fn hosts_are_added_and_the_host_name_says_nothing() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox
RUN --network=none hostname > /name && grep special /etc/hosts > /hosts
";
    let _ = build(&sandbox, files, &["--add-host", "special:10.1.2.3"]).ok();
    assert_eq!(run(&sandbox, "cat /name /hosts"), "buildkitsandbox\n10.1.2.3\tspecial\n");
}

#[test]
fn users_have_the_groups_that_they_are_given() {
    let sandbox = Sandbox::new();
    let id = r#"echo "$(id -u):$(id -g) $(id -G)" >> /out/ids"#;
    let mut files = format!(
        "//- passwd
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/:/bin/false
dockerio:x:1001:1001::/:/bin/false
//- group
root:x:0:
daemon:x:1:
wheel:x:10:root
dockerio:x:1001:
more:x:1002:dockerio
//- Dockerfile
FROM busybox
COPY passwd group /etc/
RUN mkdir -m 777 /out && touch /out/ids && chmod 666 /out/ids
RUN {id}
"
    );
    let users = [
        ("root", "0:0 0 10"),
        ("dockerio", "1001:1001 1001 1002"),
        ("1001", "1001:1001 1001 1002"),
        ("dockerio:dockerio", "1001:1001 1001"),
        ("1001:dockerio", "1001:1001 1001"),
        ("dockerio:1001", "1001:1001 1001"),
        ("1001:1001", "1001:1001 1001"),
        ("dockerio:more", "1001:1002 1002"),
        ("dockerio:1002", "1001:1002 1002"),
        ("1001:more", "1001:1002 1002"),
        ("1042:1043", "1042:1043 1043"),
        ("1234", "1234:0 0"),
        ("daemon", "1:1 1"),
    ];
    let mut expected = "0:0 0 10\n".to_owned();
    for (user, ids) in users {
        files += &format!("USER {user}\nRUN {id}\n");
        expected += &format!("{ids}\n");
    }
    let _ = build(&sandbox, &files, &["--network", "none"]).ok();
    assert_eq!(run(&sandbox, "cat /out/ids"), expected);
}

#[test]
fn heredocs_are_for_whatever_reads_them() {
    let sandbox = Sandbox::new();
    let files = r#"//- Dockerfile
FROM busybox
ARG name=world
WORKDIR /dest
RUN cat <<EOF1 | tr '[:upper:]' '[:lower:]' > ./out1; \
	cat <<EOF2 | tr '[:lower:]' '[:upper:]' > ./out2
hello WORLD
EOF1
HELLO world
EOF2
RUN <<EOF 3<<IN1 4<<IN2 awk -f -
BEGIN {
	while ((getline line < "/proc/self/fd/3") > 0)
		print tolower(line) > "./fd3"
	while ((getline line < "/proc/self/fd/4") > 0)
		print toupper(line) > "./fd4"
}
EOF
hello WORLD
IN1
HELLO world
IN2
RUN <<-EOF
echo "
	bar" > indented
EOF
RUN <<EOF sh > piped
echo "
	foo"
EOF
RUN <<EOF
name="new world"
echo "Hello ${name}!" > own
EOF
RUN <<EOF
#!/bin/awk -f
BEGIN { print "by awk" > "/dest/awk" }
EOF
COPY <<EOF quotes
"quotes" and '${name}'
EOF
COPY <<EOF slashes
\\
\$
EOF
COPY <<"EOF" raw
\
\\
\$
EOF
SHELL ["/bin/awk"]
RUN <<EOF
BEGIN { print "by the shell" > "/dest/shell" }
EOF
"#;
    let _ = build(&sandbox, files, &["--network", "none"]).ok();
    for (names, expected) in [
        ("out1 out2 fd3 fd4", "hello world\nHELLO WORLD\nhello world\nHELLO WORLD\n"),
        (
            "indented piped own awk shell",
            "\nbar\n\n\tfoo\nHello new world!\nby awk\nby the shell\n",
        ),
        ("quotes", "\"quotes\" and 'world'\n"),
        ("slashes", "\\\n$\n"),
        ("raw", "\\\n\\\\\n\\$\n"),
    ] {
        assert_eq!(run(&sandbox, &format!("cat {names}")), expected, "{names}");
    }
}

#[test]
fn what_is_no_json_is_for_the_shell() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox
ENTRYPOINT [\"/nosuchcmd\"]
RUN [\"ls\"]
ENTRYPOINT []random string
";
    let _ = build(&sandbox, files, &["--network", "none"]).ok();
    let entrypoint = super::inspect(&sandbox, "{{json .Config.Entrypoint}}");
    assert_eq!(entrypoint, r#"["/bin/sh","-c","[]random string"]"#);
    let files =
        "//- Dockerfile\nFROM busybox\nRUN --network=none [\"echo\", \"hello\"]this is invalid\n";
    build(&sandbox, files, &[]).code(1).says("this is invalid");
}

#[test]
fn builders_have_arguments_of_their_own() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox
RUN hostname > /name && grep -c foo /etc/hosts > /hosts
RUN --mount=type=cache,target=/c ls /c > /list && touch /c/used
";
    let name = "BUILDKIT_SANDBOX_HOSTNAME=foo";
    let flags = ["--network", "none", "--build-arg", name];
    let _ = build(&sandbox, files, &flags).ok();
    assert_eq!(run(&sandbox, "cat /name /hosts"), "foo\n1\n");
    let others = ["--no-cache", "--build-arg", "BUILDKIT_CACHE_MOUNT_NS=mine"];
    let _ = super::again(&sandbox, &[&flags[..], &others].concat()).ok();
    assert_eq!(run(&sandbox, "cat /list"), "", "the cache is another project's");
    let _ = super::again(&sandbox, &[&flags[..], &["--no-cache"]].concat()).ok();
    assert_eq!(run(&sandbox, "cat /list"), "used\n");
    let refused = super::again(&sandbox, &["--build-arg", "BUILDKIT_MULTI_PLATFORM=1"]);
    refused.code(1).says("BUILDKIT_MULTI_PLATFORM");
}

#[test]
fn working_directories_are_their_users() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox
RUN echo user:x:7:8::/:/bin/sh > /etc/passwd && mkdir /there && chown 3:4 /there
WORKDIR /there
USER user
WORKDIR /mine/too
WORKDIR /
";
    let _ = build(&sandbox, files, &["--network", "none"]).ok();
    let stat = run(&sandbox, "stat -c '%u:%g %n' /there /mine /mine/too");
    assert_eq!(stat, "3:4 /there\n7:8 /mine\n7:8 /mine/too\n");
}
