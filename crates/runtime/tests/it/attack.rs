//! Images and configurations that try to get out: what is said to whoever asked, and what goes on
//! working. That they do not get out is proved by the package `attack`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use super::bundle::{Bundle, mount};

/// Replaces a directory of the image by a link.
fn replace_by_link(bundle: &Bundle, name: &str, target: &Path) {
    let path = bundle.rootfs(name);
    let _ = fs::remove_dir_all(&path);
    symlink(target, path).unwrap();
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn dev_as_a_link_stays_inside() {
    for mounted in [true, false] {
        let mut bundle = Bundle::script("test -c /dev/null && echo fine");
        let outside = bundle.directory("outside");
        replace_by_link(&bundle, "dev", &outside);
        let inside = bundle.rootfs(outside.strip_prefix("/").unwrap().to_str().unwrap());
        fs::create_dir_all(&inside).unwrap();
        if !mounted {
            for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
                bundle.remove_mount(destination);
            }
        }
        assert_eq!(bundle.run().ok(), "fine\n");
        assert!(is_empty(&outside));
        assert_eq!(inside.join("null").exists(), !mounted);
    }
}

#[test]
fn proc_and_sys_must_be_directories() {
    for name in ["proc", "sys"] {
        for target in ["/tmp", "/proc", "../../../../proc"] {
            let bundle = Bundle::new();
            replace_by_link(&bundle, name, Path::new(target));
            let complaint = bundle.run().fails(125);
            assert!(complaint.contains("ordinary directory"), "{complaint}");
        }
        let bundle = Bundle::new();
        fs::remove_dir(bundle.rootfs(name)).unwrap();
        fs::write(bundle.rootfs(name), "").unwrap();
        bundle.run().fails(125);
    }
}

#[test]
fn dev_null_as_a_link_masks_nothing_else() {
    let mut bundle = Bundle::script("cat /proc/keys");
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        bundle.remove_mount(destination);
    }
    symlink("/etc/passwd", bundle.rootfs("dev/null")).unwrap();
    let complaint = bundle.run().fails(125);
    assert!(complaint.contains("/dev/null"), "{complaint}");
    // On a directory of the caller nothing is made, and the masks do not look at it.
    bundle.add_mount(mount("bind", bundle.rootfs("dev"), "/dev", "bind"));
    assert_eq!(bundle.run().ok(), "");
}

#[test]
fn mount_points_are_resolved_inside() {
    let mut bundle = Bundle::script("ls /bin/../link/; true");
    let outside = bundle.directory("outside");
    let data = bundle.directory("data");
    fs::write(data.join("mark"), "").unwrap();
    symlink(&outside, bundle.rootfs("link")).unwrap();
    symlink("../../../../../../../../..", bundle.rootfs("up")).unwrap();
    bundle.add_mount(mount("bind", &data, "/up/link/made/here", "bind"));
    // The link's target does not exist inside: it is made there, and nothing outside.
    bundle.run().ok();
    assert!(is_empty(&outside));
    let inside = bundle.rootfs(outside.strip_prefix("/").unwrap().to_str().unwrap());
    bundle.args(&["/bin/sh", "-c", "ls /link/made/here"]);
    assert_eq!(bundle.run().ok(), "mark\n");
    assert!(is_empty(&outside));
    assert!(inside.join("made/here").is_dir());
}

#[test]
fn a_mount_point_through_a_magic_link_is_refused() {
    let mut bundle = Bundle::new();
    let data = bundle.directory("data");
    for destination in ["/proc/self/root/x", "/proc/1/cwd/x", "/proc/self/fd/3"] {
        bundle.remove_mount("/x");
        bundle.add_mount(mount("bind", &data, destination, "bind"));
        bundle.run().fails(125);
    }
}

#[test]
fn procfs_cannot_be_covered() {
    let mut bundle = Bundle::new();
    let data = bundle.directory("data");
    fs::write(data.join("cpuinfo"), "mine\n").unwrap();
    symlink("/proc", bundle.rootfs("innocent")).unwrap();
    for (source, destination) in
        [(data.clone(), "/proc"), (data.clone(), "/innocent"), (data.join("cpuinfo"), "/proc/keys")]
    {
        let mut bundle_of_case = Bundle::new();
        symlink("/proc", bundle_of_case.rootfs("innocent")).unwrap();
        bundle_of_case.add_mount(mount("bind", source, destination, "bind"));
        let complaint = bundle_of_case.run().fails(125);
        assert!(complaint.contains("procfs"), "{complaint}");
    }
    bundle.add_mount(mount("bind", data.join("cpuinfo"), "/proc/cpuinfo", "bind"));
    bundle.args(&["/bin/cat", "/proc/cpuinfo"]);
    assert_eq!(bundle.run().ok(), "mine\n");
}

#[test]
fn the_working_directory_is_inside() {
    let mut bundle = Bundle::script("ls -d . ; readlink /proc/self/cwd");
    symlink("/proc/self/fd/7", bundle.rootfs("sneaky")).unwrap();
    let outside = (3..12).map(|number| format!("/proc/self/fd/{number}"));
    let outside = outside.chain((3..8).map(|number| format!("/proc/1/fd/{number}/tmp")));
    let others = ["/sneaky", "/proc/self/cwd", "/proc/self/root", "/bin/true", "relative"];
    for cwd in outside.chain(others.map(String::from)) {
        bundle.config["process"]["cwd"] = json!(cwd);
        let ran = bundle.run_with_leaks();
        assert_eq!(ran.code, 125, "{cwd}: {ran:?}");
    }
    symlink("/..", bundle.rootfs("up")).unwrap();
    for (cwd, expected) in [("/made/for/it", ".\n/made/for/it\n"), ("/up", ".\n/\n")] {
        bundle.config["process"]["cwd"] = json!(cwd);
        assert_eq!(bundle.run_with_leaks().ok(), expected);
    }
}

#[test]
fn files_of_users_are_plain_files() {
    let fifo = |path: &Path| {
        fs::remove_file(path).unwrap();
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    };
    let link = |path: &Path| {
        fs::remove_file(path).unwrap();
        symlink("/dev/zero", path).unwrap();
    };
    let plants: [&dyn Fn(&Path); 2] = [&fifo, &link];
    for plant in plants {
        let mut bundle = Bundle::new();
        bundle.annotate("user", "web");
        plant(&bundle.rootfs("etc/passwd"));
        let complaint = bundle.run().fails(125);
        assert!(complaint.contains("not a regular file"), "{complaint}");
    }
    // The host's file is not an answer.
    let mut bundle = Bundle::new();
    bundle.annotate("user", "daemon");
    fs::remove_file(bundle.rootfs("etc/passwd")).unwrap();
    symlink("../../../../../../../../../etc/passwd", bundle.rootfs("etc/passwd")).unwrap();
    bundle.run().fails(125);
}

#[test]
fn the_console_is_not_made_through_a_link() {
    let mut bundle =
        Bundle::script("stat -c %F /dev/console; ls -l /dev/console | grep -c pts; true");
    bundle.annotate("terminal", "24x80");
    for destination in ["/dev", "/dev/shm", "/dev/mqueue"] {
        bundle.remove_mount(destination);
    }
    let victim = bundle.path("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, bundle.rootfs("dev/console")).unwrap();
    let ran = bundle.run();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{ran:?}");
    assert!(!ran.stdout.contains("precious"));
}
