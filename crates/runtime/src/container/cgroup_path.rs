//! Where a container's cgroup is.

use std::path::{Component, Path, PathBuf};

use oci::runtime::Spec;

use super::Error;

/// Below which groups are made that are not placed elsewhere; never the caller's own group.
const PARENT: &str = "/cais";

/// The path of the cgroup below each hierarchy's root: the specification's where it is absolute,
/// below our own parent where it is relative, and by the id where there is none.
///
/// # Errors
/// With systemd's form of the path: that needs its driver.
pub(super) fn of(spec: &Spec, id: &str, systemd: bool) -> Result<PathBuf, Error> {
    let given = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    if systemd {
        // The one place where a driver that asks systemd for a scope is to be called.
        return Err(Error::Refused(
            "cgroups made by systemd (--systemd-cgroup) are not supported".into(),
        ));
    }
    let given = given.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(id));
    Ok(clean(&Path::new(PARENT).join(given)))
}

/// Without `.` and `..`, by the words alone.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use oci::runtime::Linux;

    use super::*;

    #[test]
    fn a_group_is_where_the_bundle_says_or_below_ours() {
        for (given, expected) in [
            (None, "/cais/a"),
            (Some(""), "/cais/a"),
            (Some("/x/y"), "/x/y"),
            (Some("x/y"), "/cais/x/y"),
            (Some("/x/../../y/./z"), "/y/z"),
        ] {
            let mut linux = Linux::default();
            linux.set_cgroups_path(given.map(PathBuf::from));
            let mut spec = Spec::default();
            spec.set_linux(Some(linux));
            assert_eq!(of(&spec, "a", false).unwrap(), Path::new(expected), "{given:?}");
        }
    }
}
