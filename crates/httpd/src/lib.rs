//! HTTP/1.1: servers, and requests to other servers.
//!
//! **What it is.** Listening sockets, connections with a thread each, heads that are read strictly,
//! bodies and answers with limits of size and time, streams that are upgraded; over TCP, Unix
//! sockets and TLS. Why it is our own stands in docs/decisions/0012 and 0023. Whoever serves may have
//! to ask others, whom it reaches by an address and knows by a name.
//!
//! **What it must not know.** What is served: registries, containers, JSON.
//!
//! **Front doors.** [`Server`], to which a [`Service`] is given that answers each [`Exchange`];
//! [`Remote::ask`].
//!
//! **How to test it.** `cargo test -p httpd`; `tests/tests/registry` and `tests/tests/api` ask whole
//! servers.

mod body;
mod connection;
mod exchange;
mod head;
mod outgoing;
mod place;
mod reply;
mod server;
mod stream;
mod tls;
mod trust;
mod websocket;
mod wire;

pub use body::Body;
pub use exchange::{Chunks, Exchange, Service, Upgraded};
pub use head::{Head, decode, encode};
pub use outgoing::{Answered, Asked, Dialed, Remote};
pub use reply::{Content, Reply};
pub use server::{Limits, Server, Stopper};
pub use stream::{Listener, Peer};
pub use tls::{Clients, TlsConfig, certificates, certificates_in, key, tls_config};
pub use trust::{ClientTls, Trust};
pub use websocket::WebSocket;
