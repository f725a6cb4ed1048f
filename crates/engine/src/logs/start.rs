//! Where to begin to read a log, so that little is read that is not wanted.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::monitor::log::Entry;
use crate::monitor::log::file::full;

use super::LogQuery;
use super::files::{Input, Opened, by_number, current, numbers};

/// How much is read at a time from the end, and how exactly a time is searched for, in bytes.
const BLOCK: u64 = 64 * 1024;

/// The file with which to begin, at its place in it.
pub(super) fn start(path: &Path, query: &LogQuery) -> io::Result<Option<Opened>> {
    let newest = || match numbers(path, 0)?.last() {
        Some(&serial) => by_number(path, serial),
        None => Ok(None),
    };
    let Some(mut opened) = current(path)?.map_or_else(newest, |open| Ok(Some(open)))? else {
        return Ok(None);
    };
    let mut wanted = query.tail;
    // Only the newest file may end within a line that has no other part.
    let mut is_newest = true;
    loop {
        match &mut wanted {
            Some(0) => {
                opened.input = at_end(opened.input)?;
                return Ok(Some(opened));
            }
            Some(wanted) => *wanted -= last_lines(&mut opened, query, (*wanted, is_newest))?,
            None => seek_time(&mut opened.input, query)?,
        }
        let earlier = numbers(path, 0)?.into_iter().rfind(|serial| *serial < opened.serial);
        let next = match earlier {
            Some(serial) if wanted != Some(0) && may_have(path, serial, query) => {
                by_number(path, serial)?
            }
            _ => None,
        };
        match next {
            Some(next) => (opened, is_newest) = (next, false),
            None => return Ok(Some(opened)),
        }
    }
}

/// Whether the last line of a full file is late enough: both of its forms have the time of that.
fn may_have(path: &Path, serial: u64, query: &LogQuery) -> bool {
    let Some(since) = &query.since else { return true };
    let meta = ["", ".gz"].iter().find_map(|suffix| full(path, serial, suffix).metadata().ok());
    let modified = meta.and_then(|meta| meta.modified().ok());
    let written = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).and_then(|age| {
        let nanoseconds = i128::try_from(age.as_nanos()).ok()?;
        jiff::Timestamp::from_nanosecond(nanoseconds).ok()
    });
    written.is_none_or(|time| crate::clock::format(time) >= *since)
}

fn at_end(input: Input) -> io::Result<Input> {
    match input {
        Input::Plain(input) => {
            let mut file = input.into_inner();
            file.seek(SeekFrom::End(0))?;
            Ok(Input::plain(file))
        }
        compressed => Ok(compressed),
    }
}

/// Places a file before the last `wanted` lines of it that are wanted; returns how many there are.
fn last_lines(
    opened: &mut Opened,
    query: &LogQuery,
    (wanted, is_newest): (usize, bool),
) -> io::Result<usize> {
    match &mut opened.input {
        Input::Plain(input) => {
            let file = input.get_mut();
            let (place, found) = before_last(file, query, (wanted, is_newest))?;
            input.seek(SeekFrom::Start(place))?;
            Ok(found)
        }
        Input::Compressed(input) => {
            // It can only be read from its beginning: once to count, and once to skip.
            let all = count(input, query)?;
            let mut file = input.get_ref().get_ref();
            file.seek(SeekFrom::Start(0))?;
            let again = flate2::read::MultiGzDecoder::new(file.try_clone()?);
            **input = io::BufReader::new(again);
            skip(input, query, all.saturating_sub(wanted))?;
            Ok(all.min(wanted))
        }
    }
}

/// Whether an entry is wanted, and whether it ends a line.
fn look(bytes: &[u8], query: &LogQuery) -> Option<bool> {
    let entry: Entry = serde_json::from_slice(bytes).ok()?;
    query.wants(&entry).then(|| entry.log.ends_with(b"\n"))
}

/// The place of the first of the last `wanted` lines, and how many there are.
fn before_last(
    file: &mut File,
    query: &LogQuery,
    (wanted, is_newest): (usize, bool),
) -> io::Result<(u64, usize)> {
    let mut start = file.seek(SeekFrom::End(0))?;
    // What was read and may lack its beginning.
    let mut held: Vec<u8> = Vec::new();
    let (mut found, mut place, mut is_first) = (0, start, is_newest);
    loop {
        while let Some(newline) = last_newline(&held) {
            let (line, at) = (&held[newline + 1..], start + newline as u64 + 1);
            if let Some(ends) = look(line, query) {
                // A line without an end that is not the last is a part, of the line behind it.
                if (ends || is_first) && found == wanted {
                    return Ok((place, found));
                }
                found += usize::from(ends || is_first);
                (place, is_first) = (at, false);
            }
            held.truncate(newline + 1);
        }
        if start == 0 {
            break;
        }
        let size = start.min(BLOCK);
        start -= size;
        let mut block = vec![0; usize::try_from(size).unwrap_or(0)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        block.append(&mut held);
        held = block;
    }
    if let Some(ends) = look(&held, query)
        && !((ends || is_first) && found == wanted)
    {
        found += usize::from(ends || is_first);
        place = 0;
    }
    Ok((place, found))
}

/// The last newline that has an entry behind it.
fn last_newline(held: &[u8]) -> Option<usize> {
    let end = held.len().checked_sub(1)?;
    held[..end].iter().rposition(|&byte| byte == b'\n')
}

fn count(input: &mut impl BufRead, query: &LogQuery) -> io::Result<usize> {
    let (mut lines, mut line) = (0, Vec::new());
    while input.read_until(b'\n', &mut line)? > 0 {
        lines += usize::from(look(&line, query) == Some(true));
        line.clear();
    }
    Ok(lines)
}

fn skip(input: &mut impl BufRead, query: &LogQuery, mut lines: usize) -> io::Result<()> {
    let mut line = Vec::new();
    while lines > 0 && input.read_until(b'\n', &mut line)? > 0 {
        lines -= usize::from(look(&line, query) == Some(true));
        line.clear();
    }
    Ok(())
}

/// Places a file shortly before the first line that is not too early, by bisection: times grow.
fn seek_time(input: &mut Input, query: &LogQuery) -> io::Result<()> {
    let (Input::Plain(input), Some(since)) = (input, &query.since) else { return Ok(()) };
    let (mut low, mut high) = (0, input.get_ref().metadata()?.len());
    let mut line = Vec::new();
    while high - low > BLOCK {
        let middle = low + (high - low) / 2;
        input.seek(SeekFrom::Start(middle))?;
        line.clear();
        // Most likely the rest of a line.
        let cut = input.read_until(b'\n', &mut line)? as u64;
        line.clear();
        input.read_until(b'\n', &mut line)?;
        match serde_json::from_slice::<Entry>(&line) {
            Ok(entry) if entry.time < *since => low = middle + cut,
            _ => high = middle,
        }
    }
    input.seek(SeekFrom::Start(low)).map(drop)
}
