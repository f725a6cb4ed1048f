//! The attacks, and what becomes of them.

mod exec;
mod image;
mod races;
mod rights;

use std::fs;
use std::path::Path;

use crate::Runtime;
use crate::runtime::Ran;

/// What becomes of an attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did not work; what was seen.
    Held(String),
    /// It worked; what was reached.
    Broke(String),
    /// The runtime does not do what is attacked; why.
    NotTried(String),
}

/// One attack.
#[derive(Debug)]
pub struct Attack {
    /// Its name.
    pub name: &'static str,
    /// The class it belongs to: a CVE of a runtime where it worked, or what it is about.
    pub class: &'static str,
    /// What is tried, in a few words.
    pub tried: &'static str,
    /// The defences, of `crate::weak` in the runtime, without which it works.
    pub defence: &'static str,
    attempt: fn(&Runtime) -> Outcome,
}

impl Attack {
    /// Tries it.
    #[must_use]
    pub fn run(&self, runtime: &Runtime) -> Outcome {
        (self.attempt)(runtime)
    }
}

/// Declares [`ATTACKS`], and hands the names to whoever makes something of each.
macro_rules! attacks {
    ($($module:ident::$name:ident: $class:literal, $tried:literal, $defence:literal;)*) => {
        /// All of them.
        pub const ATTACKS: &[Attack] = &[$(Attack {
            name: stringify!($name),
            class: $class,
            tried: $tried,
            defence: $defence,
            attempt: $module::$name,
        }),*];

        /// Calls a macro with the names of all attacks.
        #[macro_export]
        macro_rules! for_each_attack {
            ($each:ident) => { $each! { $($name)* } };
        }
    };
}

attacks! {
    image::dev_is_a_link: "CVE-2026-41579", "`/dev` of the image is a link to a directory of the host", "devices-by-path";
    image::null_is_a_link: "CVE-2025-31133", "`/dev/null` of the image is a link to a file, which the masks then show", "null-by-path";
    image::console_is_a_link: "CVE-2026-88264", "`/dev/console` of the image is a link to a file of the host, with a terminal", "console-by-path";
    image::mount_point_is_a_link: "CVE-2021-30465", "a mount point of the image is a link to a directory of the host", "targets-by-path";
    image::proc_is_a_link: "CVE-2019-19921", "`/proc` of the image is a link", "procfs-on-links";
    image::sys_is_a_link: "CVE-2019-19921", "`/sys` of the image is a link", "procfs-on-links";
    image::proc_is_covered: "CVE-2019-16884", "a mount covers `/proc`, so that files of the image pass for the kernel's", "procfs-covered";
    image::parameter_is_redirected: "CVE-2025-52881", "a mount covers the file that a parameter is written to", "procfs-covered,sysctl-by-path";
    image::volume_is_a_link: "CVE-2022-23648", "the place of a volume that is filled from the image is a link to a directory of the host", "fill-by-path";
    image::part_is_a_link: "CVE-2017-1002101", "the part of a volume that is mounted is a link to a directory of the host", "part-by-path";
    image::user_is_called_a_number: "CVE-2016-3697", "`/etc/passwd` of the image names a user `1000` who is root", "digits-as-names";
    image::passwd_is_a_fifo: "CVE-2024-9676", "`/etc/passwd` of the image is a fifo", "any-file-of-users";
    image::cwd_by_descriptor: "CVE-2024-21626", "the working directory is `/proc/self/fd/N`, for descriptors that the caller left open", "cwd-by-path";
    races::racing_mount_point: "CVE-2021-30465", "a mount point changes places with a link to the host, all the time", "targets-by-path";
    races::racing_before_hooks: "CVE-2021-30465", "mount points and `/dev` change places with links to the host, while a hook keeps the host in sight", "names-outside-root";
    races::racing_mount_point_below: "CVE-2024-45310", "a directory above a mount point that is to be made changes places with a link to the host", "targets-by-path";
    races::racing_device: "CVE-2026-41579", "`/dev` changes places with a link to the host", "devices-by-path";
    races::racing_console: "CVE-2025-52565", "`/dev/console` changes places with a link to a file of the host", "console-by-path";
    races::racing_null: "CVE-2025-31133", "`/dev/null` changes places with a link to a file of the image", "null-by-path";
    races::racing_proc: "CVE-2023-27561", "`/proc` changes places with a link, between mount and masks", "procfs-on-links";
    races::racing_cwd: "CVE-2024-21626", "the working directory changes places with a link to a descriptor of the caller", "cwd-by-path";
    rights::descriptors: "CVE-2024-21626", "what the caller left open is looked for", "descriptors-kept";
    rights::inheritable_capabilities: "CVE-2022-29162", "capabilities that a file can pick up are looked for", "caps-inheritable";
    rights::bounding_capabilities: "escalation", "capabilities that were not given are looked for in the bounding set", "caps-bounding";
    rights::new_privileges: "escalation", "no-new-privileges is looked for", "new-privileges";
    rights::system_calls: "system calls", "a call that the profile denies is made", "calls-unfiltered";
    rights::groups: "CVE-2022-36109", "groups of the caller are looked for", "groups-kept";
    rights::keys: "keyrings", "a key of the caller is looked for", "keyring-kept";
    rights::kernel_files: "release_agent, core_pattern", "files of the kernel are opened for writing, masked ones are read", "paths-unrestricted";
    rights::processes: "fork bomb", "more processes than the limit allows are started", "cgroup-not-entered";
    rights::devices: "devices", "with `CAP_MKNOD`, a node of the kernel's log is made and opened for writing", "devices-unfiltered";
    rights::release_agent: "release_agent", "the file by which the kernel starts programs of the host is looked for in the mount of control groups", "cgroup-not-entered";
    exec::own_file_of_init: "CVE-2019-5736", "process 1, which is the runtime, changes its own file through `/proc/1/exe`", "exe-unsealed";
    exec::own_file_by_interpreter: "CVE-2019-5736", "`#!/proc/self/exe` is executed, and the file behind `/proc/N/exe` changed and written", "exe-unsealed";
    exec::own_file_by_remount: "CVE-2019-5736", "the same with `CAP_SYS_ADMIN`: the mount that `/proc/N/exe` leads to, or a copy of it, is made writable first", "exe-mount-kept";
    exec::rights_of_a_visitor: "CVE-2016-9962", "with `CAP_SYS_PTRACE`, a process that is executed is looked for while it has more rights than the container", "rights-kept-when-seen";
    exec::filter_of_a_visitor: "CVE-2016-9962", "with `CAP_SYS_PTRACE`, a process that is executed is looked for before it has a system call filter", "rights-kept-when-seen";
    exec::environment_of_a_visitor: "secrets", "with `CAP_SYS_PTRACE`, the environment of whoever executes is read from `/proc/N/environ`", "memory-kept";
    exec::environment_of_init: "secrets", "with `CAP_SYS_PTRACE`, the environment and arguments of whoever started are read from process 1", "memory-kept";
    exec::heap_of_init: "secrets", "with `CAP_SYS_PTRACE`, what whoever started had on its heap is looked for in the memory of process 1", "memory-kept";
    exec::memory_of_init: "CVE-2019-5736", "process 1, which is the runtime, is looked into without `CAP_SYS_PTRACE`", "memory-readable";
    exec::exec_in_descriptor: "CVE-2024-21626", "exec in the working directory `/proc/self/fd/N`", "cwd-by-path";
}

/// Broken if the text has the word.
fn unless_contains(text: &str, word: &str, ran: &Ran) -> Outcome {
    if text.contains(word) {
        return Outcome::Broke(format!("read `{word}`"));
    }
    Outcome::Held(ran.complaint())
}

/// Broken if something appeared in a directory of the host.
fn unless_filled(directory: &Path, ran: &Ran) -> Outcome {
    let found = fs::read_dir(directory).unwrap().next();
    match found {
        Some(entry) => {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            Outcome::Broke(format!("made `{name}` on the host"))
        }
        None => Outcome::Held(ran.complaint()),
    }
}

fn not_tried(why: &str) -> Outcome {
    Outcome::NotTried(why.into())
}
