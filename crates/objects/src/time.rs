//! Times as JSON has them: RFC 3339, in UTC.

use jiff::Timestamp;

/// `2026-01-31T23:59:59Z`, from seconds since 1970. What no calendar has is the nearest that it has.
#[must_use]
pub fn seconds(epoch: i64) -> String {
    let time = Timestamp::from_second(epoch).unwrap_or_else(|_| end(epoch));
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-01-31T23:59:59.123456Z`, from seconds and nanoseconds since 1970.
#[must_use]
pub fn micros(epoch: i64, nanos: u32) -> String {
    let nanos = i32::try_from(nanos).unwrap_or_default();
    let time = Timestamp::new(epoch, nanos).unwrap_or_else(|_| end(epoch));
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

fn end(epoch: i64) -> Timestamp {
    if epoch < 0 { Timestamp::MIN } else { Timestamp::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_does() {
        for (epoch, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_759_199, "2026-11-27T05:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(seconds(epoch), expected);
        }
        assert!(seconds(i64::MAX).starts_with("9999-12-3"));
        assert!(!seconds(i64::MIN).is_empty());
        assert_eq!(micros(0, 1_999), "1970-01-01T00:00:00.000001Z");
    }
}
