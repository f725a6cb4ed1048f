//! What cannot be saved or restored.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use crate::host::{COUNTER, Host};

#[test]
fn a_container_that_cannot_be_saved_goes_on() {
    let Some(host) = Host::new(COUNTER) else { return };
    // A file of the host's is not the container's.
    let file = fs::File::create(host.path("out")).unwrap();
    let mut command = host.command("run --detach a");
    assert!(command.stdout(Stdio::from(file)).status().unwrap().success());
    host.counts_beyond(1);
    let complaint = host.line("checkpoint --image-path images a").fails();
    let log = host.path("images/dump.log");
    for part in ["criu failed: type DUMP", log.to_str().unwrap(), "Error (criu/"] {
        assert!(complaint.contains(part), "{part}: {complaint}");
    }
    host.is_running();
    host.counts_beyond(host.count());
    host.delete();
}

#[test]
fn a_checkpoint_that_is_not_whole_leaves_nothing() {
    let Some(host) = Host::new(COUNTER) else { return };
    host.run();
    host.counts_beyond(1);
    host.line("checkpoint --image-path images a").ok();
    for (name, part) in [
        ("images/pages-1.img", "the checkpoint is not whole"),
        ("images/core-1.img", "criu failed: type RESTORE"),
        ("images/inventory.img", "criu failed: type RESTORE"),
        ("images/descriptors.json", "descriptors.json"),
    ] {
        let bytes = fs::read(host.path(name)).unwrap();
        fs::write(host.path(name), &bytes[..bytes.len() / 2]).unwrap();
        let complaint = host.line("restore --detach --image-path images a").fails();
        assert!(complaint.contains(part), "{name}: {complaint}");
        host.is_gone();
        fs::write(host.path(name), bytes).unwrap();
    }
    let complaint = host.line("restore --detach --image-path missing a").fails();
    assert!(complaint.contains("open the directory `missing`"), "{complaint}");
    host.is_gone();
    // It was not the files that did not fit.
    host.line("restore --detach --image-path images a").ok();
    host.delete();
}

#[test]
fn a_hook_that_fails_ends_what_was_restored() {
    let Some(mut host) = Host::new(COUNTER) else { return };
    host.run();
    host.counts_beyond(1);
    host.line("checkpoint a").ok();
    let hook = json!([{"path": "/bin/false"}]);
    host.config["hooks"] = json!({ "createRuntime": hook });
    let complaint = host.line("restore --detach a").fails();
    assert!(complaint.contains("error running createRuntime hook #0"), "{complaint}");
    host.is_gone();
}

#[test]
fn an_id_that_is_taken_stays_whose_it_is() {
    let Some(host) = Host::new(COUNTER) else { return };
    host.run();
    let count = host.counts_beyond(1);
    host.line("checkpoint --leave-running a").ok();
    let complaint = host.line("restore --detach a").fails();
    assert!(complaint.contains("container with given ID already exists"), "{complaint}");
    // The cgroup is the other's as well, and stays.
    let complaint = host.line("restore --detach b").fails();
    assert!(complaint.contains("cgroup is not empty"), "{complaint}");
    host.is_running();
    host.counts_beyond(count);
    host.delete();
}

#[test]
fn what_would_not_be_as_it_was_is_refused() {
    let Some(mut host) = Host::new(COUNTER) else { return };
    let data = host.directory("data");
    let mut mapped = json!({
        "type": "bind", "source": data, "destination": "/data", "options": ["bind"],
    });
    let map = json!([{"containerID": 0, "hostID": 5, "size": 10}]);
    mapped["uidMappings"] = map.clone();
    mapped["gidMappings"] = map;
    host.config["mounts"].as_array_mut().unwrap().push(mapped);
    host.run();
    host.counts_beyond(1);
    let complaint = host.line("checkpoint a").fails();
    assert!(complaint.contains("id-mapped mount on `/data`"), "{complaint}");
    host.is_running();
    host.delete();

    // Debian's CRIU does not know of it.
    let Some(mut host) = Host::new(COUNTER) else { return };
    host.config["process"]["noNewPrivileges"] = json!(true);
    host.run();
    host.counts_beyond(0);
    let complaint = host.line("checkpoint a").fails();
    assert!(complaint.contains("process.noNewPrivileges needs CRIU 3.19"), "{complaint}");
    host.is_running();
    host.delete();
}

#[test]
fn without_criu_it_is_said_what_is_missing() {
    let Some(host) = Host::new(COUNTER) else { return };
    host.run();
    host.counts_beyond(1);
    let mut command = host.command("checkpoint a");
    let ran = host.ran(&command.env("PATH", host.path("nothing")).output().unwrap());
    let complaint = ran.fails();
    for part in ["need CRIU", "executable file not found in $PATH", "install"] {
        assert!(complaint.contains(part), "{complaint}");
    }
    assert!(!host.path("checkpoint").exists());
    host.is_running();
    host.delete();
}

#[test]
fn what_is_no_criu_is_told() {
    let Some(host) = Host::new(COUNTER) else { return };
    host.run();
    host.counts_beyond(1);
    let program = host.path("no-criu");
    testkit::write_script(&program, "#!/bin/sh\nexit 1\n");
    let line = format!("--criu {} checkpoint a", program.display());
    let complaint = host.line(&line).fails();
    assert!(complaint.contains("criu failed") || complaint.contains("CRIU"), "{complaint}");
    host.is_running();
    host.delete();
}
