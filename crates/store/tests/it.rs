//! Tests of the store against real file systems. They need root.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod it {
    mod archive;
    mod attack;
    mod blobs;
    mod diff;
    pub(crate) mod fixture;
    mod hidden;
    mod images;
    mod load;
    pub(crate) mod overlay;
    mod views;
}
