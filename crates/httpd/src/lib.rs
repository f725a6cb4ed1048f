//! HTTP/1.1, from the server's side.
//!
//! **What it is.** Listening sockets, connections with a thread each, heads that are read strictly,
//! bodies and answers with limits of size and time, streams that are upgraded; over TCP, Unix
//! sockets and TLS. Why it is our own stands in docs/decisions/0012 and 0023.
//!
//! **What it must not know.** What is served: registries, containers, JSON.
//!
//! **Front doors.** [`Server`], to which a [`Service`] is given that answers each [`Exchange`].
//!
//! **How to test it.** `cargo test -p httpd`; `tests/tests/registry` and `tests/tests/api` ask whole
//! servers.

mod body;
mod connection;
mod exchange;
mod head;
mod place;
mod reply;
mod server;
mod stream;
mod tls;
mod websocket;
mod wire;

pub use body::Body;
pub use exchange::{Chunks, Exchange, Service, Upgraded};
pub use head::{Head, decode, encode};
pub use reply::{Content, Reply};
pub use server::{Limits, Server, Stopper};
pub use stream::{Listener, Peer};
pub use tls::{Clients, TlsConfig, certificates, key, tls_config};
pub use websocket::WebSocket;
