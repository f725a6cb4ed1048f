//! The container's group in the resctrl file system (runtime-spec, config-linux.md, "IntelRdt";
//! the kernel's Documentation/filesystems/resctrl.rst).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci::runtime::{LinuxIntelRdt, Spec};
use rustix::fs::statfs;

use crate::error::{Doing, Error};
use crate::procfs;

/// `RDTGROUP_SUPER_MAGIC` of <linux/magic.h>.
const RDT_MAGIC: i64 = 0x765_5821;
/// Where the kernel makes a directory for it.
const USUAL: &str = "/sys/fs/resctrl";

fn asked(spec: &Spec) -> Option<&LinuxIntelRdt> {
    spec.linux().as_ref()?.intel_rdt().as_ref()
}

/// Where the file system is mounted.
fn mounted() -> Result<PathBuf, Error> {
    if statfs(USUAL).is_ok_and(|files| files.f_type == RDT_MAGIC) {
        return Ok(USUAL.into());
    }
    let text = procfs::read("/proc/self/mountinfo").doing(|| "look for resctrl")?;
    text.lines().find_map(mount_point).ok_or_else(|| {
        Error::Unsupported("linux.intelRdt, without a mounted resctrl file system,".into())
    })
}

/// The mount point in a line of mountinfo (proc(5)) about resctrl.
fn mount_point(line: &str) -> Option<PathBuf> {
    let (front, back) = line.split_once(" - ")?;
    back.starts_with("resctrl ").then(|| front.split(' ').nth(4).map(PathBuf::from))?
}

/// A group that is removed again unless it is kept.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
    /// The group that counts for this container alone.
    monitor: Option<PathBuf>,
    /// What was made for it, in this order.
    made: Vec<PathBuf>,
}

impl Group {
    /// Makes or finds the group of the container `id`; `None` if the specification asks for none.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without the file system; [`Error::Spec`] for a class that is missing
    /// or says something else; otherwise with the kernel's own explanation.
    pub(crate) fn make(spec: &Spec, id: &str) -> Result<Option<Group>, Error> {
        asked(spec).map(|rdt| Group::make_in(&mounted()?, rdt, id)).transpose()
    }

    fn make_in(root: &Path, rdt: &LinuxIntelRdt, id: &str) -> Result<Group, Error> {
        let lines = schemata(rdt)?;
        let class = rdt.clos_id().as_deref().filter(|class| !class.is_empty());
        let path = class_path(root, class, id)?;
        let mut group = Group { path: path.clone(), monitor: None, made: Vec::new() };
        let exists = path.is_dir();
        if let Some(class) = class.filter(|_| lines.is_empty() && !exists) {
            return Err(Error::Spec(format!(
                "linux.intelRdt.closID: the class `{class}` does not exist, and no schemata says \
                 what it is to be"
            )));
        }
        if !exists {
            group.make_directory(&path, root)?;
        }
        if exists && !lines.is_empty() {
            compare(&path, &lines)?;
        } else if !lines.is_empty() {
            let text = lines.concat();
            fs::write(path.join("schemata"), &text)
                .map_err(|error| refused(root, "write linux.intelRdt.schemata", error))?;
        }
        if rdt.enable_monitoring().unwrap_or(false) {
            let monitor = path.join("mon_groups").join(plain(id)?);
            group.make_directory(&monitor, root)?;
            group.monitor = Some(monitor);
        }
        Ok(group)
    }

    fn make_directory(&mut self, path: &Path, root: &Path) -> Result<(), Error> {
        let doing = format!("make the resctrl group `{}`", path.display());
        fs::create_dir(path).map_err(|error| refused(root, &doing, error))?;
        self.made.push(path.to_owned());
        Ok(())
    }

    /// Moves the process `pid` into the group; its children follow it.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn add(&self, pid: i32) -> Result<(), Error> {
        for group in [Some(&self.path), self.monitor.as_ref()].into_iter().flatten() {
            let tasks = group.join("tasks");
            fs::write(&tasks, pid.to_string())
                .doing(|| format!("move process {pid} into `{}`", tasks.display()))?;
        }
        Ok(())
    }

    /// Leaves it to [`delete_resctrl`].
    pub(crate) fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Moves the process `pid` into the existing group of the container `id`.
///
/// # Errors
/// When the group is gone.
pub(crate) fn join(rdt: &LinuxIntelRdt, id: &str, pid: i32) -> Result<(), Error> {
    let class = rdt.clos_id().as_deref().filter(|class| !class.is_empty());
    let path = class_path(&mounted()?, class, id)?;
    let counts = rdt.enable_monitoring().unwrap_or(false);
    let monitor = counts.then(|| plain(id).map(|id| path.join("mon_groups").join(id)));
    Group { path, monitor: monitor.transpose()?, made: Vec::new() }.add(pid)
}

/// Removes what [`create`](crate::create) made of the container `id` in the resctrl file system;
/// to be called once its processes have ended.
///
/// # Errors
/// When the kernel refuses.
pub fn delete_resctrl(spec: &Spec, id: &str) -> Result<(), Error> {
    match asked(spec) {
        Some(rdt) => delete_in(&mounted()?, rdt, id),
        None => Ok(()),
    }
}

fn delete_in(root: &Path, rdt: &LinuxIntelRdt, id: &str) -> Result<(), Error> {
    let class = rdt.clos_id().as_deref().filter(|class| !class.is_empty());
    let path = class_path(root, class, id)?;
    // With its own class goes what counts below it; another's class stays.
    let own = class.is_none().then(|| path.clone());
    let counts = rdt.enable_monitoring().unwrap_or(false);
    let monitor = (counts && own.is_none()).then(|| path.join("mon_groups").join(id));
    for group in [monitor, own].into_iter().flatten() {
        match fs::remove_dir(&group) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).doing(|| format!("remove `{}`", group.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The directory of a class, or of the container.
fn class_path(root: &Path, class: Option<&str>, id: &str) -> Result<PathBuf, Error> {
    match class {
        // The default class is the root itself.
        Some("/") => Ok(root.to_owned()),
        name => Ok(root.join(plain(name.unwrap_or(id))?)),
    }
}

fn plain(name: &str) -> Result<&str, Error> {
    if matches!(name, "" | "." | "..") || name.contains('/') {
        return Err(Error::Spec(format!("invalid intelRdt.ClosID `{name}`")));
    }
    Ok(name)
}

/// The lines to write, in the order that the specification gives: caches, bandwidth, the rest.
fn schemata(rdt: &LinuxIntelRdt) -> Result<Vec<String>, Error> {
    let (cache, bandwidth) = (rdt.l3_cache_schema().as_deref(), rdt.mem_bw_schema().as_deref());
    let given = |text: &&str| !text.is_empty();
    let bandwidth = bandwidth.filter(given);
    if bandwidth.is_some_and(|text| !text.starts_with("MB:")) {
        return Err(Error::Spec("linux.intelRdt.memBwSchema must begin with `MB:`".into()));
    }
    let rest = rdt.schemata().iter().flatten().map(String::as_str);
    let parts = cache.into_iter().filter(given).chain(bandwidth).chain(rest);
    parts
        .map(|line| match line.contains('\n') {
            true => Err(Error::Spec(format!(
                "linux.intelRdt: the schema `{}` has several lines",
                line.escape_debug()
            ))),
            false => Ok(format!("{line}\n")),
        })
        .collect()
}

/// A class that others made must already be what is asked for.
fn compare(path: &Path, lines: &[String]) -> Result<(), Error> {
    let file = path.join("schemata");
    let text = fs::read_to_string(&file).doing(|| format!("read `{}`", file.display()))?;
    let found = parse(text.lines());
    for (key, value) in parse(lines.iter().map(String::as_str)) {
        if found.get(&key) != Some(&value) {
            let class = path.file_name().unwrap_or_default().display();
            let (resource, domain) = key;
            return Err(Error::Spec(format!(
                "linux.intelRdt: the class `{class}` exists, and its `{resource}:{domain}` is not \
                 `{value}`"
            )));
        }
    }
    Ok(())
}

/// Values by resource and domain; a later line replaces an earlier one. Leading zeros and spaces
/// mean nothing.
fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<(String, String), String> {
    let mut values = BTreeMap::new();
    for line in lines {
        let Some((resource, list)) = line.split_once(':') else { continue };
        for (domain, value) in list.split(';').filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_start_matches('0');
            let value = if value.is_empty() { "0" } else { value }.to_lowercase();
            values.insert((resource.trim().into(), domain.trim().into()), value);
        }
    }
    values
}

/// An error with what the kernel says about it.
fn refused(root: &Path, doing: &str, error: io::Error) -> Error {
    let status = fs::read_to_string(root.join("info/last_cmd_status")).unwrap_or_default();
    let status = status.trim();
    let separator = if status.is_empty() { "" } else { ": " };
    Error::kernel(format!("{doing}{separator}{status}"), error)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    /// A directory in the place of the file system, whose classes have the files they would get.
    fn root(classes: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (class, schemata) in classes {
            let path = root.path().join(class);
            fs::create_dir_all(path.join("mon_groups")).unwrap();
            fs::write(path.join("schemata"), schemata).unwrap();
        }
        root
    }

    fn make(root: &Path, rdt: Value) -> Result<Group, Error> {
        Group::make_in(root, &from_value(rdt).unwrap(), "box")
    }

    #[test]
    fn the_containers_own_class_is_made_and_removed() {
        let root = root(&[]);
        let rdt = json!({
            "schemata": ["L2:0=f"], "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=7f0",
        });
        let group = make(root.path(), rdt.clone()).unwrap();
        let own = root.path().join("box");
        let written = fs::read_to_string(own.join("schemata")).unwrap();
        assert_eq!(written, "L3:0=7f0\nMB:0=20\nL2:0=f\n");
        group.add(7).unwrap();
        assert_eq!(fs::read_to_string(own.join("tasks")).unwrap(), "7");
        fs::remove_file(own.join("schemata")).unwrap();
        fs::remove_file(own.join("tasks")).unwrap();
        drop(group);
        assert!(!own.exists());
        make(root.path(), json!({})).unwrap().keep();
        delete_in(root.path(), &from_value(json!({})).unwrap(), "box").unwrap();
        assert!(!own.exists());
    }

    #[test]
    fn a_class_of_others_is_compared_and_stays() {
        let root = root(&[("gold", "    L3:0=00ff;1=c0\n    MB:0=100\n")]);
        for schema in ["L3:1=C0", "L3:0=ff;1=0c0"] {
            drop(make(root.path(), json!({"closID": "gold", "l3CacheSchema": schema})).unwrap());
        }
        let wrong = json!({"closID": "gold", "schemata": ["MB:0=20"]});
        let complaint = make(root.path(), wrong).unwrap_err().to_string();
        assert!(complaint.contains("`MB:0` is not `20`"), "{complaint}");
        make(root.path(), json!({"closID": "gold"})).unwrap();
        make(root.path(), json!({"closID": "/"})).unwrap();
        let missing = make(root.path(), json!({"closID": "tin"})).unwrap_err().to_string();
        assert!(missing.contains("`tin` does not exist"), "{missing}");
        assert!(root.path().join("gold").exists() && !root.path().join("tin").exists());
    }

    #[test]
    fn what_counts_is_made_below_the_class() {
        let root = root(&[("gold", "L3:0=ff\n")]);
        let rdt = json!({"closID": "gold", "enableMonitoring": true});
        let group = make(root.path(), rdt.clone()).unwrap();
        let monitor = root.path().join("gold/mon_groups/box");
        group.add(9).unwrap();
        assert_eq!(fs::read_to_string(monitor.join("tasks")).unwrap(), "9");
        fs::remove_file(monitor.join("tasks")).unwrap();
        group.keep();
        delete_in(root.path(), &from_value(rdt).unwrap(), "box").unwrap();
        assert!(!monitor.exists() && root.path().join("gold").exists());
    }

    #[test]
    fn wrong_requests_are_refused() {
        let root = root(&[]);
        for rdt in [
            json!({"closID": ".."}),
            json!({"closID": "a/b"}),
            json!({"memBwSchema": "L3:0=f"}),
            json!({"l3CacheSchema": "L3:0=f\nMB:0=1"}),
        ] {
            make(root.path(), rdt).unwrap_err();
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn its_mount_point_is_found() {
        let line = "34 25 0:30 / /mnt/resctrl rw,relatime shared:9 - resctrl resctrl rw";
        assert_eq!(mount_point(line), Some("/mnt/resctrl".into()));
        assert_eq!(mount_point("34 25 0:30 / /proc rw - proc proc rw"), None);
    }
}
