//! The file of events: appended to by anybody at any time, and bounded.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::Event;

/// Below the root.
pub(super) const DIRECTORY: &str = "events";
/// The file that is appended to.
pub(super) const LOG: &str = "log";
/// The one before it.
pub(super) const OLD: &str = "log.1";
/// Bytes after which another file is begun: some four thousand events. Docker remembers 256.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// Of one line: labels that have no room in it are left out, so that those of one container do not
/// push out what has happened to all others.
const LINE_BYTES_MAX: usize = 4 << 10;
/// Of one line that is read: older versions wrote longer ones.
pub(super) const READ_BYTES_MAX: usize = 64 << 10;
/// Of what is kept of a line that is too long, each.
const VALUE_BYTES_MAX: usize = 256;
/// What belongs to events themselves, and comes before labels.
const OWN: &[&str] = &["name", "image", "container", "signal", "exitCode", "execID"];

/// Appends events, by one write.
///
/// A line begins with its newline: what a process that was killed, or a full disk, left of
/// another is then a line of its own, which nobody can read and which hides no other. One write to
/// a file opened with `O_APPEND` is not mixed with others (write(2)).
///
/// # Errors
/// Those of the file system.
pub(super) fn append(directory: &Path, events: &[Event]) -> io::Result<()> {
    let mut lines = Vec::new();
    for event in events {
        lines.append(&mut bounded(event)?);
    }
    let path = directory.join(LOG);
    let mut file = match open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The root may be made by this, which is for its owner alone.
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            open(&path)?
        }
        opened => opened?,
    };
    file.write_all(&lines)?;
    if file.metadata()?.len() > LOG_BYTES_MAX {
        turn(directory, &file)?;
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// The line of an event, without what makes it too long.
fn bounded(event: &Event) -> io::Result<Vec<u8>> {
    let line = encode(event)?;
    if line.len() <= LINE_BYTES_MAX {
        return Ok(line);
    }
    let mut event = event.clone();
    let labels = std::mem::take(&mut event.attributes);
    let (own, labels): (Vec<_>, Vec<_>) =
        labels.into_iter().partition(|(key, _)| OWN.contains(&&**key));
    event.attributes.extend(own.into_iter().filter(|(_, value)| value.len() < VALUE_BYTES_MAX));
    event.action.truncate(event.action.floor_char_boundary(VALUE_BYTES_MAX));
    let mut left = LINE_BYTES_MAX.saturating_sub(encode(&event)?.len());
    for (key, value) in labels {
        let length = serde_json::to_vec(&[&key, &value])?.len();
        if length <= left {
            left -= length;
            event.attributes.insert(key, value);
        }
    }
    encode(&event)
}

fn encode(event: &Event) -> io::Result<Vec<u8>> {
    let mut line = vec![b'\n'];
    serde_json::to_writer(&mut line, event)?;
    Ok(line)
}

/// Begins another file, unless somebody has done it: whoever renames a file holds its lock.
fn turn(directory: &Path, full: &File) -> io::Result<()> {
    if flock(full, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    let path = directory.join(LOG);
    if std::fs::metadata(&path)?.ino() == full.metadata()?.ino() {
        std::fs::rename(path, directory.join(OLD))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Barrier;
    use std::thread;

    use super::*;
    use crate::event::{EventQuery, Events, Subject};

    fn event(id: String, label: &str) -> Event {
        let attributes = BTreeMap::from([("label".to_owned(), label.to_owned())]);
        Event { time_ns: 1, attributes, ..Event::new(Subject::Container, "start", id) }
    }

    fn read(directory: &Path) -> Vec<Event> {
        let query = EventQuery { since_ns: Some(0), until_ns: Some(i64::from(i32::MAX)) };
        Events::open(directory, query).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn who_appends_at_once_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("events");
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for writer in 0..8 {
                let (directory, start) = (&directory, &start);
                scope.spawn(move || {
                    start.wait();
                    for count in 0..200 {
                        append(directory, &[event(format!("{writer}-{count}"), "x")]).unwrap();
                    }
                });
            }
        });
        let mut ids: Vec<String> = read(&directory).into_iter().map(|event| event.id).collect();
        assert_eq!(ids.len(), 1600);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 1600);
    }

    #[test]
    fn the_history_is_bounded_and_keeps_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let long = "x".repeat(3_900);
        for count in 0..1000 {
            append(directory, &[event(count.to_string(), &long)]).unwrap();
        }
        let bytes: u64 = std::fs::read_dir(directory)
            .unwrap()
            .map(|e| e.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes <= 2 * (LOG_BYTES_MAX + LINE_BYTES_MAX as u64), "{bytes}");
        let ids: Vec<String> = read(directory).into_iter().map(|event| event.id).collect();
        assert_eq!(ids.last().unwrap(), "999");
        assert!(ids.len() >= 250, "{}", ids.len());
    }

    #[test]
    fn a_torn_line_hides_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        append(directory, &[event("before".to_owned(), "")]).unwrap();
        let mut line = encode(&event("torn".to_owned(), "")).unwrap();
        line.truncate(line.len() / 2);
        open(&directory.join(LOG)).unwrap().write_all(&line).unwrap();
        append(directory, &[event("after".to_owned(), "")]).unwrap();
        let ids: Vec<String> = read(directory).into_iter().map(|event| event.id).collect();
        assert_eq!(ids, ["before", "after"]);
    }

    #[test]
    fn labels_that_have_no_room_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let event = event("id".to_owned(), &"x".repeat(LINE_BYTES_MAX));
        let event = event.with("name", "n").with("short", "s").with("\"", &"\"".repeat(3000));
        append(directory.path(), &[event]).unwrap();
        let found = read(directory.path());
        let kept: Vec<&str> = found[0].attributes.keys().map(String::as_str).collect();
        assert_eq!((found.len(), kept), (1, vec!["name", "short"]));
        assert!(std::fs::metadata(directory.path().join(LOG)).unwrap().len() <= 4096);
    }
}
