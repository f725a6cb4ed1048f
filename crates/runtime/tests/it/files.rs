//! What the container sees as its files.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};

use serde_json::json;

use super::bundle::{Bundle, fill, mount};

#[test]
fn the_root_is_writable_unless_it_is_read_only() {
    let mut bundle = Bundle::script("touch /made");
    bundle.run().ok();
    assert!(bundle.rootfs("made").exists());
    bundle.config["root"]["readonly"] = json!(true);
    bundle.args(&["/bin/sh", "-c", "touch /more"]);
    bundle.run().fails(1);
    // What is mounted on it stays writable.
    bundle.args(&["/bin/sh", "-c", "touch /dev/shm/more"]);
    bundle.run().ok();
}

#[test]
fn devices_and_links_are_there() {
    let script = "cd /dev; stat -c '%n %F %a %t:%T' null zero full random urandom tty; \
                  for l in fd stdin stdout stderr ptmx core; do readlink $l; done; \
                  dd if=zero bs=4 count=1 2>null | grep -c . ; echo x >full";
    let output = Bundle::script(script).run();
    for (name, number) in
        [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("tty", "5:0")]
    {
        let line = format!("{name} character special file 666 {number}");
        assert!(output.stdout.contains(&line), "{output:?}");
    }
    let links = "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n";
    assert!(output.stdout.contains(links), "{output:?}");
    assert!(output.stderr.contains("No space left"), "{output:?}");
}

#[test]
fn devices_of_the_specification_are_made() {
    let mut bundle =
        Bundle::script("stat -c '%F %a %u %g %t:%T' /dev/kmsg /opt/deep/fuse /dev/pipe");
    bundle.config["linux"]["devices"] = json!([
        {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/opt/deep/fuse", "type": "b", "major": 10, "minor": 229, "fileMode": 0o600},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
    ]);
    let expected = "character special file 640 3 4 1:b\n\
                    block special file 600 0 0 a:e5\nfifo 622 0 0 0:0\n";
    assert_eq!(bundle.run().ok(), expected);
}

#[test]
fn masked_paths_are_empty_and_read_only_paths_are_read_only() {
    let script = "cat /proc/keys /proc/timer_list; ls /sys/firmware /proc/acpi 2>/dev/null; \
                  chmod 600 /proc/keys 2>/dev/null && echo changed; \
                  echo 1 2>/dev/null >/proc/sys/kernel/shmmni && echo written; \
                  touch /sys/firmware/x 2>/dev/null && echo made; true";
    let mut bundle = Bundle::script(script);
    let all = json!(["CAP_SYS_ADMIN", "CAP_FOWNER", "CAP_DAC_OVERRIDE", "CAP_SYS_RAWIO"]);
    bundle.config["process"]["capabilities"] =
        json!({"bounding": all, "permitted": all, "effective": all});
    let output = bundle.run().ok();
    let output = output.replace("/sys/firmware:\n", "").replace("/proc/acpi:\n", "");
    assert_eq!(output.trim(), "");
    assert_eq!(fs::metadata("/dev/null").unwrap().mode() & 0o777, 0o666);
}

#[test]
fn an_overlay_shows_its_layers_topmost_first() {
    let mut bundle = Bundle::script("cat /who /low /gone; echo new >/made; rm /low 2>&-; true");
    bundle.overlay(&["l0".into(), "l1".into(), "l2".into()]);
    fill(&bundle.path("l2"));
    symlink("busybox", bundle.path("l2/bin/rm")).unwrap();
    for (layer, file) in
        [("l2", "who"), ("l2", "low"), ("l2", "gone"), ("l1", "who"), ("l0", "who")]
    {
        fs::write(bundle.path(layer).join(file), format!("{layer}\n")).unwrap();
    }
    // A whiteout: a character device with the number 0.
    let whiteout = bundle.path("l1/gone");
    let kind = rustix::fs::FileType::CharacterDevice;
    let mode = rustix::fs::Mode::empty();
    rustix::fs::mknodat(rustix::fs::CWD, &whiteout, kind, mode, 0).unwrap();
    let ran = bundle.run();
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "l0\nl2\n"), "{ran:?}");
    assert_eq!(fs::read_to_string(bundle.path("upper/made")).unwrap(), "new\n");
    assert!(fs::symlink_metadata(bundle.path("upper/low")).unwrap().file_type().is_char_device());
    assert!(!bundle.path("l2/made").exists());
}

#[test]
fn many_layers_with_strange_names_are_fine() {
    let mut bundle = Bundle::script("ls /marks | grep -c .");
    // 100 names that do not fit into a page together.
    let layers: Vec<String> = (0..100).map(|n| format!("{n}-{}", "x,y".repeat(30))).collect();
    bundle.overlay(&layers);
    for layer in &layers {
        fs::create_dir(bundle.path(layer).join("marks")).unwrap();
        fs::write(bundle.path(layer).join("marks").join(&layer[..3]), "").unwrap();
    }
    fill(&bundle.path(&layers[99]));
    assert_eq!(bundle.run().ok(), "100\n");
}

#[test]
fn directories_and_files_are_bound() {
    let mut bundle = Bundle::script(
        "cat /data/file /etc/one; touch /data/new && touch /ro/new 2>/dev/null || echo refused",
    );
    let data = bundle.directory("data");
    fs::write(data.join("file"), "content\n").unwrap();
    bundle.add_mount(mount("bind", &data, "/data", "rbind,rprivate"));
    bundle.add_mount(mount("none", data.join("file"), "/etc/one", "bind,ro"));
    bundle.add_mount(mount("bind", &data, "/ro", "bind,ro,nosuid"));
    assert_eq!(bundle.run().ok(), "content\ncontent\nrefused\n");
    assert!(data.join("new").exists());
}

#[test]
fn recursive_attributes_reach_the_mounts_below() {
    let script =
        "touch /top/a /top/dev/shm/b 2>/dev/null; ls /top/a /top/dev/shm/b 2>/dev/null; true";
    for (option, expected) in [("ro", "/top/dev/shm/b\n"), ("rro", "")] {
        let mut bundle = Bundle::script(script);
        // The host's `/dev/shm` is a mount of its own below what is bound.
        let name = bundle.path("").file_name().unwrap().to_str().unwrap().to_owned();
        let file = format!("/top/shm/{name}");
        let script = format!("touch {file} 2>/dev/null && echo written; rm -f {file}; true");
        bundle.args(&["/bin/busybox", "sh", "-c", &script]);
        bundle.add_mount(mount("bind", "/dev", "/top", &format!("rbind,{option}")));
        let expected = if expected.is_empty() { "" } else { "written\n" };
        assert_eq!(bundle.run().ok(), expected, "{option}");
    }
}

#[test]
fn mounts_reach_the_host_only_when_asked_to() {
    // The host's part is played by a mount namespace of the test's own.
    let host = "mount --bind \"$2\" \"$2\" && mount --make-shared \"$2\" && \"$0\" \"$1\" && \
                grep -c \"$2/sub\" /proc/self/mountinfo; true";
    for (options, mounts) in
        [("rbind", "0"), ("rbind,rprivate", "0"), ("rbind,rslave", "0"), ("rbind,rshared", "1")]
    {
        let mut bundle = Bundle::script("mount -t tmpfs tmpfs /data/sub");
        let all = json!(["CAP_SYS_ADMIN"]);
        bundle.config["process"]["capabilities"] =
            json!({"bounding": all, "permitted": all, "effective": all});
        let data = bundle.directory("data");
        bundle.directory("data/sub");
        bundle.add_mount(mount("bind", &data, "/data", options));
        let driver = bundle.command();
        let output = std::process::Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", host])
            .arg(driver.get_program())
            .args(driver.get_args())
            .arg(&data)
            .output()
            .unwrap();
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(found.trim(), mounts, "{options}: {output:?}");
    }
}

#[test]
fn a_tmpfs_takes_what_the_image_has() {
    let mut bundle =
        Bundle::script("cat /data/deep/file; echo changed >/data/deep/file; stat -c %a /data");
    fs::create_dir_all(bundle.rootfs("data/deep")).unwrap();
    fs::write(bundle.rootfs("data/deep/file"), "image\n").unwrap();
    fs::set_permissions(bundle.rootfs("data"), fs::Permissions::from_mode(0o751)).unwrap();
    bundle.add_mount(mount("tmpfs", "tmpfs", "/data", "tmpcopyup"));
    assert_eq!(bundle.run().ok(), "image\n751\n");
    assert_eq!(fs::read_to_string(bundle.rootfs("data/deep/file")).unwrap(), "image\n");
    bundle.remove_mount("/data");
    bundle.add_mount(mount("tmpfs", "tmpfs", "/data", "tmpcopyup,ro"));
    bundle.args(&[
        "/bin/sh",
        "-c",
        "cat /data/deep/file; touch /data/x 2>/dev/null || echo refused",
    ]);
    assert_eq!(bundle.run().ok(), "image\nrefused\n");
}

#[test]
fn an_empty_volume_is_filled_with_the_image() {
    let mut bundle = Bundle::new();
    let image = bundle.rootfs("data");
    fs::create_dir_all(image.join("sub")).unwrap();
    fs::write(image.join("sub/file"), "image").unwrap();
    fs::hard_link(image.join("sub/file"), image.join("twin")).unwrap();
    symlink("/nowhere", image.join("link")).unwrap();
    let special = fs::Permissions::from_mode(0o4711);
    fs::set_permissions(image.join("sub/file"), special).unwrap();
    std::os::unix::fs::chown(&image, Some(12), Some(13)).unwrap();
    let value = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(image.join("sub"), "user.key", b"value", value).unwrap();
    let volume = bundle.directory("volume");
    bundle.add_mount(mount("bind", &volume, "/data", "bind"));
    bundle.annotate("copy-up", "/data");
    bundle.run().ok();

    assert_eq!(fs::read_to_string(volume.join("sub/file")).unwrap(), "image");
    let (one, other) = (volume.join("sub/file"), volume.join("twin"));
    let (one, other) = (fs::metadata(one).unwrap(), fs::metadata(other).unwrap());
    assert_eq!(one.ino(), other.ino());
    assert_eq!(one.mode() & 0o7777, 0o4711);
    assert_eq!(fs::read_link(volume.join("link")).unwrap().to_str(), Some("/nowhere"));
    let top = fs::metadata(&volume).unwrap();
    assert_eq!((top.uid(), top.gid()), (12, 13));
    assert_eq!(top.mtime_nsec(), fs::metadata(&image).unwrap().mtime_nsec());
    let mut found = [0; 16];
    let length = rustix::fs::getxattr(volume.join("sub"), "user.key", &mut found[..]).unwrap();
    assert_eq!(&found[..length], b"value");

    // A volume with content is left alone.
    fs::remove_file(volume.join("twin")).unwrap();
    bundle.run().ok();
    assert!(!volume.join("twin").exists());
}

#[test]
fn cgroups_are_seen_from_the_containers_own() {
    let mut bundle = Bundle::script(
        "cat /proc/self/cgroup; ls /sys/fs/cgroup | grep -c .; \
                                     mkdir /sys/fs/cgroup/pids/x 2>/dev/null && echo made; true",
    );
    let name =
        bundle.path("").file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
    bundle.annotate("cgroup", format!("/cais-test-{name}"));
    bundle.add_mount(mount("cgroup", "cgroup", "/sys/fs/cgroup", "nosuid,noexec,nodev,ro"));
    let output = bundle.run().ok();
    let outside = output.lines().filter(|line| line.contains("cais-test"));
    assert_eq!(outside.count(), 0, "{output}");
    assert!(output.contains(":pids:/\n") || output.contains("0::/\n"), "{output}");
    assert!(!output.contains("made"));
}

#[test]
fn wrong_mounts_are_refused() {
    let cases = [
        mount("bind", "/missing/source", "/x", "bind"),
        mount("bind", "relative", "/x", "bind"),
        mount("tmpfs", "tmpfs", "/", "mode=755"),
        mount("tmpfs", "tmpfs", "/x", "nonsense=1"),
        mount("nonsense", "none", "/x", "ro"),
        mount("bind", "/etc", "/etc/passwd", "bind"),
        mount("bind", "/etc", "/x", "bind,idmap"),
    ];
    for case in cases {
        let mut bundle = Bundle::new();
        bundle.add_mount(case.clone());
        let ran = bundle.run();
        assert_eq!(ran.code, 125, "{case}: {ran:?}");
    }
}
