//! The crate against a real kernel, as root. Every test is its own fake host.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod it {
    mod attach;
    mod bridge;
    mod dns;
    mod firewall;
    mod host;
    mod ipam;
    mod many;
    mod port;
    mod rules;
    mod service;
    mod stacked;
    mod v6;
}
