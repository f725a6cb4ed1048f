//! Images as things to look into, to compare, and to get rid of.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod diff;
mod fsck;
mod interruption;
mod lazy;
mod patch;
mod space;
mod tree;
mod words;
