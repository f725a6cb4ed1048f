//! The same inputs give the same bytes: at another place, another time, by another hand.

use testkit::Sandbox;

use super::write;

const FILES: &str = r#"//- app/main.py
print("main")
//- app/lib.py
def f(): return 1
//- requirements.txt
nothing
//- Dockerfile
FROM python:3 AS build
WORKDIR /src
COPY requirements.txt .
RUN --network=none mkdir -p /out && date > /tmp/when && rm /tmp/when && cp requirements.txt /out/
COPY app app
RUN --network=none for i in z y x c b a; do echo $i > /out/$i; done; ln -s a /out/link; ln /out/b /out/hard; chmod 600 /out/c
FROM busybox
ARG V=1
ENV V=$V
RUN --network=none echo "$HOSTNAME $V" > /host && mkdir -p /var/cache/x && touch /var/cache/x/y
COPY --from=build /out /out
COPY --chown=7:7 app /app
USER 7
CMD ["cat", "/host"]
"#;

/// Builds in a fresh sandbox; what the image is.
fn digests(prepare: &str) -> String {
    let sandbox = Sandbox::new();
    write(&sandbox.work().join("ctx"), FILES);
    let build = "$E build -q -t built --metadata-file meta.json ctx >/dev/null && cat meta.json";
    sandbox.shell(&format!("{prepare}\n{build}")).ok().to_owned()
}

#[test]
fn two_clean_builds_are_identical() {
    let first = digests("true");
    let elsewhere = "umask 077; export TZ=Asia/Tokyo LC_ALL=C; mv ctx moved; mkdir ctx
                     for f in $(ls -r moved); do cp -r moved/$f ctx/; done
                     find ctx -type f -exec touch -d 2001-02-03 {} +; chmod -R u=rwX,go=rX ctx";
    assert_eq!(first, digests(elsewhere));
    let driver = digests("export CAIS_STORAGE_DRIVER=dir");
    assert_eq!(first, driver, "how layers are kept does not matter");
}

#[test]
fn the_time_is_given_or_constant() {
    let sandbox = Sandbox::new();
    let files = "//- f
f
//- Dockerfile
FROM busybox
COPY f /f
RUN --network=none touch /g && touch -d '1979-01-01 00:00:00' /old
";
    let times = "stat -c %Y /f /g /old";
    let _ = super::build(&sandbox, files, &[]).ok();
    assert_eq!(super::run(&sandbox, times), "315532800\n315532800\n283996800\n");
    assert_eq!(super::inspect(&sandbox, "{{.Created}}"), "1980-01-01T00:00:00Z");
    let _ = super::again(&sandbox, &["--build-arg", "SOURCE_DATE_EPOCH=1700000000"]).ok();
    assert_eq!(super::run(&sandbox, times), "1700000000\n1700000000\n283996800\n");
    assert_eq!(super::inspect(&sandbox, "{{.Created}}"), "2023-11-14T22:13:20Z");
}
