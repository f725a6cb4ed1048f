//! `cais volume`: Docker's commands, and what goes beyond them.

pub(super) mod cp;
pub(super) mod create;
pub(super) mod diff;
pub(super) mod export;
pub(super) mod import;
pub(super) mod inspect;
pub(super) mod ls;
pub(super) mod mv;
pub(super) mod prune;
pub(super) mod restore;
pub(super) mod rm;
pub(super) mod snapshot;
