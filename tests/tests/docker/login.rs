//! Logging in and out.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use testkit::{Running, Sandbox};

/// `secret`, by bcrypt, the only method that docker-registry knows.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
const HOST: &str = "127.0.0.1:5002";
const READY_MAX: Duration = Duration::from_secs(30);

/// A registry that only lets `me` in.
struct Closed(Option<Running>);

impl Closed {
    fn start(sandbox: &Sandbox) -> Self {
        let work = sandbox.work();
        std::fs::write(work.join("htpasswd"), HTPASSWD).expect("the work directory takes files");
        let settings = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem:\n    rootdirectory: {0}/closed\n\
             http:\n  addr: {HOST}\nauth:\n  htpasswd:\n    realm: x\n    path: {0}/htpasswd\n",
            work.display()
        );
        std::fs::write(work.join("closed.yml"), settings).expect("the work directory takes files");
        let server = sandbox.start_script("exec docker-registry serve closed.yml >/dev/null 2>&1");
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, 5002).into();
        let deadline = Instant::now() + READY_MAX;
        while sandbox.connect(address).is_err() {
            assert!(Instant::now() < deadline, "docker-registry listens within {READY_MAX:?}");
            std::thread::yield_now();
        }
        Self(Some(server))
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        if let Some(server) = self.0.take() {
            server.signal(Signal::TERM);
            let _ = server.finish();
        }
    }
}

#[test]
fn credentials_are_tried_kept_used_and_forgotten() {
    let sandbox = Sandbox::new();
    let _closed = Closed::start(&sandbox);
    let login = |password: &str, more: &str| {
        sandbox.shell(&format!("printf '%s\n' {password} | $E login -u me --password-stdin {more}"))
    };
    login("wrong", HOST).code(1).says("login attempt to 127.0.0.1:5002 failed");
    let _ = sandbox.shell("$E pull -q busybox; $E tag busybox 127.0.0.1:5002/b").ok();
    sandbox.cais(["push", "127.0.0.1:5002/b"]).code(1).says("push access denied");
    let kept = login("secret", HOST);
    kept.code(0).out("Login Succeeded\n").says("stored unencrypted");
    let _ = sandbox.cais(["push", "127.0.0.1:5002/b"]).ok();
    let again = sandbox.cais(["login", HOST]);
    assert!(again.ok().starts_with("Authenticating with existing credentials... [Username: me]"));
    let file = sandbox.shell(
        "stat -c '%a' $HOME/.docker $HOME/.docker/config.json; cat $HOME/.docker/config.json",
    );
    file.code(0).out(
        "700\n600\n{\n\t\"auths\": {\n\t\t\"127.0.0.1:5002\": {\n\t\t\t\"auth\": \"bWU6c2VjcmV0\"\n\t\t}\n\t}\n}",
    );
    let out = format!("Removing login credentials for {HOST}\n");
    sandbox.cais(["logout", HOST]).code(0).out(&out);
    sandbox.cais(["push", "127.0.0.1:5002/b"]).code(1).says("push access denied");
    sandbox
        .cais(["logout"])
        .code(0)
        .out("Removing login credentials for https://index.docker.io/v1/\n");
    sandbox
        .cais(["copy", "-q", "--dest-creds", "me:secret", "store:busybox", "127.0.0.1:5002/c"])
        .code(0);
    sandbox.cais(["copy", "-q", "--src-creds", "me:no", "127.0.0.1:5002/c", "oci:lay"]).code(1);
    sandbox
        .cais(["copy", "--src-creds", "me", "127.0.0.1:5002/c", "oci:lay"])
        .code(1)
        .says("expected USER:PASSWORD");
}

#[test]
fn everything_else_in_the_file_stays_and_links_are_followed() {
    let sandbox = Sandbox::new();
    let _closed = Closed::start(&sandbox);
    let script = "mkdir -p $HOME/.docker elsewhere; \
        echo '{\"HttpHeaders\":{\"A\":\"b\"},\"auths\":{\"z.example\":{\"auth\":\"YTpi\"}},\"x\":[1]}' >elsewhere/c; \
        ln -s $PWD/elsewhere/c $HOME/.docker/config.json; \
        echo secret | $E login -u me --password-stdin http://127.0.0.1:5002/v2/ 2>/dev/null; \
        test -L $HOME/.docker/config.json; tr -d '\\n\\t' <elsewhere/c; ls -A elsewhere; ls -A $HOME/.docker";
    sandbox.shell(&format!("set -e; {script}")).code(0).out(
        "Login Succeeded\n{\"HttpHeaders\": {\"A\": \"b\"},\"auths\": {\"z.example\": \
         {\"auth\": \"YTpi\"},\"127.0.0.1:5002\": {\"auth\": \"bWU6c2VjcmV0\"}},\"x\": [1]}\
         c\nconfig.json\n",
    );
    let _ = sandbox.shell("echo '{' >elsewhere/c").ok();
    let broken = sandbox.shell("echo secret | $E login -u me --password-stdin 127.0.0.1:5002");
    broken.code(1).says("config.json");
    sandbox.shell("cat elsewhere/c").code(0).out("{\n");
}

#[test]
fn a_keychain_gets_the_secret_and_the_file_does_not() {
    let sandbox = Sandbox::new();
    let _closed = Closed::start(&sandbox);
    let keychain = "#!/bin/sh\necho \"$1\" >>$HOME/calls; case $1 in store) cat >$HOME/kept;; \
        get) read r; test -s $HOME/kept && sed 's/ServerURL/ServerURL/' $HOME/kept || \
        { echo 'credentials not found in native keychain'; exit 1; };; erase) rm -f $HOME/kept;; esac\n";
    let bin = sandbox.work().join("bin");
    std::fs::create_dir(&bin).expect("the work directory takes entries");
    testkit::write_script(bin.join("docker-credential-mine"), keychain);
    let script = "set -e; PATH=$PWD/bin:$PATH; mkdir -p $HOME/.docker; \
        echo '{\"credsStore\":\"mine\"}' >$HOME/.docker/config.json; \
        echo secret | $E login -u me --password-stdin 127.0.0.1:5002; cat $HOME/kept; \
        grep -c secret $HOME/.docker/config.json || true; \
        $E pull -q busybox >/dev/null; $E tag busybox 127.0.0.1:5002/b; $E push -q 127.0.0.1:5002/b; \
        $E logout 127.0.0.1:5002; ls $HOME/kept 2>/dev/null || echo erased; \
        tr -d '\\n\\t' <$HOME/.docker/config.json";
    let outcome = sandbox.shell(script);
    outcome.code(0).out(
        "Login Succeeded\n\
         {\"ServerURL\":\"127.0.0.1:5002\",\"Username\":\"me\",\"Secret\":\"secret\"}\n0\n\
         127.0.0.1:5002/b:latest\nRemoving login credentials for 127.0.0.1:5002\nerased\n\
         {\"credsStore\": \"mine\",\"auths\": {}}",
    );
}

#[test]
fn a_password_is_typed_without_being_seen() {
    let sandbox = Sandbox::new();
    let _closed = Closed::start(&sandbox);
    let mut login = sandbox.start_on_terminal(["login", HOST], (80, 24));
    login.wait_for("Username: ");
    login.write("me\r");
    login.wait_for("Password: ");
    login.write("secrex\x7ft\r");
    let outcome = login.finish();
    outcome.code(0);
    assert!(outcome.stdout.contains("Login Succeeded"), "{outcome}");
    assert!(!outcome.stdout.contains("secre"), "{outcome}");
    let mut broken = sandbox.start_on_terminal(["login", "-u", "me", HOST], (80, 24));
    broken.wait_for("Password: ");
    broken.write("\x03");
    broken.finish().code(1);
}

#[test]
fn what_cannot_be_asked_is_demanded() {
    let sandbox = Sandbox::new();
    for (words, why) in [
        (&["login", "-u", "me", HOST][..], "non TTY device"),
        (&["login", HOST], "non TTY device"),
        (&["login", "--password-stdin", HOST], "requires --username"),
        (&["login", "-u", "a", "-p", "b", "--password-stdin", HOST], "conflicting options"),
        (&["login", "-u", "a", "-p", "b", "127.0.0.1:5009"], "127.0.0.1:5009"),
        (&["search", "--limit", "101", "x"], "Limit 101 is outside the range of [1, 100]"),
        (&["search", "--filter", "x=1", "x"], "invalid filter 'x=1'"),
    ] {
        sandbox.words(words).code(1).says(why);
    }
    let found = sandbox.cais(["search", "127.0.0.1:5000/busy"]);
    assert!(found.ok().contains("127.0.0.1:5000/library/busybox"), "{found}");
}
