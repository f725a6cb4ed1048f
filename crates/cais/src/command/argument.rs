//! What commands' arguments name: images, platforms, files, keys, times.

use std::fs::File;
use std::path::Path;

use engine::{Error, Kind, Result};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use oci::{Platform, PlatformError, Reference, ReferenceError};

/// An RFC 3339 time as Go prints times, in this machine's zone.
pub(super) fn local_time(time: &str) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return time.to_owned() };
    let time = jiff::ZonedDateTime::new(time, TimeZone::system());
    time.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// Opens a file that the user named.
pub(super) fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| {
        Error::caused(Kind::Invalid, format!("open {}", path.display()), error)
            .hint("check the path")
    })
}

/// Writes to the file of `-o`, which appears when it is complete, or to standard output.
pub(super) fn to_output(
    path: Option<&Path>,
    doing: &str,
    write: impl FnOnce(&mut dyn std::io::Write) -> Result<()>,
) -> Result<i32> {
    let Some(path) = path else {
        if super::save::is_terminal() {
            let text = "cowardly refusing to save to a terminal. Use the -o flag or redirect";
            return Err(Error::invalid(text));
        }
        write(&mut std::io::stdout().lock())?;
        return Ok(0);
    };
    let invalid = |why: &str| {
        let text = format!("failed to {doing}: invalid output path: {}: {why}", path.display());
        Error::new(Kind::Invalid, text)
    };
    match path.metadata() {
        Ok(there) if there.is_dir() => return Err(invalid("it is a directory")),
        Ok(there) if !there.is_file() => return Err(invalid("it is not a regular file")),
        _ => {}
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        return Err(invalid(&format!("directory \"{}\" does not exist", parent.display())));
    }
    let mut fresh = engine::Fresh::create(path, OUTPUT_MODE)?;
    write(&mut fresh)?;
    fresh.keep()?;
    Ok(0)
}

/// Of archives: what is in them may be secret. As Docker's.
const OUTPUT_MODE: u32 = 0o600;

/// The image that a user means by `name`.
pub(super) fn reference(name: &str) -> Result<Reference> {
    name.parse().map_err(|error: ReferenceError| {
        Error::new(Kind::Invalid, format!("{name}: {error}"))
            .hint("an image is named as in ubuntu, ubuntu:24.04 or registry.example.com/a/b:c")
    })
}

pub(super) fn platform(text: Option<&str>) -> Result<Option<Platform>> {
    let parse =
        |text: &str| text.parse().map_err(|error: PlatformError| Error::invalid(error.to_string()));
    text.map(parse).transpose()
}

/// What `docker run` is left with unless another sequence is chosen.
pub(super) const DETACH_KEYS: &str = "ctrl-p,ctrl-q";
