//! The times of a CronJob: five fields, as crontab(5) has them, with names, steps and `@daily`.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// How many years are looked ahead for a time that comes seldom, like the 29th of February.
const YEARS_MAX: i16 = 9;

const MONTHS: &[&str] =
    &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether both days and weekdays are restricted: then one of them is enough.
    is_either_day: bool,
    every: Option<jiff::SignedDuration>,
    zone: TimeZone,
}

impl Schedule {
    /// Reads a schedule in a time zone, or that of the process.
    pub(crate) fn parse(text: &str, zone: Option<&str>) -> Result<Self, String> {
        let text = text.trim();
        let (text, named) = match text.strip_prefix("TZ=").or(text.strip_prefix("CRON_TZ=")) {
            Some(rest) => {
                let (zone, rest) = rest.split_once(' ').ok_or("a time zone without a schedule")?;
                (rest.trim(), Some(zone))
            }
            None => (text, zone),
        };
        let zone = match named {
            Some(name) => TimeZone::get(name).map_err(|_| format!("unknown time zone {name}"))?,
            None => TimeZone::system(),
        };
        if let Some(every) = text.strip_prefix("@every ") {
            let every: jiff::SignedDuration =
                every.trim().parse().map_err(|_| format!("failed to parse duration {text}"))?;
            return Ok(Self {
                every: Some(every.max(jiff::SignedDuration::from_secs(1))),
                ..Self::always(zone)
            });
        }
        let text = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!("expected exactly 5 fields, found {}: [{text}]", fields.len()));
        };
        let is_free = |field: &str| field.starts_with(['*', '?']);
        let mut weekday_bits = bits(weekdays, 0, 7, DAYS)?;
        // Sunday is both 0 and 7.
        if weekday_bits & (1 << 7) != 0 {
            weekday_bits |= 1;
        }
        Ok(Self {
            minutes: bits(minutes, 0, 59, &[])?,
            hours: bits(hours, 0, 23, &[])?,
            days: bits(days, 1, 31, &[])?,
            months: bits(months, 1, 12, MONTHS)?,
            weekdays: weekday_bits,
            is_either_day: !is_free(days) && !is_free(weekdays),
            every: None,
            zone,
        })
    }

    fn always(zone: TimeZone) -> Self {
        let all = u64::MAX;
        Self {
            minutes: all,
            hours: all,
            days: all,
            months: all,
            weekdays: all,
            is_either_day: false,
            every: None,
            zone,
        }
    }

    /// The first time after another one.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        if let Some(every) = self.every {
            return after.checked_add(every).ok();
        }
        let local = after.to_zoned_datetime(self.zone.clone());
        let mut date = local.date();
        let last = date.year().checked_add(YEARS_MAX)?;
        let mut earliest = Some(local.datetime());
        while date.year() <= last {
            if self.is_day(date)
                && let Some(found) = self.first_in(date, earliest, after)
            {
                return Some(found);
            }
            date = date.checked_add(1.day()).ok()?;
            earliest = None;
        }
        None
    }

    fn is_day(&self, date: Date) -> bool {
        let has = |bits: u64, at: i8| u32::try_from(at).is_ok_and(|at| bits & (1 << at) != 0);
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let is = if self.is_either_day { day || weekday } else { day && weekday };
        has(self.months, date.month()) && is
    }

    /// The first time of a day, later than another one.
    fn first_in(
        &self,
        date: Date,
        earliest: Option<DateTime>,
        after: Timestamp,
    ) -> Option<Timestamp> {
        for hour in (0..24).filter(|hour| self.hours & (1 << hour) != 0) {
            if earliest.is_some_and(|own| hour < own.hour()) {
                continue;
            }
            for minute in (0..60).filter(|minute| self.minutes & (1 << minute) != 0) {
                let local = date.at(hour, minute, 0, 0);
                // An hour that a change of the clock leaves out has no times.
                let found = self.zone.to_ambiguous_timestamp(local);
                if matches!(found.offset(), jiff::tz::AmbiguousOffset::Gap { .. }) {
                    continue;
                }
                let time = found.earlier().ok()?;
                if time > after {
                    return Some(time);
                }
            }
        }
        None
    }
}

/// Reads `*/5`, `1-5`, `mon,wed`, `10-30/5`.
fn bits(field: &str, least: u32, most: u32, names: &[&str]) -> Result<u64, String> {
    let number = |word: &str| -> Result<u32, String> {
        let lower = word.to_ascii_lowercase();
        if let Some(at) = names.iter().position(|name| *name == lower) {
            return Ok(u32::try_from(at).unwrap_or(0) + u32::from(names.len() == MONTHS.len()));
        }
        word.parse().map_err(|_| format!("failed to parse int from {word}"))
    };
    let mut bits = 0;
    for part in field.split(',') {
        let (range, step) =
            part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let (first, last) = match range {
            "*" | "?" => (least, if most == 7 { 6 } else { most }),
            range => match range.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None if step.is_some() => (number(range)?, most),
                None => (number(range)?, number(range)?),
            },
        };
        let step = step.map_or(Ok(1), number)?;
        if first < least || last > most {
            return Err(format!("{part} is not between {least} and {most}"));
        }
        if first > last {
            return Err(format!(
                "beginning of range ({first}) beyond end of range ({last}): {part}"
            ));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        for at in (first..=last).step_by(step as usize) {
            bits |= 1 << at;
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, zone: &str, after: &str) -> String {
        let schedule = Schedule::parse(schedule, Some(zone)).unwrap();
        schedule.next(after.parse().unwrap()).map_or("never".to_owned(), |time| time.to_string())
    }

    #[test]
    fn times_are_those_of_crontab() {
        for (schedule, after, wanted) in [
            ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "2026-01-01T00:16:00Z", "2026-01-01T00:30:00Z"),
            ("5 4 * * *", "2026-01-01T04:05:00Z", "2026-01-02T04:05:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 9 * * mon-fri", "2026-01-02T10:00:00Z", "2026-01-05T09:00:00Z"),
            ("0 0 13 * fri", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("@monthly", "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"),
            ("10-20/5 1 * JAN *", "2026-01-01T01:10:00Z", "2026-01-01T01:15:00Z"),
            ("0 0 31 2 *", "2026-01-01T00:00:00Z", "never"),
            ("@every 90s", "2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z"),
        ] {
            assert_eq!(next(schedule, "UTC", after), wanted, "{schedule}");
        }
    }

    #[test]
    fn schedules_that_make_no_sense_are_told() {
        for wrong in
            ["", "* * * *", "60 * * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "x * * * *"]
        {
            assert!(Schedule::parse(wrong, Some("UTC")).is_err(), "{wrong}");
        }
        assert!(Schedule::parse("* * * * *", Some("Nowhere/Town")).is_err());
    }
}
