//! Identifiers: random, 64 hexadecimal digits.

use rustix::rand::GetRandomFlags;

use crate::error::{Doing, Result};

/// Digits of an id.
pub(crate) const LENGTH: usize = 2 * BYTES;
const BYTES: usize = 32;

/// A fresh id.
pub(crate) fn fresh() -> Result<String> {
    Ok(random::<BYTES>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Bytes from the kernel's random source.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    // So few bytes come at once (random(7)).
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())
        .doing(|| "read random bytes".into())?;
    Ok(bytes)
}
