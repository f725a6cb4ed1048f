//! `cais registry`

pub(super) mod gc;
pub(super) mod serve;
