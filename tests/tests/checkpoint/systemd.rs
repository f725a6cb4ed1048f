//! Containers in a unit of systemd's.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::host::{COUNTER, Host};

#[test]
fn a_unit_is_made_again() {
    // Only the machine's second part has it.
    if std::env::var_os("CAIS_TEST_SYSTEMD").is_none() {
        return;
    }
    let Some(mut host) = Host::new(COUNTER) else { return };
    host.config["linux"]["cgroupsPath"] = json!("cais-criu.slice:cais:unit");
    host.line("--systemd-cgroup run --detach a").ok();
    let count = host.counts_beyond(1);
    let group = Path::new("/sys/fs/cgroup/cais.slice/cais-criu.slice/cais-unit.scope");
    assert!(group.exists());
    host.line("--systemd-cgroup checkpoint a").ok();
    assert!(!group.exists());
    host.line("--systemd-cgroup restore --detach a").ok();
    host.counts_beyond(count);
    assert_eq!(fs::read_to_string(group.join("pids.max")).unwrap(), "40\n");
    let pid = host.state()["pid"].to_string();
    let procs = fs::read_to_string(group.join("cgroup.procs")).unwrap();
    assert!(procs.lines().any(|line| line == pid), "{procs}");
    host.delete();
    assert!(!group.exists());
}
