//! Mounts, and namespaces that exist already.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::process::Command;

use serde_json::json;

use crate::host::{COUNTER, Host};

#[test]
fn bind_mounts_show_what_is_on_the_host() {
    let Some(mut host) = Host::new(&format!("echo kept >/dev/shm/kept; {COUNTER}")) else {
        return;
    };
    let (outer, inner, only) =
        (host.directory("outer"), host.directory("inner"), host.path("only"));
    fs::write(&only, "one\n").unwrap();
    fs::create_dir_all(host.rootfs("real/conf")).unwrap();
    symlink("/real/conf", host.rootfs("conf")).unwrap();
    host.add_mount(&outer, "/test", &["bind"]);
    host.add_mount(&inner, "/test/for/nested", &["rbind", "nosuid"]);
    host.add_mount(&only, "/only", &["bind", "ro"]);
    host.add_mount(&inner, "/conf", &["bind"]);
    let tmpfs = json!({
        "type": "tmpfs", "source": "tmpfs", "destination": "/tmp", "options": ["size=1m"],
    });
    host.config["mounts"].as_array_mut().unwrap().push(tmpfs);
    host.add_mount(&inner, "/tmp/on/tmpfs", &["bind"]);
    host.run();
    let count = host.counts_beyond(1);
    host.line("checkpoint a").ok();
    // Their places are made again, those in other mounts too.
    fs::remove_dir_all(outer.join("for")).unwrap();
    fs::remove_file(host.rootfs("only")).unwrap();
    fs::write(inner.join("file"), "changed\n").unwrap();
    fs::write(&only, "two\n").unwrap();
    host.line("restore --detach a").ok();
    host.counts_beyond(count);
    for path in ["/test/for/nested", "/real/conf", "/tmp/on/tmpfs"] {
        assert_eq!(host.exec(&format!("cat {path}/file")), "changed\n");
    }
    assert_eq!(host.exec("cat /only"), "two\n");
    assert_eq!(host.exec("cat /dev/shm/kept"), "kept\n");
    assert_ne!(host.read("exec a touch /only").code, 0, "it is read-only");
    host.exec("touch /test/for/nested/made");
    assert!(inner.join("made").exists());
    host.delete();
}

#[test]
fn a_root_that_must_not_be_written_stays_so() {
    let script = "n=0; while :; do n=$((n+1)); echo $n >/data/count; sleep 0.05; done";
    let Some(mut host) = Host::new(script) else { return };
    let data = host.directory("data");
    host.config["root"]["readonly"] = json!(true);
    host.add_mount(&data, "/data", &["bind"]);
    let count = || {
        let text = fs::read_to_string(host.path("data/count")).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0)
    };
    host.run();
    crate::host::wait_until("it counts", || count() > 2);
    host.line("checkpoint a").ok();
    let before = count();
    host.line("restore --detach a").ok();
    crate::host::wait_until("it goes on", || count() > before);
    assert_ne!(host.read("exec a touch /made").code, 0);
    host.delete();
}

#[test]
fn mounts_that_the_host_shares_do_not_matter() {
    let Some(mut host) = Host::new(COUNTER) else { return };
    // Alone: what is shared is the machine's, and other tests make mounts, too.
    let shared = host.directory("shared");
    let run = |words: &[&str]| {
        assert!(Command::new("mount").args(words).status().unwrap().success(), "{words:?}");
    };
    let at = shared.to_str().unwrap();
    run(&["-t", "tmpfs", "tmpfs", at]);
    run(&["--make-shared", at]);
    fs::create_dir(shared.join("below")).unwrap();
    host.add_mount(&shared.join("below"), "/below", &["rbind"]);
    host.run();
    let count = host.counts_beyond(1);
    let saved = host.line("checkpoint a");
    let restored = (saved.code == 0).then(|| host.line("restore --detach a"));
    let running = restored.as_ref().is_some_and(|restored| restored.code == 0);
    if running {
        host.counts_beyond(count);
        host.exec("touch /below/made");
    }
    host.line("delete --force a").ok();
    let made = shared.join("below/made").exists();
    assert!(Command::new("umount").arg(&shared).status().unwrap().success());
    assert!(running && made, "{saved:?} {restored:?}");
}

#[test]
fn a_network_that_exists_is_joined_again() {
    let Some(mut host) = Host::new(COUNTER) else { return };
    let name = host.path("").file_name().unwrap().to_str().unwrap().to_owned();
    let ip = |words: &[&str]| {
        assert!(Command::new("ip").args(words).status().unwrap().success(), "{words:?}");
    };
    ip(&["netns", "add", &name]);
    let path = format!("/run/netns/{name}");
    host.config["linux"]["namespaces"][1] = json!({"type": "network", "path": path});
    host.run();
    let count = host.counts_beyond(1);
    host.line("checkpoint a").ok();
    host.line("restore --detach a").ok();
    host.counts_beyond(count);
    let pid = &host.state()["pid"];
    let seen = fs::metadata(format!("/proc/{pid}/ns/net")).unwrap().ino();
    assert_eq!(seen, fs::metadata(&path).unwrap().ino());
    host.line("checkpoint a").ok();
    ip(&["netns", "del", &name]);
    let complaint = host.line("restore --detach a").fails();
    assert!(complaint.contains(&path), "{complaint}");
}
