//! What the command line prints: rows through a format, and the units, times and shortenings in
//! Docker's spelling.
//!
//! Everything here is pure: the caller says what time it is and whether there is a terminal.

mod inspect;
pub(crate) mod patch;
mod plain;
mod size;
mod table;

pub(crate) use docker::{parse_duration, parse_timestamp};
pub(crate) use inspect::inspect;
pub(crate) use plain::{printable, printable_line};
pub(crate) use size::{binary_size, ellipsis, human_size};
pub(crate) use table::{Format, Row, render};
