//! The verbs of a cluster: one file each.

pub(super) mod apply;
pub(super) mod autoscale;
pub(super) mod config;
pub(super) mod create;
pub(super) mod delete;
pub(super) mod describe;
pub(super) mod drain;
pub(super) mod exec;
pub(super) mod expose;
pub(super) mod get;
pub(super) mod label;
pub(super) mod logs;
pub(super) mod port_forward;
mod report;
pub(super) mod resources;
pub(super) mod rollout;
pub(super) mod scale;
pub(super) mod top;
pub(super) mod wait;
pub(super) mod why;
