//! System calls that an agent answers, and what the runtime itself calls below a filter.

use std::fs::{self, File};
use std::io::{self, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

use super::bundle::Bundle;
use super::seccomp;

/// An agent that makes directories for others, under a name of its own choice.
struct Agent(JoinHandle<Vec<Value>>);

impl Agent {
    /// Answers the processes of so many connections until they end.
    fn listen(path: &Path, connections: usize) -> Agent {
        let socket = UnixListener::bind(path).unwrap();
        Agent(std::thread::spawn(move || {
            let accept = |_| {
                let (state, listener) = receive(&socket.accept().unwrap().0);
                (state, std::thread::spawn(move || while answer(&listener) {}))
            };
            let accepted: Vec<_> = (0..connections).map(accept).collect();
            let finish = |(state, served): (Value, JoinHandle<()>)| {
                served.join().unwrap();
                state
            };
            accepted.into_iter().map(finish).collect()
        }))
    }

    /// The states that came.
    fn states(self) -> Vec<Value> {
        self.0.join().unwrap()
    }
}

/// One state and one descriptor, then the end.
fn receive(mut stream: &UnixStream) -> (Value, OwnedFd) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; 64 << 10];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let length = recvmsg(stream, &mut parts, &mut ancillary, flags).unwrap().bytes;
    bytes.truncate(length);
    stream.read_to_end(&mut bytes).unwrap();
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    assert_eq!(descriptors.len(), 1);
    (serde_json::from_slice(&bytes).unwrap(), descriptors.pop().unwrap())
}

/// Answers one call; `false` when nobody is left who could make one.
fn answer(listener: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut ready, None).unwrap();
    if !ready[0].revents().contains(PollFlags::IN) {
        return false;
    }
    let request = match seccomp::receive(listener) {
        Ok(request) => request,
        // Whoever called was killed.
        Err(error) => return error.raw_os_error() == Some(libc::ENOENT),
    };
    let made = make_directory(&request);
    let error = made.err().map_or(0, |error| -error.raw_os_error().unwrap_or(libc::EIO));
    let response = libc::seccomp_notif_resp { id: request.id, val: 0, error, flags: 0 };
    // The caller may have been killed meanwhile.
    let _ = seccomp::respond(listener, response);
    true
}

/// Does what the call asks for, inside the caller's root.
fn make_directory(request: &libc::seccomp_notif) -> io::Result<()> {
    let at = i64::from(request.data.nr) == libc::SYS_mkdirat;
    let pointer = request.data.args[usize::from(at)];
    let mut path = [0; 64];
    let memory = File::open(format!("/proc/{}/mem", request.pid))?;
    let length = memory.read_at(&mut path, pointer)?;
    let end = path[..length].iter().position(|&byte| byte == 0).unwrap_or(length);
    let path = String::from_utf8_lossy(&path[..end]).into_owned();
    if path.ends_with("never") {
        return Err(io::Error::from_raw_os_error(libc::EXDEV));
    }
    fs::create_dir(format!("/proc/{}/root{path}-by-agent", request.pid))
}

/// The calls that make directories are the agent's.
fn ask_agent(bundle: &mut Bundle) {
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "listenerPath": bundle.path("agent"),
        "listenerMetadata": "for the agent",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    });
}

fn check_state(state: &Value, bundle: &Bundle, status: &str) {
    assert_eq!(state["ociVersion"], "1.2.0");
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["metadata"], "for the agent");
    assert_eq!(state["state"]["status"], status);
    assert_eq!(state["state"]["bundle"], json!(bundle.path("agent").parent()));
    assert!(state["state"]["pid"].as_i64().unwrap() > 1);
}

#[test]
fn an_agent_answers_for_a_container() {
    for privileges in [true, false] {
        let mut bundle = Bundle::script(
            "mkdir /tmp/asked && mkdir /tmp/never; echo $?; ls /tmp; grep Cap /proc/self/status",
        );
        bundle.config["process"]["noNewPrivileges"] = json!(!privileges);
        ask_agent(&mut bundle);
        let agent = Agent::listen(&bundle.path("agent"), 1);
        let ran = bundle.run().ok();
        let lines: Vec<&str> = ran.lines().collect();
        assert_eq!(lines[..2], ["1", "asked-by-agent"], "{ran}");
        // What the filter needed to be loaded is gone.
        assert!(lines[2..].iter().all(|line| line.ends_with("\t0000000000000000")), "{ran}");
        let states = agent.states();
        check_state(&states[0], &bundle, "creating");
        assert_eq!(states[0]["pid"], states[0]["state"]["pid"]);
    }
}

#[test]
fn an_agent_answers_for_a_further_process() {
    let mut bundle = Bundle::script("echo up; exec sleep 1000");
    ask_agent(&mut bundle);
    let agent = Agent::listen(&bundle.path("agent"), 2);
    let running = bundle.start();
    let ran = bundle.exec(&running, &["sh", "-c", "mkdir /tmp/more; ls /tmp"]);
    assert_eq!(ran.ok(), "more-by-agent\n");
    let pid = running.pid;
    running.kill();
    let states = agent.states();
    check_state(&states[0], &bundle, "creating");
    check_state(&states[1], &bundle, "running");
    assert_eq!(states[1]["state"]["pid"], pid);
    assert_ne!(states[1]["pid"], pid);
}

#[test]
fn without_an_agent_nothing_runs() {
    let mut bundle = Bundle::new();
    ask_agent(&mut bundle);
    assert!(bundle.run().fails(125).contains("failed to connect with seccomp agent"));
    bundle.config["linux"]["seccomp"]["listenerPath"] = json!("");
    assert!(bundle.run().fails(125).contains("SCMP_ACT_NOTIFY needs a listenerPath"));
    bundle.config["linux"]["seccomp"]["syscalls"][0]["names"] = json!(["write"]);
    assert!(bundle.run().fails(125).contains("cannot be used for the write syscall"));
}

/// What a static program needs to end, and the one call that the runtime needs to start it.
const LEAST: [&str; 22] = [
    "execve",
    "exit_group",
    "brk",
    "arch_prctl",
    "mmap",
    "munmap",
    "mprotect",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "prlimit64",
    "readlink",
    "readlinkat",
    "getrandom",
    "uname",
    "getuid",
    "getgid",
    "setgid",
    "setuid",
    "newfstatat",
    "fstat",
    "ioctl",
];

fn least() -> Value {
    /// busybox asks for its name.
    const PR_GET_NAME: u32 = 16;
    let name = json!([{"index": 0, "value": PR_GET_NAME, "op": "SCMP_CMP_EQ"}]);
    json!({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "syscalls": [
            {"names": LEAST, "action": "SCMP_ACT_ALLOW"},
            {"names": ["prctl"], "action": "SCMP_ACT_ALLOW", "args": name},
        ],
    })
}

#[test]
fn the_runtime_itself_needs_nothing_but_execve() {
    for (no_new_privileges, user) in [(true, 0), (false, 0), (true, 33), (false, 33)] {
        let (mut bundle, least) = (Bundle::new(), least());
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["process"]["user"] = json!({"uid": user, "gid": user});
        let kept = json!(["CAP_CHOWN", "CAP_SYS_CHROOT"]);
        for set in ["bounding", "permitted", "effective", "inheritable", "ambient"] {
            bundle.config["process"]["capabilities"][set] = kept.clone();
        }
        bundle.config["linux"]["seccomp"] = least.clone();
        bundle.run().ok();
        // A further process is confined in the same way.
        bundle.config["linux"]["seccomp"] = Value::Null;
        bundle.args(&["/bin/sh", "-c", "echo up; exec sleep 1000"]);
        let running = bundle.start();
        bundle.config["linux"]["seccomp"] = least.clone();
        bundle.exec(&running, &["/bin/true"]).ok();
        running.kill();
    }
}

#[test]
fn the_privilege_to_load_a_filter_does_not_outlive_it() {
    for init in [false, true] {
        for user in [0, 33] {
            let mut bundle = Bundle::script("grep -h Cap /proc/self/status /proc/1/status");
            bundle.config["process"]["noNewPrivileges"] = json!(false);
            bundle.config["process"]["user"] = json!({"uid": user, "gid": user});
            for set in ["bounding", "permitted", "effective"] {
                bundle.config["process"]["capabilities"][set] = json!(["CAP_CHOWN"]);
            }
            bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
            if init {
                bundle.annotate("init", "");
            }
            for line in bundle.run().ok().lines() {
                let set = line.rsplit('\t').next().unwrap();
                let set = u64::from_str_radix(set, 16).unwrap();
                assert!(set <= 1, "{line} with init {init}, user {user}");
            }
        }
    }
}
