//! gRPC over HTTP/2: both ends of a connection that somebody else has opened.
//!
//! **What it is.** Frames, lists of fields (`hpack.rs`), streams with their windows (`state.rs`, which
//! neither reads nor waits), calls with messages and a status, and Protocol Buffers as numbers and
//! bytes (`proto.rs`). A connection is read and written by one thread, and each call is some other
//! thread's. Why it is our own stands in docs/decisions/0028.
//!
//! **What it must not know.** What is called, and what messages mean; how connections are made.
//!
//! **Front doors.** [`Connection::run`], and on either end [`Connection::call`] or the [`Stream`]s
//! that `run` hands out; [`proto::Message`] and [`proto::fields`].
//!
//! **How to test it.** `cargo test -p grpc`: both ends on a pair of sockets. Go's HTTP/2 is met by
//! `cargo test -p tests api::buildkit`.

mod connection;
mod frame;
mod hpack;
pub mod proto;
mod state;
mod status;
mod stream;
mod table;

pub use connection::{Connection, unknown};
pub use status::{Code, Status};
pub use stream::{MESSAGE_BYTES_MAX, Stream};

#[cfg(test)]
mod tests;
