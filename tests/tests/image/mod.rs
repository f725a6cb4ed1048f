//! Images as things to look into, to compare, and to get rid of.

mod diff;
mod fsck;
mod interruption;
mod patch;
mod space;
mod tree;
