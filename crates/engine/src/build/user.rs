//! `user[:group]` by the names that a root file system knows.

use std::io::Read as _;
use std::os::fd::AsFd;

use rustix::fs::ResolveFlags;

use crate::error::{Doing, Error, Result};

/// Bytes of /etc/passwd and /etc/group.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Whose files become: user and group.
pub(crate) type Owner = (u32, u32);

/// Finds `user[:group]`: a number alone is the group's, too, and a name has that of its line.
///
/// # Errors
/// For a name that is not there.
pub(crate) fn owner(root: impl AsFd + Copy, text: &str) -> Result<Owner> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let (uid, own_gid) = match user {
        "" => (0, 0),
        user => match user.parse() {
            Ok(uid) => (uid, uid),
            Err(_) => {
                let passwd = read(root, "etc/passwd")?;
                let fields = line(&passwd, user).and_then(|fields| {
                    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
                });
                fields.ok_or_else(|| {
                    Error::invalid(format!("there is no user {user:?} in /etc/passwd"))
                })?
            }
        },
    };
    let gid = match group {
        None => own_gid,
        Some(group) => match group.parse() {
            Ok(gid) => gid,
            Err(_) => {
                let groups = read(root, "etc/group")?;
                let found = line(&groups, group).and_then(|fields| fields.get(2)?.parse().ok());
                found.ok_or_else(|| {
                    Error::invalid(format!("there is no group {group:?} in /etc/group"))
                })?
            }
        },
    };
    Ok((uid, gid))
}

fn line<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<&str>>());
    lines.find(|fields| fields.first() == Some(&name))
}

/// A file of the root file system; empty where there is none.
fn read(root: impl AsFd, path: &str) -> Result<String> {
    let file = match store::open_regular(root, path, ResolveFlags::IN_ROOT) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        file => file.doing(|| format!("open /{path}"))?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).doing(|| format!("read /{path}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        std::fs::write(directory.path().join("etc/passwd"), "root:x:0:0::/:\nme:x:5:7::/:\n")
            .unwrap();
        std::fs::write(directory.path().join("etc/group"), "root:x:0:\nus:x:9:me\n").unwrap();
        let root = std::fs::File::open(directory.path()).unwrap();
        let find = |text: &str| owner(&root, text).ok();
        assert_eq!(find("me"), Some((5, 7)));
        assert_eq!(find("me:us"), Some((5, 9)));
        assert_eq!(find("55"), Some((55, 55)));
        assert_eq!(find("55:1"), Some((55, 1)));
        assert_eq!(find(":us"), Some((0, 9)));
        assert_eq!(find("you"), None);
        assert_eq!(find("me:them"), None);
    }
}
