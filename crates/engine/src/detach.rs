//! The keys by which a user leaves a command that goes on without them.

/// A sequence of keys, and how much of it has been typed.
#[derive(Debug)]
pub struct DetachKeys {
    keys: Vec<u8>,
    typed: usize,
}

impl DetachKeys {
    /// No sequence is never typed.
    #[must_use]
    pub fn new(keys: &[u8]) -> Self {
        Self { keys: keys.to_vec(), typed: 0 }
    }

    /// What to pass on of the bytes that were read from the terminal, and whether the sequence is
    /// complete now. Keys that may be its beginning are held back.
    pub fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(bytes.len());
        for &key in bytes {
            if self.keys.get(self.typed) == Some(&key) {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.keys[..self.typed]);
            self.typed = usize::from(self.keys.first() == Some(&key));
            if self.typed == 0 {
                passed.push(key);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &[&[u8]], passed: &[u8], detached: bool) {
        let mut keys = DetachKeys::new(&[16, 17]);
        let mut all = Vec::new();
        let mut left = false;
        for piece in typed {
            let (bytes, end) = keys.filter(piece);
            all.extend(bytes);
            left |= end;
        }
        assert_eq!((all.as_slice(), left), (passed, detached), "{typed:?}");
    }

    #[test]
    fn detach_keys_are_found_in_one_piece_and_in_two() {
        check(&[b"ab\x10\x11"], b"ab", true);
        check(&[b"a\x10", b"\x11"], b"a", true);
        check(&[b"a\x10b"], b"a\x10b", false);
        check(&[b"\x10\x10\x11"], b"\x10", true);
    }
}
