//! Containers that wait for the runtime to come in.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

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
    let mut bundle = Bundle::inside(runtime.inside(), &["take-files"]);
    bundle.program("bin/trap", "#!/proc/self/exe\n");
    bundle.annotate("seal", "");
    let runtime = runtime.copied(&bundle);
    let before = fingerprint(runtime.program());
    let running = match runtime.start(&mut bundle) {
        Ok(running) => running,
        Err(complaint) => return Outcome::Held(complaint),
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
    let mut bundle = Bundle::script("echo ready; sleep 600");
    let running = match runtime.start(&mut bundle) {
        Ok(running) => running,
        Err(complaint) => return Outcome::Held(complaint),
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
