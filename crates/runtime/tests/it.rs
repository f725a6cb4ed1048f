//! This crate against the running kernel, as root: containers are made through the development
//! driver `oci-run`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod it {
    mod agent;
    mod attack;
    mod attribute;
    pub(crate) mod bundle;
    mod cgroup;
    mod execution;
    mod files;
    mod image;
    mod mounts;
    mod namespace;
    mod process;
    mod rootless;
    mod seccomp;
    mod systemd;
    mod user_namespace;
    mod version2;
}
