//! The binary as a person uses it, against real images, on a fake host for each test.

mod attack;
mod docker;
mod image;
mod oci;
mod parity;
mod registry;
