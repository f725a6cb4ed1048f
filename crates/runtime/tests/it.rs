//! Containers made by the real kernel: as root, through the development driver `oci-run`.

#[cfg(test)]
mod it {
    mod attack;
    pub(crate) mod bundle;
    mod execution;
    mod files;
    mod process;
}
