use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use super::*;
use crate::monitor::log::file::{Bounds, compress_for_tests as compress, full};
use crate::monitor::log::plain_writer as writer;

/// Files of a line or two.
const SMALL: Bounds = Bounds { file_bytes: Some(150), files: 5, compress: false };

struct Log {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        Self { _dir: dir, path }
    }

    fn write(&self, bounds: Bounds, lines: &[&str]) {
        let mut log = writer(&self.path, bounds);
        for line in lines {
            log.write(Stream::Stdout, line.as_bytes()).unwrap();
        }
        log.finish().unwrap();
    }
}

fn take(into: &mut Vec<String>) -> impl FnMut(LogItem) -> io::Result<()> + '_ {
    |item| {
        into.push(match item {
            LogItem::Line(line) => String::from_utf8(line.text).unwrap(),
            LogItem::Lost(files) => format!("lost {files}"),
        });
        Ok(())
    }
}

fn lines(log: &Log, query: &LogQuery) -> Vec<String> {
    let mut lines = Vec::new();
    Tail::open(&log.path, query, None).unwrap().existing(&mut take(&mut lines)).unwrap();
    lines
}

fn more(tail: &mut Tail<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    tail.existing(&mut take(&mut lines)).unwrap();
    lines
}

fn last(tail: usize) -> LogQuery {
    LogQuery { tail: Some(tail), ..LogQuery::default() }
}

#[test]
fn tail_and_times_select() {
    let log = Log::new();
    log.write(Bounds { file_bytes: None, ..SMALL }, &["a\nb\nc\n"]);
    assert_eq!(lines(&log, &LogQuery::default()), ["a\n", "b\n", "c\n"]);
    assert_eq!(lines(&log, &last(2)), ["b\n", "c\n"]);
    assert_eq!(lines(&log, &last(9)), ["a\n", "b\n", "c\n"]);
    assert!(lines(&log, &last(0)).is_empty());
    let later = LogQuery { since: Some("9999".into()), ..LogQuery::default() };
    assert!(lines(&log, &later).is_empty());
    let before = LogQuery { until: Some("1970".into()), ..LogQuery::default() };
    assert!(lines(&log, &before).is_empty());
}

#[test]
fn the_last_lines_are_found_across_files_compressed_or_not() {
    let numbers: Vec<String> = (0..9).map(|number| format!("{number}\n")).collect();
    let texts: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let log = Log::new();
    log.write(SMALL, &texts);
    assert!(full(&log.path, 4, "").exists(), "every second line is in a file of its own");
    for compressed in [None, Some(4), Some(3), Some(2)] {
        if let Some(serial) = compressed {
            compress(&log.path, serial);
        }
        for wanted in 0..=9 {
            assert_eq!(lines(&log, &last(wanted)), numbers[9 - wanted..], "{compressed:?}");
        }
    }
    // A line of several parts counts once.
    let long = "x".repeat(40_000) + "\n";
    log.write(Bounds { file_bytes: None, ..SMALL }, &["before\n", &long, "part"]);
    assert_eq!(lines(&log, &last(2)).concat(), format!("{long}part"));
    assert_eq!(lines(&log, &last(1)).concat(), "part");
}

#[test]
fn a_time_is_found_without_reading_what_is_before() {
    let log = Log::new();
    let time =
        |number: u32| format!("2026-01-01T00:{:02}:{:02}.000000000Z", number / 60, number % 60);
    let mut text = String::new();
    for number in 0..3000 {
        let fill = "x".repeat(200);
        let line =
            format!(r#"{{"log":"{number} {fill}\n","stream":"stdout","time":"{}"}}"#, time(number));
        text += &line;
        text.push('\n');
    }
    std::fs::write(&log.path, &text).unwrap();
    for (since, until) in [(0, 1), (1, 2), (1500, 1503), (2999, 4000)] {
        let query =
            LogQuery { since: Some(time(since)), until: Some(time(until)), ..LogQuery::default() };
        let found: Vec<u32> = lines(&log, &query)
            .iter()
            .map(|line| line.split(' ').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(found, (since..until.min(3000)).collect::<Vec<_>>());
    }
    let query = LogQuery { since: Some(time(2900)), ..LogQuery::default() };
    let mut tail = Tail::open(&log.path, &query, None).unwrap();
    let Some(Opened { input: Input::Plain(input), .. }) = &mut tail.open else { panic!() };
    use std::io::Seek as _;
    assert!(input.stream_position().unwrap() > text.len() as u64 * 3 / 4);
}

#[test]
fn no_full_file_is_skipped() {
    let log = Log::new();
    let query = LogQuery::default();
    let mut tail = Tail::open(&log.path, &query, None).unwrap();
    assert!(more(&mut tail).is_empty());
    log.write(SMALL, &["a\n"]);
    assert_eq!(more(&mut tail), ["a\n"]);
    log.write(SMALL, &["b\n", "c\n", "d\n", "e\n"]);
    compress(&log.path, 1);
    assert_eq!(more(&mut tail), ["b\n", "c\n", "d\n", "e\n"]);
    log.write(SMALL, &["f\n", "g\n"]);
    assert_eq!(more(&mut tail), ["f\n", "g\n"]);
}

#[test]
fn what_was_removed_unread_is_said_in_its_place() {
    for files in [1, 2] {
        let log = Log::new();
        let query = LogQuery::default();
        let bounds = Bounds { files, ..SMALL };
        log.write(bounds, &["first\n"]);
        let mut tail = Tail::open(&log.path, &query, None).unwrap();
        assert_eq!(more(&mut tail), ["first\n"]);
        let numbers: Vec<String> = (0..11).map(|number| format!("{number}\n")).collect();
        log.write(bounds, &numbers.iter().map(String::as_str).collect::<Vec<_>>());
        // The rest of the file that is open is there; two lines are in each of the others.
        let expected = match files {
            1 => vec!["0\n", "lost 4", "9\n", "10\n"],
            _ => vec!["0\n", "lost 3", "7\n", "8\n", "9\n", "10\n"],
        };
        assert_eq!(more(&mut tail), expected);
    }
}

#[test]
fn a_reader_and_a_writer_in_a_hurry_agree() {
    let log = Log::new();
    let bounds = Bounds { files: 1000, ..SMALL };
    let numbers: Vec<String> = (0..1500).map(|number| format!("{number}\n")).collect();
    let query = LogQuery::default();
    let mut read = Vec::new();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            log.write(bounds, &numbers.iter().map(String::as_str).collect::<Vec<_>>());
        });
        let mut tail = Tail::open(&log.path, &query, None).unwrap();
        loop {
            let over = writing.is_finished();
            read.extend(more(&mut tail));
            if over {
                break;
            }
        }
    });
    let first_wrong = read.iter().zip(&numbers).find(|(read, wanted)| read != wanted);
    assert_eq!((read.len(), first_wrong), (numbers.len(), None));
}

#[test]
fn torn_lines_are_passed_over() {
    let log = Log::new();
    log.write(SMALL, &["a\n"]);
    File::options().append(true).open(&log.path).unwrap().write_all(b"{\"log\":\"to\n").unwrap();
    log.write(SMALL, &["b\n"]);
    assert_eq!(lines(&log, &LogQuery::default()), ["a\n", "b\n"]);
}
