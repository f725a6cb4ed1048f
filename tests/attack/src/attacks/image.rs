//! Images and configurations that are made so that whoever starts them reaches too far.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use super::{Outcome, not_tried, unless_contains, unless_filled};
use crate::Runtime;
use crate::bundle::{Bundle, SECRET, mount};

pub(super) fn dev_is_a_link(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::script("true");
    bundle.without_dev();
    let outside = bundle.outside();
    bundle.link("dev", &outside);
    unless_filled(&outside, &runtime.run(&bundle))
}

pub(super) fn null_is_a_link(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::script("cat /proc/keys");
    bundle.without_dev();
    fs::write(bundle.rootfs("shown"), "shown-by-the-mask").unwrap();
    bundle.link("dev/null", "/shown");
    let ran = runtime.run(&bundle);
    if ran.code == Some(0) && !ran.stdout.is_empty() {
        return Outcome::Broke("the mask shows a file".into());
    }
    Outcome::Held(ran.complaint())
}

pub(super) fn console_is_a_link(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::script("true");
    bundle.terminal();
    let victim = bundle.path("victim");
    fs::write(&victim, "precious").unwrap();
    bundle.link("dev/console", &victim);
    let ran = runtime.run(&bundle);
    match fs::read_to_string(&victim).unwrap().as_str() {
        "precious" => Outcome::Held(ran.complaint()),
        _ => Outcome::Broke("emptied a file of the host".into()),
    }
}

pub(super) fn mount_point_is_a_link(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::script("true");
    let (outside, data) = (bundle.outside(), bundle.make("data"));
    bundle.link("swap", &outside);
    bundle.add_mount(mount("bind", data, "/swap/deep/er", "bind"));
    unless_filled(&outside, &runtime.run(&bundle))
}

pub(super) fn proc_is_a_link(runtime: &Runtime) -> Outcome {
    let bundle = Bundle::script("test -e /elsewhere/version && echo procfs-at-a-link");
    fs::create_dir(bundle.rootfs("elsewhere")).unwrap();
    bundle.link("proc", "/elsewhere");
    let ran = runtime.run(&bundle);
    unless_contains(&ran.stdout, "procfs-at-a-link", &ran)
}

pub(super) fn sys_is_a_link(runtime: &Runtime) -> Outcome {
    let bundle = Bundle::script("test -e /elsewhere/kernel && echo sysfs-at-a-link");
    fs::create_dir(bundle.rootfs("elsewhere")).unwrap();
    bundle.link("sys", "/elsewhere");
    let ran = runtime.run(&bundle);
    unless_contains(&ran.stdout, "sysfs-at-a-link", &ran)
}

pub(super) fn proc_is_covered(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::script("cat /proc/self/attr/current");
    let data = bundle.make("data");
    fs::create_dir_all(data.join("attr")).unwrap();
    fs::write(data.join("attr/current"), "forged-by-the-image").unwrap();
    bundle.add_mount(mount("bind", data, "/proc/self", "bind"));
    // `/proc/self` is a link to the process that mounts.
    let ran = runtime.run(&bundle);
    if ran.stdout.contains("forged") {
        return Outcome::Broke("a file of the image passes for one of procfs".into());
    }
    let mut bundle = Bundle::script("cat /proc/sys/kernel/osrelease");
    let file = bundle.path("release");
    fs::write(&file, "forged-by-the-image").unwrap();
    bundle.add_mount(mount("bind", file, "/proc/sys/kernel/osrelease", "bind"));
    let ran = runtime.run(&bundle);
    unless_contains(&ran.stdout, "forged-by-the-image", &ran)
}

pub(super) fn parameter_is_redirected(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::script("true");
    let file = bundle.path("parameter");
    fs::write(&file, "").unwrap();
    bundle.add_mount(mount("bind", &file, "/proc/sys/kernel/shmmni", "bind"));
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.config["linux"]["sysctl"] = json!({"kernel.shmmni": "1234"});
    let ran = runtime.run(&bundle);
    match fs::read_to_string(&file).unwrap().as_str() {
        "" => Outcome::Held(ran.complaint()),
        text => Outcome::Broke(format!("wrote `{text}` to another file")),
    }
}

pub(super) fn volume_is_a_link(runtime: &Runtime) -> Outcome {
    if !runtime.is_driver() {
        return not_tried("it fills no volumes");
    }
    let mut bundle = Bundle::script("cat /data/*");
    let host = bundle.make("host");
    fs::write(host.join("file"), SECRET).unwrap();
    bundle.link("data", &host);
    fs::create_dir_all(bundle.rootfs(host.strip_prefix("/").unwrap().to_str().unwrap())).unwrap();
    let volume = bundle.make("volume");
    bundle.add_mount(mount("bind", volume, "/data", "bind"));
    bundle.annotate("copy-up", "/data");
    let ran = runtime.run(&bundle);
    unless_contains(&ran.stdout, SECRET, &ran)
}

pub(super) fn part_is_a_link(runtime: &Runtime) -> Outcome {
    if !runtime.is_driver() {
        return not_tried("it mounts no parts of a volume");
    }
    let mut bundle = Bundle::script("cat /data/secret");
    let volume = bundle.make("volume");
    symlink(bundle.directory(), volume.join("part")).unwrap();
    bundle.add_mount(mount("bind", volume, "/data", "bind"));
    bundle.annotate("part", "/data:part");
    let ran = runtime.run(&bundle);
    unless_contains(&ran.stdout, SECRET, &ran)
}

pub(super) fn user_is_called_a_number(runtime: &Runtime) -> Outcome {
    if !runtime.is_driver() {
        return not_tried("it knows users by number only");
    }
    let mut bundle = Bundle::script("id -u");
    fs::write(bundle.rootfs("etc/passwd"), "1000:x:0:0::/:/bin/sh\n").unwrap();
    bundle.annotate("user", "1000");
    let ran = runtime.run(&bundle);
    match ran.stdout.trim() {
        "0" => Outcome::Broke("1000 is root".into()),
        id => Outcome::Held(format!("{id} {}", ran.complaint())),
    }
}

pub(super) fn passwd_is_a_fifo(runtime: &Runtime) -> Outcome {
    let bundle = Bundle::script("echo home=$HOME");
    let passwd = bundle.rootfs("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    mknodat(CWD, &passwd, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    let stop = AtomicBool::new(false);
    let ran = thread::scope(|scope| {
        let text = "root:x:0:0::/from-a-fifo:/bin/sh\n";
        scope.spawn(|| crate::runtime::write_when_read(&passwd, text, &stop));
        let ran = runtime.run(&bundle);
        stop.store(true, Ordering::Relaxed);
        ran
    });
    if ran.hung {
        return Outcome::Broke("it hangs".into());
    }
    unless_contains(&ran.stdout, "from-a-fifo", &ran)
}

pub(super) fn cwd_by_descriptor(runtime: &Runtime) -> Outcome {
    let mut last = None;
    for number in 3..24 {
        let mut bundle = Bundle::script("cat ./secret ../../../../../../../../..$BUNDLE/secret");
        bundle.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        let command = leaking(&runtime.command(&bundle), &bundle);
        let ran = runtime.finish(command, &bundle);
        if ran.stdout.contains(SECRET) {
            return Outcome::Broke(format!("read a file of the host from descriptor {number}"));
        }
        last = Some(ran);
    }
    Outcome::Held(last.unwrap().complaint())
}

/// The same command, with descriptors 3 to 7 open on a directory of the host.
pub(super) fn leaking(command: &Command, bundle: &Bundle) -> Command {
    let mut shell = Command::new("sh");
    let script = "exec 3< \"$0\" 4< \"$0\" 5< / 6< / 7< \"$0\"; exec \"$@\"";
    shell.args(["-c", script]).arg(bundle.directory());
    shell.arg(command.get_program()).args(command.get_args()).arg0("sh");
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdin(std::process::Stdio::null());
    shell
}

/// Lets a link and what it stands beside exist before they change places.
pub(super) fn plant(bundle: &Bundle, target: &std::path::Path) -> std::path::PathBuf {
    let link = bundle.rootfs("planted");
    symlink(target, &link).unwrap();
    link
}
