//! Images as things to look into, to compare, and to get rid of.

mod diff;
mod patch;
mod tree;
