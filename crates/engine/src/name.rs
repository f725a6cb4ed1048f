//! Names of containers: random ones, and which ones are valid.

use crate::error::{Error, Result};

const ADJECTIVES: &[&str] = &[
    "able", "amber", "brave", "bright", "brisk", "calm", "clever", "cosy", "crisp", "curious",
    "daring", "eager", "early", "fair", "fearless", "fond", "frank", "gentle", "glad", "golden",
    "happy", "hardy", "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid",
    "lucky", "mellow", "merry", "mighty", "modest", "nimble", "noble", "patient", "placid",
    "plucky", "polite", "proud", "quick", "quiet", "ready", "serene", "sharp", "silent", "sincere",
    "sleek", "smart", "steady", "sturdy", "sunny", "swift", "tidy", "vivid", "warm", "wise",
    "witty",
];

/// People of computing and of the sea.
const SURNAMES: &[&str] = &[
    "allen",
    "backus",
    "bartik",
    "bell",
    "boole",
    "cabral",
    "cerf",
    "church",
    "codd",
    "cook",
    "dias",
    "dijkstra",
    "easley",
    "engelbart",
    "erlang",
    "feinler",
    "floyd",
    "gama",
    "goldberg",
    "goldwasser",
    "hamilton",
    "hamming",
    "hoare",
    "holberton",
    "hopper",
    "johnson",
    "kahn",
    "kay",
    "keldysh",
    "kernighan",
    "knuth",
    "lamport",
    "liskov",
    "lovelace",
    "magellan",
    "mccarthy",
    "meitner",
    "milner",
    "moore",
    "naur",
    "nunes",
    "perlis",
    "perlman",
    "postel",
    "ritchie",
    "sammet",
    "shannon",
    "spence",
    "stroustrup",
    "thompson",
    "torvalds",
    "turing",
    "wilkes",
    "wirth",
    "yao",
    "zuse",
];

/// A random name, as in `brave_hopper`; `attempt` above 0 adds a digit, for crowded machines.
pub(crate) fn random(attempt: u32) -> Result<String> {
    let [a, b, c, d] = crate::id::random::<4>()?;
    let adjective = ADJECTIVES[usize::from(u16::from_ne_bytes([a, b])) % ADJECTIVES.len()];
    let surname = SURNAMES[usize::from(u16::from_ne_bytes([c, d])) % SURNAMES.len()];
    let digits = if attempt == 0 { String::new() } else { (attempt + u32::from(a)).to_string() };
    Ok(format!("{adjective}_{surname}{digits}"))
}

/// Accepts what Docker accepts: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn validate(name: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && (2..=200).contains(&name.len()) && name.bytes().all(good) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    ))
    .hint("a name has 2 to 200 characters and starts with a letter or a digit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_names_are_valid() {
        for attempt in 0..50 {
            validate(&random(attempt).unwrap()).unwrap();
        }
    }

    #[test]
    fn names_that_could_be_paths_or_flags_are_refused() {
        for name in ["", "a", "-a", ".a", "a/b", "a b", "..", "é1", &"x".repeat(201)] {
            assert!(validate(name).is_err(), "{name}");
        }
    }
}
