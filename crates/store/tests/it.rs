//! Tests of the store against real file systems. They need root.
//!
//! What a driver must do is tested over each of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![expect(clippy::duplicate_mod, reason = "the same tests over each driver")]

mod it {
    mod contract;

    /// Layers as trees.
    #[path = "."]
    mod dir {
        pub(crate) const DRIVER: store::Driver = store::Driver::Dir;

        mod archive;
        mod attack;
        mod blobs;
        mod build;
        mod diff;
        mod encodings;
        pub(crate) mod fixture;
        mod hidden;
        mod images;
        mod load;
        pub(crate) mod overlay;
        mod unsynced;
        mod views;
    }

    /// Layers as images.
    #[path = "."]
    mod erofs {
        pub(crate) const DRIVER: store::Driver = store::Driver::Erofs;

        mod archive;
        mod attack;
        mod build;
        mod diff;
        mod encodings;
        pub(crate) mod fixture;
        mod hidden;
        mod images;
        pub(crate) mod overlay;
        mod unsynced;
        mod views;
    }
}
