//! Docker's view of what the engine has.
//!
//! **What it is.** Containers, images and networks as the JSON objects of the Docker Engine API; nobody else
//! knows that spelling. The API itself will stand on these.
//!
//! **What it must not know.** Command lines, sockets, the kernel: it only reads what `engine` says.
//!
//! **Front doors.** [`container`], [`image`], [`network`].
//!
//! **How to test it.** Through `cais inspect`, in `cargo test -p tests`.

mod container;
mod image;
mod network;

pub use container::container;
pub use image::image;
pub use network::network;
