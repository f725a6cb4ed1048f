//! Lists of processors and memory nodes, as `--cpuset-cpus` and `--cpuset-mems` have them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{Error, Result};

/// The highest number in a list; the kernel has at most 8192 processors.
const NUMBER_MAX: u32 = 8191;

/// Fails unless `list` is one (`0-3,5`: cpuset(7), "List format"), and all in it are online:
/// the kernel would refuse it, with less to say. An empty list asks for nothing.
pub(crate) fn check(list: &str, option: &str, what: &str, online: &Path) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let wanted = parse(list).ok_or_else(|| {
        Error::invalid(format!("Invalid value {list} for {option}: invalid format: {list}"))
            .hint("a list as in 0-2,5")
    })?;
    // A kernel without memory nodes has no such file, and may have a mind of its own.
    let Ok(online) = std::fs::read_to_string(online) else { return Ok(()) };
    let online = online.trim();
    match parse(online) {
        Some(there) if !wanted.is_subset(&there) => Err(Error::invalid(format!(
            "Requested {what} are not available - requested {list}, available: {online}"
        ))
        .hint(format!("choose among {online}"))),
        _ => Ok(()),
    }
}

fn parse(list: &str) -> Option<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last > NUMBER_MAX {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_checked_against_what_is_online() {
        let dir = tempfile::tempdir().unwrap();
        let online = dir.path().join("online");
        std::fs::write(&online, "0-3,6\n").unwrap();
        let check = |list: &str| check(list, "cpuset cpus", "CPUs", &online);
        for fine in ["", "0", "0-3", "1,6", "3,0-1"] {
            assert!(check(fine).is_ok(), "{fine}");
        }
        for bad in ["x", "1-", "2-1", "0,,1", "-1", "99999", "5", "0-6"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        let error = check("5").unwrap_err().to_string();
        assert_eq!(error, "Requested CPUs are not available - requested 5, available: 0-3,6");
        std::fs::remove_file(&online).unwrap();
        assert!(super::check("5", "cpuset cpus", "CPUs", &online).is_ok());
    }
}
