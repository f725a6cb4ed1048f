//! Controllers and the scheduler.

pub mod scheduler;
