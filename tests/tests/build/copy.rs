//! COPY, ADD and WORKDIR.

use testkit::Sandbox;

use super::{build, run};

const FILES: &str = "//- a.txt
a
//- b.txt
b
//- d/c.txt
c
//- d/e/f.c
f
//- d/e/g.h
g
";

#[track_caller]
fn check(dockerfile: &str, line: &str, expected: &str) {
    let sandbox = Sandbox::new();
    let files = format!("{FILES}//- Dockerfile\n{dockerfile}");
    let _ = build(&sandbox, &files, &["--network", "none"]).ok();
    assert_eq!(run(&sandbox, line), expected);
}

#[test]
fn files_and_directories_go_where_they_should() {
    check(
        r#"FROM busybox
WORKDIR /w
COPY a.txt .
COPY a.txt renamed
COPY a.txt b.txt new/dir/
COPY d by-content
COPY d existing/
COPY ["a.txt", "with space"]
COPY *.txt globbed/
"#,
        "find . -type f | sort",
        "./a.txt
./by-content/c.txt
./by-content/e/f.c
./by-content/e/g.h
./existing/c.txt
./existing/e/f.c
./existing/e/g.h
./globbed/a.txt
./globbed/b.txt
./new/dir/a.txt
./new/dir/b.txt
./renamed
./with space
",
    );
}

#[test]
fn parents_and_exclude_choose() {
    check(
        "FROM busybox
WORKDIR /w
COPY --parents d/**/*.c p/
COPY --parents d/./e/f.c q/
COPY --exclude=**/*.h --exclude=c.txt d r/
",
        "find . -type f | sort",
        "./p/d/e/f.c\n./q/e/f.c\n./r/e/f.c\n",
    );
}

#[test]
fn owners_and_modes_are_set() {
    check(
        "FROM busybox
RUN mkdir -p /etc && echo me:x:5:6::/:/bin/sh > /etc/passwd && echo us:x:9: > /etc/group
COPY --chown=me a.txt /1
COPY --chown=me:us a.txt /2
COPY --chown=77 a.txt /3
COPY --chmod=640 a.txt /4
COPY --chmod=u+x,go= a.txt /5
COPY --chown=me a.txt /made/for/6
",
        "stat -c '%u %g %a %n' /1 /2 /3 /4 /5 /made /made/for/6",
        "5 6 644 /1
5 9 644 /2
77 77 644 /3
0 0 640 /4
0 0 700 /5
5 6 755 /made
5 6 644 /made/for/6
",
    );
}

#[test]
fn links_stay_inside() {
    let sandbox = Sandbox::new();
    let context = sandbox.work().join("ctx");
    std::fs::create_dir_all(&context).unwrap();
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, context.join(name)).unwrap();
    };
    link("/etc/hostname", "out");
    link("../../../etc/passwd", "up");
    link("real", "in");
    let files = "//- real
real
//- Dockerfile
FROM busybox
RUN ln -s /deep /link && mkdir /deep
COPY in /in
COPY real /link/here
COPY . /all/
";
    super::write(&context, files);
    let _ = super::again(&sandbox, &["--network", "none"]).ok();
    let line = "cat /in /deep/here; readlink /all/out; readlink /all/up";
    let expected = "real\nreal\n/etc/hostname\n../../../etc/passwd\n";
    assert_eq!(run(&sandbox, line), expected);
    for link in ["out", "up"] {
        super::write(&context, &format!("//- Dockerfile\nFROM busybox\nCOPY {link} /x\n"));
        let built = super::again(&sandbox, &[]);
        built.code(1);
        assert!(built.stderr.contains(&format!("\"/{link}\": not found")), "{built}");
    }
}

#[test]
fn no_link_in_a_context_is_a_dockerfile_or_an_ignore_file_outside() {
    let sandbox = Sandbox::new();
    let context = sandbox.work().join("ctx");
    std::fs::create_dir_all(&context).unwrap();
    std::fs::write(sandbox.work().join("secret"), "FROM busybox\nSECRET of the host\n").unwrap();
    let outside = sandbox.work().join("secret");
    for target in [outside.to_str().unwrap(), "../secret"] {
        std::os::unix::fs::symlink(target, context.join("Dockerfile")).unwrap();
        let built = super::again(&sandbox, &[]);
        built.code(1);
        assert!(!built.stderr.contains("SECRET"), "{built}");
        std::fs::remove_file(context.join("Dockerfile")).unwrap();
    }
    super::write(&context, "//- real/Dockerfile\nFROM busybox\nCOPY real /real\n");
    std::os::unix::fs::symlink("real/Dockerfile", context.join("Dockerfile")).unwrap();
    std::os::unix::fs::symlink("../secret", context.join(".dockerignore")).unwrap();
    let _ = super::again(&sandbox, &[]).ok();
}

/// More directories than a process may have files open.
#[test]
fn hard_links_in_many_directories_are_copied() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox AS a
RUN mkdir /d && for i in $(seq 1200); do mkdir /d/$i && echo $i >/d/$i/a && ln /d/$i/a /d/$i/b; done
FROM busybox
COPY --from=a /d /d
";
    let _ = build(&sandbox, files, &["--network", "none"]).ok();
    let line = "cat /d/1/b /d/1200/b; ls /d | wc -l; stat -c %h /d/1/b";
    assert_eq!(run(&sandbox, line), "1\n1200\n1200\n2\n");
}

#[test]
fn hard_links_stay_one_file() {
    let sandbox = Sandbox::new();
    let files = "//- Dockerfile
FROM busybox AS a
RUN echo x > /x && mkdir /d && ln /x /d/1 && ln /x /d/2
FROM busybox
COPY --from=a /d /d
";
    let _ = build(&sandbox, files, &["--network", "none"]).ok();
    assert_eq!(run(&sandbox, "stat -c %h /d/1 /d/2"), "2\n2\n");
}

#[test]
fn archives_are_unpacked_by_add_only() {
    let sandbox = Sandbox::new();
    let files = "//- in/x
x
//- in2/y
y
//- plain.gz.txt
no archive
//- Dockerfile
FROM busybox
ADD a.tar b.tgz /u/
ADD --unpack=false a.tar /kept/
COPY a.tar /copied/
ADD plain.gz.txt one.gz /p/
ADD --chown=3:4 a.tar /owned/
";
    super::write(&sandbox.work().join("ctx"), files);
    let pack = "cd ctx && tar cf a.tar in && tar czf b.tgz in2 && gzip -c Dockerfile > one.gz";
    let _ = sandbox.shell(pack).ok();
    let _ = super::again(&sandbox, &["--network", "none"]).ok();
    let line = "find /u /kept /copied /p -type f | sort; stat -c '%u %g' /owned/in/x";
    let expected =
        "/copied/a.tar\n/kept/a.tar\n/p/one.gz\n/p/plain.gz.txt\n/u/in/x\n/u/in2/y\n3 4\n";
    assert_eq!(run(&sandbox, line), expected);
}

#[test]
fn heredocs_are_files() {
    check(
        "FROM busybox
ARG v=1
COPY <<EOF <<-\"raw\" /etc/app/
v=$v \"quoted\"
EOF
\t$v
\traw
COPY --chmod=755 <<EOF /bin/tool
#!/bin/sh
echo tool
EOF
",
        "cat /etc/app/EOF /etc/app/raw; tool",
        "v=1 \"quoted\"\n$v\ntool\n",
    );
}

#[test]
fn what_is_not_there_is_an_error() {
    let sandbox = Sandbox::new();
    let built = build(&sandbox, "//- Dockerfile\nFROM busybox\nCOPY missing /\n", &[]);
    built.code(1);
    assert!(built.stderr.contains("\"/missing\": not found"), "{built}");
    assert!(built.stderr.contains("   2 | >>> COPY missing /"), "{built}");
    let _ = build(&sandbox, "//- Dockerfile\nFROM busybox\nCOPY missing* /\n", &[]).ok();
    let files = "//- Dockerfile\nFROM busybox\nCOPY --chown=nobody-here Dockerfile /\n";
    let built = build(&sandbox, files, &[]);
    built.code(1);
    assert!(built.stderr.contains("there is no user \"nobody-here\""), "{built}");
}

#[test]
fn a_linked_layer_stands_alone() {
    let sandbox = Sandbox::new();
    let files = "//- f
f
//- Dockerfile
FROM busybox
RUN mkdir /d && echo old > /d/old
COPY --link f /d/
";
    let _ = build(&sandbox, files, &["--network", "none"]).ok();
    assert_eq!(run(&sandbox, "ls /d"), "f\nold\n");
    let layers = super::inspect(&sandbox, "{{json .RootFS.Layers}}");
    let other = files.replace("echo old", "echo other");
    let _ = build(&sandbox, &other, &["--network", "none"]).ok();
    let last = |layers: &str| layers.rsplit(',').next().unwrap().to_owned();
    let now = super::inspect(&sandbox, "{{json .RootFS.Layers}}");
    assert_ne!(layers, now);
    assert_eq!(last(&layers), last(&now));
}

#[test]
fn holes_of_a_context_stay_holes() {
    let sandbox = Sandbox::new();
    let make = "mkdir ctx; truncate -s 200M ctx/holes; printf x >>ctx/holes; \
        printf 'FROM busybox\\nCOPY holes /holes\\n' >ctx/Dockerfile";
    let _ = sandbox.shell(make).ok();
    let _ = sandbox.cais(["build", "-t", "built", "ctx"]).ok();
    assert_eq!(run(&sandbox, "wc -c </holes; tail -c 1 /holes"), "209715201\nx");
    // In no place where it was on its way was it as long as it looks.
    let du = sandbox.shell("du -sm $CAIS_ROOT | cut -f1");
    assert!(du.ok().parse::<u64>().unwrap() < 100, "{du}");
}

#[test]
fn owners_of_directories_are_those_of_what_was_there() {
    check(
        "FROM busybox AS source
RUN touch /file && mkdir -p /dir/sub && touch /dir/sub/f && chmod 700 /dir && \\
    chown 100:200 /file /dir && chown 101:201 /dir/sub && chown 102:202 /dir/sub/f
FROM busybox
RUN mkdir -p /old/dir && touch /old/file && chown 500:600 /old && chown 501:601 /old/dir /old/file
COPY --from=source /file .
COPY --from=source /dir /new
COPY --from=source /dir/. /old
COPY --from=source --chown=300:400 /dir /owned
COPY --from=source --chown=300:400 /dir/. /old/dir
",
        "stat -c '%u:%g %a %n' /file /new /new/sub /new/sub/f /old /old/dir /old/file /old/sub \
         /old/sub/f /owned /owned/sub /old/dir/sub /old/dir/sub/f",
        "100:200 644 /file
0:0 755 /new
101:201 755 /new/sub
102:202 644 /new/sub/f
500:600 755 /old
501:601 755 /old/dir
501:601 644 /old/file
101:201 755 /old/sub
102:202 644 /old/sub/f
300:400 755 /owned
300:400 755 /owned/sub
300:400 755 /old/dir/sub
300:400 644 /old/dir/sub/f
",
    );
}

#[test]
fn modes_are_also_those_of_directories_on_the_way() {
    check(
        "FROM busybox
ARG mode=755
COPY --chmod=0644 a.txt /1
COPY --chmod=0 a.txt /2
COPY --chmod=${mode} a.txt /3
COPY --chmod=777 a.txt /parent/foo
COPY --chmod=770 a.txt /parent/sub/foo
COPY --chmod=go-w,u+x d /d
",
        "stat -c '%a %n' /1 /2 /3 /parent /parent/sub /parent/sub/foo /d /d/e /d/e/f.c",
        "644 /1
0 /2
755 /3
777 /parent
770 /parent/sub
770 /parent/sub/foo
755 /d
755 /d/e
744 /d/e/f.c
",
    );
    let sandbox = Sandbox::new();
    for mode in ["64a", "10000"] {
        let files = format!("//- a\n//- Dockerfile\nFROM scratch\nCOPY --chmod={mode} a /\n");
        let said = format!(
            "invalid chmod parameter: '{mode}'. it should be octal string and between 0 and 07777"
        );
        build(&sandbox, &files, &[]).code(1).says(&said);
    }
    let files = "//- Dockerfile\nFROM scratch\nCOPY --from=$FOO . .\n";
    let said = "variable expansion is not supported for --from, define a new stage with FROM using \
                ARG from global scope as a workaround";
    build(&sandbox, files, &[]).code(1).says(said);
}

#[test]
fn destinations_are_seen_from_the_working_directory() {
    check(
        "FROM busybox
ENV empty=\"\"
COPY a.txt $empty
WORKDIR /var/www
COPY --link a.txt .
COPY --link b.txt $empty
WORKDIR /test1
WORKDIR test2
COPY a.txt ./
ADD a.txt ./bar/baz
WORKDIR ..
COPY a.txt ./
WORKDIR /test5/test6
COPY a.txt ../
COPY a.txt b.txt ../sub/
",
        "find /a.txt /var/www /test1 /test5 -type f | sort",
        "/a.txt
/test1/a.txt
/test1/test2/a.txt
/test1/test2/bar/baz
/test5/a.txt
/test5/sub/a.txt
/test5/sub/b.txt
/var/www/a.txt
/var/www/b.txt
",
    );
}

#[test]
fn wildcards_stand_for_what_there_is() {
    check(
        "FROM busybox
WORKDIR /w
COPY *.txt nothing* /w/both/
COPY b*.txt one
COPY d/* sub/
COPY d/*/f.c deep/
COPY */e/f.c renamed/to
COPY d/ with-slash
COPY d/. with-dot
COPY d without
COPY d without
",
        "find . -type f | sort",
        "./both/a.txt
./both/b.txt
./deep/f.c
./one
./renamed/to
./sub/c.txt
./sub/f.c
./sub/g.h
./with-dot/c.txt
./with-dot/e/f.c
./with-dot/e/g.h
./with-slash/c.txt
./with-slash/e/f.c
./with-slash/e/g.h
./without/c.txt
./without/e/f.c
./without/e/g.h
",
    );
}

#[test]
fn names_are_what_they_are() {
    let sandbox = Sandbox::new();
    let files = "//- test-äöü.txt
1
//- test-%C3%A4%C3%B6%C3%BC.txt
2
//- test+aou.txt
3
//- Dockerfile
FROM busybox
COPY test-äöü.txt /
COPY test-%C3%A4%C3%B6%C3%BC.txt /
COPY test+aou.txt /
";
    let _ = build(&sandbox, files, &[]).ok();
    assert_eq!(run(&sandbox, "cat /test-äöü.txt /test-%* /test+*"), "1\n2\n3\n");
}

#[test]
fn links_are_followed_where_they_are_named() {
    let sandbox = Sandbox::new();
    let context = sandbox.work().join("ctx");
    let files = "//- sub/foo
contents
//- sub/baz
baz
//- Dockerfile
FROM busybox AS build
RUN mkdir -p /out/sub && ln -s /out/sub /sub && ln -s out/sub /sub2 && echo data > /sub/foo
FROM busybox
COPY link/foo /1
COPY alias /2
COPY sub/l* /all/
COPY --from=build /sub/foo /3
COPY --from=build /sub2/foo /4
COPY . /context/
RUN mkdir /a && ln -s /a/made /hanging && ln -s ../b/made /a/other
COPY alias /hanging/
COPY alias /a/other
";
    super::write(&context, files);
    for (target, name) in
        [("sub", "link"), ("sub/foo", "alias"), ("baz", "sub/l1"), ("second", "sub/l2")]
    {
        std::os::unix::fs::symlink(target, context.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("baz", context.join("sub/second")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(context.join("socket")).unwrap();
    let _ = super::again(&sandbox, &["--network", "none"]).ok();
    let line = "cat /1 /2 /all/l1 /all/l2 /3 /4 /a/made/alias /b/made; stat -c %F /context/socket";
    let expected =
        "contents\ncontents\nbaz\nbaz\ndata\ndata\ncontents\ncontents\nregular empty file\n";
    assert_eq!(run(&sandbox, line), expected);
}

#[test]
fn a_directory_may_become_a_file() {
    let sandbox = Sandbox::new();
    let dockerfile = "//- Dockerfile\nFROM busybox\nCOPY foo /x/\n";
    let _ = build(&sandbox, &format!("{dockerfile}//- foo/bar\n1\n"), &[]).ok();
    let _ = build(&sandbox, &format!("{dockerfile}//- foo\n2\n"), &[]).ok();
    assert_eq!(run(&sandbox, "cat /x/foo; ls /x"), "2\nfoo\n");
}

#[test]
fn parents_start_where_the_pivot_says() {
    let base = "FROM busybox AS base
RUN cd / && mkdir -p t/a/b/c/d/e t/a/b2/c/d/e t/a/b/c2/d/e t/a/b/c2/d/e2 && touch t/a/b/c/d/foo \\
    t/a/b/c/d/e/bay t/a/b2/c/d/e/bar t/a/b/c2/d/e/baz t/a/b/c2/d/e2/baz
FROM busybox
";
    let copies = "COPY --from=base --parents /t/a/b/./c/d /1/
COPY --from=base --parents /t/a/b/c/d/. /2/
COPY --from=base --parents ./t/a/b/c/d /3/
COPY --from=base --parents /t/a/./b/./c /4/
COPY --from=base --parents /t/a/./*/c /5/
COPY --from=base --parents /t/a/b*/./c/**/e /6/
COPY --from=base --parents /t/a/b/c*/./d/**/baz /t/a/b*/./c/**/bar /7/
";
    check(
        &format!("{base}{copies}"),
        "find /1 /2 /3 /4 /5 /6 /7 -type f | sort",
        "/1/c/d/e/bay
/1/c/d/foo
/2/t/a/b/c/d/e/bay
/2/t/a/b/c/d/foo
/3/t/a/b/c/d/e/bay
/3/t/a/b/c/d/foo
/4/b/c/d/e/bay
/4/b/c/d/foo
/5/b/c/d/e/bay
/5/b/c/d/foo
/5/b2/c/d/e/bar
/6/c/d/e/bar
/6/c/d/e/bay
/7/c/d/e/bar
/7/d/e/baz
/7/d/e2/baz
",
    );
}

#[test]
fn archives_bring_their_directories() {
    let sandbox = Sandbox::new();
    let files = "//- in/foo
0
//- in2/bar
1
//- Dockerfile
FROM busybox
RUN mkdir /real && ln -s /real /link
ADD *.tar /dest
ADD --chown=100:200 t.tar /out/
ADD t.tar /link/
ADD more/implied.tar /implied/
ADD more/link.tar /
COPY in/foo /symlink/
";
    super::write(&sandbox.work().join("ctx"), files);
    let pack = "cd ctx && tar cf t.tar -C in foo && tar cf b.tar -C in2 bar && mkdir more && \
        tar cf more/implied.tar in/foo && ln -s ../tmp/target symlink && \
        tar cf more/link.tar symlink";
    let _ = sandbox.shell(pack).ok();
    let _ = super::again(&sandbox, &["--network", "none"]).ok();
    let line = "cat /dest/foo /dest/bar /real/foo /implied/in/foo /tmp/target/foo; \
        stat -c '%u:%g %n' /out /out/foo /implied/in; readlink /symlink";
    let expected =
        "0\n1\n0\n0\n0\n100:200 /out\n100:200 /out/foo\n0:0 /implied/in\n../tmp/target\n";
    assert_eq!(run(&sandbox, line), expected);
}
