//! Other engines run containers on it: Debian's Docker, containerd and podman.

use std::path::Path;

use testkit::{Dockerd, Outcome};

use super::Oci;

/// What every engine's script begins with: `check WANTED COMMAND…` compares what a command prints.
const CHECK: &str = r#"
check() {
    wanted=$1; shift
    got=$("$@" 2>&1); code=$?
    [ "$got [$code]" = "$wanted" ] || { echo "$*: wanted: $wanted, got: $got [$code]"; exit 1; }
}
"#;

/// A root file system, and the binary under the name of an OCI runtime.
fn prepared() -> Oci {
    let oci = Oci::new();
    let _ = oci.sandbox.shell("ln -s $E cais-runc").ok();
    oci
}

#[expect(clippy::print_stderr, reason = "whoever reads the tests' output sees what was not tested")]
fn installed(programs: &[&str]) -> bool {
    let exists =
        |name: &str| ["/usr/bin", "/usr/sbin"].iter().any(|d| Path::new(d).join(name).exists());
    let missing: Vec<&&str> = programs.iter().filter(|name| !exists(name)).collect();
    if !missing.is_empty() {
        eprintln!("skipped: {missing:?} is not installed");
    }
    missing.is_empty()
}

#[track_caller]
fn good(outcome: &Outcome) {
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""), "{outcome}");
}

#[test]
fn docker_runs_on_it() {
    let oci = prepared();
    let runtime = format!("--add-runtime cais={}", oci.path("cais-runc").display());
    let docker = Dockerd::start_with(&oci.sandbox, &runtime);
    let _ = docker.shell("tar -C rootfs -c . | docker import - busybox").ok();
    let script = r#"
run() { docker run --runtime cais --network none "$@"; }
check 'hello [0]' run --rm busybox echo hello
check ' [3]' run --rm busybox sh -c 'exit 3'
run --rm busybox nope >/dev/null 2>&1; [ $? = 127 ] || { echo "a missing program: $?"; exit 1; }
run --rm busybox /etc >/dev/null 2>&1; [ $? = 126 ] || { echo "a directory: $?"; exit 1; }
check 'in [0]' sh -c 'echo in | docker run --runtime cais --network none --rm -i busybox cat'
check '/dev/pts/0 [0]' sh -c 'docker run --runtime cais --network none --rm -t busybox tty | tr -d "\r"'
run -d --name one -v "$PWD/rootfs/bin:/vol:ro" -m 64m busybox sleep 1000 >/dev/null
check '/vol/busybox [0]' docker exec one ls /vol/busybox
check 'uid=5 gid=6 groups=6 [0]' docker exec -u 5:6 one id
check ' [9]' docker exec one sh -c 'exit 9'
check 'one [0]' docker pause one
check 'paused [0]' docker inspect -f '{{.State.Status}}' one
check 'one [0]' docker unpause one
check 'one [0]' docker update --memory 32m --memory-swap 64m --pids-limit 30 one
check 'one [0]' docker kill one
check '137 [0]' docker wait one
check 'one [0]' docker start one
check 'one [0]' docker restart -t 0 one
check 'one [0]' docker rm -f one
"#;
    good(&docker.shell(&format!("{CHECK}{script}")));
}

#[test]
fn containerd_runs_on_it() {
    if !installed(&["containerd", "ctr", "containerd-shim-runc-v2"]) {
        return;
    }
    let oci = prepared();
    let script = r#"
mkdir -p /run/containerd c && mount -t tmpfs tmpfs /run/containerd || exit 1
printf 'version = 2\nroot = "%s/c/root"\nstate = "/run/containerd/state"\n' "$PWD" > c/config.toml
printf 'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n' >> c/config.toml
printf 'address = "/run/containerd/c.sock"\n' >> c/config.toml
containerd -c c/config.toml >c/log 2>&1 & daemon=$!
trap 'kill $daemon; wait $daemon' EXIT
ctr() { command ctr -a /run/containerd/c.sock "$@"; }
until ctr version >/dev/null 2>&1; do kill -0 $daemon || { cat c/log; exit 1; }; done
start() { ctr run --runc-binary "$PWD/cais-runc" --cgroup CGROUP/one --rootfs -d "$PWD/rootfs" one sleep 1000; }
once() { name=$1; shift; ctr run --rm --runc-binary "$PWD/cais-runc" --cgroup CGROUP/$name --rootfs "$PWD/rootfs" $name "$@"; }
check 'hello [0]' once a echo hello
check ' [4]' once b sh -c 'exit 4'
once c nope 2>&1 | grep -q 'executable file not found' || { echo 'a missing program'; exit 1; }
check ' [0]' start
check ' [5]' ctr task exec --exec-id e one sh -c 'exit 5'
check ' [0]' ctr task pause one
ctr task ls | grep -q PAUSED || { echo 'it is not paused'; exit 1; }
check ' [0]' ctr task resume one
check ' [0]' ctr task kill -s SIGKILL one
until ctr task ls | grep -q STOPPED; do :; done
ctr task rm one >/dev/null 2>&1
check ' [0]' ctr container rm one
"#;
    let script = script.replace("CGROUP", &oci.cgroup("ctr"));
    std::fs::write(oci.path("script"), format!("{CHECK}{script}")).unwrap();
    // What containerd keeps in /run is its own this way, and goes with the namespace.
    good(&oci.sandbox.shell("unshare --mount sh script"));
}

#[test]
fn podman_runs_on_it() {
    if !installed(&["podman", "conmon"]) {
        return;
    }
    let oci = prepared();
    // What podman makes for itself stays, whatever the runtime.
    let script = r#"
groups() { find /sys/fs/cgroup/ -depth -type d -path "*$(dirname CGROUP)*" "$@" 2>/dev/null; }
tidy() {
    end=$(($(date +%s)+120))
    # Its monitors remove groups, and are in one, for a while after `podman rm` returns.
    until [ -z "$(groups)" ] || [ "$(date +%s)" -gt $end ]; do groups -exec rmdir {} +; done
}
trap tidy EXIT
printf '[containers]\ndefault_ulimits=[]\n' > containers.conf
export CONTAINERS_CONF=$PWD/containers.conf
podman() {
    command podman --root "$PWD/p/root" --runroot "$PWD/p/run" --tmpdir "$PWD/p/tmp" \
        --storage-driver vfs --runtime "$PWD/cais-runc" --cgroup-manager cgroupfs \
        --events-backend none "$@"
}
run() { podman run --network none --cgroup-parent CGROUP "$@"; }
check 'hello [0]' run --rm --rootfs "$PWD/rootfs" echo hello
check ' [3]' run --rm --rootfs "$PWD/rootfs" sh -c 'exit 3'
run --rm --rootfs "$PWD/rootfs" nope >/dev/null 2>&1; [ $? = 127 ] || { echo "a missing program: $?"; exit 1; }
run -d --name one -v "$PWD/rootfs/bin:/vol:ro" -m 64m --rootfs "$PWD/rootfs" sleep 1000 >/dev/null
check '/vol/busybox [0]' podman exec one ls /vol/busybox
check 'uid=5 gid=6 [0]' podman exec -u 5:6 one id
check ' [9]' podman exec one sh -c 'exit 9'
podman pause one >/dev/null
check 'paused [0]' podman inspect -f '{{.State.Status}}' one
podman unpause one >/dev/null
podman update --memory 32m one >/dev/null
podman kill one >/dev/null
check '137 [0]' podman wait one
podman start one >/dev/null
podman rm -f -t 0 one >/dev/null
check ' [0]' podman ps -aq
"#;
    let script = script.replace("CGROUP", &oci.cgroup("podman"));
    good(&oci.sandbox.shell(&format!("{CHECK}{script}")));
}
