//! The language of Dockerfiles, as BuildKit's reference has it.

pub(crate) mod check;
pub(crate) mod directive;
pub(crate) mod expand;
pub(crate) mod flag;
pub(crate) mod heredoc;
pub(crate) mod instruction;
pub(crate) mod line;
pub(crate) mod mount;
pub(crate) mod parse;
pub(crate) mod pattern;
pub(crate) mod word;
