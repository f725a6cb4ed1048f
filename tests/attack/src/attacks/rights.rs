//! Programs in a container that look for more than they were given.

use std::process::Command;

use serde_json::json;

use super::image::leaking;
use super::{Outcome, not_tried, unless_contains};
use crate::Runtime;
use crate::bundle::{Bundle, SECRET, mount};

pub(super) fn descriptors(runtime: &Runtime) -> Outcome {
    let bundle = Bundle::script("for f in /proc/self/fd/*; do echo $f $(readlink $f); done");
    let ran = runtime.finish(leaking(&runtime.command(&bundle), &bundle), &bundle);
    let directory = bundle.directory().to_str().unwrap();
    // The shell's own, on `/proc/self/fd`, is gone by the time of the loop.
    let leaked = |line: &&str| line.ends_with(directory) || line.contains("cgroup");
    match ran.stdout.lines().find(leaked) {
        Some(line) => Outcome::Broke(format!("open: `{}`", line.replace(directory, "…"))),
        None => Outcome::Held(format!("{} are open", ran.stdout.lines().count())),
    }
}

/// The value of a line of `/proc/self/status`.
fn status(runtime: &Runtime, bundle: &Bundle, field: &str) -> Result<String, Outcome> {
    let ran = runtime.run(bundle);
    let value = ran.stdout.lines().find_map(|line| line.strip_prefix(field));
    value.map(|value| value.trim().into()).ok_or_else(|| not_tried(&ran.complaint()))
}

/// Broken unless the field has this value.
fn expect(runtime: &Runtime, bundle: &Bundle, field: &str, expected: &str) -> Outcome {
    match status(runtime, bundle, field) {
        Err(outcome) => outcome,
        Ok(value) if value == expected => Outcome::Held(format!("{field} {value}")),
        Ok(value) => Outcome::Broke(format!("{field} {value}")),
    }
}

pub(super) fn inheritable_capabilities(runtime: &Runtime) -> Outcome {
    let bundle = Bundle::script("cat /proc/self/status");
    expect(runtime, &bundle, "CapInh:", "0000000000000000")
}

pub(super) fn bounding_capabilities(runtime: &Runtime) -> Outcome {
    let bundle = Bundle::script("cat /proc/self/status");
    expect(runtime, &bundle, "CapBnd:", "00000000a80425fb")
}

pub(super) fn new_privileges(runtime: &Runtime) -> Outcome {
    let bundle = Bundle::script("cat /proc/self/status");
    expect(runtime, &bundle, "NoNewPrivs:", "1")
}

pub(super) fn system_calls(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::script("mkdir /tmp/made && echo made-it");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    });
    let ran = runtime.run(&bundle);
    unless_contains(&ran.stdout, "made-it", &ran)
}

pub(super) fn groups(runtime: &Runtime) -> Outcome {
    let bundle = Bundle::script("id -G");
    let command = runtime.command(&bundle);
    let mut with_groups = Command::new("setpriv");
    with_groups.args(["--groups", "4242"]).arg(command.get_program()).args(command.get_args());
    with_groups.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = runtime.finish(with_groups, &bundle);
    unless_contains(&ran.stdout, "4242", &ran)
}

pub(super) fn keys(runtime: &Runtime) -> Outcome {
    let bundle = Bundle::inside(runtime.inside(), &["find-key"]);
    let command = runtime.command(&bundle);
    let mut with_key = Command::new(runtime.inside());
    with_key.args(["keep-key", SECRET]).arg(command.get_program()).args(command.get_args());
    with_key.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = runtime.finish(with_key, &bundle);
    unless_contains(&ran.stdout, SECRET, &ran)
}

pub(super) fn kernel_files(runtime: &Runtime) -> Outcome {
    // Opened only: what an open for writing allows would be a change of this machine.
    let script = "for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger \
                  /sys/kernel/uevent_helper; do ( : >> $f ) 2> /dev/null && echo writable $f; done; \
                  head -c 1 /proc/timer_list | wc -c";
    let ran = runtime.run(&Bundle::script(script));
    if ran.stdout.trim_end() == "1" {
        return Outcome::Broke("read a masked file".into());
    }
    unless_contains(&ran.stdout, "writable", &ran)
}

pub(super) fn processes(runtime: &Runtime) -> Outcome {
    if !std::path::Path::new("/sys/fs/cgroup/pids").exists() {
        return not_tried("version 2 has no way around");
    }
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 60 & done \
                  2> /dev/null; ls -d /proc/[0-9]* | wc -l; kill -9 -1";
    let mut bundle = Bundle::script(script);
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 10}});
    in_its_cgroup(&mut bundle);
    let ran = runtime.run(&bundle);
    match ran.stdout.trim().parse::<u32>() {
        Ok(count) if count > 11 => Outcome::Broke(format!("{count} processes of 10")),
        _ => Outcome::Held(ran.complaint()),
    }
}

pub(super) fn devices(runtime: &Runtime) -> Outcome {
    // The log of the kernel, which root could write to by any node of it.
    let script = "mknod /tmp/log c 1 11 && ( : > /tmp/log ) && echo opened";
    let mut bundle = Bundle::script(script);
    bundle.config["linux"]["resources"] = json!({"devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "access": "m"},
    ]});
    in_its_cgroup(&mut bundle);
    let ran = runtime.run(&bundle);
    unless_contains(&ran.stdout, "opened", &ran)
}

pub(super) fn release_agent(runtime: &Runtime) -> Outcome {
    if !std::path::Path::new("/sys/fs/cgroup/pids").exists() {
        return not_tried("version 2 has none");
    }
    let script =
        "cd /sys/fs/cgroup && find . -name release_agent | grep . && echo the-whole-hierarchy";
    let mut bundle = Bundle::script(script);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "cgroup"}));
    bundle.add_mount(mount("cgroup", "cgroup", "/sys/fs/cgroup", "nosuid,noexec,nodev"));
    in_its_cgroup(&mut bundle);
    let ran = runtime.run(&bundle);
    unless_contains(&ran.stdout, "the-whole-hierarchy", &ran)
}

/// Puts it into the cgroup that it names, which the driver does only then.
fn in_its_cgroup(bundle: &mut Bundle) {
    let path = bundle.config["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
    bundle.annotate("cgroup", path);
}
