//! Controllers and the scheduler: what is wanted of a cluster becomes what is done.
//!
//! **What it is.** For each kind a pure function from what is observed to a [`Plan`]: objects to make,
//! change and remove, with the events that tell people why. [`Control`] feeds them with changes,
//! carries their plans out, and comes back when it is time.
//!
//! **What it must not know.** Containers, hosts, sockets, how state is stored; the time but as it is
//! told.
//!
//! **Front doors.** [`Control::step`] for simulations, [`run`] for a process, [`Plan`].
//!
//! **How to test it.** `cargo test -p control`: objects in, plans out; whole clusters over a log in
//! memory, under a virtual clock.

mod claim;
mod control;
mod object;
mod plan;
mod pod;
mod replica_set;
mod revision;
mod run;
pub mod scheduler;
mod settings;
mod template;

mod autoscaler;
mod cron;
mod cron_job;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoints;
mod job;
mod load_balancer;
mod node;
mod node_selector;
mod stateful_set;
mod volume;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use control::{Control, KINDS};
pub use plan::{Action, Metrics, Plan, World};
pub use run::run;
pub use settings::{PodRange, Settings};
