//! Docker's verbs.

mod bad_input;
mod demonstration;
mod distribution;
mod exit_code;
mod image;
mod interruption;
mod isolation;
mod liar;
mod life;
mod login;
mod network;
mod power;
mod pull;
mod sharing;
mod terminal;
mod user_namespace;
