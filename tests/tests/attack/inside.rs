//! Programs in a container that want out.

use serde_json::Value;
use testkit::Sandbox;

#[test]
fn the_kernels_files_cannot_be_written() {
    let sandbox = Sandbox::new();
    let files = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/panic_on_oom",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/memory/release_agent",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/cgroup.procs",
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/cgroup.procs",
    ];
    // Opened only: what an open for writing allows would be a change of this machine.
    let script = format!(
        "for f in {}; do ( : >> $f ) 2> /dev/null && echo $f; done; \
         for d in /sys/fs/cgroup /sys/fs/cgroup/memory; do mkdir $d/new 2> /dev/null && echo $d; \
         done; true",
        files.join(" ")
    );
    let _ = sandbox.cais(["pull", "busybox"]).ok();
    let run = ["run", "--rm", "--network", "none", "busybox", "sh", "-c", &script];
    sandbox.cais(run).code(0).out("");
}

#[test]
fn parameters_of_the_host_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.import_probe();
    for parameter in [
        "kernel.core_pattern=x",
        "kernel/core_pattern=x",
        "net/../kernel/core_pattern=x",
        "net.ipv4/../../kernel.core_pattern=x",
        "vm.swappiness=60",
        "user.max_user_namespaces=0",
    ] {
        let run = format!("cais run --rm --network none --sysctl {parameter} probe /probe ids");
        sandbox.line(&run).code(125).says("not the container's own");
    }
    for flags in
        ["--network host --sysctl net.ipv4.ip_forward=0", "--ipc host --sysctl kernel.msgmax=1"]
    {
        let run = format!("cais run --rm {flags} probe /probe ids");
        sandbox.line(&run).code(125).says("not the container's own");
    }
}

#[test]
fn what_is_executed_later_is_confined_and_holds_nothing() {
    let sandbox = Sandbox::new();
    sandbox.import_probe();
    let ask = |words: &str| -> Value {
        let outcome = sandbox.line(&format!("cais exec {words}"));
        serde_json::from_str(outcome.ok()).unwrap_or_else(|error| panic!("{error}:\n{outcome}"))
    };
    let _ = sandbox.line("cais run -d --name held --network none probe /probe wait").ok();
    let open = ask("held /probe descriptors");
    let numbers: Vec<&String> = open.as_object().expect("an object").keys().collect();
    assert_eq!(numbers, ["0", "1", "2"], "{open:#}");
    let outside = sandbox.probe(["namespaces"]);
    let inside = ask("held /probe namespaces");
    for kind in ["mnt", "pid", "net", "ipc", "uts"] {
        assert_ne!(inside[kind], outside[kind], "{kind}");
    }
    let calls = ask("held /probe calls");
    for call in ["add_key", "bpf", "io_uring_setup", "mount", "setns", "userfaultfd"] {
        assert_eq!(calls[call], "EPERM", "{call}");
    }
    // A working directory through a descriptor of whoever executes leads nowhere.
    for descriptor in 3..12 {
        let exec = format!("cais exec -w /proc/self/fd/{descriptor} held /probe directory");
        assert_ne!(sandbox.line(&exec).code, 0, "descriptor {descriptor}");
    }
    let _ = sandbox.line("cais rm -f held").ok();
}

#[test]
fn root_of_a_user_namespace_owns_nothing_of_the_host() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "busybox"]).ok();
    let attack = "for f in /dev/null /proc/version /sys/kernel; do \
                  chmod 777 $f 2> /dev/null && echo $f; done; \
                  chmod 777 /proc/self/fd/0 2> /dev/null && echo stdin; \
                  mknod /dev/shm/sda b 8 0 2> /dev/null && echo mknod; id -u";
    let flags = ["run", "--rm", "--network", "none", "--userns", "200000:65536"];
    let [a, b, c, d, e, f] = flags;
    sandbox.cais([a, b, c, d, e, f, "busybox", "sh", "-c", attack]).code(0).out("0\n");
}
