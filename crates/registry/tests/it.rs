//! Pulls from registries that lie, and from Debian's docker-registry.

mod credentials;
mod fake;
mod honest;
mod lies;
mod place;
mod real;
