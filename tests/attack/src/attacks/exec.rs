//! Containers that wait for the runtime to come in.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::json;

use super::image::leaking;
use super::{Outcome, not_tried};
use crate::Runtime;
use crate::bundle::{Bundle, SECRET};

/// How often the runtime comes in.
const VISITS: usize = 30;

/// What the program of a runtime was before, to tell whether it was changed.
fn fingerprint(program: &Path) -> (u32, u32, u64, Vec<u8>) {
    let meta = fs::metadata(program).unwrap();
    (meta.mode(), meta.uid(), meta.len(), fs::read(program).unwrap())
}

pub(super) fn own_file_of_init(runtime: &Runtime) -> Outcome {
    if !runtime.is_driver() {
        return not_tried("it offers no init");
    }
    let script = "chmod 4777 /proc/1/exe; echo x >> /proc/1/exe; exec 4< /proc/1/exe; \
                  chmod 4777 /proc/self/fd/4";
    let mut bundle = Bundle::script(script);
    bundle.more_capabilities(&["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]);
    bundle.annotate("init", "");
    bundle.annotate("seal", "");
    let runtime = runtime.copied(&bundle);
    let before = fingerprint(runtime.program());
    let ran = runtime.run(&bundle);
    if fingerprint(runtime.program()) != before {
        return Outcome::Broke("changed the runtime's own file".into());
    }
    Outcome::Held(ran.complaint())
}

pub(super) fn own_file_by_interpreter(runtime: &Runtime) -> Outcome {
    own_file(runtime, Bundle::inside(runtime.inside(), &["take-files"]))
}

pub(super) fn own_file_by_remount(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::inside(runtime.inside(), &["take-files", "remounting"]);
    bundle.more_capabilities(&["CAP_SYS_ADMIN"]);
    own_file(runtime, bundle)
}

fn own_file(runtime: &Runtime, mut bundle: Bundle) -> Outcome {
    bundle.program("bin/trap", "#!/proc/self/exe\n");
    bundle.annotate("seal", "");
    let runtime = runtime.copied(&bundle);
    let before = fingerprint(runtime.program());
    let running = match runtime.start(&mut bundle) {
        Ok(running) => running,
        Err(complaint) => return not_tried(&complaint),
    };
    for _ in 0..VISITS {
        let _ = running.exec(&["/bin/trap"]);
        let _ = running.exec(&["/proc/self/exe"]);
    }
    let ran = running.kill();
    if fingerprint(runtime.program()) != before {
        return Outcome::Broke("changed the runtime's own file".into());
    }
    Outcome::Held(ran.complaint())
}

pub(super) fn exec_in_descriptor(runtime: &Runtime) -> Outcome {
    // Where processes have a namespace of their own, a runtime may not even be seen in procfs.
    for own in [true, false] {
        let mut bundle = Bundle::script("echo ready; sleep 600");
        if !own {
            let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "pid");
        }
        let outcome = exec_in_any_descriptor(runtime, &mut bundle);
        if !own || !matches!(outcome, Outcome::Held(_)) {
            return outcome;
        }
    }
    unreachable!("the last one returns")
}

fn exec_in_any_descriptor(runtime: &Runtime, bundle: &mut Bundle) -> Outcome {
    let running = match runtime.start(bundle) {
        Ok(running) => running,
        Err(complaint) => return not_tried(&complaint),
    };
    let mut last = String::new();
    for number in 3..24 {
        let cat = "cat ./secret ../../../../../../../../..$BUNDLE/secret";
        let cwd = format!("/proc/self/fd/{number}");
        let command = running.exec_command(&cwd, &["/bin/sh", "-c", cat]);
        let ran = running.finish(leaking(&command, running.bundle()));
        if ran.stdout.contains(SECRET) {
            return Outcome::Broke(format!("read a file of the host from descriptor {number}"));
        }
        last = ran.complaint();
    }
    Outcome::Held(last)
}

/// What a container with `CAP_SYS_PTRACE` sees of the processes that come in.
fn look_around(runtime: &Runtime, new_privileges: bool, denied: &[&str]) -> Result<String, String> {
    let secret = Bundle::script("").secret();
    let name = secret.file_name().unwrap().to_str().unwrap().to_owned();
    let mut bundle = Bundle::inside(runtime.inside(), &["look-around", &name]);
    bundle.more_capabilities(&["CAP_SYS_PTRACE"]);
    bundle.config["process"]["noNewPrivileges"] = json!(!new_privileges);
    // As the usual profiles: clone3 cannot be judged, clone with flags is denied.
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["clone"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 0, "value": 0x7e02_0000, "valueTwo": 0x7e02_0000,
                       "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": denied, "action": "SCMP_ACT_ERRNO"},
        ],
    });
    let running = runtime.start(&mut bundle)?;
    for _ in 0..VISITS {
        let ran = running.exec(&["/bin/true"]);
        if ran.code != Some(0) {
            return Err(format!("exec ended with {:?}: {}", ran.code, ran.complaint()));
        }
    }
    Ok(running.kill().stdout)
}

/// As the usual profiles deny.
const USUAL: &[&str] = &["mount", "keyctl"];

fn look_for(runtime: &Runtime, words: &[&str], cases: &[(bool, &[&str])]) -> Outcome {
    for (new_privileges, denied) in cases {
        let seen = match look_around(runtime, *new_privileges, denied) {
            Ok(seen) => seen,
            Err(complaint) => return not_tried(&complaint),
        };
        let found = seen.lines().find(|line| words.iter().any(|word| line.starts_with(word)));
        if let Some(line) = found {
            return Outcome::Broke(format!("saw {line}"));
        }
    }
    Outcome::Held(format!("nothing was seen in {} visits", cases.len() * VISITS))
}

pub(super) fn rights_of_a_visitor(runtime: &Runtime) -> Outcome {
    // The last one denies a call that a runtime may have to make after it has loaded the filter.
    let cases: &[(bool, &[&str])] = &[(false, USUAL), (true, USUAL), (false, &["setsid"])];
    look_for(runtime, &["more rights", "its root"], cases)
}

pub(super) fn filter_of_a_visitor(runtime: &Runtime) -> Outcome {
    look_for(runtime, &["no filter"], &[(false, USUAL), (true, USUAL)])
}

pub(super) fn environment_of_a_visitor(runtime: &Runtime) -> Outcome {
    look_for(runtime, &["its environ", "its cmdline"], &[(false, USUAL), (true, USUAL)])
}

pub(super) fn environment_of_init(runtime: &Runtime) -> Outcome {
    if !runtime.is_driver() {
        return not_tried("it offers no init");
    }
    let mut bundle = Bundle::script("cat /proc/1/environ /proc/1/cmdline");
    bundle.more_capabilities(&["CAP_SYS_PTRACE"]);
    bundle.annotate("init", "");
    let ran = runtime.run(&bundle);
    let path = bundle.directory().to_str().unwrap();
    if ran.stdout.contains(SECRET) || ran.stdout.contains(path) {
        return Outcome::Broke("read the environment or the arguments".into());
    }
    Outcome::Held(ran.complaint())
}

pub(super) fn memory_of_init(runtime: &Runtime) -> Outcome {
    if !runtime.is_driver() {
        return not_tried("it offers no init");
    }
    let mut bundle = Bundle::script("head -n 1 /proc/1/maps | wc -l");
    bundle.annotate("init", "");
    let ran = runtime.run(&bundle);
    match ran.stdout.trim() {
        "1" => Outcome::Broke("its memory can be read".into()),
        _ => Outcome::Held(ran.complaint()),
    }
}

pub(super) fn heap_of_init(runtime: &Runtime) -> Outcome {
    if !runtime.is_driver() {
        return not_tried("it offers no init");
    }
    let mut bundle = Bundle::inside(runtime.inside(), &["search-memory"]);
    bundle.more_capabilities(&["CAP_SYS_PTRACE"]);
    bundle.annotate("init", "");
    bundle.annotate("something", "annotated-secret");
    let ran = runtime.run(&bundle);
    match ran.stdout.lines().next() {
        Some("searched") => Outcome::Held("it was not found".into()),
        Some(found) if found.starts_with("found") => Outcome::Broke(found.into()),
        _ => not_tried(&ran.complaint()),
    }
}
