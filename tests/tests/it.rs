//! The binary as a person uses it, against real images, on a fake host for each test.

mod api;
mod attack;
mod build;
mod compose;
mod docker;
mod image;
mod kube;
mod oci;
mod parity;
mod registry;
