//! How layers are kept on disk.

pub(crate) mod dir;
