//! Tests of the store against real file systems. They need root.

mod it {
    mod archive;
    pub(crate) mod fixture;
    mod images;
}
