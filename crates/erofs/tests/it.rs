//! Images that the kernel mounts: needs root.

#[cfg(test)]
mod it {
    mod image;
}
