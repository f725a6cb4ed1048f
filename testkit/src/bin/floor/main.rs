//! The floor under a container's start: what its system calls cost when nothing else is done.
//!
//! `floor ROOTFS CGROUP` makes the namespaces, mounts and cgroups that a bundle of `runc spec` asks
//! for, executes `/bin/true` in them, removes it all, and prints how many microseconds each step
//! took, as JSON. No specification is read, nothing is checked, nothing is safe.

mod kernel;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{CWD, FileType, Mode, mknodat, symlink};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, unmount,
};
use rustix::pipe::{PipeFlags, pipe_with};

/// Device nodes of every container: name, major and minor number.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];
/// What `runc spec` masks, files and directories.
const MASKED: [&str; 5] =
    ["proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list", "proc/sched_debug"];
const MASKED_DIRECTORIES: [&str; 4] = ["proc/acpi", "proc/asound", "sys/firmware", "proc/scsi"];
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

fn main() -> ExitCode {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let outcome = match args.as_slice() {
        [rootfs, cgroup] => measure(rootfs, cgroup),
        _ => Err(anyhow::anyhow!("usage: floor ROOTFS CGROUP")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "floor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one container and prints its steps.
fn measure(rootfs: &Path, name: &Path) -> Result<()> {
    let begun = Instant::now();
    let groups = groups(name)?;
    let tasks = groups.v1.iter().map(|group| File::options().write(true).open(group.join("tasks")));
    let tasks: Vec<File> = tasks.collect::<std::io::Result<_>>()?;
    let grouped = Instant::now();

    let (mut reader, writer) = pipe_with(PipeFlags::CLOEXEC).map(|(r, w)| (File::from(r), w))?;
    let v2 = groups.v2.as_ref().map(File::open).transpose()?;
    let child = kernel::clone(v2.as_ref().map(File::as_fd), || {
        let mut says = File::from(writer);
        match become_container(rootfs, &tasks, &mut says) {
            Ok(never) => never,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "floor: {error:#}");
                1
            }
        }
    })?;
    let mut marks = Vec::new();
    let mut byte = [0];
    // One for each step, then the end of the pipe: the program runs.
    while reader.read(&mut byte)? == 1 {
        marks.push(Instant::now());
    }
    marks.push(Instant::now());
    ensure!(kernel::wait(child)? == 0 && marks.len() == 3, "the container failed");
    let ended = Instant::now();
    for group in groups.v1.iter().chain(&groups.v2) {
        fs::remove_dir(group).with_context(|| format!("remove {}", group.display()))?;
    }
    let removed = Instant::now();

    let at = [begun, grouped, marks[0], marks[1], marks[2], ended, removed];
    let steps = ["cgroups", "clone and join", "mounts", "execute", "run", "remove"];
    let steps = steps.iter().zip(at.windows(2));
    let steps = steps.map(|(step, pair)| ((*step).to_owned(), micros(pair[0], pair[1]).into()));
    let line = serde_json::Value::Object(steps.collect());
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from((to - from).as_micros()).unwrap_or(u64::MAX)
}

/// The new control groups: one in each hierarchy.
struct Groups {
    v1: Vec<PathBuf>,
    v2: Option<PathBuf>,
}

fn groups(name: &Path) -> Result<Groups> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mut groups = Groups { v1: Vec::new(), v2: None };
    for line in table.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let point = before.split(' ').nth(4).context("read a mount point")?;
        let group = Path::new(point).join(name);
        match after.split(' ').next() {
            Some("cgroup") => groups.v1.push(group),
            Some("cgroup2") => groups.v2 = Some(group),
            _ => {}
        }
    }
    for group in groups.v1.iter().chain(&groups.v2) {
        fs::create_dir(group).with_context(|| format!("make {}", group.display()))?;
        // A new cpuset of version 1 is empty, and nobody can join it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(text) = fs::read(group.with_file_name(file)) {
                let _ = fs::write(group.join(file), text);
            }
        }
    }
    Ok(groups)
}

/// What the child does; returns only on failure.
fn become_container(rootfs: &Path, tasks: &[File], says: &mut File) -> Result<i32> {
    for mut file in tasks {
        file.write_all(b"0").context("join a cgroup")?;
    }
    kernel::new_cgroup_namespace()?;
    says.write_all(b"1")?;
    mounts(rootfs).context("mount")?;
    says.write_all(b"2")?;
    kernel::confine().context("confine")?;
    Err(kernel::execute(c"/bin/true")).context("execute /bin/true")
}

fn mounts(rootfs: &Path) -> Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    mount_bind(rootfs, rootfs)?;
    rustix::process::chdir(rootfs)?;
    for directory in ["proc", "sys", "dev"] {
        fs::create_dir_all(directory)?;
    }
    let safe = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    mount("proc", "proc", "proc", safe, None)?;
    mount("tmpfs", "dev", "tmpfs", MountFlags::NOSUID, Some(c"mode=755,size=65536k"))?;
    for directory in ["dev/pts", "dev/shm", "dev/mqueue"] {
        fs::create_dir(directory)?;
    }
    let pts = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount("devpts", "dev/pts", "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, Some(pts))?;
    mount("shm", "dev/shm", "tmpfs", safe, Some(c"mode=1777,size=65536k"))?;
    mount("mqueue", "dev/mqueue", "mqueue", safe, None)?;
    mount("sysfs", "sys", "sysfs", safe | MountFlags::RDONLY, None)?;
    mount("cgroup", "sys/fs/cgroup", "cgroup2", safe | MountFlags::RDONLY, None)?;
    for (name, major, minor) in DEVICES {
        let device = rustix::fs::makedev(major, minor);
        let kind = FileType::CharacterDevice;
        mknodat(CWD, Path::new("dev").join(name), kind, Mode::from(0o666), device)?;
    }
    for (target, name) in LINKS {
        symlink(target, Path::new("dev").join(name))?;
    }
    for path in MASKED.iter().filter(|path| Path::new(path).exists()) {
        mount_bind("dev/null", *path)?;
    }
    for path in MASKED_DIRECTORIES.iter().filter(|path| Path::new(path).exists()) {
        mount("tmpfs", *path, "tmpfs", MountFlags::RDONLY, None)?;
    }
    for path in READ_ONLY.iter().filter(|path| Path::new(path).exists()) {
        mount_bind(*path, *path)?;
        mount_remount(*path, MountFlags::BIND | MountFlags::RDONLY | safe, "")?;
    }
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    rustix::system::sethostname(b"floor")?;
    Ok(mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, "")?)
}
