//! Docker's view of what the engine has.
//!
//! **What it is.** Containers, images, networks, volumes and events as the JSON objects of the
//! Docker Engine API; nobody else knows that spelling. The API itself will stand on these.
//!
//! **What it must not know.** Command lines, sockets, the kernel: it only reads what `engine` says.
//!
//! **Front doors.** [`container`], [`image`], [`network`], [`volume`], [`event`], [`info`];
//! [`create_body`] for the way to another engine.
//!
//! **How to test it.** Through `cais inspect`, in `cargo test -p tests`.

mod api;
mod body;
mod change;
mod container;
mod event;
mod filter;
pub mod grammar;
mod image;
mod info;
mod list;
mod log;
mod network;
mod size;
mod time;
mod top;
mod volume;

pub use api::Api;
pub use body::create_body;
pub use change::apply_changes;
pub use container::container;
pub use event::{EVENT_FILTERS, event, event_matches};
pub use filter::{Filters, Pattern, has_label, prune_filter, switch};
pub use image::image;
pub use info::{API_VERSION, API_VERSION_MIN, info, version};
pub use list::{
    CONTAINER_FILTERS, ContainerFilter, command_line, image_name, network_names, reference_matches,
    status,
};
pub use log::log_details;
pub use network::network;
pub use size::parse_ram;
pub use time::{TimeError, age, human_duration, parse_duration, parse_timestamp};
pub use top::top;
pub use volume::volume;
