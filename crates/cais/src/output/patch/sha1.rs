//! The names that git gives contents: SHA-1 (FIPS 180-4, section 6.1). Nothing here relies on it
//! being hard to forge: `git apply` wants the names of both files in a binary patch.

use std::io::{self, Read};

const BLOCK: usize = 64;

/// The name of a file of `size` bytes.
///
/// # Errors
/// If it is not that long, or cannot be read.
pub(crate) fn blob_id(size: u64, content: &mut dyn Read) -> io::Result<String> {
    let mut sha = Sha1::default();
    sha.update(format!("blob {size}\0").as_bytes());
    let mut buffer = vec![0; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match content.read(&mut buffer[..most])? {
            0 => return Err(super::binary::changed()),
            n => {
                sha.update(&buffer[..n]);
                left -= n as u64;
            }
        }
    }
    Ok(sha.finish())
}

struct Sha1 {
    state: [u32; 5],
    pending: Vec<u8>,
    bits: u64,
}

impl Default for Sha1 {
    fn default() -> Self {
        let state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
        Self { state, pending: Vec::new(), bits: 0 }
    }
}

impl Sha1 {
    fn update(&mut self, bytes: &[u8]) {
        self.bits += 8 * bytes.len() as u64;
        self.pending.extend_from_slice(bytes);
        let whole = self.pending.len() / BLOCK * BLOCK;
        for block in self.pending[..whole].chunks(BLOCK) {
            compress(&mut self.state, block);
        }
        self.pending.drain(..whole);
    }

    fn finish(mut self) -> String {
        let bits = self.bits;
        let zeros = (BLOCK * 2 - 9 - self.pending.len()) % BLOCK;
        let padding = [&[0x80][..], &vec![0; zeros], &bits.to_be_bytes()].concat();
        self.update(&padding);
        self.state.iter().map(|word| format!("{word:08x}")).collect()
    }
}

fn compress(state: &mut [u32; 5], block: &[u8]) {
    let mut words = [0u32; 80];
    for (word, four) in words.iter_mut().zip(block.chunks(4)) {
        *word = four.iter().fold(0, |all, &byte| all << 8 | u32::from(byte));
    }
    for t in 16..80 {
        words[t] = (words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16]).rotate_left(1);
    }
    let [mut a, mut b, mut c, mut d, mut e] = *state;
    for (t, word) in words.iter().enumerate() {
        let (f, k) = match t {
            0..20 => (b & c | !b & d, 0x5a82_7999),
            20..40 => (b ^ c ^ d, 0x6ed9_eba1),
            40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
            _ => (b ^ c ^ d, 0xca62_c1d6),
        };
        let next =
            a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
        (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
    }
    for (old, new) in state.iter_mut().zip([a, b, c, d, e]) {
        *old = old.wrapping_add(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_have_the_names_that_git_gives_them() {
        for (content, id) in [
            (vec![], "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
            (b"hello\n".to_vec(), "ce013625030ba8dba906f756967f9e9ca394464a"),
            // From `printf 'a%.0s' {1..1000} | git hash-object --stdin`.
            (vec![b'a'; 1000], "a50be72b20f0e3f078d252e8e56b11b4bec67509"),
        ] {
            assert_eq!(blob_id(content.len() as u64, &mut &content[..]).unwrap(), id);
        }
        assert!(blob_id(1, &mut io::empty()).is_err());
    }
}
