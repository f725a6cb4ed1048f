//! Archives whose members have times. Whatever is not as it should be stays as it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{Window, Written};

/// Of the central directory of a zip archive; a longer one stays as it is.
const DIRECTORY_BYTES_MAX: usize = 64 << 20;
/// The end of a zip archive, and the longest comment that may follow.
const END_BYTES: usize = 22;
const COMMENT_BYTES_MAX: usize = 65_535;
const END_MAGIC: &[u8] = b"PK\x05\x06";
const CENTRAL_MAGIC: &[u8] = b"PK\x01\x02";
const LOCAL_MAGIC: &[u8] = b"PK\x03\x04";
const CENTRAL_BYTES: usize = 46;
const LOCAL_BYTES: usize = 30;
/// Info-ZIP's extra field with times since 1970.
const TIMES_FIELD: u16 = 0x5455;
/// The times of a zip archive are in local time, in steps of two seconds.
const ZONE_SLACK_S: i64 = 14 * 3600 + 2;
const AR_MAGIC: &[u8] = b"!<arch>\n";
const AR_HEADER_BYTES: usize = 60;
/// Members of one library.
const MEMBERS_MAX: usize = 1 << 20;

/// The header of the first member (RFC 1952).
pub(super) fn gzip(written: &Written<'_>) -> io::Result<()> {
    const HAS_HEADER_CHECKSUM: u8 = 2;
    let mut header = [0; 10];
    if written.file.read_exact_at(&mut header, 0).is_err()
        || header[..2] != [0x1f, 0x8b]
        || header[3] & HAS_HEADER_CHECKSUM != 0
    {
        return Ok(());
    }
    match long(&header, 4) {
        Some(time) if written.time.has(i64::from(time), 0) => {
            written.file.write_all_at(&word(written.time.epoch_s), 4)
        }
        _ => Ok(()),
    }
}

/// A time as archives have it, in 32 bits.
fn word(time_s: i64) -> [u8; 4] {
    u32::try_from(time_s).unwrap_or(0).to_le_bytes()
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The members of an archive of ar(5).
pub(super) fn ar(written: &Written<'_>) -> io::Result<()> {
    const DATE: std::ops::Range<usize> = 16..28;
    const SIZE: std::ops::Range<usize> = 48..58;
    let mut magic = [0; 8];
    if written.file.read_exact_at(&mut magic, 0).is_err() || magic != AR_MAGIC {
        return Ok(());
    }
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.trim().parse::<u64>().ok();
    let mut at = AR_MAGIC.len() as u64;
    for _ in 0..MEMBERS_MAX {
        let mut header = [0; AR_HEADER_BYTES];
        if written.file.read_exact_at(&mut header, at).is_err() || header[58..] != *b"`\n" {
            return Ok(());
        }
        let date = number(&header[DATE]).and_then(|date| i64::try_from(date).ok());
        if date.is_some_and(|date| written.time.has(date, 0)) {
            let text = format!("{:<12}", written.time.epoch_s.max(0));
            written.file.write_all_at(text.as_bytes(), at + DATE.start as u64)?;
        }
        let Some(size) = number(&header[SIZE]) else { return Ok(()) };
        let Some(next) = at.checked_add(AR_HEADER_BYTES as u64 + size + size % 2) else {
            return Ok(());
        };
        at = next;
    }
    Ok(())
}

/// The members of a zip archive: the time that each has in its header and in the directory.
pub(super) fn zip(written: &Written<'_>) -> io::Result<()> {
    match Zip::open(written)? {
        Some(zip) => zip.mend(),
        None => Ok(()),
    }
}

struct Zip<'a> {
    file: &'a File,
    time: &'a Window,
    /// Where the central directory starts, and what it is.
    start: u64,
    directory: Vec<u8>,
}

impl<'a> Zip<'a> {
    fn open(written: &Written<'a>) -> io::Result<Option<Self>> {
        let size = written.file.metadata()?.len();
        let tail_bytes = size.min((END_BYTES + COMMENT_BYTES_MAX) as u64);
        let mut tail = vec![0; usize::try_from(tail_bytes).unwrap_or(0)];
        written.file.read_exact_at(&mut tail, size - tail_bytes)?;
        let last = tail.len().checked_sub(END_BYTES);
        let Some(end) =
            last.and_then(|last| (0..=last).rev().find(|at| tail[*at..].starts_with(END_MAGIC)))
        else {
            return Ok(None);
        };
        let (Some(bytes), Some(start)) = (long(&tail, end + 12), long(&tail, end + 16)) else {
            return Ok(None);
        };
        let bytes = bytes as usize;
        // All ones stand for a 64-bit number elsewhere.
        if bytes > DIRECTORY_BYTES_MAX || start == u32::MAX {
            return Ok(None);
        }
        let mut directory = vec![0; bytes];
        let start = u64::from(start);
        if written.file.read_exact_at(&mut directory, start).is_err() {
            return Ok(None);
        }
        Ok(Some(Self { file: written.file, time: written.time, start, directory }))
    }

    fn mend(&self) -> io::Result<()> {
        let mut at = 0;
        while self.directory[at..].starts_with(CENTRAL_MAGIC) {
            let lengths = [28, 30, 32].map(|field| short(&self.directory, at + field));
            let [Some(name), Some(extra), Some(comment)] = lengths else { return Ok(()) };
            let Some(local) = long(&self.directory, at + 42) else { return Ok(()) };
            let extra_at = at + CENTRAL_BYTES + usize::from(name);
            let Some(fields) = self.directory.get(extra_at..extra_at + usize::from(extra)) else {
                return Ok(());
            };
            self.stamp(&self.directory[at..], 12, self.start + at as u64)?;
            self.extra(fields, self.start + extra_at as u64)?;
            self.local(u64::from(local))?;
            at = extra_at + usize::from(extra) + usize::from(comment);
            if at > self.directory.len() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn local(&self, at: u64) -> io::Result<()> {
        let mut header = [0; LOCAL_BYTES];
        if self.file.read_exact_at(&mut header, at).is_err() || !header.starts_with(LOCAL_MAGIC) {
            return Ok(());
        }
        let (Some(name), Some(extra)) = (short(&header, 26), short(&header, 28)) else {
            return Ok(());
        };
        self.stamp(&header, 10, at)?;
        let extra_at = at + (LOCAL_BYTES + usize::from(name)) as u64;
        let mut fields = vec![0; usize::from(extra)];
        match self.file.read_exact_at(&mut fields, extra_at) {
            Ok(()) => self.extra(&fields, extra_at),
            Err(_) => Ok(()),
        }
    }

    /// The time and date in MS-DOS' format that stand at `field` of a header.
    fn stamp(&self, header: &[u8], field: usize, at: u64) -> io::Result<()> {
        let (Some(clock), Some(date)) = (short(header, field), short(header, field + 2)) else {
            return Ok(());
        };
        match dos_seconds(date, clock) {
            Some(time) if self.time.has(time, ZONE_SLACK_S) => {
                self.file.write_all_at(&dos_time(self.time.epoch_s), at + field as u64)
            }
            _ => Ok(()),
        }
    }

    fn extra(&self, fields: &[u8], at: u64) -> io::Result<()> {
        let mut here = 0;
        while let (Some(id), Some(size)) = (short(fields, here), short(fields, here + 2)) {
            let size = usize::from(size);
            if id == TIMES_FIELD {
                // Flags, and as many times as there is room for.
                for place in (here + 5..(here + 4 + size).min(fields.len())).step_by(4) {
                    let time = long(fields, place).map(i64::from);
                    if time.is_some_and(|time| self.time.has(time, 0)) {
                        let epoch = word(self.time.epoch_s);
                        self.file.write_all_at(&epoch, at + place as u64)?;
                    }
                }
            }
            here += 4 + size;
        }
        Ok(())
    }
}

/// Seconds since 1970 of a date and a time in MS-DOS' format, taken as UTC.
fn dos_seconds(date: u16, clock: u16) -> Option<i64> {
    let part =
        |value: u16, shift: u16, bits: u16| i8::try_from(value >> shift & ((1 << bits) - 1)).ok();
    let year = i16::try_from(1980 + (date >> 9)).ok()?;
    let day = DateTime::new(
        year,
        part(date, 5, 4)?,
        part(date, 0, 5)?,
        part(clock, 11, 5)?,
        part(clock, 5, 6)?,
        part(clock, 0, 5)?.checked_mul(2)?.min(59),
        0,
    );
    Some(day.ok()?.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp().as_second())
}

/// A time in MS-DOS' format, which begins with 1980: time, and date.
fn dos_time(time_s: i64) -> [u8; 4] {
    const FIRST: [u8; 4] = [0, 0, 0x21, 0];
    let Ok(time) = Timestamp::from_second(time_s) else { return FIRST };
    let time = time.to_zoned_datetime(TimeZone::UTC).datetime();
    let Some(year) = u16::try_from(time.year()).ok().and_then(|year| year.checked_sub(1980)) else {
        return FIRST;
    };
    let part = |value: i8| u16::from(value.unsigned_abs());
    let date = year.min(127) << 9 | part(time.month()) << 5 | part(time.day());
    let clock = part(time.hour()) << 11 | part(time.minute()) << 5 | (part(time.second()) / 2);
    let ([a, b], [c, d]) = (clock.to_le_bytes(), date.to_le_bytes());
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_zip_archives_are_read_as_they_are_written() {
        for time in [315_532_800, 1_700_000_000, 4_000_000_000_i64] {
            let [a, b, c, d] = dos_time(time);
            let (clock, date) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
            assert_eq!(dos_seconds(date, clock), Some(time), "{time}");
        }
        assert_eq!(dos_time(0), [0, 0, 0x21, 0], "nothing is older than 1980");
        assert_eq!(dos_seconds(0, 0), None, "there is no month 0");
    }

    #[test]
    fn what_is_broken_stays_as_it_is() {
        let time = Window { from_s: 0, until_s: i64::from(u32::MAX), epoch_s: 315_532_800 };
        let directory = tempfile::tempdir().unwrap();
        let at = File::open(directory.path()).unwrap();
        let mut seed = 1_u32;
        for length in 0..200 {
            let mut bytes: Vec<u8> = Vec::new();
            for part in
                [&b"PK\x03\x04"[..], b"PK\x01\x02", b"!<arch>\n", b"\x1f\x8b\x08\0", END_MAGIC]
            {
                bytes.extend_from_slice(part);
                for _ in 0..length {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    bytes.push((seed >> 24) as u8 & if length % 3 == 0 { 0xff } else { 3 });
                }
            }
            let path = directory.path().join("file");
            std::fs::write(&path, &bytes).unwrap();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            use std::os::fd::AsFd as _;
            let written =
                Written { file: &file, name: "file", at: at.as_fd(), above: None, time: &time };
            zip(&written).unwrap();
            ar(&written).unwrap();
            gzip(&written).unwrap();
            assert_eq!(file.metadata().unwrap().len(), bytes.len() as u64);
        }
    }
}
