//! What programs stamp with the time or with chance becomes the same every time.

use testkit::Sandbox;

use super::{again, build, run};

const DEBIAN: &str = r#"//- Dockerfile
FROM debian AS package
RUN --network=none mkdir -p /p/DEBIAN /p/usr/share/hello && echo hello >/p/usr/share/hello/text && \
    printf 'Package: hello-cais\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: says hello\n' \
    >/p/DEBIAN/control && dpkg-deb --build /p /hello.deb

FROM debian
RUN --network=none rm -f /var/lib/dpkg/*-old
COPY --from=package /hello.deb /tmp/
RUN --network=none dpkg -i /tmp/hello.deb && useradd somebody && ldconfig && apt-cache stats >/dev/null && \
    update-alternatives --install /usr/bin/greet greet /bin/true 1 && \
    echo 0123456789abcdef0123456789abcdef >/etc/machine-id && \
    echo text >/text && gzip -k /text && \
    mkdir -p /root/.npm/_logs /root/.cache/pip/http /var/cache/fontconfig /var/cache/man && \
    touch /root/.npm/_logs/x /root/.cache/pip/http/x /var/cache/fontconfig/0.cache-8 /var/cache/man/index.db && \
    date +%Y >/year
"#;

#[test]
fn packages_users_and_caches_leave_no_time() {
    let sandbox = Sandbox::new();
    let _ = build(&sandbox, DEBIAN, &[]).ok();
    let stamps = "cut -c 1-19 /var/log/dpkg.log | sort -u; grep ^somebody: /etc/shadow | cut -d: -f3; wc -c </etc/machine-id; \
                  od -An -tx1 -j4 -N4 /text.gz; cat /usr/share/hello/text";
    assert_eq!(run(&sandbox, stamps), "1980-01-01 00:00:00\n3652\n0\n 00 a6 ce 12\nhello\n");
    let log = "grep -q '^update-alternatives 1980-01-01 00:00:00:' /var/log/alternatives.log && \
               grep -c \"$(cat /year)\" /var/log/dpkg.log /var/log/alternatives.log; true";
    assert_eq!(run(&sandbox, log), "/var/log/dpkg.log:0\n/var/log/alternatives.log:0\n");
    let gone = "ls -d /var/lib/dpkg/*-old /var/cache/ldconfig/aux-cache /var/cache/apt/*.bin \
                /root/.npm/_logs/* /root/.cache/pip/http/* /var/cache/fontconfig/* \
                /var/cache/man/* 2>/dev/null; true";
    assert_eq!(run(&sandbox, gone), "");

    let _ =
        again(&sandbox, &["--no-normalize", "package-logs,apt-cache", "--no-normalize=pip-cache"])
            .ok();
    let kept = "[ -e /root/.cache/pip/http/x ] && ls /var/cache/apt/*.bin && \
                grep -q \"^$(cat /year)\" /var/log/dpkg.log && ! [ -e /var/cache/man/index.db ] && echo kept";
    assert!(run(&sandbox, kept).ends_with("kept\n"));
    let all = again(&sandbox, &["--no-normalize", "all"]);
    let _ = all.ok();
    let text = "ls /var/cache/man/index.db /var/lib/dpkg/status-old; wc -c </etc/machine-id";
    assert_eq!(run(&sandbox, text), "/var/cache/man/index.db\n/var/lib/dpkg/status-old\n33\n");

    let wrong = again(&sandbox, &["--no-normalize", "dpkg"]);
    wrong.code(1);
    assert!(wrong.stderr.contains("no rule of normalisation is called \"dpkg\""), "{wrong}");
    assert!(wrong.stderr.contains("dpkg-backups"), "{wrong}");
}

#[test]
fn modules_that_python_compiled_stay_valid() {
    let sandbox = Sandbox::new();
    let files = r#"//- make.py
import time, zipfile
now = time.localtime()
with zipfile.ZipFile("/a.whl", "w") as out:
    out.writestr(zipfile.ZipInfo("new", now[:6]), "x")
    out.writestr(zipfile.ZipInfo("old", (2001, 2, 3, 4, 5, 6)), "y")
member = b"%-16s%-12d%-6d%-6d%-8s%-10d`\n"
with open("/lib.a", "wb") as out:
    out.write(b"!<arch>\n" + member % (b"new/", time.time(), 0, 0, b"644", 3) + b"abc\n")
    out.write(member % (b"old/", 981173106, 0, 0, b"644", 2) + b"de")
//- base.py
BASE = 1
//- Dockerfile
FROM python:3
COPY base.py /app/
WORKDIR /app
COPY make.py /
RUN --network=none mkdir package && echo 'VALUE = 2' >package/__init__.py && echo 'X = 3' >legacy.py && \
    touch -d 2001-02-03 old.py && python3 -m compileall -q . && python3 -m compileall -q -b legacy.py && \
    python3 -m compileall -q --invalidation-mode checked-hash -o 1 old.py && python3 /make.py
"#;
    let _ = build(&sandbox, files, &[]).ok();
    let valid = "for m in base package legacy old; do \
                 python3 -v -c \"import $m\" 2>&1 | grep -q 'matches /app/' && echo $m; done; true";
    assert_eq!(run(&sandbox, valid), "base\npackage\nlegacy\nold\n");
    let times = "python3 -c 'import zipfile; \
                 print([i.date_time[:3] for i in zipfile.ZipFile(\"/a.whl\").infolist()]); \
                 print(zipfile.ZipFile(\"/a.whl\").testzip()); \
                 data = open(\"/lib.a\", \"rb\").read(); print(data[24:36], data[88:100])'";
    let expected = "[(1980, 1, 1), (2001, 2, 3)]\nNone\nb'315532800   ' b'981173106   '\n";
    assert_eq!(run(&sandbox, times), expected);
    let _ = again(&sandbox, &["--no-normalize", "python-bytecode"]).ok();
    let stale = run(&sandbox, valid);
    assert!(stale == "base\n", "a source that is older than the build keeps its time: {stale}");
}
