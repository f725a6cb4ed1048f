//! The binary under the name `docker`, as the client of an engine elsewhere: ours, and a real Docker.

use testkit::{Api, Dockerd, Outcome, Sandbox};

use super::listen::certificates;

/// Runs a script in which `$D` is the binary under the name of Docker's client.
#[track_caller]
fn docker(sandbox: &Sandbox, script: &str) -> Outcome {
    let named = "mkdir -p bin && ln -sf \"$E\" bin/docker && D=$PWD/bin/docker && ";
    sandbox.shell(&format!("{named}{script}"))
}

/// What people do every day; `$D` is told where the engine is by what stands before it.
const DAY: &str = r#"
    set -e
    $D run --rm -i --network none busybox sh -c 'cat; echo err >&2; exit 3' <in 2>err || echo "code $?"
    cat err
    $D run -d --name web --network none -e A=1 -l of=test -v vol:/data -w /data \
        busybox sh -c 'echo begun; echo x >f; exec sleep 1000' >id
    until $D logs web | grep -q begun; do :; done
    test "$($D ps -q --no-trunc)" = "$(cat id)"
    $D ps --format '{{.Names}} {{.Image}} {{.State}} {{.Label "of"}} {{.Command}}'
    $D inspect -f '{{.Name}} {{.State.Running}} {{.Config.Image}}' web
    $D exec web sh -c 'echo $A; pwd; exit 5' || echo "code $?"
    echo fed | $D exec -i web cat
    $D exec -d web touch /detached
    $D top web -o pid,args | wc -l
    $D stats --no-stream --format '{{.Name}} {{.PIDs}}' web
    $D pause web; $D unpause web
    $D rename web front
    mkdir -p tree/sub; echo one >tree/sub/one; ln -sf sub/one tree/link; ln -f tree/sub/one tree/hard
    $D cp tree front:/copied
    $D exec front cat /copied/sub/one /copied/link /copied/hard
    $D cp front:/copied/. back; cat back/link; $D cp front:/copied/sub/one - | tar -x -O
    $D diff front | grep -x 'A /copied/sub'
    $D commit -m said -c 'CMD ["cat", "/copied/link"]' front mine:1 >/dev/null
    $D run --rm --network none mine:1
    $D save -o mine.tar mine:1; $D rmi mine:1 >/dev/null; $D load -i mine.tar
    $D tag mine:1 mine:2; $D images --format '{{.Repository}}:{{.Tag}}' mine; $D history mine:2 | grep -c said
    $D rmi mine:1 mine:2 >/dev/null
    $D export front | tar -t | grep -x copied/sub/one
    $D kill -s USR1 front; $D stop -t 1 front; $D wait front
    $D start front; $D restart -t 1 front
    $D create --name says --network none busybox sh -c 'echo first; exit 4' >/dev/null
    $D start -a says || echo "code $?"; $D rm says
    $D rm -f front
    $D volume ls -q; $D volume inspect -f '{{.Name}}' vol; $D volume rm vol
    $D create --name waits --network none busybox true >/dev/null
    $D start waits; test "$($D wait waits)" = 0; $D container rm waits
    $D events --since 0 --until "$(($(date +%s)+1))" -f container=waits --format '{{.Action}}' | grep -x -m 1 create
    $D run --name none busybox no-such-program 2>/dev/null || echo "code $?"; $D rm -f none
    $D info --format '{{.OSType}}'; $D version --format '{{.Server.Os}}'
"#;

const DAY_SAYS: &str = "\
in
code 3
err
web busybox running test \"sh -c 'echo begun; …\"
/web true busybox
1
/data
code 5
fed
2
web 1
web
web
one
one
one
one
one
A /copied/sub
one
Loaded image: mine:1
mine:1
mine:2
1
copied/sub/one
front
front
137
front
front
first
code 4
says
front
vol
vol
vol
waits
waits
create
code 127
none
linux
linux";

/// Of the lines, those that say the same whichever engine it is, in any order of two processes.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_day_with_our_engine() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let api = Api::start(&sandbox);
    let host = format!("echo in >in && export DOCKER_HOST=unix://{} && ", api.socket().display());
    let said = docker(&sandbox, &format!("{host}{DAY}"));
    assert_eq!(sorted(said.ok()), sorted(DAY_SAYS), "{said}");
    // An option says where the engine is, too, under our own name.
    let listed = format!("$E -H unix://{} ps -aq", api.socket().display());
    assert_eq!(sandbox.shell(&listed).ok(), "");
}

/// As [`DAY`], of what a daemon without networks and our registry has.
const ELSEWHERE: &str = r#"
    set -e
    printf 'in\n' | $D run --rm -i --network none busybox sh -c 'cat; exit 3' || echo "code $?"
    $D run -d --name web --network none busybox sh -c 'echo begun; exec sleep 1000' >id
    until $D logs web | grep -q begun; do :; done
    $D ps --format '{{.Names}} {{.State}}'
    $D exec web sh -c 'echo out; exit 5' || echo "code $?"
    mkdir -p sent; echo one >sent/f; $D cp sent web:/copied; $D cp web:/copied/f - | tar -x -O
    mkdir -p ctx; printf 'FROM busybox\nCOPY f /f\nCMD ["cat", "/f"]\n' >ctx/Dockerfile
    echo built >ctx/f; echo secret >ctx/no; echo no >ctx/.dockerignore
    $D build -q -t built:1 ctx >/dev/null; $D run --rm --network none built:1
    $D rm -f web; $D volume create vol; $D volume rm vol; $D images -q built | wc -l
    $D rmi built:1 >/dev/null; $D info --format '{{.OSType}}'
"#;

#[test]
fn a_real_docker_is_an_engine_like_ours() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let _ = sandbox.cais(["save", "-o", "busybox.tar", "busybox"]).ok();
    let theirs = Dockerd::start(&sandbox);
    let api = Api::start(&sandbox);
    let said = |socket: &std::path::Path| {
        let host = format!("D=\"$D -H unix://{}\"; ", socket.display());
        let script = format!("{host} $D load -q -i busybox.tar >/dev/null;{ELSEWHERE}");
        docker(&sandbox, &script).ok().to_owned()
    };
    let ours = said(api.socket());
    assert_eq!(ours.lines().count(), 12, "{ours}");
    assert_eq!(said(&theirs.socket()), ours);
}

#[test]
fn a_network_with_certificates_carries_all_streams() {
    let sandbox = Sandbox::new();
    certificates(&sandbox.work());
    let _ = sandbox.cais(["pull", "--quiet", "busybox"]).ok();
    let serve = "exec $E serve -H tcp://127.0.0.1:2376 --tlsverify --tlscacert ca.pem \
                 --tlscert server-cert.pem --tlskey server-key.pem";
    let server = sandbox.start_script(serve);
    server.wait_for("API listen on tcp://127.0.0.1:2376");
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(|n| [n as u8, (n >> 8) as u8]).collect();
    std::fs::write(sandbox.work().join("big"), &bytes).expect("the work directory takes files");
    // As `docker-machine` and its like leave them.
    let place = "mkdir -p pki && cp ca.pem pki && cp client-cert.pem pki/cert.pem && \
                 cp client-key.pem pki/key.pem && export DOCKER_HOST=tcp://127.0.0.1:2376 && ";
    let proven = "export DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=$PWD/pki && ";
    let run =
        "$D run --rm -i --network none busybox sh -c 'cat; exit 3' <big | cmp - big && echo same";
    assert_eq!(docker(&sandbox, &format!("{place}{proven}{run}")).ok(), "same");
    let context = "$D context create --docker \
                   host=$DOCKER_HOST,ca=ca.pem,cert=client-cert.pem,key=client-key.pem far 2>/dev/null && \
                   unset DOCKER_HOST && $D -c far version --format '{{.Server.Os}} {{.Client.Context}}'";
    assert_eq!(docker(&sandbox, &format!("{place}{context}")).ok(), "far\nlinux far");
    let plain = docker(&sandbox, &format!("{place} $D ps"));
    assert!(plain.code == 1 && plain.stderr.contains("HTTPS server"), "{plain}");
    let stranger = format!(
        "{place} $D --tlsverify --tlscacert ca.pem --tlscert stranger-cert.pem --tlskey stranger-key.pem ps"
    );
    assert_eq!(docker(&sandbox, &stranger).code, 1);
    let liar = format!("{place}{proven} $D --tlscacert other.pem ps");
    assert!(docker(&sandbox, &liar).code == 1);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.finish().code, 0);
}

#[test]
fn an_engine_is_reached_through_ssh() {
    let sandbox = Sandbox::new();
    let api = Api::start(&sandbox);
    // What `ssh` would run elsewhere, in its place; it tells how it was called.
    let asked = format!(
        "printf '#!/bin/sh\necho \"$@\" >>asked\nexec env DOCKER_HOST=unix://{} %s system dial-stdio\n' \
         \"$E\" >bin/ssh && chmod 755 bin/ssh && export PATH=$PWD/bin:$PATH && ",
        api.socket().display()
    );
    let script = format!(
        "{asked} DOCKER_HOST=ssh://me@elsewhere:2222 $D version --format '{{{{.Server.Os}}}}' && \
         $D -H ssh://elsewhere ps -q && sort -u asked"
    );
    assert_eq!(
        docker(&sandbox, &script).ok(),
        "linux\n\
         -o ConnectTimeout=30 -T -- elsewhere docker system dial-stdio\n\
         -o ConnectTimeout=30 -T -l me -p 2222 -- elsewhere docker system dial-stdio"
    );
}

/// What is done with contexts, by our `docker` or by the real one, `$D`.
const CONTEXTS: &str = r"
    $D context create far --description 'the far one' --docker host=tcp://far:2376 2>&1
    $D context create nearer --docker host=unix:///run/nearer.sock 2>&1
    $D context create far --docker host=tcp://far:2376 2>/dev/null || echo refused
    $D context create x/y --docker host=tcp://far:2376 2>/dev/null || echo refused
    $D context ls --format '{{.Name}} {{.Current}} {{.Description}} {{.Error}}'
    $D context use far 2>&1; $D context show; $D context ls -q
    $D context inspect far nearer
    $D context inspect -f '{{.Endpoints.docker.Host}}' far
    $D context export far 2>&1; tar -tf far.dockercontext
    $D context rm far 2>/dev/null || echo refused
    $D context rm -f far; $D context show
    $D context import again far.dockercontext 2>&1
    $D context update --description other again 2>&1
    $D context inspect -f '{{.Name}}' again; $D context ls --format '{{.Description}}'
    $D context rm again nearer; rm far.dockercontext; $D context ls -q
";

#[test]
fn contexts_are_those_of_docker_s_client() {
    let sandbox = Sandbox::new();
    let api = Api::start(&sandbox);
    let ours = docker(&sandbox, &format!("unset DOCKER_HOST; {CONTEXTS}"));
    let theirs = api.shell(&format!("unset DOCKER_HOST; D=docker; {CONTEXTS}"));
    assert_eq!(ours.ok(), theirs.ok());
    // Either reads what the other has written.
    let made = "unset DOCKER_HOST; docker context create theirs --docker host=ssh://me@far >&2 && \
                docker context use theirs >&2";
    let _ = api.shell(made).ok();
    let script = "$D context show; $D context inspect -f '{{.Endpoints.docker.Host}}'";
    assert_eq!(docker(&sandbox, script).ok(), "theirs\nssh://me@far");
    // Under our own name, our own engine is asked, whatever is chosen there.
    assert_eq!(sandbox.line("cais ps -q").ok(), "");
    let gone = docker(&sandbox, "$D --context nowhere ps");
    assert!(gone.code == 1 && gone.stderr.contains("context not found"), "{gone}");
}

#[test]
fn what_an_engine_elsewhere_cannot_be_asked_for_is_refused() {
    let sandbox = Sandbox::new();
    let api = Api::start(&sandbox);
    let host = format!("D=\"$D -H unix://{}\"; ", api.socket().display());
    for line in [
        "compose ps",
        "system fsck",
        "volume snapshot a b",
        "images --tree",
        "run --pull lazy --network none busybox true",
        "run --honest-proc busybox true",
        "build --secret id=x,src=/dev/null .",
    ] {
        let refused = docker(&sandbox, &format!("{host} $D {line}"));
        assert!(refused.code != 0 && refused.stderr.contains("not supported for"), "{refused}");
    }
    let both = docker(&sandbox, "$D -H unix:///x --context y ps");
    assert!(both.code == 1 && both.stderr.contains("conflicting options"), "{both}");
    let nobody = docker(&sandbox, "$D -H unix:///no/such ps");
    assert!(nobody.code == 1 && nobody.stderr.contains("Cannot connect"), "{nobody}");
}
