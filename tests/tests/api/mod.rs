//! The Docker Engine API, spoken with by the real `docker` client and by hand.

mod buildkit;
mod cases;
mod client;
mod crowd;
mod listen;
mod remote;
mod sdk;
mod shapes;
mod wire;
