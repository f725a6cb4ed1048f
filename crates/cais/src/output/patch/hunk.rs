//! The lines of two texts that differ, with those around them.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};

/// Lines shown before and behind what differs.
const CONTEXT: u32 = 3;

/// How many lines a patch takes away and adds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) removed: u64,
    pub(crate) added: u64,
}

/// The hunks that turn `old` into `new`; nothing if they are the same.
pub(crate) fn unified(old: &[u8], new: &[u8]) -> (Vec<u8>, Counts) {
    let input = InternedInput::new(old, new);
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let counts = Counts {
        removed: u64::from(diff.count_removals()),
        added: u64::from(diff.count_additions()),
    };
    let old = |at: u32| input.interner[input.before[at as usize]];
    let new = |at: u32| input.interner[input.after[at as usize]];
    let length = input.before.len() as u32;
    let mut out = Vec::new();
    let mut hunks = diff.hunks().peekable();
    while let Some(first) = hunks.next() {
        let mut parts = vec![(first.before, first.after)];
        while let Some(next) = hunks.next_if(|next| next.before.start <= last(&parts) + 2 * CONTEXT)
        {
            parts.push((next.before, next.after));
        }
        let lead = CONTEXT.min(parts[0].0.start);
        let trail = CONTEXT.min(length - last(&parts));
        let after_end = parts[parts.len() - 1].1.end;
        let before = parts[0].0.start - lead..last(&parts) + trail;
        let after = parts[0].1.start - lead..after_end + trail;
        out.extend(format!("@@ -{} +{} @@\n", range(&before), range(&after)).bytes());
        let mut at = before.start;
        for (removed, added) in parts {
            (at..removed.start).for_each(|n| line(&mut out, b' ', old(n)));
            at = removed.end;
            removed.for_each(|n| line(&mut out, b'-', old(n)));
            added.for_each(|n| line(&mut out, b'+', new(n)));
        }
        (at..before.end).for_each(|n| line(&mut out, b' ', old(n)));
    }
    (out, counts)
}

/// The end of the last part in the old text.
fn last(parts: &[(Range<u32>, Range<u32>)]) -> u32 {
    parts.last().map_or(0, |part| part.0.end)
}

/// Lines as POSIX spells them (`diff`, unified format): from one, and of none the line before.
fn range(lines: &Range<u32>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        count => format!("{},{count}", lines.start + 1),
    }
}

fn line(out: &mut Vec<u8>, mark: u8, text: &[u8]) {
    out.push(mark);
    out.extend_from_slice(text);
    if !text.ends_with(b"\n") {
        out.extend_from_slice(b"\n\\ No newline at end of file\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(old: &str, new: &str, expected: &str) {
        let (text, _) = unified(old.as_bytes(), new.as_bytes());
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn hunks_are_those_of_diff() {
        check("a\n", "a\n", "");
        check("", "a\nb\n", "@@ -0,0 +1,2 @@\n+a\n+b\n");
        check("a\n", "", "@@ -1 +0,0 @@\n-a\n");
        check("a", "a\n", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
        check(
            "1\n2\n3\n4\n5\n6\n7\n8\n9\n",
            "1\n2\n3\n4\nx\n6\n7\n8\n9\n",
            "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n",
        );
        check("a\r\nb\n", "a\nb\n", "@@ -1,2 +1,2 @@\n-a\r\n+a\n b\n");
    }

    /// Applies hunks the way their definition reads.
    fn apply(old: &[u8], patch: &[u8]) -> Vec<u8> {
        let old: Vec<&[u8]> = old.split_inclusive(|&b| b == b'\n').collect();
        let mut lines = patch.split_inclusive(|&b| b == b'\n').peekable();
        let (mut new, mut at) = (Vec::new(), 0);
        while let Some(line) = lines.next() {
            if line.starts_with(b"@@") {
                let text = std::str::from_utf8(line).unwrap();
                let range = text[4..].split(' ').next().unwrap();
                let (start, count) = range.split_once(',').unwrap_or((range, "1"));
                let start: usize = start.parse().unwrap();
                let start = if count == "0" { start } else { start - 1 };
                new.extend(old[at..start].concat());
                at = start;
                continue;
            }
            let mut text = &line[1..];
            if lines.next_if(|next| next.starts_with(b"\\")).is_some() {
                text = &text[..text.len() - 1];
            }
            if line[0] != b'+' {
                assert_eq!(old[at], text);
                at += 1;
            }
            if line[0] != b'-' {
                new.extend_from_slice(text);
            }
        }
        new.extend(old[at..].concat());
        new
    }

    proptest! {
        #[test]
        fn the_old_text_with_its_hunks_is_the_new_one(
            old in prop::collection::vec("[ab@+\\\\ -]{0,2}\r?\n?", 0..60),
            new in prop::collection::vec("[ab@+\\\\ -]{0,2}\r?\n?", 0..60),
        ) {
            let (old, new) = (old.concat().into_bytes(), new.concat().into_bytes());
            let (patch, _) = unified(&old, &new);
            prop_assert_eq!(apply(&old, &patch), new.clone());
            prop_assert_eq!(patch.is_empty(), old == new);
        }
    }
}
