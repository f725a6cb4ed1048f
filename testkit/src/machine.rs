//! A virtual machine: Debian's kernel and userland, started by qemu for some test programs.
//!
//! ```text
//! .cache/pool/machine/    (or below CAIS_TEST_CACHE)
//!   lock                  held while its parts are made
//!   version               which recipe made them, written last
//!   vmlinuz modules/      the kernel, from its package
//!   userland.img busybox  a small Debian as a disk, and the program that mounts it
//! ```
//!
//! The machine has one hierarchy of control groups, of version 2, with all controllers, whatever
//! this host has. It is emulated where the processor does not help, so nothing is required of the
//! host but qemu. Its first serial line is the kernel's, its second one the tests'.

mod archive;
mod kernel;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::host;
use crate::image::userland;
use crate::pool::Pool;
use archive::Initramfs;

/// Raised whenever the parts are made otherwise, so that caches of the older ones are made anew.
const RECIPE: u32 = 5;

/// What the machine's Debian has beside its minimum.
const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "uidmap",
    "busybox-static",
    "iproute2",
    "criu",
    "iptables",
    "nftables",
    "e2fsprogs",
    "xfsprogs",
    "btrfs-progs",
];

/// How long the machine may take to its first word, and between two.
const SILENCE_MAX: Duration = Duration::from_secs(600);

/// Time between two looks at the kernel's log.
const POLL: Duration = Duration::from_millis(20);

/// How many lines of the kernel's are shown when something went wrong.
const KERNEL_LINES: usize = 60;

/// A program to run in the machine.
#[derive(Debug, Clone)]
pub struct Job {
    /// The directory to run it in; it is made.
    pub directory: PathBuf,
    /// Program and arguments; blanks separate, nothing quotes.
    pub command: String,
    /// Whether systemd shall be the machine's first process; those that need no systemd come first.
    pub systemd: bool,
}

/// How a run of the machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What the kernel calls itself.
    pub kernel: String,
    /// How many tests passed, by the closing lines of the test programs.
    pub passed: u64,
    /// How many failed.
    pub failed: u64,
    /// The commands that ended otherwise than with 0.
    pub broken: Vec<String>,
}

/// The parts of a machine, ready to start.
#[derive(Debug)]
pub struct Machine {
    directory: PathBuf,
}

impl Machine {
    /// Makes what is missing in the pool's cache. Several processes may call this at once.
    ///
    /// # Errors
    /// A program is missing, or the package mirror does not answer.
    pub fn prepare(pool: &Pool) -> Result<Self> {
        let directory = pool.path().join("machine");
        fs::create_dir_all(&directory)
            .with_context(|| format!("make a machine in {}", directory.display()))?;
        let lock = File::create(directory.join("lock")).context("make the machine's lock")?;
        lock.lock().context("lock the machine")?;
        let version = format!("{RECIPE} {}\n", host::release()?);
        if fs::read_to_string(directory.join("version")).ok().as_ref() != Some(&version) {
            thread::scope(|scope| {
                let kernel = scope.spawn(|| kernel::fetch(&directory));
                make_disk(&directory)?;
                kernel.join().expect("fetching returns its errors")
            })?;
            fs::write(directory.join("version"), version)?;
        }
        Ok(Self { directory })
    }

    /// Starts the machine with `files`, which lie there where they lie here, runs `jobs` one after
    /// the other, and gives every line they print to `say`.
    ///
    /// # Errors
    /// qemu is missing, or the machine does not start or stops before its jobs are done; the
    /// message carries the kernel's last lines.
    pub fn run(
        &self,
        files: &[PathBuf],
        jobs: &[Job],
        say: &mut dyn FnMut(&str),
    ) -> Result<Report> {
        let work = tempfile::tempdir().context("make a directory for the machine")?;
        fs::write(work.path().join("initramfs"), self.initramfs()?)?;
        write_programs(&work.path().join("programs.tar"), files, jobs)?;
        let log = work.path().join("kernel.log");
        let mut qemu = start(&self.directory, work.path(), &log)?;
        let report = follow(&mut qemu, say);
        drop(qemu);
        report.with_context(|| {
            let text = fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(KERNEL_LINES)..].join("\n");
            format!("run tests in the machine; the kernel's last lines:\n{last}\n")
        })
    }

    fn initramfs(&self) -> Result<Vec<u8>> {
        let modules = kernel::load_order(&self.directory)?;
        let mut made = Initramfs::default();
        ["bin", "modules", "dev"].iter().for_each(|name| made.directory(name));
        made.file("init", include_bytes!("machine/init.sh"));
        let busybox = fs::read(self.directory.join("busybox")).context("read busybox")?;
        made.file("bin/busybox", &busybox);
        let order: String = modules.iter().map(|(name, _)| format!("{name}\n")).collect();
        made.file("modules/order", order.as_bytes());
        for (name, content) in &modules {
            made.file(&format!("modules/{name}.ko"), content);
        }
        Ok(made.finish())
    }
}

/// A Debian as an ext4 file system in a file, and its busybox beside it.
fn make_disk(directory: &Path) -> Result<()> {
    const SIZE: &str = "2G";
    let work = host::work_directory()?;
    let tree = userland(work.path(), PACKAGES)?;
    for part in ["usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists"] {
        fs::remove_dir_all(tree.join(part)).with_context(|| format!("leave out {part}"))?;
    }
    fs::copy(tree.join("bin/busybox"), directory.join("busybox")).context("take busybox")?;
    let image = directory.join("userland.img");
    let _ = fs::remove_file(&image);
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-O", "^has_journal", "-d"]).arg(&tree).arg(&image).arg(SIZE);
    mkfs.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    host::finish(&mut mkfs).map(drop)
}

/// The second disk: an archive of what is run.
fn write_programs(archive: &Path, files: &[PathBuf], jobs: &[Job]) -> Result<()> {
    let mut made = tar::Builder::new(File::create(archive)?);
    for file in files {
        let inside = file.strip_prefix("/").context("files of a machine have absolute paths")?;
        made.append_path_with_name(file, inside)
            .with_context(|| format!("take {} into the machine", file.display()))?;
    }
    for job in jobs {
        let inside = job.directory.strip_prefix("/").context("jobs have absolute directories")?;
        made.append_data(&mut header(tar::EntryType::Directory, 0), inside, std::io::empty())?;
    }
    let lines = |systemd: bool| -> String {
        let line = |job: &Job| format!("{} {}\n", job.directory.display(), job.command);
        jobs.iter().filter(|job| job.systemd == systemd).map(line).collect()
    };
    for (path, text) in [
        ("machine/main.sh", include_str!("machine/main.sh")),
        ("machine/jobs.sh", include_str!("machine/jobs.sh")),
        ("etc/systemd/system/cais-tests.service", include_str!("machine/cais-tests.service")),
        ("machine/commands", &lines(false)),
        ("machine/systemd-commands", &lines(true)),
    ] {
        let size = text.len() as u64;
        made.append_data(&mut header(tar::EntryType::Regular, size), path, text.as_bytes())?;
    }
    made.finish().context("finish the machine's programs")
}

fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    // A unit that may be executed is complained about.
    header.set_mode(if kind == tar::EntryType::Regular { 0o644 } else { 0o755 });
    header
}

/// The emulator; dropping it ends the machine.
struct Qemu {
    child: Child,
    lines: Receiver<String>,
}

impl Qemu {
    fn start(accelerator: &str, parts: &Path, work: &Path, log: &Path) -> Result<Self> {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.args(["-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "1536"]);
        command.args(["-accel", accelerator]);
        command.arg("-kernel").arg(parts.join("vmlinuz"));
        command.arg("-initrd").arg(work.join("initramfs"));
        // A huge page or two for their controller; a panic ends the machine.
        command.args(["-append", "console=ttyS0 panic=-1 psi=1 hugepages=8 cgroup_no_v1=all"]);
        command.arg("-serial").arg(format!("file:{}", log.display()));
        command.args(["-serial", "stdio", "-device", "virtio-rng-pci"]);
        for (name, more) in [("userland.img", "snapshot=on"), ("programs.tar", "readonly=on")] {
            let place = if name == "userland.img" { parts } else { work };
            let file = place.join(name);
            let drive = format!("if=virtio,format=raw,file={},{more}", file.display());
            command.arg("-drive").arg(drive);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        if accelerator != ACCELERATORS[1] {
            // Its complaints are no news: emulation follows.
            command.stderr(Stdio::null());
        }
        let mut child = command.spawn().context("start qemu-system-x86_64")?;
        let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Whether the kernel says something soon.
    fn speaks(&mut self, log: &Path) -> bool {
        let deadline = Instant::now() + FIRST_WORD_MAX;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            if fs::metadata(log).is_ok_and(|log| log.len() > 0) {
                return true;
            }
            thread::sleep(POLL);
        }
        false
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a machine's instructions are executed: by the processor, or in software.
const ACCELERATORS: [&str; 2] = ["kvm", "tcg"];

/// How long the processor's own help may take to the kernel's first word.
const FIRST_WORD_MAX: Duration = Duration::from_secs(10);

/// Starts the machine, by emulation if the processor's help is missing or does not work: in a
/// machine inside a machine it may abort qemu, or hang. `CAIS_TEST_ACCEL` chooses one.
fn start(parts: &Path, work: &Path, log: &Path) -> Result<Qemu> {
    let chosen = std::env::var("CAIS_TEST_ACCEL").ok();
    if chosen.as_deref().is_none_or(|name| name == ACCELERATORS[0])
        && File::options().read(true).write(true).open("/dev/kvm").is_ok()
    {
        let mut qemu = Qemu::start(ACCELERATORS[0], parts, work, log)?;
        if qemu.speaks(log) || chosen.is_some() {
            return Ok(qemu);
        }
    }
    Qemu::start(chosen.as_deref().unwrap_or(ACCELERATORS[1]), parts, work, log)
}

/// Listens to the machine until it has done everything.
fn follow(qemu: &mut Qemu, say: &mut dyn FnMut(&str)) -> Result<Report> {
    let mut report = Report { kernel: String::new(), passed: 0, failed: 0, broken: Vec::new() };
    loop {
        let line = match qemu.lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => bail!("the machine says nothing for {SILENCE_MAX:?}"),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the machine stopped: {}", qemu.child.wait()?)
            }
        };
        say(&line);
        if report.hear(&line) {
            return Ok(report);
        }
    }
}

impl Report {
    /// Takes in one line; whether it was the last.
    fn hear(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["machine:", "up,", kernel @ ..] => self.kernel = kernel.join(" "),
            ["machine:", "exit", code, command @ ..] if *code != "0" => {
                self.broken.push(command.join(" "));
            }
            ["machine:", "end", _] => return true,
            ["test", "result:", _, passed, "passed;", failed, "failed;", ..] => {
                self.passed += passed.parse().unwrap_or(0);
                self.failed += failed.parse().unwrap_or(0);
            }
            _ => {}
        }
        false
    }

    /// Whether something ran, and everything that ran passed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.passed > 0 && self.failed == 0 && self.broken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_what_the_machine_says() {
        let mut report = Report { kernel: String::new(), passed: 0, failed: 0, broken: Vec::new() };
        for line in [
            "machine: up, Linux 6.1.0",
            "machine: run /it",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "machine: exit 0 /it",
        ] {
            assert!(!report.hear(line), "{line}");
        }
        assert!(report.is_good(), "{report:?}");
        assert!(!report.hear("machine: exit 101 /unit x"));
        assert!(report.hear("machine: end 1"));
        assert!(!report.is_good());
        let want = Report {
            kernel: "Linux 6.1.0".into(),
            passed: 3,
            failed: 0,
            broken: vec!["/unit x".into()],
        };
        assert_eq!(report, want);
    }
}
