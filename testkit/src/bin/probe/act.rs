//! What the probe does rather than reports.

use std::process::{Child, Command, ExitCode};

use serde_json::{Value, json};

use crate::verdict;

/// Ends with this code.
pub(crate) fn exit(code: &str) -> ExitCode {
    code.parse().map_or(ExitCode::from(2), |code: u8| ExitCode::from(code))
}

/// Waits for a signal.
pub(crate) fn wait() -> Value {
    loop {
        std::thread::park();
    }
}

/// Allocates memory and writes to every page of it, then tells how much.
pub(crate) fn take_memory(bytes: &str) -> Value {
    let wanted: usize = bytes.parse().unwrap_or(0);
    let mut held: Vec<u8> = Vec::new();
    if held.try_reserve_exact(wanted).is_err() {
        return json!({ "taken": 0 });
    }
    held.resize(wanted, 0xa5);
    json!({ "taken": std::hint::black_box(&held).len() })
}

/// Starts processes until one fails, ends them, and tells how many there were and why it ended.
pub(crate) fn start_processes(count: &str) -> Value {
    let wanted: usize = count.parse().unwrap_or(0);
    let mut started: Vec<Child> = Vec::new();
    let mut end = json!("ok");
    while started.len() < wanted {
        match Command::new("/proc/self/exe").arg("wait").spawn() {
            Ok(child) => started.push(child),
            Err(error) => {
                end = verdict::<()>(Err(error));
                break;
            }
        }
    }
    for child in &mut started {
        let _ = child.kill();
        let _ = child.wait();
    }
    json!({ "started": started.len(), "end": end })
}
