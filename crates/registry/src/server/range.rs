//! Which part of a blob is asked for, and whether the asker has it already (RFC 9110, sections 13
//! and 14).

use httpd::Head;

/// A part of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    All,
    Part { from: u64, length: u64 },
    Unsatisfiable,
}

/// The part of `size` bytes, whose entity tag is `tag`, that `head` asks for.
///
/// Several parts at once are not served: the answer is everything, as section 14.2 allows.
pub(super) fn requested(head: &Head, tag: &str, size: u64) -> Range {
    if !matches!(head.method.as_str(), "GET") {
        return Range::All;
    }
    // Another version of it, or a date: we have no dates, so it may have changed.
    if head.get("if-range").is_some_and(|known| known != tag) {
        return Range::All;
    }
    head.get("range").map_or(Range::All, |text| part(text, size))
}

fn part(text: &str, size: u64) -> Range {
    let Some((unit, spans)) = text.split_once('=') else { return Range::All };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spans.contains(',') {
        return Range::All;
    }
    let Some((first, last)) = spans.trim().split_once('-') else { return Range::All };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (from, last) = match (number(first), number(last)) {
        (Some(from), Some(last)) => (from, last),
        (Some(from), None) if last.is_empty() => (from, u64::MAX),
        (None, Some(count)) if first.is_empty() => {
            if count == 0 {
                return Range::Unsatisfiable;
            }
            (size.saturating_sub(count), u64::MAX)
        }
        _ => return Range::All,
    };
    let last = last.min(size.saturating_sub(1));
    if from >= size || last < from {
        return Range::Unsatisfiable;
    }
    Range::Part { from, length: last - from + 1 }
}

/// Whether the asker has the version `tag` already.
pub(super) fn is_known(head: &Head, tag: &str) -> bool {
    let known = head.list("if-none-match").unwrap_or_default();
    known.split(',').any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found() {
        let part_of = |from, length| Range::Part { from, length };
        for (text, expected) in [
            ("bytes=0-9", part_of(0, 10)),
            ("bytes=5-", part_of(5, 95)),
            ("bytes=-5", part_of(95, 5)),
            ("bytes=-500", part_of(0, 100)),
            ("bytes=99-200", part_of(99, 1)),
            ("Bytes=0-0", part_of(0, 1)),
            ("bytes=0-99999999999999999999999", part_of(0, 100)),
            ("bytes=100-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=50-40", Range::Unsatisfiable),
            ("bytes=0-1,5-6", Range::All),
            ("lines=0-1", Range::All),
            ("bytes=a-b", Range::All),
            ("bytes=-", Range::All),
            ("bytes", Range::All),
        ] {
            assert_eq!(part(text, 100), expected, "{text}");
        }
        assert_eq!(part("bytes=0-", 0), Range::Unsatisfiable);
    }
}
