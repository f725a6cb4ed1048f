//! What a file asks for that whoever calls must grant: it is often somebody else's. As with buildx,
//! that is entitlements, and files beyond the directory that is worked in.

use std::path::{Component, Path};

use engine::{Error, Kind, Result};
use serde_json::Value;

use super::Target;

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Write,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Demands that everything that a target asks for is among `granted`.
pub(super) fn check(granted: &[String], target: &Target) -> Result<()> {
    let mut rights = texts(target.get("entitlements"));
    if let Some(right) = rights.find(|right| !granted.iter().any(|known| known == right)) {
        return Err(Error::new(Kind::Denied, format!("the file asks for {right}"))
            .hint(format!("--allow {right} grants it")));
    }
    let own = std::env::current_dir().and_then(std::fs::canonicalize);
    let own = own.map_err(|error| Error::caused(Kind::Invalid, "find this directory", error))?;
    let mut paths = target.iter().flat_map(|(key, value)| paths(key, value));
    match paths
        .find(|(way, path)| !is_below(&own, &own, path) && !is_granted(granted, &own, *way, path))
    {
        None => Ok(()),
        Some((way, path)) => {
            let way = way.name();
            let message = format!("the file asks to {way} {path}, which is not in here");
            Err(Error::new(Kind::Denied, message)
                .hint(format!("--allow fs.{way}={path} grants it, --allow fs=* everything")))
        }
    }
}

/// Whether one of `granted` is a directory that a path is in: `fs=DIR`, `fs.read=DIR`, `fs.write=DIR`.
fn is_granted(granted: &[String], own: &Path, way: Way, path: &str) -> bool {
    let places = granted.iter().filter_map(|right| match right.split_once('=')? {
        ("fs", place) => Some(place),
        (right, place) => (right.strip_prefix("fs.")? == way.name()).then_some(place),
    });
    let mut places = places.filter(|place| !place.is_empty());
    places.any(|place| {
        let real = || std::fs::canonicalize(own.join(place));
        place == "*" || real().is_ok_and(|real| is_below(own, &real, path))
    })
}

/// The paths that an attribute of a target leads to, and what is done there.
fn paths<'a>(key: &str, value: &'a Value) -> Vec<(Way, &'a str)> {
    let texts = texts(Some(value));
    match key {
        "context" | "contexts" | "dockerfile" => {
            texts.filter_map(place).map(|path| (Way::Read, path)).collect()
        }
        "output" | "secret" | "cache-to" | "cache-from" | "ssh" => {
            let is_written = matches!(key, "output" | "cache-to");
            let way = if is_written { Way::Write } else { Way::Read };
            let fields = texts.flat_map(|text| text.split(','));
            fields.filter_map(field).map(|path| (way, path)).collect()
        }
        _ => Vec::new(),
    }
}

/// The path of a context, if it is one of this machine.
fn place(text: &str) -> Option<&str> {
    let path = text.strip_prefix("oci-layout://").unwrap_or(text);
    let is_elsewhere = path.contains("://")
        || path.starts_with("target:")
        || path == "-"
        || build::GitSource::parse(path).is_some();
    (!is_elsewhere).then_some(path)
}

/// The path in a field of an option: `src=PATH`, `default=PATH`, or `PATH` alone.
fn field(text: &str) -> Option<&str> {
    match text.split_once('=') {
        Some(("src" | "source" | "dest" | "default", path)) => Some(path),
        Some(_) => None,
        None => text.contains('/').then_some(text),
    }
}

fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let all: Vec<&Value> = match value {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(Value::Object(map)) => map.values().collect(),
        value => value.into_iter().collect(),
    };
    all.into_iter().filter_map(Value::as_str)
}

/// Whether a path, seen from `own`, leads to a place below a directory, wherever links lead.
fn is_below(own: &Path, directory: &Path, path: &str) -> bool {
    let path = own.join(path);
    // What is not there yet is made below what is.
    let there = path.ancestors().find(|part| part.symlink_metadata().is_ok());
    let Some(there) = there else { return false };
    let mut rest = path.strip_prefix(there).map(Path::components).into_iter().flatten();
    let climbs = rest.any(|part| part == Component::ParentDir);
    !climbs && std::fs::canonicalize(there).is_ok_and(|real| real.starts_with(directory))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn denies(granted: &[&str], target: Value) -> bool {
        let granted: Vec<String> = granted.iter().map(|right| (*right).to_owned()).collect();
        check(&granted, &serde_json::from_value(target).unwrap()).is_err()
    }

    #[test]
    fn what_others_write_is_granted_or_denied() {
        for target in [
            json!({ "entitlements": ["security.insecure"] }),
            json!({ "context": "/" }),
            json!({ "context": ".." }),
            json!({ "contexts": { "a": "oci-layout:///var" } }),
            json!({ "dockerfile": "/etc/shadow" }),
            json!({ "secret": ["id=a,src=/root/.ssh/id_rsa"] }),
            json!({ "output": ["type=local,dest=/etc"] }),
            json!({ "output": ["/etc"] }),
            json!({ "cache-to": ["type=local,dest=../x"] }),
        ] {
            assert!(denies(&[], target.clone()), "{target}");
            assert!(!denies(&["fs=*", "security.insecure"], target));
        }
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().display().to_string();
        let grants = |right: &str| vec![format!("{right}={place}")];
        let denies_with = |granted: &[String], target: &Value| {
            let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
            denies(&granted, target.clone())
        };
        let read = json!({ "context": format!("{place}/sub") });
        let written = json!({ "output": [format!("type=local,dest={place}/out")] });
        let beside = json!({ "context": format!("{place}-beside") });
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        for (right, reads, writes) in
            [("fs", true, true), ("fs.read", true, false), ("fs.write", false, true)]
        {
            assert_eq!(denies_with(&grants(right), &read), !reads, "{right}");
            assert_eq!(denies_with(&grants(right), &written), !writes, "{right}");
            assert!(denies_with(&grants(right), &beside), "{right}");
        }
        assert!(!denies_with(&["fs.read=*".into()], &beside));
        assert!(denies_with(&["fs.write=*".into(), "fs=".into()], &beside));
        for target in [
            json!({ "context": "." }),
            json!({ "context": "https://example.com/a.git#main" }),
            json!({ "contexts": { "a": "docker-image://busybox", "b": "target:c" } }),
            json!({ "output": ["type=docker"], "tags": ["a/b"] }),
            json!({ "output": ["type=registry"], "secret": ["id=a,env=A"] }),
            json!({ "cache-from": ["type=registry,ref=localhost/a/b"], "output": ["out/new"] }),
        ] {
            assert!(!denies(&[], target.clone()), "{target}");
        }
    }
}
