//! Dockerfiles: the language, its checks, and the graph of steps that a build is.
//!
//! **What it is.** A Dockerfile becomes typed instructions ([`Dockerfile`]), findings of checks, and a
//! graph of steps with their cache keys.
//!
//! **What it must not know.** Files, processes, stores, registries: whatever has to be done is asked
//! for through traits. Everything here is pure.
//!
//! **Front doors.** [`Dockerfile::parse`], [`plan`], [`solve`], [`check`], [`Ignore::parse`].
//!
//! **How to test it.** `cargo test -p build`: tables and properties, no privilege.

mod check;
mod error;
mod git;
mod glob;
mod graph;
mod ignore;
mod key;
mod language;
mod plan;
mod solve;
mod source;

pub use check::{Finding, Rule};
pub use error::{Error, Result};
pub use git::GitSource;
pub use glob::Glob;
pub use graph::{
    Chmod, CopyOp, CopySource, Entry, From, Graph, ImageOp, Op, Outcome, RunMount, RunMountKind,
    RunOp, Step, StepId, WorkdirOp,
};
pub use ignore::Ignore;
pub use key::{Difference, Key};
pub use language::check::CheckOptions;
pub use language::directive::Directives;
pub use language::expand::{Expanded, Lexer, Variables};
pub use language::heredoc::Heredoc;
pub use language::instruction::{
    ArgDefinition, Command, CommandLine, Copy, Dockerfile, Instruction, Pair, Run, RunNetwork,
    RunSecurity, Stage,
};
pub use language::mount::{Mount, MountFlag, MountKind, Sharing};
pub use plan::{Base, Bases, HISTORY_COMMENT, NamedContext, Request, check, plan};
pub use solve::{Failed, Inputs, Reuse, Worker, solve};
pub use source::{Span, excerpt, lines, position};
