//! What a process sees from inside a container: `probe QUESTION [WORD…]` answers in JSON.
//!
//! One static program, for images that hold nothing else. It reports and never judges; what is
//! right stands in the tests.

mod act;
mod kernel;
mod surroundings;

use std::io::Write;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

/// Finds out one thing.
type Answer = fn() -> Value;

/// Questions without operands, each with its answer.
const QUESTIONS: &[(&str, Answer)] = &[
    ("namespaces", kernel::namespaces),
    ("capabilities", kernel::capabilities),
    ("security", kernel::security),
    ("cgroups", kernel::cgroups),
    ("limits", kernel::limits),
    ("ids", kernel::ids),
    ("processes", kernel::processes),
    ("mounts", surroundings::mounts),
    ("descriptors", surroundings::descriptors),
    ("devices", surroundings::devices),
    ("terminal", surroundings::terminal),
    ("environment", surroundings::environment),
    ("directory", surroundings::directory),
    ("names", surroundings::names),
    ("network", surroundings::network),
    ("clock", surroundings::clock),
    // The last one: an allowed unshare changes this process.
    ("calls", kernel::calls),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let answer = match words.as_slice() {
        ["all"] => all(),
        ["open", paths @ ..] => surroundings::open(paths),
        ["files", path] => surroundings::files(path),
        ["exit", code] => return act::exit(code),
        ["wait"] => act::wait(),
        ["take-memory", bytes] => act::take_memory(bytes),
        ["start-processes", count] => act::start_processes(count),
        [question] => match QUESTIONS.iter().find(|(name, _)| name == question) {
            Some((_, answer)) => answer(),
            None => return usage(),
        },
        _ => return usage(),
    };
    print(&answer)
}

fn all() -> Value {
    let answers = QUESTIONS.iter().map(|(name, answer)| ((*name).to_owned(), answer()));
    Value::Object(answers.collect::<Map<_, _>>())
}

fn usage() -> ExitCode {
    let names: Vec<&str> = QUESTIONS.iter().map(|(name, _)| *name).collect();
    let more = [
        "all",
        "open PATH…",
        "files PATH",
        "exit CODE",
        "wait",
        "take-memory BYTES",
        "start-processes N",
    ];
    print(&json!({ "questions": names, "more": more }));
    ExitCode::from(2)
}

fn print(answer: &Value) -> ExitCode {
    match writeln!(std::io::stdout(), "{answer:#}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A file's text without the last line end, or nothing when it cannot be read.
fn text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim_end_matches('\n').to_owned())
}

/// `ok`, or the name of the error.
fn verdict<T>(result: std::io::Result<T>) -> Value {
    match result {
        Ok(_) => json!("ok"),
        Err(error) => json!(errno_name(error.raw_os_error().unwrap_or(0))),
    }
}

/// The kernel's name of an error number; the number itself for those that no test asks about.
fn errno_name(number: i32) -> String {
    let names = [
        (libc::EACCES, "EACCES"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::EBADF, "EBADF"),
        (libc::EBUSY, "EBUSY"),
        (libc::EFAULT, "EFAULT"),
        (libc::EINVAL, "EINVAL"),
        (libc::EIO, "EIO"),
        (libc::EISDIR, "EISDIR"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOENT, "ENOENT"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::ENXIO, "ENXIO"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::EPERM, "EPERM"),
        (libc::EROFS, "EROFS"),
        (libc::ESRCH, "ESRCH"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
    ];
    let known = names.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}
