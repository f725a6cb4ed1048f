//! `--cache-from` and `--cache-to`, in buildx's spelling.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::{CacheTarget, Error, Kind, Place, Result, cache_in_registry};

/// What a cache in a directory is called there, as BuildKit does.
const TAG: &str = "latest";
/// Kinds that BuildKit knows.
const ELSEWHERE: &[&str] = &["gha", "s3", "azblob"];

/// Where caches come from: `type=registry,ref=NAME`, `type=local,src=DIR`, or a name alone.
pub(super) fn sources(given: &[String]) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for text in given {
        let mut fields = Fields::read("--cache-from", text)?;
        let place = match fields.kind.as_str() {
            "registry" => cache_in_registry(&fields.need("ref")?)?,
            "local" => {
                let path = PathBuf::from(fields.need("src")?);
                let tag = fields.take("tag").unwrap_or_else(|| TAG.to_owned());
                Place::Layout { path, label: Some(tag) }
            }
            "inline" => {
                return Err(Error::invalid("a cache in an image is had with type=registry")
                    .hint("--cache-from type=registry,ref=IMAGE"));
            }
            kind => return Err(unknown(kind)),
        };
        fields.end()?;
        places.push(place);
    }
    Ok(places)
}

/// Where caches go to.
pub(super) fn targets(given: &[String]) -> Result<Vec<CacheTarget>> {
    let mut targets = Vec::new();
    for text in given {
        let mut fields = Fields::read("--cache-to", text)?;
        let place = match fields.kind.as_str() {
            "registry" => Some(cache_in_registry(&fields.need("ref")?)?),
            "local" => {
                let path = PathBuf::from(fields.need("dest")?);
                let tag = fields.take("tag").unwrap_or_else(|| TAG.to_owned());
                Some(Place::Layout { path, label: Some(tag) })
            }
            "inline" => None,
            kind => return Err(unknown(kind)),
        };
        let is_max = match fields.take("mode").as_deref() {
            None | Some("min") => false,
            Some("max") if place.is_some() => true,
            Some("max") => {
                return Err(Error::invalid("a cache in an image has only the image's own steps")
                    .hint("type=registry with a ref of its own takes mode=max"));
            }
            Some(mode) => return Err(Error::invalid(format!("invalid mode {mode:?} of a cache"))),
        };
        let may_fail = fields.boolean("ignore-error")?.unwrap_or(false);
        // An OCI manifest with gzip is the one form there is.
        for (name, expected) in [("oci-mediatypes", true), ("image-manifest", true)] {
            if fields.boolean(name)?.is_some_and(|value| value != expected) {
                let message = format!("{name}=false of --cache-to is not supported");
                return Err(
                    Error::new(Kind::Unsupported, message).hint("a cache is an OCI image manifest")
                );
            }
        }
        match fields.take("compression").as_deref() {
            None | Some("gzip") => {}
            Some(other) => {
                let message = format!("compression={other} of --cache-to is not supported");
                return Err(Error::new(Kind::Unsupported, message).hint("there is gzip"));
            }
        }
        fields.end()?;
        targets.push(CacheTarget { place, is_max, may_fail });
    }
    Ok(targets)
}

fn unknown(kind: &str) -> Error {
    let hint = "there are registry, local and inline";
    match ELSEWHERE.contains(&kind) {
        true => {
            let message = format!("a cache of type={kind} is not supported");
            Error::new(Kind::Unsupported, message).hint(hint)
        }
        false => Error::invalid(format!("unknown type {kind:?} of a cache")).hint(hint),
    }
}

/// `key=value,…`, or a name alone.
struct Fields {
    flag: &'static str,
    kind: String,
    fields: BTreeMap<String, String>,
}

impl Fields {
    fn read(flag: &'static str, text: &str) -> Result<Self> {
        if !text.contains('=') {
            let fields = BTreeMap::from([("ref".to_owned(), text.to_owned())]);
            return Ok(Self { flag, kind: "registry".to_owned(), fields });
        }
        let mut fields = BTreeMap::new();
        for field in text.split(',') {
            let Some((key, value)) = field.split_once('=') else {
                return Err(Error::invalid(format!("invalid value {field} of {flag}")));
            };
            fields.insert(key.trim().to_lowercase(), value.to_owned());
        }
        let Some(kind) = fields.remove("type") else {
            return Err(Error::invalid(format!("type is required for {flag} {text}")));
        };
        Ok(Self { flag, kind, fields })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.fields.remove(name)
    }

    fn need(&mut self, name: &str) -> Result<String> {
        self.take(name).filter(|value| !value.is_empty()).ok_or_else(|| {
            let (flag, kind) = (self.flag, &self.kind);
            Error::invalid(format!("{name} is required for {flag} type={kind}"))
        })
    }

    fn boolean(&mut self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Error::invalid(format!("invalid value {value:?} of {name}"))),
        }
    }

    /// What is left is not known.
    fn end(self) -> Result<()> {
        let Some((key, _)) = self.fields.first_key_value() else { return Ok(()) };
        let message = format!("{key} of {} type={} is not supported", self.flag, self.kind);
        Err(Error::new(Kind::Unsupported, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_named_as_with_buildx() {
        let layout = |path: &str, tag: &str| Place::Layout {
            path: path.into(),
            label: Some(tag.to_owned()),
        };
        let from = |text: &str| sources(&[text.to_owned()]).unwrap().remove(0);
        let registry = cache_in_registry("localhost:5000/c:1").unwrap();
        assert_eq!(from("localhost:5000/c:1"), registry);
        assert_eq!(from("type=registry,ref=localhost:5000/c:1"), registry);
        assert_eq!(from("type=local,src=dir"), layout("dir", "latest"));
        let to = |text: &str| targets(&[text.to_owned()]).unwrap().remove(0);
        let expected = CacheTarget { place: Some(layout("d", "t")), is_max: true, may_fail: true };
        assert_eq!(to("type=local,dest=d,tag=t,mode=max,ignore-error=true"), expected);
        let inline = CacheTarget { place: None, is_max: false, may_fail: false };
        assert_eq!(to("type=inline"), inline);
        for wrong in [
            "type=gha",
            "type=x",
            "ref=a",
            "type=local",
            "type=registry",
            "type=inline,mode=max",
            "type=local,dest=d,mode=most",
            "type=local,dest=d,odd=1",
            "type=local,dest=d,compression=zstd",
            "type=local,dest=d,x",
        ] {
            assert!(targets(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
        for wrong in ["type=inline", "type=gha", "type=local,dest=d", "UPPER"] {
            assert!(sources(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
