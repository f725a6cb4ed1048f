//! Files of lines that say when something was done.

use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{Window, Written};

/// Of a file that is read whole; a longer one stays as it is.
const BYTES_MAX: u64 = 64 << 20;
/// Logs are in local time, wherever that is.
const ZONE_SLACK_S: i64 = 14 * 3600;
const DAY_S: i64 = 86_400;
/// `2006-01-02 15:04:05`
const STAMP_BYTES: usize = 19;
/// Which field of a line of shadow(5) is the day of the last change.
const CHANGED_FIELD: usize = 2;

/// Changes a file by a function of its content.
fn rewrite(written: &Written<'_>, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> std::io::Result<()> {
    let mut old = Vec::new();
    written.file.take(BYTES_MAX + 1).read_to_end(&mut old)?;
    if old.len() as u64 > BYTES_MAX {
        return Ok(());
    }
    let new = change(old.clone());
    if new != old {
        written.file.write_all_at(&new, 0)?;
        written.file.set_len(new.len() as u64)?;
    }
    Ok(())
}

/// Times at which the command ran become the build's.
pub(super) fn log(written: &Written<'_>) -> std::io::Result<()> {
    rewrite(written, |text| stamps(text, written.time))
}

fn stamps(mut text: Vec<u8>, time: &Window) -> Vec<u8> {
    let Ok(epoch) = Timestamp::from_second(time.epoch_s) else { return text };
    let epoch = epoch.to_zoned_datetime(TimeZone::UTC).datetime();
    let (date, clock) =
        (epoch.strftime("%Y-%m-%d").to_string(), epoch.strftime("%H:%M:%S").to_string());
    let mut at = 0;
    while at + STAMP_BYTES <= text.len() {
        // apt has two blanks in between.
        let gap = text[at + 10..].iter().take(2).take_while(|byte| **byte == b' ').count();
        let gap = if text[at + 10] == b'T' { 1 } else { gap };
        let clock_at = at + 10 + gap;
        let end = clock_at + 8;
        let stamp = (gap > 0 && end <= text.len())
            .then(|| [&text[at..at + 10], b"T", &text[clock_at..end]].concat())
            .and_then(|stamp| String::from_utf8(stamp).ok())
            .filter(|stamp| stamp.as_bytes()[4] == b'-')
            .and_then(|stamp| stamp.parse::<DateTime>().ok())
            .and_then(|stamp| stamp.to_zoned_datetime(TimeZone::UTC).ok());
        match stamp {
            Some(stamp) if time.has(stamp.timestamp().as_second(), ZONE_SLACK_S) => {
                text[at..at + 10].copy_from_slice(date.as_bytes());
                text[clock_at..end].copy_from_slice(clock.as_bytes());
                at = end;
            }
            _ => at += 1,
        }
    }
    text
}

/// Passwords that were changed on the day of the command were changed on the build's.
pub(super) fn shadow(written: &Written<'_>) -> std::io::Result<()> {
    rewrite(written, |text| days(&text, written.time))
}

fn days(text: &[u8], time: &Window) -> Vec<u8> {
    let day = (time.epoch_s.div_euclid(DAY_S)).to_string();
    let line = |line: &[u8]| {
        let mut fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let changed = fields.get(CHANGED_FIELD).and_then(|field| std::str::from_utf8(field).ok());
        let changed = changed.and_then(|field| field.parse::<i64>().ok());
        if changed.is_some_and(|changed| time.has(changed.saturating_mul(DAY_S), DAY_S)) {
            fields[CHANGED_FIELD] = day.as_bytes();
        }
        fields.join(&b':')
    };
    text.split(|byte| *byte == b'\n').map(line).collect::<Vec<_>>().join(&b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Window =
        Window { from_s: 1_700_000_000, until_s: 1_700_000_100, epoch_s: 315_532_800 };

    #[test]
    fn only_stamps_of_the_command_change() {
        let check = |text: &str, expected: &str| {
            let changed = stamps(text.as_bytes().to_vec(), &TIME);
            assert_eq!(String::from_utf8(changed).unwrap(), expected);
        };
        check(
            "2023-11-14 22:13:21 status installed a\n2020-01-01 00:00:00 startup\n",
            "1980-01-01 00:00:00 status installed a\n2020-01-01 00:00:00 startup\n",
        );
        check(
            "Start-Date: 2023-11-14  22:13:21\nLog 2023-11-15T08:13:21",
            "Start-Date: 1980-01-01  00:00:00\nLog 1980-01-01T00:00:00",
        );
        check("2023-11-14 22:13:2", "2023-11-14 22:13:2");
        check("", "");
        check("2023-11-14     22:13:21 99-99-99", "2023-11-14     22:13:21 99-99-99");
    }

    #[test]
    fn only_the_day_of_the_command_changes() {
        let day = 1_700_000_000 / DAY_S;
        let text = format!("a:!:{day}:0:99999:7:::\nb:*:10:::\nc:*::::\nodd\n");
        let changed = days(text.as_bytes(), &TIME);
        let expected = "a:!:3652:0:99999:7:::\nb:*:10:::\nc:*::::\nodd\n";
        assert_eq!(String::from_utf8(changed).unwrap(), expected);
    }
}
