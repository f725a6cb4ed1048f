//! Containers and their keepers, overloaded, interrupted and raced.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use testkit::Sandbox;

use super::import;

/// A directory below the root, and how much is in it.
fn count(sandbox: &Sandbox, part: &str) -> usize {
    fs::read_dir(sandbox.root().join(part)).map_or(0, Iterator::count)
}

#[test]
fn a_fork_bomb_is_bounded_and_removed() {
    let sandbox = Sandbox::new();
    import(&sandbox, "bomb", "CMD [\"sh\", \"-c\", \"f() { f & f; }; f\"]", |_| {});
    for more in ["", "--init", "--pid host"] {
        let run = format!("cais run -d --name bomb --network none --pids-limit 100 {more} bomb");
        let _ = sandbox.line(&run).ok();
        let _ = sandbox.line("cais rm -f bomb").ok();
    }
}

#[test]
fn a_creation_can_be_killed_at_any_moment() {
    let sandbox = Sandbox::new();
    import(&sandbox, "plain", "VOLUME /data", |_| {});
    let started = Instant::now();
    let _ = sandbox.line("cais create --name whole plain").ok();
    let whole = started.elapsed();
    let _ = sandbox.line("cais rm -v whole").ok();
    for part in 0..24 {
        let mut create = sandbox.start(["create", "--name", "mine", "-v", "/more", "plain"]);
        let deadline = Instant::now() + whole * part / 20;
        while Instant::now() < deadline && !create.ended() {
            std::thread::yield_now();
        }
        create.signal(Signal::KILL);
        let code = create.finish().code;
        // It is there whole, or not at all; the name is free for another then.
        match sandbox.line("cais rm -v mine").code {
            0 => {}
            _ => {
                assert_ne!(code, 0, "what was created is not there");
                let _ = sandbox.line("cais create --name mine plain").ok();
                let _ = sandbox.line("cais rm -v mine").ok();
            }
        }
        let _ = sandbox.line("cais ps -a").ok();
        let left = ["containers", "names", "volumes"].map(|part| count(&sandbox, part));
        assert_eq!(left, [0, 0, 0], "killed after {part}/20");
    }
}

#[test]
fn a_creation_that_fails_leaves_no_volume() {
    let sandbox = Sandbox::new();
    import(&sandbox, "plain", "VOLUME /data", |_| {});
    let _ = sandbox.line("cais create --name mine plain").ok();
    sandbox.line("cais create --name mine plain").code(1).says("already in use");
    assert_eq!((count(&sandbox, "volumes"), count(&sandbox, "containers")), (1, 1));
    let _ = sandbox.line("cais rm -v mine").ok();
}

#[test]
fn a_name_is_given_once_however_many_ask() {
    let sandbox = Sandbox::new();
    import(&sandbox, "plain", "ENV A=1", |_| {});
    let all: Vec<_> =
        (0..6).map(|_| sandbox.start(["create", "--name", "mine", "plain"])).collect();
    let codes: Vec<i32> = all.into_iter().map(|running| running.finish().code).collect();
    assert_eq!(codes.iter().filter(|&&code| code == 0).count(), 1, "{codes:?}");
    assert_eq!(sandbox.line("cais ps -aq").ok().lines().count(), 1);
    let all: Vec<_> = (0..6).map(|_| sandbox.start(["rm", "mine"])).collect();
    let codes: Vec<i32> = all.into_iter().map(|running| running.finish().code).collect();
    assert!(codes.contains(&0), "{codes:?}");
    assert_eq!((count(&sandbox, "containers"), count(&sandbox, "names")), (0, 0));
}

#[test]
fn the_truth_is_told_when_a_monitor_was_killed() {
    let sandbox = Sandbox::new();
    import(&sandbox, "plain", "ENV A=1", |_| {});
    let run = sandbox.line("cais run -d --name alone --network none plain sleep 1000");
    let id = run.ok().to_owned();
    let state = sandbox.root().join("containers").join(&id).join("state.json");
    let state = fs::read(&state).expect("a running container has a state");
    let state: serde_json::Value = serde_json::from_slice(&state).expect("the state is JSON");
    let _ = sandbox.host(["kill", "-9", &state["monitor_pid"].to_string()]).ok();
    // With its process, nothing is left to be held by another monitor.
    let _ = sandbox.host(["kill", "-9", &state["pid"].to_string()]);
    // A process takes a moment to die, even of that signal.
    let deadline = Instant::now() + Duration::from_secs(60);
    let shown = || sandbox.cais(["ps", "--all", "--format", "{{.Names}} {{.State}}"]);
    while shown().ok() != "alone exited" {
        assert!(Instant::now() < deadline, "the monitor was killed, but: {}", shown());
    }
    let code = sandbox.line("cais wait alone").code(0).stdout.clone();
    // Who looked before its process was gone took it over, and knows how it has ended.
    assert!(["137\n", "255\n"].contains(&&*code), "{code}");
    let _ = sandbox.line("cais start alone").ok();
    let _ = sandbox.line("cais rm -f alone").ok();
}

#[test]
fn a_full_disk_ends_nobody_else() {
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    let root = root.to_string_lossy();
    let _ = sandbox.host(["mount", "-t", "tmpfs", "-o", "size=16m", "small", &root]).ok();
    import(&sandbox, "plain", "ENV A=1", |_| {});
    let victim = "i=0; while [ ! -e /tmp/stop ]; do echo line; sleep 0.02; done; exit 7";
    let run = ["run", "-d", "--name", "victim", "--network", "none", "--tmpfs", "/tmp"];
    let [a, b, c, d, e, f, g, h] = run;
    let _ = sandbox.cais([a, b, c, d, e, f, g, h, "plain", "sh", "-c", victim]).ok();
    let fill = "dd if=/dev/zero of=/fill bs=64k 2> /dev/null; true";
    sandbox.cais(["run", "--name", "filler", "--network", "none", "plain", "sh", "-c", fill]);
    let full = sandbox.host(["sh", "-c", &format!("echo x > {root}/probe-of-space")]);
    let full = full.code != 0
        || sandbox.host(["stat", "-c", "%s", &format!("{root}/probe-of-space")]).stdout == "0\n";
    assert!(full, "the disk is not full");

    // It writes on, and is not harmed.
    let names = ["ps", "--format", "{{.Names}}"];
    let deadline = Instant::now() + Duration::from_millis(200);
    while Instant::now() < deadline {
        assert!(sandbox.cais(names).ok().contains("victim"));
    }
    let _ = sandbox.line("cais rm -f filler").ok();
    let _ = sandbox.cais(["exec", "victim", "touch", "/tmp/stop"]).ok();
    sandbox.line("cais wait victim").code(0).out("7\n");
    assert!(sandbox.line("cais logs victim").ok().ends_with("line"));
    let _ = sandbox.line("cais rm victim").ok();
    let _ = sandbox.host(["umount", "-l", &root]).ok();
}

#[test]
fn an_image_cannot_make_itself_unstoppable_or_unmeasurable() {
    let sandbox = Sandbox::new();
    sandbox.save_image("stubborn.tar", "stubborn:latest", &[], |config| {
        config.stop_signal = "BOGUS".to_owned();
    });
    let _ = sandbox.cais(["load", "-qi", "stubborn.tar"]).ok();
    let deep = "cd /tmp; i=0; while [ $i -lt 1000 ]; do mkdir ddddddd && cd ddddddd || break; \
                i=$((i+1)); done; mv /tmp/ddddddd /e; mkdir -p /tmp/x; mv /e /tmp/x; \
                trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let run = ["run", "--name", "deep", "--network", "none", "stubborn", "sh", "-c", deep];
    let running = sandbox.start(run);
    running.wait_for("ready");
    assert!(sandbox.line("cais ps -as").ok().contains("deep"));
    let _ = sandbox.line("cais stop deep").ok();
    running.finish().code(3);
    let _ = sandbox.line("cais rm deep").ok();
}

#[test]
fn a_volume_takes_no_more_than_the_image() {
    let sandbox = Sandbox::new();
    import(&sandbox, "holes", "VOLUME /vol", |tree| {
        fs::create_dir(tree.join("vol")).expect("the tree takes directories");
        let hole = fs::File::create(tree.join("vol/hole")).expect("the tree takes files");
        hole.set_len(8 << 40).expect("a hole takes no space");
        // A descriptor for each would be more than most processes may have.
        for number in 0..1100 {
            let (one, other) = (format!("vol/{number}"), format!("vol/{number}-again"));
            fs::write(tree.join(&one), "x").expect("the tree takes files");
            fs::hard_link(tree.join(&one), tree.join(&other)).expect("the tree takes links");
        }
    });
    let stat = "stat -c '%s %b' /vol/hole; stat -c %h /vol/1099-again";
    let run = ["run", "--rm", "--network", "none", "holes", "sh", "-c", stat];
    sandbox.cais(run).code(0).out("8796093022208 0\n2\n");
}

#[test]
fn roots_that_others_can_change_are_refused() {
    let sandbox = Sandbox::new();
    let open = sandbox.work().join("open");
    fs::create_dir(&open).expect("the work directory takes directories");
    // As the volumes that clusters give are.
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("a mode can be set");
    let refused = || {
        sandbox.cais(["--root", "open", "ps"]).code(1).says("others");
        sandbox.cais(["--run-root", "open", "ps"]).code(1).says("others");
    };
    sandbox.cais(["--root", "open", "ps"]).code(0);
    let planted = open.join("containers");
    std::os::unix::fs::symlink("/etc", &planted).expect("a directory takes links");
    refused();
    fs::remove_file(&planted).expect("a link can be removed");
    fs::create_dir(&planted).expect("a directory takes directories");
    std::os::unix::fs::chown(&planted, Some(65534), None).expect("an owner can be set");
    refused();
    fs::remove_dir(&planted).expect("a directory can be removed");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("a mode can be set");
    std::os::unix::fs::chown(&open, Some(65534), None).expect("an owner can be set");
    refused();
}
