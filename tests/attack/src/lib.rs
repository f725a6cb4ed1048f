//! Attacks on container runtimes.
//!
//! **What it is.** Every class of attack that has worked on a container runtime, written so that
//! it can be tried against any of them: each makes a bundle, lets a runtime run it, and looks
//! whether the host was reached. An attack is proved by a runtime whose defence is off
//! (`cfg(weaken)`): it must work there, and fail against the runtime as it is.
//!
//! **What it must not know.** How a runtime defends itself; it knows only the names of the defences.
//!
//! **Front doors.** [`ATTACKS`], [`Attack::run`], [`Runtime`].
//!
//! **How to test it.** `cargo test -p attack`, as root; `ATTACK_ROUNDS=10000` for races of full
//! length. `cargo run -p attack --bin attack-table` writes the table in `docs/attacks.md`.

#![expect(clippy::unwrap_used, reason = "what prepares a test fails by panicking")]

pub mod attacks;
mod bundle;
mod race;
mod runtime;

pub use attacks::{ATTACKS, Attack, Outcome};
pub use race::{ROUNDS, rounds};
pub use runtime::Runtime;
