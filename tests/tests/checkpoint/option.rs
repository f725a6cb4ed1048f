//! What flags allow, and what is refused without them.

use std::fs;

use serde_json::json;

use crate::host::{COUNTER, Host, wait_until};

#[test]
fn files_without_a_name_get_one_where_it_is_allowed() {
    let script = format!("echo kept >/a; ln /a /b; exec 7</a; rm /a; {COUNTER}");
    let Some(host) = Host::new(&script) else { return };
    host.run();
    let count = host.counts_beyond(1);
    let complaint = host.line("checkpoint a").fails();
    assert!(complaint.contains("link-remap"), "{complaint}");
    host.line("checkpoint --link-remap a").ok();
    host.line("restore --detach a").ok();
    host.counts_beyond(count);
    host.delete();
}

#[test]
fn every_switch_is_understood() {
    let Some(host) = Host::new(COUNTER) else { return };
    host.run();
    let count = host.counts_beyond(1);
    let both = "--tcp-established --ext-unix-sk --shell-job --file-locks --auto-dedup \
                --manage-cgroups-mode full --empty-ns network";
    host.line(&format!("checkpoint --tcp-skip-in-flight --link-remap {both} a")).ok();
    host.line(&format!("restore --detach --no-subreaper --no-pivot {both} a")).ok();
    let warned = fs::read_to_string(host.path("log")).unwrap();
    assert!(warned.contains("--no-pivot changes nothing"), "{warned}");
    host.counts_beyond(count);
    host.delete();
}

#[test]
fn another_cgroup_may_be_chosen() {
    let Some(mut host) = Host::new(COUNTER) else { return };
    host.run();
    let count = host.counts_beyond(1);
    let first = host.cgroup();
    host.line("checkpoint --manage-cgroups-mode ignore a").ok();
    let path = format!("{}/b", host.config["linux"]["cgroupsPath"].as_str().unwrap());
    host.config["linux"]["cgroupsPath"] = json!(path.replace("/a/b", "/b"));
    host.config["linux"]["resources"] = json!({"pids": {"limit": 30}});
    host.line("restore --detach --manage-cgroups-mode ignore a").ok();
    host.counts_beyond(count);
    assert!(!first.exists());
    assert_eq!(fs::read_to_string(host.cgroup().join("pids.max")).unwrap(), "30\n");
    let procs = fs::read_to_string(host.cgroup().join("cgroup.procs")).unwrap();
    assert!(procs.lines().count() >= 2, "{procs}");
    host.delete();
}

#[test]
fn pages_are_sent_when_they_are_needed() {
    let Some(host) = Host::new(COUNTER) else { return };
    host.run();
    let count = host.counts_beyond(1);
    // The descriptor is the runtime's, by its number: a shell keeps it open for it.
    let cais = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("cais");
    let script = format!(
        "exec 9>ready; exec {} oci --root state --log log checkpoint --lazy-pages \
         --page-server 127.0.0.1:27277 --status-fd 9 --manage-cgroups-mode ignore \
         --image-path images a",
        cais.display()
    );
    let mut saving = std::process::Command::new("/bin/sh")
        .args(["-c", &script])
        .current_dir(host.path(""))
        .spawn()
        .unwrap();
    wait_until("pages can be asked for", || {
        let ended = saving.try_wait().unwrap();
        let log = || fs::read_to_string(host.path("log")).unwrap_or_default();
        assert!(ended.is_none(), "{ended:?} {}", log());
        fs::read(host.path("ready")).is_ok_and(|bytes| bytes == [0])
    });
    let mut pages = std::process::Command::new("criu")
        .args(["lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", "27277"])
        .args(["-D", "images"])
        .current_dir(host.path(""))
        .spawn()
        .unwrap();
    wait_until("somebody gives pages", || host.path("images/lazy-pages.socket").exists());
    let mut other = Host::new("").unwrap();
    let (path, rootfs) = (other.config["linux"]["cgroupsPath"].clone(), host.path("rootfs"));
    other.config["process"] = host.config["process"].clone();
    other.config["linux"]["cgroupsPath"] = path;
    other.config["root"]["path"] = json!(rootfs);
    let images = host.path("images");
    let line = format!(
        "restore --detach --lazy-pages --manage-cgroups-mode ignore --image-path {} a",
        images.display()
    );
    other.line(&line).ok();
    host.counts_beyond(count);
    assert!(pages.wait().unwrap().success());
    assert!(saving.wait().unwrap().success(), "{:?}", fs::read_to_string(host.path("log")));
    other.line("delete --force a").ok();
    host.is_gone();
    host.counted_in_order();
}
