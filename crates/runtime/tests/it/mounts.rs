//! Mounts in all their options.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::bundle::{Bundle, Ran, mount};

/// Runs a bundle below a shell script that plays the host in a mount namespace of its own; the
/// script finds the bundle's directory in `$B`.
fn run_on(bundle: &Bundle, script: &str) -> Ran {
    let driver = bundle.command();
    let script = format!("{script} && exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    command.arg(driver.get_program()).args(driver.get_args()).env("B", bundle.path(""));
    command.output().unwrap().into()
}

/// The options of the mount on `/mnt`, inside a container that binds a host's mount with others.
fn bound(host: &str, options: &str, user_namespace: bool) -> Result<Vec<String>, String> {
    let mut bundle = Bundle::new();
    bundle.args(&["/bin/grep", " /mnt ", "/proc/self/mounts"]);
    if user_namespace {
        bundle.map_ids();
    }
    let data = bundle.directory("data");
    bundle.add_mount(mount("bind", &data, "/mnt", options));
    let script = format!(
        "mount -t tmpfs -o rw,suid,dev,exec,diratime,strictatime tmpfs $B/data && \
         mount --bind -o remount,diratime,atime,strictatime $B/data && \
         mount --bind -o remount,{host} $B/data"
    );
    let ran = run_on(&bundle, &script);
    if ran.code != 0 {
        return Err(ran.stderr);
    }
    let options = ran.stdout.split(' ').nth(3).unwrap();
    Ok(options.split(',').map(String::from).collect())
}

#[test]
fn flags_of_a_bind_are_those_of_runc() {
    // The host's flags, the options, a user namespace, what must be there and what must not.
    let cases = [
        ("ro,noexec,nodiratime", "bind", false, "ro,noexec,nodiratime", "rw"),
        ("ro,noexec,nodiratime", "bind", true, "ro,noexec,nodiratime", "rw"),
        ("ro,noexec,nodiratime", "bind,dev", false, "rw,nodiratime", "ro,noexec"),
        ("ro,noexec,nodiratime", "bind,dev", true, "ro,noexec,nodiratime", "rw"),
        ("ro", "bind,nosuid,nodev,rprivate", false, "rw,nosuid,nodev", "ro"),
        ("ro", "bind,rw,nosuid", false, "rw,nosuid", "ro"),
        (
            "nosuid,nodev,noexec,noatime",
            "bind,dev,suid,exec,atime",
            false,
            "noatime",
            "nodev,nosuid",
        ),
        ("nodev,nosuid,noexec,noatime", "bind,ro", true, "ro,nodev,nosuid,noexec,noatime", "rw"),
        ("noatime", "bind,relatime", false, "relatime", "noatime"),
        ("noatime", "bind,nodiratime", false, "relatime,nodiratime", "noatime"),
        ("nodiratime", "bind,strictatime", false, "rw", "relatime,noatime,nodiratime"),
    ];
    for (host, options, user_namespace, there, absent) in cases {
        let found = bound(host, options, user_namespace).unwrap();
        let has = |word: &str| found.iter().any(|found| found == word);
        let case = format!("{host} with {options}: {found:?}");
        assert!(there.split(',').all(has), "{case}");
        assert!(!absent.split(',').any(has), "{case}");
    }
    for options in ["bind,rw", "bind,dev"] {
        let complaint = bound("ro,nodev", options, true).unwrap_err();
        assert!(complaint.contains("not permitted"), "{complaint}");
    }
}

#[test]
fn recursive_words_reach_every_mount() {
    let mut bundle = Bundle::script("grep ' /mnt' /proc/self/mounts; true");
    let data = bundle.directory("data");
    let words = "rro,rnosuid,rnodev,rnoexec,rnosymfollow,rnoatime,rnodiratime";
    bundle.add_mount(mount("bind", &data, "/mnt", &format!("rbind,{words}")));
    let host = "mount -t tmpfs tmpfs $B/data && mkdir $B/data/sub && mount -t tmpfs t $B/data/sub";
    let output = run_on(&bundle, host).ok();
    assert_eq!(output.lines().count(), 2, "{output}");
    for line in output.lines() {
        for word in words.split(',') {
            assert!(line.contains(&word[1..]), "{word}: {line}");
        }
    }
}

#[test]
fn a_bind_takes_no_options_of_a_file_system() {
    let mut bundle = Bundle::new();
    bundle.add_mount(mount("bind", "/etc", "/mnt", "bind,size=1k"));
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("filesystem-specific options"), "{complaint}");
    bundle.remove_mount("/mnt");
    // Those that every file system has mean nothing here, as with mount(8).
    bundle.add_mount(mount("bind", "/etc", "/mnt", "bind,sync,lazytime,iversion,silent"));
    bundle.run().ok();
}

#[test]
fn flags_of_a_new_file_system_are_set() {
    let mut bundle = Bundle::script("grep ' /mnt ' /proc/self/mounts");
    let words = "sync,dirsync,lazytime,iversion,noatime,nosymfollow,loud,size=64k";
    bundle.add_mount(mount("tmpfs", "tmpfs", "/mnt", words));
    let line = bundle.run().ok();
    for word in ["sync", "dirsync", "lazytime", "noatime", "nosymfollow", "size=64k"] {
        assert!(line.contains(word), "{word}: {line}");
    }
}

#[test]
fn what_is_there_is_mounted_again() {
    let mut bundle = Bundle::script("grep ' /mnt ' /proc/self/mounts");
    bundle.add_mount(mount("tmpfs", "tmpfs", "/mnt", "size=64k,noexec"));
    bundle.add_mount(mount("tmpfs", "tmpfs", "/mnt", "remount,size=128k,ro,nodev"));
    let line = bundle.run().ok();
    assert!(line.contains(" ro,nodev,") && line.contains("size=128k"), "{line}");
    assert!(!line.contains("noexec"), "{line}");
    bundle.add_mount(mount("bind", "", "/mnt", "bind,remount,nosuid"));
    let line = bundle.run().ok();
    assert!(line.contains("nosuid") && !line.contains("nodev"), "{line}");
}

#[test]
fn a_tmpfs_has_the_mode_of_what_it_covers() {
    let mut bundle = Bundle::script("stat -c %a /there /new /own");
    fs::create_dir(bundle.rootfs("there")).unwrap();
    fs::set_permissions(bundle.rootfs("there"), fs::Permissions::from_mode(0o710)).unwrap();
    for (destination, options) in [("/there", "rw"), ("/new/one", "rw"), ("/own", "mode=1500")] {
        bundle.add_mount(mount("tmpfs", "tmpfs", destination, options));
    }
    bundle.args(&["/bin/stat", "-c", "%a", "/there", "/new/one", "/own"]);
    assert_eq!(bundle.run().ok(), "710\n1777\n1500\n");
    assert_eq!(fs::metadata(bundle.rootfs("new/one")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn mounts_are_listed_in_their_order() {
    for user_namespace in [false, true] {
        let mut bundle = Bundle::script("cat /proc/self/mountinfo");
        if user_namespace {
            bundle.map_ids();
        }
        let wanted: Vec<String> = bundle.config["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|mount| mount["destination"].as_str().unwrap().to_owned())
            .collect();
        let output = bundle.run().ok();
        let points = output.lines().filter_map(|line| line.split(' ').nth(4));
        let found: Vec<&str> =
            points.filter(|point| wanted.iter().any(|one| one == point)).collect();
        assert_eq!(found, wanted);
    }
}

#[test]
fn sources_count_from_the_bundle() {
    let mut bundle = Bundle::script("cat /mnt/file");
    fs::write(bundle.directory("data").join("file"), "relative\n").unwrap();
    bundle.add_mount(mount("bind", "data", "/mnt", "bind"));
    assert_eq!(bundle.run().ok(), "relative\n");
}

#[test]
fn a_source_in_the_root_shows_what_was_mounted_there() {
    let mut bundle = Bundle::script("cat /final/x/file");
    for name in ["a", "b"] {
        let data = bundle.directory(&format!("{name}/x"));
        fs::write(data.join("file"), format!("{name}\n")).unwrap();
    }
    bundle.add_mount(mount("bind", bundle.path("a"), "/mnt", "rbind"));
    bundle.add_mount(mount("bind", bundle.path("b/x"), "/mnt/x", "rbind"));
    // Destinations, too, may be named as the host sees them.
    let destination = bundle.rootfs("final");
    let destination = destination.to_str().unwrap();
    bundle.add_mount(mount("bind", bundle.rootfs("mnt"), destination, "rbind"));
    assert_eq!(bundle.run().ok(), "b\n");
    // Nothing of the host is reached through a link of the image.
    symlink("/etc", bundle.rootfs("link")).unwrap();
    fs::write(bundle.rootfs("etc/own"), "inside\n").unwrap();
    bundle.add_mount(mount("bind", bundle.rootfs("link"), "/linked", "rbind"));
    bundle.args(&["/bin/cat", "/linked/own"]);
    assert_eq!(bundle.run().ok(), "inside\n");
}

#[test]
fn a_destination_behind_a_dangling_link_is_made() {
    let mut bundle = Bundle::script("cat /tmp/foo/bar/baz/hosts; cat /etc/dir/file");
    symlink("/tmp/foo/bar", bundle.rootfs("jump")).unwrap();
    symlink("/jump/baz/hosts", bundle.rootfs("etc/hosts")).unwrap();
    symlink("/tmp/dir", bundle.rootfs("etc/dir")).unwrap();
    let data = bundle.directory("data");
    fs::write(data.join("file"), "content\n").unwrap();
    bundle.add_mount(mount("bind", data.join("file"), "/etc/hosts", "bind"));
    bundle.add_mount(mount("bind", &data, "/etc/dir", "bind"));
    assert_eq!(bundle.run().ok(), "content\ncontent\n");
}

/// A mount that maps ids by itself.
fn mapped(source: &Path, on: &str, options: &str, host: u32) -> Value {
    let mut value = mount("bind", source, on, options);
    let map = json!([{"containerID": 100, "hostID": host, "size": 10}]);
    value["uidMappings"] = map.clone();
    value["gidMappings"] = map;
    value
}

#[test]
fn a_mount_brings_its_own_map() {
    let script = "stat -c %u:%g /mnt/file /mnt/sub/file";
    let host = "mount --bind $B/other $B/data/sub";
    let prepare = |user_namespace, options| {
        let mut bundle = Bundle::script(script);
        let (data, other) = (bundle.directory("data"), bundle.directory("other"));
        bundle.directory("data/sub");
        for directory in [&data, &other] {
            fs::write(directory.join("file"), "").unwrap();
            chown(directory.join("file"), Some(101), Some(102)).unwrap();
        }
        let first = if user_namespace { 101_000 } else { 1000 };
        bundle.add_mount(mapped(&data, "/mnt", options, first));
        if user_namespace {
            bundle.map_ids();
        }
        run_on(&bundle, host).ok()
    };
    for user_namespace in [false, true] {
        for options in ["rbind", "rbind,idmap"] {
            let seen = prepare(user_namespace, options);
            let below = if user_namespace { "65534:65534" } else { "101:102" };
            assert_eq!(seen, format!("1001:1002\n{below}\n"), "{options}");
        }
        assert_eq!(prepare(user_namespace, "rbind,ridmap"), "1001:1002\n1001:1002\n");
    }
}

#[test]
fn a_map_needs_both_halves_and_a_bind() {
    let cases = [
        (mapped(Path::new("/etc"), "/mnt", "bind", 1), "gidMappings", "both uid and gid"),
        (mount("bind", "/etc", "/mnt", "bind,idmap"), "", "needs a user namespace"),
    ];
    for (mut value, without, expected) in cases {
        value.as_object_mut().unwrap().remove(without);
        let mut bundle = Bundle::new();
        bundle.add_mount(value);
        let complaint = bundle.run().fails(125);
        assert!(complaint.contains(expected), "{complaint}");
    }
    let mut bundle = Bundle::new();
    let mut value = mapped(Path::new("tmpfs"), "/mnt", "rw", 1);
    value["type"] = json!("tmpfs");
    bundle.add_mount(value);
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("no bind mount"), "{complaint}");
}

#[test]
fn a_map_applies_inside_the_root_too() {
    let mut bundle = Bundle::script("stat -c %u:%g /mnt/file");
    fs::create_dir(bundle.rootfs("data")).unwrap();
    fs::write(bundle.rootfs("data/file"), "").unwrap();
    chown(bundle.rootfs("data/file"), Some(101), Some(102)).unwrap();
    bundle.add_mount(mapped(&bundle.rootfs("data"), "/mnt", "rbind,idmap", 1000));
    assert_eq!(bundle.run().ok(), "1001:1002\n");
}

#[test]
fn a_map_applies_inside_the_root_of_a_user_namespace() {
    let mut bundle =
        Bundle::script("stat -c %u:%g /data/file /own/file /idmap/file; touch /own/new");
    bundle.map_ids();
    bundle.config["annotations"].as_object_mut().unwrap().remove("run.map-rootfs");
    let data = bundle.directory("data");
    fs::write(data.join("file"), "").unwrap();
    chown(data.join("file"), Some(101), Some(102)).unwrap();
    fs::create_dir(bundle.rootfs("data")).unwrap();
    for name in ["", "dev", "proc", "sys", "data", "tmp"] {
        chown(bundle.rootfs(name), Some(100_000), Some(100_000)).unwrap();
    }
    // What it shows was mounted before, and is the mounts' of the container alone.
    bundle.add_mount(mount("bind", &data, "/data", "rbind"));
    bundle.add_mount(mapped(&bundle.rootfs("data"), "/own", "rbind,ro", 101_000));
    bundle.add_mount(mount("bind", bundle.rootfs("data"), "/idmap", "rbind,idmap"));
    let ran = bundle.run();
    assert_eq!(ran.stdout, "65534:65534\n1001:1002\n101:102\n", "{ran:?}");
    assert!(ran.stderr.contains("Read-only file system"), "{ran:?}");

    // One that is mapped already is not mapped again, and nothing of the container is left.
    bundle.annotate("map-rootfs", "");
    bundle.remove_mount("/data");
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("map the ids of `/data`"), "{complaint}");
}

#[test]
fn files_keep_their_owners_unless_the_root_is_mapped() {
    let mut bundle = Bundle::script("stat -c %u:%g /mine /theirs; touch /made");
    bundle.map_ids();
    bundle.config["annotations"].as_object_mut().unwrap().remove("run.map-rootfs");
    for name in ["mine", "theirs"] {
        fs::write(bundle.rootfs(name), "").unwrap();
    }
    for name in ["mine", "", "dev", "proc", "sys", "tmp"] {
        chown(bundle.rootfs(name), Some(100_000), Some(100_000)).unwrap();
    }
    assert_eq!(bundle.run().ok(), "0:0\n65534:65534\n");
    assert_eq!(fs::metadata(bundle.rootfs("made")).unwrap().uid(), 100_000);
}

#[test]
fn the_root_propagates_as_asked() {
    let cases = [
        (None, "master:", "shared:"),
        (Some("shared"), "shared:", "unbindable"),
        (Some("rshared"), "shared:", "unbindable"),
        (Some("slave"), "master:", "shared:"),
        (Some("private"), "", "shared:"),
        (Some("rprivate"), "", "master:"),
        (Some("unbindable"), "unbindable", "shared:"),
        (Some("runbindable"), "unbindable", "shared:"),
    ];
    for (word, there, absent) in cases {
        let mut bundle = Bundle::script("grep ' / / \\| /.*/rootfs / ' /proc/self/mountinfo");
        bundle.config["linux"]["rootfsPropagation"] = json!(word);
        let host = "mount --bind $B/rootfs $B/rootfs && mount --make-shared $B/rootfs";
        let line = run_on(&bundle, host).ok();
        assert!(line.contains(there) && !line.contains(absent), "{word:?}: {line}");
    }
    let mut bundle = Bundle::new();
    bundle.config["linux"]["rootfsPropagation"] = json!("public");
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("rootfsPropagation=public"), "{complaint}");
}

#[test]
fn several_words_about_propagation_follow_each_other() {
    let mut bundle = Bundle::script("grep ' /mnt ' /proc/self/mountinfo");
    let data = bundle.directory("data");
    bundle.add_mount(mount("bind", &data, "/mnt", "rbind,rslave,shared"));
    let host = "mount --bind $B/data $B/data && mount --make-shared $B/data";
    let line = run_on(&bundle, host).ok();
    assert!(line.contains("shared:") && line.contains("master:"), "{line}");
}

#[test]
fn a_root_is_moved_where_pivoting_is_refused() {
    let script = "ls / | grep -c etc; cat /proc/self/mountinfo | grep -c ' /sys/kernel'; \
                  unshare -mrpf mount -t proc none /proc 2>&1";
    let mut bundle = Bundle::script(script);
    bundle.annotate("no-pivot", "");
    symlink("busybox", bundle.rootfs("bin/unshare")).unwrap();
    let all = json!(["CAP_SYS_ADMIN", "CAP_SETFCAP", "CAP_SETUID", "CAP_SETGID"]);
    bundle.config["process"]["capabilities"] =
        json!({"bounding": all, "permitted": all, "effective": all});
    let ran = bundle.run();
    // The bare procfs of the host must not be what permits another without masks.
    assert!(ran.code != 0 && ran.stdout.contains("denied"), "{ran:?}");
    assert!(ran.stdout.starts_with("1\n"), "{ran:?}");
    bundle.args(&["/bin/ls", "/.."]);
    assert!(bundle.run().ok().contains("etc"));
    bundle.config["linux"]["rootfsPropagation"] = json!("private");
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("not safe without pivot_root"), "{complaint}");
}

#[test]
fn cgroups_are_shown_without_a_namespace_too() {
    for user_namespace in [false, true] {
        let mut bundle = Bundle::script(
            "cat /proc/self/cgroup | grep -c cais-test; cd /sys/fs/cgroup; \
             cat $(ls pids/tasks 2>/dev/null || echo cgroup.procs) | grep -c .",
        );
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
        if user_namespace {
            bundle.map_ids();
        }
        let path = bundle.path("");
        let name = path.file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
        bundle.annotate("cgroup", format!("/cais-test-{name}"));
        bundle.add_mount(mount("cgroup", "cgroup", "/sys/fs/cgroup", "nosuid,noexec,nodev,ro"));
        let output = bundle.run().ok();
        let mut lines = output.lines();
        assert!(lines.next().unwrap().parse::<u32>().unwrap() > 0, "{output}");
        if output.lines().count() == 2 && !Path::new("/sys/fs/cgroup/pids").exists() {
            // Everything of version 2, as with runc.
            continue;
        }
        // Its own group, with few processes in it, and not the host's root.
        assert!((1..8).contains(&lines.next().unwrap().parse::<u32>().unwrap()), "{output}");
    }
}

#[test]
fn a_host_that_uses_version_2_alone_shows_that_alone() {
    for own in [true, false] {
        let mut bundle =
            Bundle::script("grep -c ' cgroup ' /proc/self/mounts; ls /mnt/cgroup.procs");
        if !own {
            let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "cgroup");
        }
        let name = bundle.path("").file_name().unwrap().to_string_lossy().replace('.', "");
        bundle.annotate("cgroup", format!("/cais-test-{name}"));
        bundle.add_mount(mount("cgroup", "cgroup", "/mnt", "nosuid,noexec,nodev,ro"));
        // The kernel still has the hierarchies of version 1 that others have mounted.
        let script = "umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup";
        assert_eq!(run_on(&bundle, script).ok(), "0\n/mnt/cgroup.procs\n", "{own}");
    }
}

#[test]
fn version_two_is_shown_where_it_is_asked_for() {
    let mut bundle = Bundle::script("ls /mnt/cgroup.procs; grep -c ' cgroup2 ' /proc/self/mounts");
    bundle.add_mount(mount("cgroup2", "cgroup2", "/mnt", "nosuid,noexec,nodev,ro"));
    assert_eq!(bundle.run().ok(), "/mnt/cgroup.procs\n1\n");
}
