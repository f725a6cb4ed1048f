//! A container whose ids are not the host's.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use serde_json::json;

use super::bundle::{Bundle, fill, mount};

/// Owner and group of a file on disk.
#[track_caller]
fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let stat = fs::symlink_metadata(path).unwrap();
    (stat.uid(), stat.gid())
}

/// A bundle with a user namespace that runs a shell script, by a root with root's rights.
fn script(script: &str) -> Bundle {
    let mut bundle = Bundle::script(script);
    bundle.map_ids();
    let all = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_SYS_ADMIN",
        "CAP_SETUID",
        "CAP_SETGID"
    ]);
    bundle.config["process"]["capabilities"] =
        json!({"bounding": all, "permitted": all, "effective": all});
    bundle
}

/// The same on an overlay of two layers.
fn layered(text: &str) -> Bundle {
    let mut bundle = script(text);
    bundle.overlay(&["l0".into(), "l1".into()]);
    fill(&bundle.path("l1"));
    for name in ["chown", "rm", "mv", "ln", "mkfifo", "mknod"] {
        std::os::unix::fs::symlink("busybox", bundle.path("l1/bin").join(name)).unwrap();
    }
    bundle
}

#[test]
fn files_of_a_directory_belong_to_its_root() {
    let mut bundle = script("id -u; id -g; cat /proc/self/uid_map; stat -c %u:%g / /etc /tmp/mine");
    fs::write(bundle.rootfs("tmp/mine"), "").unwrap();
    chown(bundle.rootfs("tmp/mine"), Some(7), Some(8)).unwrap();
    let output = bundle.run().ok();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "0", "100000", "65536", "0:0", "0:0", "7:8"]);
    bundle.args(&["/bin/touch", "/tmp/made"]);
    bundle.run().ok();
    assert_eq!(owner(bundle.rootfs("tmp/made")), (0, 0));
}

#[test]
fn files_of_layers_belong_to_its_root() {
    let bundle = layered(
        "stat -c %u:%g / /bin/busybox /low /low/file /beyond && \
         touch /made && mkdir /dir && chown 5:6 /dir && echo more >>/low/file && rm /gone && \
         chmod 700 /low && mv /low/other /moved && mkfifo /pipe && ln /moved /low/again && \
         rm -r /tree && mkdir /tree && stat -c %u:%g /made /dir /low/file /moved /pipe",
    );
    let low = bundle.directory("l1/low");
    bundle.directory("l1/tree");
    for file in ["low/file", "low/other", "gone", "beyond", "tree/leaf"] {
        fs::write(bundle.path("l1").join(file), "x").unwrap();
    }
    chown(&low, Some(3), Some(4)).unwrap();
    chown(low.join("file"), Some(1000), Some(1000)).unwrap();
    // An id that the namespace has not got is nobody's.
    chown(bundle.path("l1/beyond"), Some(70_000), Some(70_000)).unwrap();
    let seen = "0:0\n0:0\n3:4\n1000:1000\n65534:65534\n0:0\n5:6\n1000:1000\n0:0\n0:0\n";
    assert_eq!(bundle.run().ok(), seen);

    let upper = bundle.path("upper");
    for (path, expected) in [
        ("", (0, 0)),
        ("made", (0, 0)),
        ("dir", (5, 6)),
        ("low", (3, 4)),
        ("low/file", (1000, 1000)),
        ("moved", (0, 0)),
        ("gone", (0, 0)),
        ("tree", (0, 0)),
    ] {
        assert_eq!(owner(upper.join(path)), expected, "{path}");
    }
    assert_eq!(fs::read_to_string(upper.join("low/file")).unwrap(), "xmore\n");
    assert!(!upper.join("beyond").exists());
    let mut opaque = [0; 2];
    let length =
        rustix::fs::getxattr(upper.join("tree"), "trusted.overlay.opaque", &mut opaque[..]);
    assert_eq!((length, opaque[0]), (Ok(1), b'y'));
    assert_eq!(owner(bundle.path("l1/low/file")), (1000, 1000));
}

#[test]
fn what_the_container_mounts_works_inside() {
    let mut bundle = layered(
        "echo x >/dev/null && echo y >/dev/shm/f && mkdir /tmp/d && hostname && \
         ls -A /dev/mqueue && ls /sys/class/net && stat -c %u:%g:%a /dev/pts /dev/pts/ptmx && \
         stat -c %t:%T /dev/zero && cat /proc/keys && echo again >/dev/stdout && \
         mknod /dev/sda b 8 0 2>/dev/null || echo refused",
    );
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let pts = mounts.iter_mut().find(|mount| mount["type"] == "devpts").unwrap();
    pts["options"].as_array_mut().unwrap().push(json!("gid=5"));
    assert_eq!(bundle.run().ok(), "box\nlo\n0:0:755\n0:0:666\n1:5\nagain\nrefused\n");
}

/// The same for another user than root.
fn for_a_user(text: &str) -> Bundle {
    let mut bundle = layered(text);
    bundle.annotate("user", "1000:1000");
    bundle
}

#[test]
fn another_user_can_open_its_output_again() {
    let bundle = for_a_user("id -u; echo again >/dev/stdout");
    assert_eq!(bundle.run().ok(), "1000\nagain\n");
    let mut bundle = for_a_user("tty; stat -c %u:%g $(tty); echo again >/dev/stdout");
    bundle.annotate("terminal", "24x80");
    assert_eq!(bundle.run().ok(), "/dev/pts/0\r\n1000:0\r\nagain\r\n");
}

#[test]
fn a_set_id_program_becomes_root_of_the_container() {
    // The bundle, which lacks a process, is in a directory that only root may look into.
    let mut bundle = for_a_user("/plain /secret; /set-id /secret");
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    for (name, mode) in [("plain", 0o755), ("set-id", 0o4755)] {
        let program = bundle.path("l1").join(name);
        fs::copy(env!("CARGO_BIN_EXE_oci-run"), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
    }
    let secret = bundle.directory("l1/secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(secret.join("config.json"), "{\"ociVersion\": \"1.2.0\"}").unwrap();
    let complaint = bundle.run().fails(125);
    let lines: Vec<&str> = complaint.lines().collect();
    assert!(lines[0].contains("read the bundle's config.json"), "{complaint}");
    assert!(lines[1].contains("the process is missing"), "{complaint}");
}

#[test]
fn binds_are_as_they_are_unless_mapped() {
    let mut bundle = script("stat -c %u:%g /plain /mapped; touch /mapped/made; touch /plain/made");
    let (plain, mapped) = (bundle.directory("plain"), bundle.directory("mapped"));
    bundle.add_mount(mount("bind", &plain, "/plain", "rbind"));
    bundle.add_mount(mount("bind", &mapped, "/mapped", "rbind,ridmap"));
    let ran = bundle.run();
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "65534:65534\n0:0\n"), "{ran:?}");
    assert_eq!(owner(mapped.join("made")), (0, 0));
    assert!(!plain.join("made").exists());

    bundle.add_mount(mount("tmpfs", "tmpfs", "/new", "idmap"));
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("the ids of the new `tmpfs` on `/new`"), "{complaint}");
    let mut own = Bundle::new();
    own.add_mount(mount("bind", &mapped, "/mapped", "bind,idmap"));
    let complaint = own.run().fails(125);
    assert!(complaint.contains("needs a user namespace"), "{complaint}");
}

#[test]
fn a_volume_is_filled_with_the_owners_of_the_image() {
    let mut bundle = layered("stat -c %u:%g /data /data/file");
    let data = bundle.directory("l1/data");
    fs::write(data.join("file"), "content").unwrap();
    chown(&data, Some(33), Some(34)).unwrap();
    chown(data.join("file"), Some(1), Some(2)).unwrap();
    let volume = bundle.directory("volume");
    bundle.add_mount(mount("bind", &volume, "/data", "rbind,idmap"));
    bundle.annotate("copy-up", "/data");
    assert_eq!(bundle.run().ok(), "33:34\n1:2\n");
    assert_eq!((owner(&volume), owner(volume.join("file"))), ((33, 34), (1, 2)));
}

#[test]
fn a_further_process_has_the_same_ids() {
    let mut bundle = layered("echo; sleep 1000");
    let running = bundle.start();
    let command = ["/bin/sh", "-c", "id -u; touch /made; echo x >/dev/stdout; stat -c %u /made"];
    let output = bundle.exec_command(&running, &command).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\nx\n0\n", "{output:?}");
    assert_eq!(owner(bundle.path("upper/made")), (0, 0));
    running.kill().fails(137);
}

#[test]
fn it_is_joined_as_in_a_pod() {
    let mut one = script("echo; sleep 1000");
    let running = one.start();
    let mut two = Bundle::script(
        "echo $$; id -u; touch /made; readlink /proc/self/ns/user; readlink /proc/self/ns/net",
    );
    two.annotate("map-rootfs", "");
    let path = |name: &str| format!("/proc/{}/ns/{name}", running.pid);
    two.config["linux"]["namespaces"][1]["path"] = json!(path("net"));
    let user = json!({"type": "user", "path": path("user")});
    two.config["linux"]["namespaces"].as_array_mut().unwrap().push(user);
    let theirs = |name: &str| fs::read_link(path(name)).unwrap();
    let expected = format!("1\n0\n{}\n{}\n", theirs("user").display(), theirs("net").display());
    assert_eq!(two.run().ok(), expected);
    assert_eq!(owner(two.rootfs("made")), (0, 0));
    running.kill().fails(137);
}

#[test]
fn a_file_system_that_maps_no_ids_is_named() {
    let mut bundle = script("true");
    bundle.add_mount(mount("bind", "/sys/kernel", "/data", "bind,idmap"));
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("`/sys/kernel`, which maps no ids"), "{complaint}");
    assert!(complaint.contains("not supported"), "{complaint}");
}

#[test]
fn nothing_of_the_makers_mounts_stays() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let bundle = layered("true");
    let own = bundle.path("");
    bundle.run().ok();
    assert!(!mounts().contains(&*own.to_string_lossy()), "{}", mounts());
    let mut broken = layered("true");
    broken.annotate("work", broken.directory("elsewhere/work"));
    let complaint = broken.run().fails(125);
    assert!(complaint.contains("side by side"), "{complaint}");
}

#[test]
fn a_network_of_others_is_joined() {
    let mut one = Bundle::script("echo; sleep 1000");
    let running = one.start();
    let mut two =
        layered("readlink /proc/self/ns/net; echo $$; id -u; touch /made; ls /sys/class/net");
    let net = format!("/proc/{}/ns/net", running.pid);
    two.config["linux"]["namespaces"][1]["path"] = json!(net);
    let theirs = fs::read_link(&net).unwrap();
    assert_eq!(two.run().ok(), format!("{}\n1\n0\nlo\n", theirs.display()));
    assert_eq!(owner(two.path("upper/made")), (0, 0));
    running.kill().fails(137);
}

#[test]
fn devices_are_bound_by_their_number() {
    let mut bundle = script("stat -c '%F %t:%T' /dev/memory /dev/full");
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/memory", "type": "c", "major": 1, "minor": 5}]);
    assert_eq!(bundle.run().ok(), "character special file 1:5\ncharacter special file 1:7\n");
}

#[test]
fn many_layers_are_mapped() {
    let mut bundle = script("find /marks -user 0 | grep -c mark-");
    let layers: Vec<String> = (0..200).map(|n| format!("layer-{n}")).collect();
    bundle.overlay(&layers);
    for (number, layer) in layers.iter().enumerate() {
        fs::create_dir(bundle.path(layer).join("marks")).unwrap();
        fs::write(bundle.path(layer).join(format!("marks/mark-{number}")), "").unwrap();
    }
    fill(&bundle.path(&layers[199]));
    assert_eq!(bundle.run().ok(), "200\n");
}
