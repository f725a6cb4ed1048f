//! ADD from the network.

use oci::Digest;
use testkit::{Running, Sandbox};

use super::{build, run};

/// Serves the files below `served` on a port of the fake host.
fn serve(sandbox: &Sandbox) -> Running {
    super::write(&sandbox.work().join("served"), "//- f.txt\nfetched\n//- sub/g\ng\n");
    let _ = sandbox.shell("tar -C served -czf served/a.tgz f.txt").ok();
    let server = sandbox
        .start_script("cd served && exec python3 -u -m http.server --bind 127.0.0.1 8099 2>&1");
    server.wait_for("Serving HTTP");
    server
}

#[test]
fn files_are_fetched_verified_and_kept() {
    let sandbox = Sandbox::new();
    let _server = serve(&sandbox);
    let files = "//- Dockerfile
FROM busybox
ADD http://127.0.0.1:8099/f.txt /a/
ADD http://127.0.0.1:8099/sub/g?x=y /b
ADD --chmod=644 --chown=3:4 http://127.0.0.1:8099/f.txt /c
ADD http://127.0.0.1:8099/a.tgz /kept/
ADD --unpack http://127.0.0.1:8099/a.tgz /unpacked/
";
    let _ = build(&sandbox, files, &[]).ok();
    let line = "cat /a/f.txt /b /c /unpacked/f.txt; stat -c '%a %u %g' /a/f.txt /c; ls /kept";
    let expected = "fetched\ng\nfetched\nfetched\n600 0 0\n644 3 4\na.tgz\n";
    assert_eq!(run(&sandbox, line), expected);
    let again = super::again(&sandbox, &[]);
    assert!(
        !again.stderr.contains("ADD") || again.stderr.matches("CACHED").count() == 6,
        "{again}"
    );
    std::fs::write(sandbox.work().join("served/f.txt"), "changed\n").unwrap();
    let _ = super::again(&sandbox, &[]).ok();
    assert_eq!(run(&sandbox, "cat /a/f.txt"), "changed\n");
}

#[test]
fn a_checksum_is_demanded_and_saves_the_way() {
    let sandbox = Sandbox::new();
    let server = serve(&sandbox);
    let files = |checksum: &Digest| {
        format!(
            "//- Dockerfile\nFROM busybox\nADD --checksum={checksum} http://127.0.0.1:8099/f.txt /f\n"
        )
    };
    let wrong = build(&sandbox, &files(&Digest::of(b"other")), &[]);
    wrong.code(1);
    assert!(wrong.stderr.contains("does not match: expected sha256:"), "{wrong}");
    let right = files(&Digest::of(b"fetched\n"));
    let _ = build(&sandbox, &right, &[]).ok();
    drop(server);
    let _ = build(&sandbox, &right, &["--no-cache"]).ok();
    assert_eq!(run(&sandbox, "cat /f"), "fetched\n");
    let missing = "//- Dockerfile\nFROM busybox\nADD http://127.0.0.1:8099/nothing /f\n";
    let built = build(&sandbox, missing, &[]);
    built.code(1);
    assert!(built.stderr.contains("cannot get http://127.0.0.1:8099/nothing:"), "{built}");
}

/// Serves files to whoever knows a password.
const GUARD: &str = r#"import base64, http.server
class Guard(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        given = self.headers.get("Authorization", "").removeprefix("Basic ").removeprefix("basic ")
        if base64.b64decode(given) == b"me:hunter2@hunter2":
            return super().do_GET()
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic")
        self.end_headers()
print("Serving", flush=True)
http.server.HTTPServer(("127.0.0.1", 8099), Guard).serve_forever()
"#;

#[test]
fn who_asks_is_told_to_the_server_alone() {
    let sandbox = Sandbox::new();
    super::write(&sandbox.work().join("served"), "//- f.txt\nfetched\n//- repo/g\ng\n");
    std::fs::write(sandbox.work().join("guard.py"), GUARD).unwrap();
    let _ = sandbox
        .shell(
            "export HOME=$PWD GIT_CONFIG_GLOBAL=/dev/null; cd served && git -C repo init -qb main . && \
             git -C repo add . && git -C repo -c user.name=n -c user.email=e commit -qm one && \
             git clone -q --bare repo r.git && git -C r.git update-server-info",
        )
        .ok();
    let server = sandbox.start_script("cd served && exec python3 ../guard.py 2>&1");
    server.wait_for("Serving");
    let files = |name: &str| {
        format!(
            "//- Dockerfile
FROM busybox
ADD http://me:hunter2%40hunter2@127.0.0.1:8099/{name} /f
ADD --keep-git-dir=true http://me:hunter2%40hunter2@127.0.0.1:8099/r.git /r
"
        )
    };
    let flags = ["--provenance=mode=max", "-o", "out", "--update-lock"];
    let built = build(&sandbox, &files("f.txt"), &flags);
    let _ = built.ok();
    built.says("ADD http://xxxxx:xxxxx@127.0.0.1:8099/f.txt /f");
    assert_eq!(run(&sandbox, "cat /f /r/g"), "fetched\ng\n");
    let history = sandbox.cais(["history", "--no-trunc", "built"]).ok().to_owned();
    assert!(history.contains("ADD http://xxxxx:xxxxx@127.0.0.1:8099/f.txt /f"), "{history}");
    let _ = super::again(&sandbox, &["--locked"]).ok();
    let why = sandbox.cais(["why", "cache", "ctx"]);
    let wrong = build(&sandbox, &files("nothing"), &[]);
    wrong.code(1).says("cannot get http://xxxxx:xxxxx@127.0.0.1:8099/nothing: ");
    wrong.says("   2 | >>> ADD http://xxxxx:xxxxx@127.0.0.1:8099/nothing /f\n");
    let repository = files("f.txt").replace("r.git", "s.git");
    let missing = build(&sandbox, &repository, &[]);
    missing.code(1).says("http://127.0.0.1:8099/s.git");
    for said in [&built, &why, &wrong, &missing] {
        assert!(!said.to_string().contains("hunter2"), "{said}");
    }
    let found = sandbox.shell("grep -rl hunter2 $CAIS_ROOT $CAIS_RUN out ctx; true");
    assert_eq!(found.ok(), "ctx/Dockerfile");
    let refused = build(&sandbox, &files("f.txt").replace("me:", "you:"), &["--no-cache"]);
    refused.code(1);
    assert!(!refused.to_string().contains("hunter2"), "{refused}");
}
