//! The table.

fn main() {}
