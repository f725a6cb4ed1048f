//! `--annotation [LEVEL[,LEVEL…]:]KEY=VALUE`

use std::collections::BTreeMap;

use engine::{Error, Kind, Result};

/// Keys and values.
pub(super) type Pairs = BTreeMap<String, String>;

/// What is said of an image besides its configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Annotations {
    /// Of each manifest.
    pub(super) manifest: Pairs,
    /// Of the index.
    pub(super) index: Pairs,
    /// Of each manifest, in the index.
    pub(super) manifest_descriptor: Pairs,
}

impl Annotations {
    pub(super) fn parse(given: &[String]) -> Result<Self> {
        let mut all = Self::default();
        for text in given {
            let (key, value) =
                text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
                    Error::invalid(format!("invalid annotation {text:?}, expected key=value"))
                        .hint("as in --annotation org.opencontainers.image.title=app")
                })?;
            let (levels, key) = levels(key);
            for level in levels.split(',') {
                let pairs = match level {
                    "manifest" => &mut all.manifest,
                    "index" => &mut all.index,
                    "manifest-descriptor" => &mut all.manifest_descriptor,
                    level => {
                        let message = format!("annotations of type {level:?} are not supported");
                        let hint = "there are manifest, index and manifest-descriptor";
                        return Err(Error::new(Kind::Unsupported, message).hint(hint));
                    }
                };
                pairs.insert(key.to_owned(), value.to_owned());
            }
        }
        Ok(all)
    }

    /// Refuses what only an index can have.
    pub(super) fn without_index(&self) -> Result<()> {
        match self.index.is_empty() && self.manifest_descriptor.is_empty() {
            true => Ok(()),
            false => {
                Err(Error::invalid("index annotations not supported for single platform export")
                    .hint("an index is made where --platform has several platforms"))
            }
        }
    }
}

/// What is before the colon of a key, if that says where it goes.
fn levels(key: &str) -> (&str, &str) {
    let is_level = |text: &str| {
        text.split(',').all(|level| {
            let name = level.split('[').next().unwrap_or(level);
            matches!(name, "manifest" | "index" | "manifest-descriptor" | "index-descriptor")
        })
    };
    match key.split_once(':') {
        Some((levels, key)) if is_level(levels) => (levels, key),
        _ => ("manifest", key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_say_where_they_go() {
        let parse = |text: &str| Annotations::parse(&[text.to_owned()]);
        let pairs = |key: &str| Pairs::from([(key.to_owned(), "v".to_owned())]);
        let plain = parse("a.b:c=v").unwrap();
        assert_eq!(plain, Annotations { manifest: pairs("a.b:c"), ..Annotations::default() });
        let both = parse("index,manifest:a=v").unwrap();
        let expected =
            Annotations { manifest: pairs("a"), index: pairs("a"), ..Annotations::default() };
        assert_eq!(both, expected);
        assert!(both.without_index().is_err() && plain.without_index().is_ok());
        for wrong in ["a", "=v", "index-descriptor:a=v", "manifest[linux/amd64]:a=v"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
