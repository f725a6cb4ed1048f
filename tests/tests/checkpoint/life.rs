//! What a container is before and after.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::host::{COUNTER, Host, receive, wait_until};

#[test]
fn a_container_goes_on_where_it_was() {
    let Some(host) = Host::new(COUNTER) else { return };
    host.run();
    let mut count = host.counts_beyond(3);
    let mut created = host.state()["created"].clone();
    for _ in 0..2 {
        host.line("checkpoint a").ok();
        host.is_gone();
        host.line("restore --detach --pid-file pid a").ok();
        let state = host.state();
        assert_eq!(state["status"], "running");
        assert_ne!(state["created"], created, "it was created when it was restored");
        created = state["created"].clone();
        assert_eq!(fs::read_to_string(host.path("pid")).unwrap(), state["pid"].to_string());
        count = host.counts_beyond(count);
        let procs = fs::read_to_string(host.cgroup().join("cgroup.procs")).unwrap();
        let pid = state["pid"].to_string();
        assert!(procs.lines().any(|line| line == pid), "{procs}");
        let limit = fs::read_to_string(host.cgroup().join("pids.max")).unwrap();
        assert_eq!(limit, "40\n");
        assert!(!host.path("state/a/criu-root").exists());
        assert!(host.path("checkpoint/restore.log").exists(), "the files are kept");
    }
    host.delete();
    host.counted_in_order();
}

#[test]
fn what_confines_a_container_is_there_again() {
    let Some(mut host) = Host::new(COUNTER) else { return };
    host.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
    });
    host.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
    });
    host.config["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "hard": 7, "soft": 5}]);
    host.run();
    host.counts_beyond(1);
    let look = || {
        let pid = &host.state()["pid"];
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        let confined = |line: &&str| {
            let words = ["Cap", "NoNewPrivs", "Seccomp:", "Uid", "Groups"];
            words.iter().any(|word| line.starts_with(word))
        };
        let status = read("status");
        let status: Vec<&str> = status.lines().filter(confined).collect();
        let limits = read("limits");
        let core = limits.lines().find(|line| line.contains("core file")).unwrap();
        // Where, from what, and with which options; the first numbers differ.
        let mounts = read("mountinfo");
        let mount = |line: &str| {
            let words: Vec<&str> = line.split(' ').filter(|word| !word.contains(':')).collect();
            words[2..].join(" ")
        };
        let mounts: Vec<String> = mounts.lines().map(mount).collect();
        (status.join("\n"), core.to_owned(), mounts, host.exec("cat /sys/class/net/lo/flags"))
    };
    let before = look();
    assert_eq!(before.3, "0x9\n", "the loopback link is on");
    host.line("checkpoint a").ok();
    host.line("restore --detach a").ok();
    let after = look();
    assert_eq!((&after.0, &after.1, &after.3), (&before.0, &before.1, &before.3));
    for part in &before.2 {
        let place = part.split(' ').nth(1);
        let same = after.2.iter().find(|other| other.split(' ').nth(1) == place);
        // Options of a mount; how the file system calls its own options is its business.
        let flags = |text: &str| text.split(' ').nth(2).unwrap().to_owned();
        let same = same.unwrap_or_else(|| panic!("{part} is missing: {:?}", after.2));
        assert_eq!(flags(part), flags(same), "{part} / {same}");
    }
    assert_eq!(after.2.len(), before.2.len(), "{:?}", after.2);
    assert_eq!(host.exec("cat /proc/keys"), "");
    // The cover of a masked file must not lead to the host's device.
    let refused = host.read("exec a chmod 600 /proc/keys");
    assert_ne!(refused.code, 0);
    host.delete();
}

#[test]
fn one_may_be_left_running() {
    // A file that is open in the image must be there when it is restored, and the counter, which goes
    // on, renames its own: it holds still for a moment.
    let holding = "do [ ! -e /hold ] || { mkdir -p /held; continue; }; n=";
    let script = COUNTER.replace("do n=", holding);
    assert!(script.contains(holding));
    let Some(host) = Host::new(&script) else { return };
    host.run();
    host.counts_beyond(2);
    fs::create_dir(host.rootfs("hold")).unwrap();
    wait_until("it holds still", || host.rootfs("held").exists());
    host.line("checkpoint --leave-running --image-path images --work-path work a").ok();
    fs::remove_dir(host.rootfs("hold")).unwrap();
    assert!(host.path("work/dump.log").exists());
    host.is_running();
    host.counts_beyond(host.count());
    host.delete();
    // What it did meanwhile did not happen, for it.
    host.line("restore --detach --image-path images --work-path work a").ok();
    assert!(host.path("work/restore.log").exists());
    wait_until("it goes on", || host.count() > 0);
    host.delete();
    assert_eq!(fs::read_to_string(host.rootfs("starts")).unwrap(), "start\n");
}

#[test]
fn memory_is_saved_before() {
    let Some(host) = Host::new(COUNTER) else { return };
    host.run();
    host.counts_beyond(2);
    host.line("checkpoint --pre-dump --image-path before a").ok();
    host.is_running();
    let count = host.counts_beyond(host.count());
    host.line("checkpoint --parent-path ../before --image-path images a").ok();
    assert!(host.path("images/parent/inventory.img").exists());
    host.is_gone();
    host.line("restore --detach --image-path images a").ok();
    host.counts_beyond(count);
    host.delete();
    host.counted_in_order();
}

#[test]
fn a_terminal_is_given_to_who_listens() {
    let Some(mut host) = Host::new("while read x; do echo got $x; done") else { return };
    host.config["process"]["terminal"] = json!(true);
    host.config["process"]["consoleSize"] = json!({"height": 33, "width": 99});
    let mut asked = 0;
    let mut ask = |master: &mut fs::File| {
        asked += 1;
        master.write_all(format!("{asked}\n").as_bytes()).unwrap();
        let (mut text, mut bytes) = (String::new(), [0; 100]);
        while !text.contains(&format!("got {asked}")) {
            let length = master.read(&mut bytes).unwrap();
            text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
    };
    let listener = UnixListener::bind(host.path("socket")).unwrap();
    let mut command = host.command("run --detach --console-socket socket a");
    let mut child = command.spawn().unwrap();
    let mut master = receive(&listener);
    assert!(child.wait().unwrap().success());
    ask(&mut master);
    for _ in 0..2 {
        host.line("checkpoint a").ok();
        let mut command = host.command("restore --detach --console-socket socket a");
        let mut child = command.spawn().unwrap();
        master = receive(&listener);
        assert!(child.wait().unwrap().success());
        ask(&mut master);
        let size = rustix::termios::tcgetwinsize(&master).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (33, 99));
        assert!(host.exec("stat -c %F /dev/console").contains("character"));
    }
    let text = host.line("restore --detach --image-path checkpoint b").fails();
    assert!(text.contains("cannot allocate tty if runc will detach"), "{text}");
    host.delete();
}

#[test]
fn pipes_become_those_of_who_restores() {
    let Some(host) = Host::new("while read x; do echo got $x; done; exit 6") else { return };
    let (input, mut write) = std::io::pipe().unwrap();
    let (read, output) = std::io::pipe().unwrap();
    let mut lines = std::io::BufReader::new(read);
    let mut ask = |word: &str, write: &mut std::io::PipeWriter| {
        writeln!(write, "{word}").unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
        assert_eq!(line, format!("got {word}\n"));
    };
    let streams = |line: &str| {
        let mut command = host.command(line);
        command.stdin(input.try_clone().unwrap()).stdout(output.try_clone().unwrap());
        command
    };
    assert!(streams("run --detach a").status().unwrap().success());
    ask("one", &mut write);
    host.line("checkpoint a").ok();
    assert!(streams("restore --detach a").status().unwrap().success());
    ask("two", &mut write);
    host.line("checkpoint a").ok();
    // Who stays gets the code of the program, and leaves nothing.
    let mut attended = streams("restore a").spawn().unwrap();
    ask("three", &mut write);
    drop((write, input));
    assert_eq!(attended.wait().unwrap().code(), Some(6));
    host.is_gone();
}

#[test]
fn a_paused_container_is_saved_too() {
    let Some(host) = Host::new(COUNTER) else { return };
    host.run();
    let count = host.counts_beyond(2);
    host.line("pause a").ok();
    host.line("checkpoint a").ok();
    host.is_gone();
    host.line("restore --detach a").ok();
    host.is_running();
    host.counts_beyond(count);
    host.delete();
}

#[test]
fn root_of_a_user_namespace_goes_on() {
    let Some(mut host) = Host::new(COUNTER) else { return };
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    host.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    host.config["linux"]["uidMappings"] = map.clone();
    host.config["linux"]["gidMappings"] = map;
    for name in ["", "bin", "dev", "etc", "proc", "sys", "tmp"] {
        std::os::unix::fs::chown(host.rootfs(name), Some(100_000), Some(100_000)).unwrap();
    }
    host.run();
    let count = host.counts_beyond(2);
    host.line("checkpoint a").ok();
    host.line("restore --detach a").ok();
    host.counts_beyond(count);
    let map = host.exec("cat /proc/1/uid_map");
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    assert_eq!(host.exec("stat -c %u:%t:%T /dev/null"), "65534:1:3\n");
    host.delete();
    host.counted_in_order();
}

#[test]
fn hooks_are_called_again() {
    let Some(mut host) = Host::new(COUNTER) else { return };
    let hook = |name: &str| {
        let file = host.path(&format!("hook-{name}"));
        let script = format!("cat >>{}", file.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    };
    let hooks = json!({
        "prestart": hook("prestart"), "createRuntime": hook("runtime"), "poststop": hook("poststop"),
        "poststart": hook("poststart"),
    });
    host.config["hooks"] = hooks;
    let calls = |name: &str| {
        let text = fs::read_to_string(host.path(&format!("hook-{name}"))).unwrap_or_default();
        let states = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
        states.map(Result::unwrap).collect::<Vec<_>>()
    };
    host.run();
    host.counts_beyond(1);
    host.line("checkpoint a").ok();
    assert_eq!(calls("poststop").len(), 1);
    host.line("restore --detach a").ok();
    for name in ["prestart", "runtime"] {
        let calls = calls(name);
        assert_eq!(calls.len(), 2, "{name}");
        assert_eq!(calls[1]["pid"], host.state()["pid"], "{name}");
        assert_eq!(calls[1]["status"], "creating");
    }
    assert_eq!(calls("poststart").len(), 1, "it was started before");
    host.delete();
    assert_eq!(calls("poststop").len(), 2);
}
