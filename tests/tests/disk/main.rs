//! What depends on the file system that a root lies on: copies that share their data.
//!
//! It runs in the virtual machine, whose kernel has such a file system; elsewhere it returns at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Bytes of a file that copies share.
const LARGE: u64 = 24 << 20;
/// Bytes that a copy may take which shares them.
const SMALL: u64 = 8 << 20;

/// A file system of its own, with a root on it.
struct Disk {
    directory: tempfile::TempDir,
}

impl Disk {
    /// Makes a file system by `mkfs` and mounts it with these options; `None` outside the virtual
    /// machine.
    fn new(mkfs: &str, options: &str) -> Option<Disk> {
        std::env::var_os("CAIS_TEST_MACHINE")?;
        let disk = Disk { directory: tempfile::tempdir().unwrap() };
        let (image, mount) = (disk.path("image"), disk.mount());
        std::fs::create_dir(&mount).unwrap();
        let (image, mount) = (image.display(), mount.display());
        let options = format!("loop{options}");
        disk.shell(&format!(
            "truncate -s 320M {image} && {mkfs} {image} >/dev/null && mount -o {options} {image} {mount}"
        ));
        Some(disk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn mount(&self) -> PathBuf {
        self.path("mount")
    }

    /// Runs a script in which `$E` is `cais` with its root on the disk; gives what it prints.
    #[track_caller]
    fn shell(&self, script: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env("E", cais()).env("HOME", self.directory.path());
        command.env("CAIS_ROOT", self.mount().join("root")).env("CAIS_RUN", self.path("run"));
        let output = command.output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Bytes that the disk has given away, all of them written.
    fn used(&self) -> u64 {
        self.shell("sync");
        let stat = rustix::fs::statvfs(self.mount()).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.mount()).status();
    }
}

/// The binary under test, which lies beside this one's directory.
fn cais() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("cais")
}

/// Copies and snapshots take next to nothing until something in them is changed.
fn copies_share(disk: &Disk) {
    disk.shell(&format!(
        "$E volume create data; head -c {LARGE} /dev/urandom >$CAIS_ROOT/volumes/data/_data/large"
    ));
    let before = disk.used();
    disk.shell("$E volume cp data copy; $E volume snapshot data now; $E volume cp copy third");
    let after = disk.used();
    assert!(after.saturating_sub(before) < SMALL, "{before} {after}");
    let same = "cd $CAIS_ROOT/volumes; echo changed >>data/_data/large; \
                cmp copy/_data/large third/_data/large && ! cmp -s data/_data/large copy/_data/large && \
                $E volume restore data now >/dev/null && cmp data/_data/large copy/_data/large && echo same";
    assert_eq!(disk.shell(same), "same\n");
    assert!(disk.used().saturating_sub(before) < SMALL);
}

#[test]
fn copies_share_on_btrfs() {
    if let Some(disk) = Disk::new("mkfs.btrfs -q", "") {
        copies_share(&disk);
    }
}
