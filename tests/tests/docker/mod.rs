//! Docker's verbs.

mod bad_input;
mod demonstration;
mod exit_code;
mod isolation;
mod pull;
mod terminal;
