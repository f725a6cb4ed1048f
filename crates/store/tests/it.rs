//! Tests of the store against real file systems. They need root.

mod it {
    mod archive;
    mod diff;
    pub(crate) mod fixture;
    mod images;
    pub(crate) mod overlay;
}
