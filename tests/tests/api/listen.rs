//! Where else the API is listened for: networks with certificates on both sides, and sockets that
//! whoever starts the server has opened.

use std::process::Command;

use testkit::{Api, Sandbox};

/// Makes an authority, and certificates of it for a server, a client, and a client of another
/// authority, in a directory.
pub(super) fn certificates(folder: &std::path::Path) {
    let script = r#"
        set -e
        authority() {
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                -subj "/CN=$1" -addext basicConstraints=critical,CA:TRUE \
                -keyout "$1.key" -out "$1.pem"
        }
        signed() {
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$2" \
                -keyout "$2-key.pem" -out "$2.csr"
            printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=%s\n' "$3" >"$2.ext"
            openssl x509 -req -in "$2.csr" -CA "$1.pem" -CAkey "$1.key" -CAcreateserial -days 2 \
                -extfile "$2.ext" -out "$2-cert.pem"
        }
        authority ca
        authority other
        signed ca server serverAuth
        signed ca client clientAuth
        signed other stranger clientAuth
    "#;
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output();
    let output = output.expect("a shell is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hint: ./test installs openssl\n{said}");
}

#[test]
fn a_network_is_for_those_with_certificates() {
    let sandbox = Sandbox::new();
    certificates(&sandbox.work());
    let api = Api::start(&sandbox);
    let serve = "exec $E serve -H tcp://127.0.0.1:2376 --tlsverify --tlscacert ca.pem \
                 --tlscert server-cert.pem --tlskey server-key.pem";
    let server = sandbox.start_script(serve);
    server.wait_for("API listen on tcp://127.0.0.1:2376");
    let as_client = |who: &str, what: &str| {
        let script = format!(
            "$E --host tcp://127.0.0.1:2376 --tlsverify --tlscacert ca.pem --tlscert {who}-cert.pem \
             --tlskey {who}-key.pem {what} 2>&1"
        );
        api.shell(&script)
    };
    assert_eq!(as_client("client", "version --format '{{.Server.Os}}'").ok(), "linux");
    // Streams of a process go over it, in both directions.
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let run = as_client("client", "run --rm -i --network none busybox sh -c 'cat; exit 3' <ca.pem");
    assert_eq!(run.code, 3, "{run}");
    assert!(run.stdout.contains("BEGIN CERTIFICATE"), "{run}");
    let stranger = as_client("stranger", "version");
    assert!(stranger.code != 0, "{stranger}");
    let plain = api.shell("$E --host tcp://127.0.0.1:2376 version 2>&1");
    assert!(plain.code != 0 && plain.stdout.contains("HTTP request to an HTTPS server"), "{plain}");
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.finish().code, 0);
    let open = sandbox.line("cais serve -H tcp://127.0.0.1:2376");
    assert!(open.code != 0 && open.stderr.contains("--tlsverify"), "{open}");
}

#[test]
fn sockets_are_taken_over_from_whoever_starts_the_server() {
    let sandbox = Sandbox::new();
    let api = Api::start(&sandbox);
    // As systemd does it: sd_listen_fds(3).
    let launch = r#"exec python3 -c '
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind("activated.sock")
listener.listen()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ["LISTEN_FDS"] = "1"
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[1], [sys.argv[1], "serve", "-H", "fd://"])
' "$E""#;
    let server = sandbox.start_script(launch);
    server.wait_for("API listen on fd://");
    let told = api.shell("$E --host unix://$PWD/activated.sock version --format '{{.Server.Os}}'");
    assert_eq!(told.ok(), "linux");
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.finish().code, 0);
    // What somebody else has opened, somebody else removes.
    assert!(sandbox.work().join("activated.sock").exists());
    let none = sandbox.line("cais serve -H fd://");
    assert!(none.code != 0 && none.stderr.contains("no sockets found"), "{none}");
}

#[test]
fn a_client_elsewhere_comes_by_a_program() {
    let sandbox = Sandbox::new();
    let api = Api::start(&sandbox);
    // What `ssh` would run elsewhere, in its place.
    let asked = format!(
        "mkdir bin && printf '#!/bin/sh\nexec env DOCKER_HOST=unix://{} %s system dial-stdio\n' \"$E\" \
         >bin/ssh && chmod 755 bin/ssh",
        api.socket().display()
    );
    let _ = sandbox.shell(&asked).ok();
    let told = api.shell(
        "PATH=$PWD/bin:$PATH DOCKER_HOST=ssh://elsewhere $E version --format '{{.Server.Os}}'",
    );
    assert_eq!(told.ok(), "linux");
    let none = sandbox.line("cais system dial-stdio");
    assert!(none.code != 0 && none.stderr.contains("cais serve"), "{none}");
}
