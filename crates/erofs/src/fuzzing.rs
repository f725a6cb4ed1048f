//! What must hold of every image, for the target in `fuzz/` and for a short test.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::format::DEVICES_START;
use crate::{Attributes, Builder, Content, Kind, Node, ROOT, Reader, merge};

/// Changes of an image's bytes, at most.
const CHANGES_MAX: usize = 32;
const NAMES: [&[u8]; 6] = [b"a", b"b", b"c", b"\xff", b"ab", &[b'x'; 255]];

fn file() -> File {
    memfd_create("image", MemfdFlags::CLOEXEC).expect("there is memory for an image").into()
}

/// The next byte of what is left, 0 at the end.
fn next(data: &mut &[u8]) -> u8 {
    let Some((first, rest)) = data.split_first() else { return 0 };
    *data = rest;
    *first
}

fn attributes(data: &mut &[u8]) -> Attributes {
    let mode = u32::from(next(data)) << 4;
    let mut attributes = Attributes { mode, uid: next(data).into(), ..Attributes::default() };
    if next(data) & 7 == 7 {
        let value = vec![1; usize::from(next(data)) * 20];
        attributes.set_xattr(b"user.x", &value);
    }
    attributes
}

fn content(image: &mut Builder, data: &mut &[u8]) -> io::Result<Content> {
    Ok(match next(data) & 3 {
        0 => Content::Symlink(vec![b't'; usize::from(next(data)) * 16 + 1].into()),
        1 => Content::CharDevice(next(data).into()),
        2 => {
            // Sparse: two pieces in a file.
            let start = u64::from(next(data)) * 64;
            let segments = [(start, 100), (start + 9000, 1)];
            Content::Regular(image.data(start + 20_000, Some(&segments), &mut zeros)?)
        }
        _ => Content::Regular(image.data(u64::from(next(data)) * 16, None, &mut zeros)?),
    })
}

fn zeros(most: u64, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let n = most.min(4096);
    sink(&[0; 4096][..n as usize]).map(|()| n)
}

/// Writes a tree that `data` describes.
fn write(data: &mut &[u8], steps: u8) -> io::Result<File> {
    let mut image = Builder::new(file(), attributes(data), &[]);
    let mut directories = vec![ROOT];
    let mut files: Vec<Node> = Vec::new();
    for _ in 0..steps {
        let directory = directories[usize::from(next(data)) % directories.len()];
        let name = NAMES[usize::from(next(data)) % NAMES.len()];
        let found = image.lookup(directory, name).unwrap_or_default();
        // What is refused is no part of the image; a name that is taken is the caller's business.
        match next(data) & 3 {
            2 => {
                if found.is_some_and(|node| image.kind(node) != Kind::Directory) {
                    let _ = image.unlink(directory, name);
                    files.clear();
                }
            }
            _ if found.is_some() => {}
            0 => {
                let made = image.add_directory((directory, name), attributes(data));
                directories.extend(made);
            }
            1 => drop(files.last().map(|&node| image.link((directory, name), node))),
            _ => {
                let content = content(&mut image, data)?;
                files.extend(image.add((directory, name), attributes(data), content));
            }
        }
    }
    image.finish([1; 16])
}

/// Reads an image, and writes it again.
fn read(image: &File) -> io::Result<File> {
    merge(file(), &[Reader::open(image)?, Reader::open(image)?])?.finish([2; 16])
}

/// An image that was written is read and merged; one whose bytes have changed is, too, or is
/// refused.
///
/// # Panics
/// If it does not hold.
pub fn image(mut data: &[u8]) {
    let steps = next(&mut data);
    let Ok(image) = write(&mut data, steps) else { return };
    read(&image).expect("what was written here is read here");
    let length = image.metadata().map_or(0, |meta| meta.len()).max(DEVICES_START);
    for change in data.chunks_exact(3).take(CHANGES_MAX) {
        let at = u64::from(u16::from_le_bytes([change[0], change[1]])) % length;
        image.write_all_at(&change[2..], at).expect("memory is written");
    }
    let _ = read(&image);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]
        #[test]
        fn images_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..400)) {
            super::image(&data);
        }
    }
}
