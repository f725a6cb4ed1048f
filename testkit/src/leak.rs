//! The leak oracle: what a fake host and its machine hold, so that a test can tell what is left.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::fake_host::FakeHost;
use crate::host::{self, directories};

/// How long things may take to vanish after the last command: tear-down is off the critical path.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// Time between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Everything that a container could leave behind, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footprint(BTreeSet<String>);

impl Footprint {
    /// Looks at a fake host, the directories of its state, and the machine's control groups.
    pub(crate) fn take(fake: &FakeHost, state: &[PathBuf]) -> Result<Self> {
        let mut found = BTreeSet::new();
        found.extend(fake.mounts()?.lines().filter_map(mount));
        found.extend(processes(&fake.path("/proc")));
        let inside = |words: &[&str]| host::finish(fake.command(Path::new("/")).args(words));
        found.extend(inside(&["ip", "-oneline", "link"])?.lines().filter_map(link));
        found.extend(inside(&["ip", "rule"])?.lines().map(|line| format!("routing rule: {line}")));
        found.extend(inside(&["nft", "list", "tables"])?.lines().map(|line| format!("nft {line}")));
        let groups = control_groups().into_iter().filter(|path| !is_of_other_test(path, state));
        found.extend(groups.filter_map(|path| unused_group(&path)));
        found.extend(state.iter().flat_map(|directory| of_containers(directory)));
        for bridge in state.iter().filter_map(|directory| default_bridge(directory)) {
            found.retain(|line| {
                let last = line.rsplit(' ').next();
                !(line.starts_with("network link") || line.starts_with("nft table"))
                    || last != Some(bridge.as_str())
            });
        }
        Ok(Self(found))
    }

    /// What `after` has and `self` has not.
    fn left_in(&self, after: &Self) -> Vec<String> {
        after.0.difference(&self.0).cloned().collect()
    }
}

/// Waits until a fake host is again as `before`, and gives what is left when it never is.
pub(crate) fn left(before: &Footprint, fake: &FakeHost, state: &[PathBuf]) -> Result<Vec<String>> {
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        let left = before.left_in(&Footprint::take(fake, state)?);
        if left.is_empty() || Instant::now() > deadline {
            return Ok(left);
        }
        thread::sleep(POLL);
    }
}

/// Removes the control groups that a test left, so that they do not count against the next one.
pub(crate) fn remove_groups(left: &[String]) {
    for path in left.iter().filter_map(|line| line.strip_prefix(GROUP)) {
        let _ = fs::remove_dir(path);
    }
}

/// A line of mountinfo (proc_pid_mountinfo(5)), without the numbers that change.
fn mount(line: &str) -> Option<String> {
    let (place, source) = line.split_once(" - ")?;
    let target = place.split(' ').nth(4)?;
    let kind = source.split(' ').next()?;
    Some(format!("mount: {target} ({kind})"))
}

/// The bridge of a root, and its table of the same name: they stay for the next container, as
/// Docker's do.
fn default_bridge(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join("network/bridge.json")).ok()?;
    let network: serde_json::Value = serde_json::from_str(&text).ok()?;
    network["bridge"].as_str().map(str::to_owned)
}

fn link(line: &str) -> Option<String> {
    let name = line.split(' ').nth(1)?.trim_end_matches(':');
    Some(format!("network link: {name}"))
}

/// The processes in a proc file system, without the first: it is the fake host itself.
fn processes(proc: &Path) -> Vec<String> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| pid != 1)
        .filter_map(|pid| {
            let read = |file| fs::read(proc.join(format!("{pid}/{file}"))).ok();
            let command = read("cmdline")?
                .split(|&b| b == 0)
                .map(String::from_utf8_lossy)
                .collect::<Vec<_>>()
                .join(" ");
            let name = String::from_utf8_lossy(&read("comm")?).trim().to_owned();
            Some(format!("process: {pid} {name} {command}").trim_end().to_owned())
        })
        .collect()
}

/// How a control group's line starts.
const GROUP: &str = "control group: ";

/// Digits of a container's id.
const ID_LENGTH: usize = 64;

/// Control groups of containers: `cais-` with an id, and those below another whose name starts with
/// `cais`, in any hierarchy.
fn control_groups() -> Vec<PathBuf> {
    let mount = Path::new("/sys/fs/cgroup");
    let mut hierarchies = directories(mount);
    hierarchies.push(mount.to_owned());
    let ours = hierarchies.iter().flat_map(|h| directories(h)).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cais"))
    });
    let groups = |group: PathBuf| match is_of_container(&group) {
        true => vec![group],
        false => directories(&group),
    };
    let mut found: BTreeSet<PathBuf> = ours.flat_map(groups).collect();
    found.retain(|path| !path.is_symlink());
    found.into_iter().collect()
}

fn is_of_container(group: &Path) -> bool {
    let name = group.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let id = name.strip_prefix("cais-").unwrap_or_default();
    id.len() == ID_LENGTH && id.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Whether a group is below one that another test names after its sandbox, or one of the pods of
/// another test's node: with nothing in it, it may be that of a container that has ended and is not
/// deleted yet, or of a pod whose containers have.
fn is_of_other_test(group: &Path, state: &[PathBuf]) -> bool {
    let name = group.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let mut sandboxes = state.iter().filter_map(|path| path.parent());
    if let Some(digest) = name.strip_prefix("cais-pods-") {
        return !sandboxes
            .any(|own| NODES.iter().any(|node| is_digest_of(digest, &own.join(node))));
    }
    let mut own = sandboxes.filter_map(|path| path.file_name()?.to_str());
    name.starts_with("cais-test-") && !own.any(|own| name.ends_with(own))
}

/// Where tests have their nodes keep what is theirs, below a sandbox.
const NODES: [&str; 2] = ["work/cluster", "work/agent"];

/// Whether a group of pods is named after the directory of their node.
fn is_digest_of(digest: &str, directory: &Path) -> bool {
    let whole = oci::Digest::of(directory.as_os_str().as_encoded_bytes());
    whole.hex().starts_with(digest)
}

/// A group that nothing runs in. One that is in use belongs to a test that runs at the same time,
/// or its processes are found as such.
fn unused_group(path: &Path) -> Option<String> {
    let members = fs::read_to_string(path.join("cgroup.procs")).ok()?;
    let inner = directories(path).iter().any(|child| unused_group(child).is_none());
    (members.is_empty() && !inner).then(|| format!("{GROUP}{}", path.display()))
}

/// Files and directories named after a container, at most three levels deep.
fn of_containers(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            let content = ["layers", "blobs", "bases", "images", "tags", "ingest", "trash"];
            // What builds remember is there to stay.
            let builds = ["cache", "downloads", "failed", "files", "last", "mounts", "trees"];
            let inside_layers = content.iter().chain(&builds).any(|known| *known == name);
            if is_id(&name) {
                found.push(format!("file: {}", path.display()));
            } else if depth < 2 && !inside_layers && path.is_dir() && !path.is_symlink() {
                open.push((path, depth + 1));
            }
        }
    }
    found
}

/// Whether a name starts with a container's id: 64 hexadecimal digits.
fn is_id(name: &str) -> bool {
    name.len() >= 64 && name.bytes().take(64).all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount(line).as_deref(), Some("mount: /mnt2 (ext3)"));
        let line = "1: lo: <LOOPBACK> mtu 65536 qdisc noop state DOWN";
        assert_eq!(link(line).as_deref(), Some("network link: lo"));
        assert!(is_id(&"a".repeat(64)));
        assert!(!is_id("containers"));
    }

    #[test]
    fn what_is_left_is_found_and_named() {
        let fake = FakeHost::start().unwrap();
        let state = tempfile::tempdir().unwrap();
        let directories = [state.path().to_owned()];
        let before = Footprint::take(&fake, &directories).unwrap();
        assert_eq!(left(&before, &fake, &directories).unwrap(), Vec::<String>::new());

        let inside =
            |words: &[&str]| host::finish(fake.command(Path::new("/")).args(words)).unwrap();
        let target = state.path().to_str().unwrap();
        inside(&["mount", "-t", "tmpfs", "forgotten", target]);
        inside(&["ip", "link", "add", "cais0", "type", "bridge"]);
        inside(&["nft", "add", "table", "inet", "cais"]);
        inside(&["sh", "-c", "sleep 1000 >/dev/null 2>&1 &"]);
        fs::create_dir_all(fake.path(target).join("containers").join("0".repeat(64))).unwrap();
        let v2 = Path::new("/sys/fs/cgroup/unified");
        let v2 = if v2.exists() { v2 } else { Path::new("/sys/fs/cgroup") };
        // Others may run this test at the same time.
        let own = std::process::id();
        let group = v2.join(format!("cais-leak-{own}/forgotten"));
        let alone = format!("cais-{own:0ID_LENGTH$x}");
        fs::create_dir_all(&group).unwrap();
        fs::create_dir(v2.join(&alone)).unwrap();

        let after = Footprint::take(&fake, &[fake.path(target)]).unwrap();
        let found = before.left_in(&after).join("\n");
        // The same test elsewhere takes what nobody uses for something that was left, and removes it.
        for path in [&group, group.parent().unwrap(), &v2.join(&alone)] {
            let _ = fs::remove_dir(path);
        }
        let parts = [
            "(tmpfs)",
            "cais0",
            "table inet cais",
            "sleep 1000",
            "containers/0",
            "forgotten",
            &alone,
        ];
        for part in parts {
            assert!(found.contains(part), "{part} is missing in:\n{found}");
        }
    }
}
