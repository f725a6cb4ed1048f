//! The same as a real Docker does: it is the specification, and it runs beside the binary.

pub(crate) mod cases;
mod diff;
mod edit;
mod exchange;
pub(crate) mod random;
