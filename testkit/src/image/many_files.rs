//! `many-files`: 20,000 small and medium files in four layers, 450 MB that compress to about half.

use std::sync::OnceLock;
use std::thread;

use anyhow::Result;
use oci::{Compression, Digest, Hasher};

use super::{config, made_by};
use crate::archive::Entry;
use crate::layout::{Layer, Layout};

const LAYERS: u64 = 4;
const FILES_PER_LAYER: u64 = 5_000;
const FILES_PER_DIRECTORY: u64 = 100;

/// `many-files:latest`; it holds data only, nothing to run.
pub(super) fn make(layout: &Layout) -> Result<()> {
    let mut image = config(&[], &[]);
    image.history = (0..LAYERS).map(|n| made_by(&format!("ADD part-{n} /data"))).collect();
    let layers: Result<Vec<Layer>> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..LAYERS).map(|number| scope.spawn(move || layer(layout, number))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a layer is written without panicking"))
            .collect()
    });
    layout.tag("many-files:latest", layout.image(image, &layers?)?)
}

/// The number of files, and one digest over all of their paths and contents, in the order of paths:
/// each path without a leading slash, a zero byte, the content.
#[must_use]
pub fn summary() -> (u64, Digest) {
    static DIGEST: OnceLock<Digest> = OnceLock::new();
    (LAYERS * FILES_PER_LAYER, *DIGEST.get_or_init(digest))
}

fn digest() -> Digest {
    let mut hasher = Hasher::default();
    for number in 0..LAYERS {
        for index in 0..FILES_PER_LAYER {
            hasher.update(path(number, index).as_bytes());
            hasher.update(&[0]);
            hasher.update(&content(seed(number, index)));
        }
    }
    hasher.finish()
}

fn directory(number: u64, index: u64) -> String {
    format!("data/part-{number}/{:02}", index / FILES_PER_DIRECTORY)
}

fn path(number: u64, index: u64) -> String {
    format!("{}/{index:04}", directory(number, index))
}

fn seed(number: u64, index: u64) -> u64 {
    number * FILES_PER_LAYER + index + 1
}

fn layer(layout: &Layout, number: u64) -> Result<Layer> {
    layout.layer(Compression::Gzip, |archive| {
        archive.add(&Entry::directory("data"))?;
        archive.add(&Entry::directory(&format!("data/part-{number}")))?;
        for index in 0..FILES_PER_LAYER {
            if index % FILES_PER_DIRECTORY == 0 {
                archive.add(&Entry::directory(&directory(number, index)))?;
            }
            archive.add(&Entry::file(&path(number, index), content(seed(number, index))))?;
        }
        Ok(())
    })
}

/// Of a hundred files, eighty have 0.5 to 8 KiB, eighteen 16 to 64 KiB, and two 390 to 760 KiB.
fn size(seed: u64) -> usize {
    let (low, high): (u64, u64) = match seed % 100 {
        0..80 => (512, 8 << 10),
        80..98 => (16 << 10, 64 << 10),
        _ => (390 << 10, 760 << 10),
    };
    let span = high - low;
    usize::try_from(low + mix(seed) % span).expect("a file of this pool fits into memory")
}

/// Noise and a repeated line in turn, 32 bytes each.
fn content(seed: u64) -> Vec<u8> {
    let size = size(seed);
    let mut bytes = Vec::with_capacity(size + 64);
    let mut state = mix(seed);
    while bytes.len() < size {
        for _ in 0..4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.extend_from_slice(&mix(state).to_le_bytes());
        }
        bytes.extend_from_slice(b"the quick brown fox jumps over a\n");
    }
    bytes.truncate(size);
    bytes
}

/// Spreads the bits of a number (the finaliser of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_450_megabytes_of_20_000_files() {
        let seeds = 1..=LAYERS * FILES_PER_LAYER;
        let total: usize = seeds.map(size).sum();
        assert!((440_000_000..460_000_000).contains(&total), "{total}");
    }
}
