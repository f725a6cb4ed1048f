//! Containers of one image, which the kernel caches once for all of them.

use std::fs;
use std::path::{Path, PathBuf};

use testkit::Sandbox;

/// A file of a mebibyte that one container reads and another does not.
const BIG: &str = "mkdir -p tree/bin; cp $(command -v busybox) tree/bin/busybox; \
     for name in sh cat sleep stat; do ln -sf busybox tree/bin/$name; done; \
     head -c 1048576 /dev/urandom >tree/big; echo one >tree/name; \
     tar -C tree -c . | $E --storage-driver erofs import - one:1; \
     echo two >tree/name; tar -C tree -c . | $E import - two:1";

/// A sandbox with two images of large files, as EROFS images.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let _ = sandbox.shell(&format!("set -e; {BIG}")).ok();
    sandbox
}

/// Starts a container that stays.
#[track_caller]
fn start(sandbox: &Sandbox, name: &str, flags: &str, image: &str) {
    let line = format!("cais run -d --name {name} --network none {flags} {image} sleep 1000");
    let _ = sandbox.line(&line).ok();
}

/// How many bytes of the large file the kernel holds in memory for this container.
#[track_caller]
fn cached(sandbox: &Sandbox, name: &str) -> u64 {
    let script = format!(
        "fincore --bytes --raw --noheadings --output RES \
         /proc/$($E inspect -f '{{{{.State.Pid}}}}' {name})/root/big"
    );
    sandbox.shell(&script).ok().trim().parse().expect("fincore says a number")
}

/// What says who holds a mount.
fn entries(sandbox: &Sandbox) -> Vec<PathBuf> {
    let directory = sandbox.root().with_file_name("run").join("images");
    let entries = fs::read_dir(&directory).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry can be read").path()).collect()
}

/// Before Linux 6.15 each container has a mount of its own.
fn shares() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("there is a release");
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

#[test]
fn what_one_container_reads_is_cached_for_all() {
    let sandbox = sandbox();
    start(&sandbox, "first", "", "one:1");
    start(&sandbox, "second", "", "one:1");
    start(&sandbox, "mapped", "--userns 100000:65536", "one:1");
    start(&sandbox, "other", "", "two:1");
    let all = ["first", "second", "mapped", "other"];
    assert_eq!(all.map(|name| cached(&sandbox, name)), [0; 4]);
    let _ = sandbox.line("cais exec first cat /big").ok();
    let read = if shares() { 1 << 20 } else { 0 };
    assert_eq!(all.map(|name| cached(&sandbox, name)), [1 << 20, read, read, 0]);
    assert_eq!(entries(&sandbox).len(), if shares() { 4 } else { 0 });
    // The image goes, and then the first container; the file is there for the others.
    let _ = sandbox.line("cais rmi -f one:1").ok();
    let _ = sandbox.line("cais rm -f first").ok();
    assert_eq!(cached(&sandbox, "second"), read);
    let _ = sandbox.line("cais exec mapped cat /name").ok();
    let _ = sandbox.line("cais rm -f second mapped other").ok();
    assert_eq!(entries(&sandbox), Vec::<PathBuf>::new());
}

#[test]
fn a_monitor_that_is_killed_takes_nothing_from_others() {
    let sandbox = sandbox();
    start(&sandbox, "first", "", "one:1");
    start(&sandbox, "second", "", "one:1");
    let kill = "p=$($E inspect -f '{{.State.Pid}}' first); \
                  m=$(awk '/^PPid/ {print $2}' /proc/$p/status); kill -9 $m";
    let _ = sandbox.shell(kill).ok();
    sandbox.line("cais exec second cat /name").code(0).out("one\n");
    let _ = sandbox.line("cais exec second cat /big").ok();
    start(&sandbox, "third", "", "one:1");
    let read = if shares() { 1 << 20 } else { 0 };
    assert_eq!(cached(&sandbox, "third"), read);
    let _ = sandbox.line("cais rm -f first second third").ok();
    // What the killed one left goes with the next mount.
    sandbox.line("cais run --rm --network none one:1 cat /name").code(0).out("one\n");
    assert_eq!(entries(&sandbox), Vec::<PathBuf>::new());
}

#[test]
fn a_store_that_needs_loop_devices_works_with_the_usual_rules_for_devices() {
    let sandbox = Sandbox::new();
    // Nothing is mounted from a file on a tmpfs.
    let script = format!(
        "set -e; mkdir tm; mount -t tmpfs tm tm;          export CAIS_ROOT=$PWD/tm/root CAIS_RUN=$PWD/tm/run; ({BIG}) >/dev/null;          $E run --rm --network none one:1 cat /name;          $E run --rm --network none --userns 100000:65536 two:1 cat /name;          $E run -d --name stays --network none two:1 sleep 1000 >/dev/null;          $E run --rm --network none two:1 cat /name; $E rm -f stays >/dev/null; umount tm"
    );
    sandbox.shell(&script).code(0).out("one\ntwo\ntwo\n");
}

#[test]
fn what_an_entry_says_is_not_believed() {
    if !shares() {
        return;
    }
    let sandbox = sandbox();
    start(&sandbox, "first", "", "one:1");
    let [entry] = &entries(&sandbox)[..] else { panic!("{:?}", entries(&sandbox)) };
    let holder = |entry: &Path| {
        let name = entry.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        let (id, holder) = name.split_once('.').expect("an entry names its holder");
        (id.to_owned(), holder.to_owned())
    };
    let (one, holder_of_one) = holder(entry);
    start(&sandbox, "second", "", "two:1");
    let other = entries(&sandbox).iter().map(|entry| holder(entry).0).find(|id| *id != one);
    let two = other.expect("the other image is held too");
    let _ = sandbox.line("cais rm -f second").ok();
    let directory = entry.parent().expect("an entry lies somewhere");
    let [pid, start_time, number]: [&str; 3] =
        holder_of_one.split('.').collect::<Vec<_>>().try_into().expect("three numbers");
    for lie in [
        // The mount of the other image, a process that is another, a descriptor of something else,
        // and nonsense.
        format!("{two}.{holder_of_one}"),
        format!("{two}.{pid}.1.{number}"),
        format!("{two}.1.{start_time}.{number}"),
        format!("{two}.{pid}.{start_time}.0"),
        format!("{two}.0.0.0"),
        format!("{two}.-1.{start_time}.99999999999"),
        two.clone(),
        format!("{two}....."),
    ] {
        fs::write(directory.join(&lie), "").expect("an entry can be written");
    }
    sandbox.line("cais run --rm --network none two:1 cat /name").code(0).out("two\n");
    sandbox.line("cais run --rm --network none one:1 cat /name").code(0).out("one\n");
    let _ = sandbox.line("cais rm -f first").ok();
}
