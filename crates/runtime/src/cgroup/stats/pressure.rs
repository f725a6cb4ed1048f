//! Pressure stall information (Documentation/accounting/psi.rst).

/// How long processes waited for something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pressure {
    /// While at least one process waited.
    pub some: Waiting,
    /// While all of them did.
    pub full: Waiting,
}

/// Shares of time in hundredths of a percent, and a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// Of the last 10 seconds, in hundredths of a percent.
    pub avg10: u32,
    /// Of the last minute, in hundredths of a percent.
    pub avg60: u32,
    /// Of the last five minutes, in hundredths of a percent.
    pub avg300: u32,
    /// Since the group was made, in microseconds.
    pub total_us: u64,
}

/// Reads lines such as `some avg10=0.12 avg60=0.00 avg300=0.00 total=4`; `None` if there are none:
/// the kernel does not measure it.
pub(super) fn read(text: &str) -> Option<Pressure> {
    let mut found = None;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let pressure = match words.next() {
            Some("some") => &mut found.get_or_insert_with(Pressure::default).some,
            Some("full") => &mut found.get_or_insert_with(Pressure::default).full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => pressure.avg10 = hundredths(value),
                "avg60" => pressure.avg60 = hundredths(value),
                "avg300" => pressure.avg300 = hundredths(value),
                "total" => pressure.total_us = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    found
}

/// The kernel writes two digits behind the point.
fn hundredths(text: &str) -> u32 {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    number(whole).saturating_mul(100).saturating_add(number(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lines_are_read() {
        let text = "some avg10=1.25 avg60=0.10 avg300=100.00 total=42\n\
                    full avg10=0.00 avg60=0.00 avg300=0.07 total=7\n";
        let some = Waiting { avg10: 125, avg60: 10, avg300: 10_000, total_us: 42 };
        let full = Waiting { avg300: 7, total_us: 7, ..Waiting::default() };
        assert_eq!(read(text), Some(Pressure { some, full }));
        assert_eq!(read(""), None);
    }
}
