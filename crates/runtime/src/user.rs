//! Who a process runs as: names become numbers inside the root file system.

use std::path::Path;

use crate::error::Error;
use crate::inroot::Root;
use crate::weak::weakened;

/// The largest id that Docker and the OCI accept: larger ones overflow to `-1` or root in some
/// programs (CVE-2024-40635).
const ID_MAX: u32 = i32::MAX as u32;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// From `/etc/passwd`, otherwise `/`.
    pub(crate) home: String,
}

/// Resolves `user[:group]` with the files of `root`; each half is a name or a number.
///
/// Digits are always a number: an image that names a user `1000` cannot make `1000` root.
///
/// A user without a group gets the main and the supplementary groups that the files name;
/// an explicit group replaces them. A number needs no entry. The main group is among the
/// supplementary ones, so that no program can drop it to gain what it is denied (CVE-2022-36109).
///
/// # Errors
/// For a name without an entry, and for a number above 2³¹ − 1.
pub(crate) fn resolve(root: &Root, user: &str) -> Result<Identity, Error> {
    let passwd = read(root, "/etc/passwd")?;
    let group = read(root, "/etc/group")?;
    resolve_in(&passwd, &group, user)
}

/// The user and the group that `user[:group]` means in the tree whose root is given, as for a
/// process there.
///
/// # Errors
/// For a name without an entry, and for a number above 2³¹ − 1.
pub fn ids_of(root: std::os::fd::OwnedFd, user: &str) -> Result<(u32, u32), Error> {
    resolve(&Root::new(root), user).map(|identity| (identity.uid, identity.gid))
}

/// Resolves further groups by name or number.
///
/// # Errors
/// As [`resolve`].
pub(crate) fn resolve_groups(root: &Root, groups: &[String]) -> Result<Vec<u32>, Error> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let file = read(root, "/etc/group")?;
    groups.iter().map(|name| group_id(&file, name)).collect()
}

/// The home directory of a user by number.
///
/// # Errors
/// When `/etc/passwd` is not a readable regular file.
pub(crate) fn home(root: &Root, uid: u32) -> Result<String, Error> {
    let passwd = read(root, "/etc/passwd")?;
    Ok(entries(&passwd).find(|entry| entry.uid == uid).map_or("/".into(), |entry| entry.home()))
}

/// The user and the group that `user[:group]` names in files like `/etc/passwd` and `/etc/group`.
///
/// # Errors
/// When there is none of this name.
pub fn identify(passwd: &str, group: &str, user: &str) -> Result<(u32, u32), Error> {
    resolve_in(passwd, group, user).map(|identity| (identity.uid, identity.gid))
}

fn read(root: &Root, path: &str) -> Result<String, Error> {
    let bytes = root.read(Path::new(path))?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A line of `/etc/passwd` (passwd(5)).
struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl Entry<'_> {
    fn home(&self) -> String {
        if self.home.is_empty() { "/".into() } else { self.home.into() }
    }
}

fn entries(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let (uid, gid) = (id(fields.nth(1)?)?, id(fields.next()?)?);
        Some(Entry { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

/// An id as a file has it. The image wrote that file: `-1` as a number, which means "as it is" to
/// setresuid(2), would leave the process root.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&id| id <= ID_MAX)
}

/// Name, number and members of each line of `/etc/group` (group(5)).
fn groups(file: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    file.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = id(fields.nth(1)?)?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn resolve_in(passwd: &str, group_file: &str, spec: &str) -> Result<Identity, Error> {
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = if weakened("digits-as-names") { None } else { number(user)? };
    let is_meant = |entry: &Entry<'_>| match number {
        Some(number) => entry.uid == number,
        None => entry.name == user,
    };
    let entry = entries(passwd).find(is_meant);
    let uid = match (&entry, number) {
        (_, Some(number)) => number,
        (Some(entry), None) => entry.uid,
        (None, None) => {
            let text = format!("unable to find user {user}: no matching entries in passwd file");
            return Err(Error::Spec(text));
        }
    };
    let name = entry.as_ref().map_or("", |entry| entry.name);
    let (gid, supplementary) = match group {
        Some(group) => (group_id(group_file, group)?, Vec::new()),
        None => (entry.as_ref().map_or(0, |entry| entry.gid), memberships(group_file, name)),
    };
    let home = entry.map_or("/".into(), |entry| entry.home());
    let mut groups = vec![gid];
    groups.extend(supplementary.into_iter().filter(|&group| group != gid));
    Ok(Identity { uid, gid, groups, home })
}

fn memberships(file: &str, name: &str) -> Vec<u32> {
    if name.is_empty() {
        return Vec::new();
    }
    let member = |members: &str| members.split(',').any(|member| member == name);
    groups(file).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid).collect()
}

fn group_id(file: &str, group: &str) -> Result<u32, Error> {
    if let Some(number) = number(group)? {
        return Ok(number);
    }
    let found = groups(file).find(|(name, ..)| *name == group);
    found.map(|(_, gid, _)| gid).ok_or_else(|| {
        Error::Spec(format!("unable to find group {group}: no matching entries in group file"))
    })
}

/// The number that `text` is, if it consists of digits.
fn number(text: &str) -> Result<Option<u32>, Error> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) if number <= ID_MAX => Ok(Some(number)),
        _ => Err(Error::Spec(format!("uids and gids must be in range 0-{ID_MAX}, not {text}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                          web:x:33:34:www:/var/www:/bin/false\n\
                          # comment\n\
                          7:x:0:0::/seven:\n\
                          nobody:x:4294967295:65534::/:\n\
                          homeless:x:99:99:::\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlog:x:4:web,other\naudio:x:29:other,web\n\
                         8:x:0:\nnogroup:x:4294967295:web\n";

    fn resolved(user: &str) -> (u32, u32, Vec<u32>, String) {
        let identity = resolve_in(PASSWD, GROUP, user).unwrap();
        (identity.uid, identity.gid, identity.groups, identity.home)
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let cases = [
            ("", (0, 0, vec![0], "/root")),
            ("root", (0, 0, vec![0], "/root")),
            ("web", (33, 34, vec![34, 4, 29], "/var/www")),
            ("33", (33, 34, vec![34, 4, 29], "/var/www")),
            ("web:log", (33, 4, vec![4], "/var/www")),
            ("web:1000", (33, 1000, vec![1000], "/var/www")),
            ("web:", (33, 34, vec![34, 4, 29], "/var/www")),
            (":audio", (0, 29, vec![29], "/root")),
            ("1000", (1000, 0, vec![0], "/")),
            ("1000:1001", (1000, 1001, vec![1001], "/")),
            ("7:8", (7, 8, vec![8], "/")),
            ("homeless", (99, 99, vec![99], "/")),
        ];
        for (user, (uid, gid, groups, home)) in cases {
            assert_eq!(resolved(user), (uid, gid, groups, home.into()), "{user}");
        }
    }

    #[test]
    fn what_does_not_exist_or_overflows_is_refused() {
        for user in
            ["nobody", "nemo", "web:nogroup", "-1", "4294967296", "2147483648", "0:4294967295"]
        {
            assert!(matches!(resolve_in(PASSWD, GROUP, user), Err(Error::Spec(_))), "{user}");
        }
    }

    proptest! {
        /// Only what says root becomes root (CVE-2024-40635, CVE-2026-30892).
        #[test]
        fn nothing_else_becomes_root(user in "[0-9a-z:+-]{1,12}") {
            if let Ok(identity) = resolve_in("", "", &user) {
                let name = user.split(':').next().unwrap_or("");
                let zero = name.bytes().all(|byte| byte == b'0');
                prop_assert_eq!(identity.uid == 0, zero);
            }
        }
    }
}
