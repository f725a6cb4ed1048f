//! Where a container's cgroup is.

use std::path::{Component, Path, PathBuf};

use oci::runtime::{LinuxResources, Spec};

use super::Error;
use crate::cgroup::{self, Cgroup, Unit};

/// Below which groups are made that are not placed elsewhere; never the caller's own group.
const PARENT: &str = "/cais";

/// What a container's cgroup is made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Directories: the path below each hierarchy's root.
    Path(PathBuf),
    /// systemd.
    Unit(Unit),
}

impl Place {
    /// The specification's path where it is absolute, below our own parent where it is relative,
    /// and by the id where there is none; or systemd's unit.
    ///
    /// Without privilege our own parent is not ours: groups lie beside the caller's own, where
    /// version 2 of control groups delegates them. Below it they could have no limits, since a
    /// group with processes has no controllers to give.
    ///
    /// # Errors
    /// When the path has not systemd's form.
    pub(super) fn of(spec: &Spec, id: &str, systemd: bool, rootless: bool) -> Result<Self, Error> {
        let given = given(spec);
        if systemd {
            let text = given.map_or("", |path| path.to_str().unwrap_or("\0"));
            return Ok(Self::Unit(Unit::parse(text, id, rootless)?));
        }
        let beside = if rootless { cgroup::own().and_then(|own| beside(&own)) } else { None };
        Ok(Self::Path(match (beside, given) {
            (Some(beside), None) => clean(&beside.join(format!("cais-{id}"))),
            (Some(beside), Some(path)) => clean(&beside.join(path)),
            (None, given) => clean(&Path::new(PARENT).join(given.unwrap_or(Path::new(id)))),
        }))
    }

    /// Makes the group. Without privilege a group that nobody asked for is made if it can be, and
    /// no device is confined that the user could not open anyway.
    ///
    /// # Errors
    /// Those of [`Cgroup::create`].
    pub(super) fn make(
        &self,
        (spec, resources): (&Spec, &LinuxResources),
        rootless: bool,
    ) -> Result<Option<Cgroup>, Error> {
        let make = |resources: &LinuxResources| match self {
            Self::Path(path) => Cgroup::create(path, Some(resources)),
            Self::Unit(unit) => unit.create(Some(resources)),
        };
        if !rootless {
            return Ok(Some(make(resources)?));
        }
        let mut without_devices = resources.clone();
        without_devices.set_devices(None);
        let unlimited = is_unlimited(&without_devices);
        match make(&without_devices) {
            Err(error) if is_denied(&error) && given(spec).is_none() && unlimited => Ok(None),
            Err(error) if is_denied(&error) && !unlimited => Err(Error::Denied(error)),
            other => Ok(Some(other?)),
        }
    }
}

fn given(spec: &Spec) -> Option<&Path> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    path.filter(|path| !path.as_os_str().is_empty())
}

fn beside(own: &Path) -> Option<PathBuf> {
    own.parent().map(Path::to_path_buf)
}

/// Whether nothing is limited.
fn is_unlimited(resources: &LinuxResources) -> bool {
    let mut none = LinuxResources::default();
    none.set_devices(None);
    *resources == none
}

/// Whether a cgroup cannot be made for lack of rights.
fn is_denied(error: &cgroup::Error) -> bool {
    use std::error::Error as _;
    let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    let errno = source.and_then(std::io::Error::raw_os_error);
    matches!(errno, Some(libc::EACCES | libc::EPERM | libc::EROFS))
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

    fn spec(path: Option<&str>) -> Spec {
        let mut linux = Linux::default();
        linux.set_cgroups_path(path.map(PathBuf::from));
        let mut spec = Spec::default();
        spec.set_linux(Some(linux));
        spec
    }

    #[test]
    fn a_group_is_where_the_bundle_says_or_below_ours() {
        for (given, expected) in [
            (None, "/cais/a"),
            (Some(""), "/cais/a"),
            (Some("/x/y"), "/x/y"),
            (Some("x/y"), "/cais/x/y"),
            (Some("/x/../../y/./z"), "/y/z"),
        ] {
            let place = Place::of(&spec(given), "a", false, false).unwrap();
            assert_eq!(place, Place::Path(expected.into()), "{given:?}");
        }
    }

    #[test]
    fn systemds_paths_have_a_form_of_their_own() {
        let unit = |path| match Place::of(&spec(path), "a", true, false).unwrap() {
            Place::Unit(unit) => format!("{} {}", unit.slice(), unit.name()),
            Place::Path(path) => panic!("{path:?}"),
        };
        assert_eq!(unit(None), "system.slice cais-a.scope");
        assert_eq!(unit(Some("machine.slice:libpod:b")), "machine.slice libpod-b.scope");
        assert!(Place::of(&spec(Some("/x/y")), "a", true, false).is_err());
    }

    #[test]
    fn a_group_of_ones_own_lies_beside_the_callers() {
        let own = Path::new("/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope");
        let beside = beside(own).unwrap();
        assert_eq!(beside, Path::new("/user.slice/user-1000.slice/user@1000.service/app.slice"));
        assert_eq!(super::beside(Path::new("/")), None);
    }

    #[test]
    fn what_limits_is_told_from_what_does_not() {
        let resources = |json: &str| serde_json::from_str::<LinuxResources>(json).unwrap();
        assert!(is_unlimited(&resources("{}")));
        assert!(!is_unlimited(&resources(r#"{"pids": {"limit": 3}}"#)));
        assert!(!is_unlimited(&resources(r#"{"unified": {"memory.high": "3"}}"#)));
    }
}
