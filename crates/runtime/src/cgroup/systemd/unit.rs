//! Names of systemd's units.

use serde::{Deserialize, Serialize};

use super::Error;

/// The longest name of a unit (`UNIT_NAME_MAX` of systemd).
const NAME_MAX: usize = 255;

/// A scope of systemd's: the unit of a container, and the slice it lies in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    slice: String,
    name: String,
    /// Of the user's manager, and not of the machine's.
    user: bool,
}

impl Unit {
    /// Reads a `cgroupsPath` of the form `slice:prefix:name`; without one, the slice is the default
    /// and the name is `id`, as with runc. `user` means the manager of the user.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another form, and for names that no unit can have.
    pub fn parse(cgroups_path: &str, id: &str, user: bool) -> Result<Self, Error> {
        let default = if user { "user.slice" } else { "system.slice" };
        let parts: Vec<&str> = cgroups_path.split(':').collect();
        let (slice, prefix, name) = match parts[..] {
            [""] => (default, "cais", id),
            ["", prefix, name] => (default, prefix, name),
            [slice, prefix, name] => (slice, prefix, name),
            _ => {
                return Err(Error::Invalid(format!(
                    "cgroupsPath {cgroups_path:?} is not of the form \"slice:prefix:name\" that \
                     systemd's groups need"
                )));
            }
        };
        if name.ends_with(".slice") {
            return Err(Error::Unsupported(format!("a container that is the slice {name:?}")));
        }
        let dash = if prefix.is_empty() { "" } else { "-" };
        let unit =
            Self { slice: slice.to_owned(), name: format!("{prefix}{dash}{name}.scope"), user };
        check_slice(&unit.slice)?;
        check_name(&unit.name)?;
        Ok(unit)
    }

    /// The name of the scope.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the slice.
    #[must_use]
    pub fn slice(&self) -> &str {
        &self.slice
    }

    /// Whether it is the user's manager that has it.
    #[must_use]
    pub fn is_of_user(&self) -> bool {
        self.user
    }
}

/// A slice's name is its place: `a-b.slice` lies in `a.slice` (systemd.slice(5)).
fn check_slice(slice: &str) -> Result<(), Error> {
    let invalid = || Error::Invalid(format!("{slice:?} cannot be the name of a slice of systemd"));
    check_name(slice)?;
    let place = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    if place != "-" && place.split('-').any(str::is_empty) {
        return Err(invalid());
    }
    Ok(())
}

/// As systemd does (`VALID_CHARS` of src/basic/unit-name.c).
fn check_name(name: &str) -> Result<(), Error> {
    let valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if name.len() <= NAME_MAX && name.chars().all(valid) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{name:?} cannot be the name of a unit of systemd")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_units() {
        for (path, user, want) in [
            ("system.slice:cais:1", false, Some(("system.slice", "cais-1.scope"))),
            ("a-b.slice:x:y.z", true, Some(("a-b.slice", "x-y.z.scope"))),
            ("", false, Some(("system.slice", "cais-id.scope"))),
            ("", true, Some(("user.slice", "cais-id.scope"))),
            (":p:n", true, Some(("user.slice", "p-n.scope"))),
            ("-.slice::n", false, Some(("-.slice", "n.scope"))),
            ("/a/b", false, None),
            ("a.slice:b", false, None),
            ("a.slice:b:c:d", false, None),
            ("a--b.slice:p:n", false, None),
            ("../x.slice:p:n", false, None),
            ("a:p:n", false, None),
            ("a.slice:p:n/m", false, None),
            ("a.slice:p:n.slice", false, None),
        ] {
            let unit = Unit::parse(path, "id", user).ok();
            let got = unit.as_ref().map(|unit| (unit.slice(), unit.name()));
            assert_eq!(got, want, "{path:?}");
        }
        assert!(Unit::parse("", &"x".repeat(300), false).is_err());
    }
}
