//! The id maps of a user namespace (user_namespaces(7)).

use std::io;
use std::process::{Command, Stdio};

use oci::runtime::{Linux, LinuxIdMapping};

use crate::error::{Doing, Error};

/// How much of what newuidmap says becomes part of an error, in bytes.
const OUTPUT_MAX: usize = 1024;

pub(super) fn maps(maps: &Option<Vec<LinuxIdMapping>>) -> &[LinuxIdMapping] {
    maps.as_deref().unwrap_or_default()
}

/// Writes the id maps of the child's user namespace.
///
/// # Errors
/// When the kernel refuses them.
pub(crate) fn write_id_maps(pid: i32, linux: &Linux) -> Result<(), Error> {
    write_maps(pid, (maps(linux.uid_mappings()), maps(linux.gid_mappings())))
}

/// Writes these maps of users and groups. Without privilege one's own id can be mapped, and others
/// through newuidmap(1), which knows whose they are (subuid(5)).
///
/// # Errors
/// When the kernel or newuidmap refuses them.
pub(crate) fn write_maps(
    pid: i32,
    (users, groups): (&[LinuxIdMapping], &[LinuxIdMapping]),
) -> Result<(), Error> {
    let own = |id: u32| move |maps: &[LinuxIdMapping]| is_only(maps, id);
    let user = own(rustix::process::geteuid().as_raw())(users);
    let group = own(rustix::process::getegid().as_raw())(groups);
    if !rustix::process::geteuid().is_root() && group {
        // The map of one's own group is accepted only when groups cannot be dropped: they may
        // have kept their members out of something.
        write(pid, "setgroups", "deny")?;
    }
    set(pid, ("uid_map", "newuidmap"), users, user)?;
    set(pid, ("gid_map", "newgidmap"), groups, group)
}

/// Whether nothing but this id is mapped.
fn is_only(maps: &[LinuxIdMapping], id: u32) -> bool {
    matches!(maps, [map] if map.host_id() == id && map.size() == 1)
}

fn set(
    pid: i32,
    (file, program): (&str, &str),
    maps: &[LinuxIdMapping],
    own: bool,
) -> Result<(), Error> {
    let written = std::fs::write(format!("/proc/{pid}/{file}"), format_map(maps));
    match written {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !own => {
            if rustix::process::geteuid().is_root() {
                return Err(Error::kernel(format!("write the {file}"), error));
            }
            call(program, pid, maps)
        }
        other => other.doing(|| format!("write the {file}")),
    }
}

fn format_map(maps: &[LinuxIdMapping]) -> String {
    let line =
        |map: &LinuxIdMapping| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size());
    maps.iter().map(line).collect()
}

fn call(program: &str, pid: i32, maps: &[LinuxIdMapping]) -> Result<(), Error> {
    let mut command = Command::new(program);
    command.arg(pid.to_string()).stdin(Stdio::null());
    for map in maps {
        command.args([map.container_id(), map.host_id(), map.size()].map(|id| id.to_string()));
    }
    let doing = || format!("map ids that are not the caller's, by {program}");
    let output = command.output().map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; hint: install it (package uidmap), or map one id alone",
            _ => "",
        };
        Error::kernel(format!("{}{hint}", doing()), error)
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = &output.stderr[..output.stderr.len().min(OUTPUT_MAX)];
    let said = String::from_utf8_lossy(said);
    let hint = "; hint: /etc/subuid and /etc/subgid say which ids belong to whom";
    Err(Error::kernel(format!("{}{hint}", doing()), io::Error::other(said.trim().to_owned())))
}

fn write(pid: i32, file: &str, text: &str) -> Result<(), Error> {
    std::fs::write(format!("/proc/{pid}/{file}"), text).doing(|| format!("write the {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_id_is_one() {
        let maps = |json: &str| serde_json::from_str::<Vec<LinuxIdMapping>>(json).unwrap();
        let own = maps(r#"[{"containerID": 0, "hostID": 7, "size": 1}]"#);
        assert!(is_only(&own, 7) && !is_only(&own, 8));
        assert_eq!(format_map(&own), "0 7 1\n");
        let more = maps(r#"[{"containerID": 0, "hostID": 7, "size": 2}]"#);
        assert!(!is_only(&more, 7) && !is_only(&[], 7));
    }
}
