//! `-v`, `--mount` and `--tmpfs`.

use docker::grammar::{PROPAGATIONS, bind, distinct, temporary, volume};
use engine::{Error, Kind, Mount, MountSource, Owner, Result};

mod long;

use long::mount;

/// All mounts that were asked for; no two at one place.
pub(crate) fn mounts(
    volumes: &[String],
    mounts: &[String],
    tmpfs: &[String],
) -> Result<Vec<Mount>> {
    let mut all = Vec::new();
    for text in volumes {
        all.push(volume(text)?);
    }
    for text in mounts {
        all.push(mount(text)?);
    }
    for text in tmpfs {
        all.push(temporary(text));
    }
    distinct(&all)?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_mounts_are_at_one_place() {
        let twice = ["/a:/x".to_owned(), "b:/x/".to_owned()];
        assert!(mounts(&twice, &[], &[]).is_err());
    }
}
