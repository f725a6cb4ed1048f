//! Docker's Engine API, from the client's side.
//!
//! **What it is.** Where an engine is ([`Place`]): a socket of this machine, a network with TLS or
//! without, another machine by ssh; and HTTP/1.1 over any of them, with streams that are taken over.
//!
//! **What it must not know.** What is asked for: containers, images, command lines, contexts.
//!
//! **Front doors.** [`Place::parse`], [`Engine::connect`], [`Engine::ask`], [`Engine::take_over`].
//!
//! **How to test it.** `cargo test -p remote`; `tests/tests/remote` speaks with whole engines.

mod body;
mod dial;
mod engine;
mod error;
mod head;
mod place;
mod tls;

pub use body::Body;
pub use dial::pass_on;
pub use engine::{Answer, Content, Engine, Request, Stream};
pub use error::{Error, Result};
pub use place::{Place, Tls};
