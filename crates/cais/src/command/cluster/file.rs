//! Objects in files, directories, on standard input and behind addresses.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use client::Https;
use client::https::{Authority, Identity};
use serde_json::Value;

use super::{Outcome, Trouble, get};

/// The largest input, in bytes.
const BYTES_MAX: u64 = 64 << 20;

/// Where objects are read.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Files {
    /// Files, directories or addresses of objects; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) filename: Vec<String>,
    /// Look into directories of directories
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
}

/// An object, and where it stood.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) object: Value,
    pub(crate) place: String,
}

impl Document {
    pub(crate) fn no_such_kind(&self) -> Trouble {
        let word = |field: &str| self.object[field].as_str().unwrap_or_default();
        Trouble::local(format!(
            "resource mapping not found for name: \"{}\" namespace: \"{}\" from \"{}\": no matches for kind \"{}\" in version \"{}\"\nensure CRDs are installed first",
            super::name(&self.object),
            super::namespace(&self.object),
            self.place,
            word("kind"),
            word("apiVersion"),
        ))
    }
}

impl Files {
    pub(crate) fn is_empty(&self) -> bool {
        self.filename.is_empty()
    }

    /// All objects, in order.
    pub(crate) fn read(&self) -> Outcome<Vec<Document>> {
        let mut all = Vec::new();
        for place in &self.filename {
            if place == "-" {
                let mut text = String::new();
                let read = std::io::stdin().take(BYTES_MAX).read_to_string(&mut text);
                read.map_err(|error| Trouble::local(format!("read standard input: {error}")))?;
                documents(&text, "STDIN", &mut all)?;
            } else if place.starts_with("http://") || place.starts_with("https://") {
                documents(&fetch(place)?, place, &mut all)?;
            } else {
                for path in self.paths(Path::new(place))? {
                    let text = std::fs::read_to_string(&path).map_err(|error| {
                        Trouble::local(format!("read {}: {error}", path.display()))
                    })?;
                    documents(&text, &path.display().to_string(), &mut all)?;
                }
            }
        }
        Ok(all)
    }

    /// The file, or those of a directory.
    fn paths(&self, place: &Path) -> Outcome<Vec<PathBuf>> {
        let missing =
            |_| Trouble::local(format!("the path \"{}\" does not exist", place.display()));
        if !std::fs::metadata(place).map_err(missing)?.is_dir() {
            return Ok(vec![place.to_owned()]);
        }
        let (mut all, mut left) = (Vec::new(), vec![place.to_owned()]);
        while let Some(directory) = left.pop() {
            let bad = |error| Trouble::local(format!("read {}: {error}", directory.display()));
            for entry in std::fs::read_dir(&directory).map_err(bad)? {
                let path = entry.map_err(bad)?.path();
                let is_object = path
                    .extension()
                    .is_some_and(|own| ["json", "yaml", "yml"].iter().any(|known| own == *known));
                match path.is_dir() {
                    true if self.recursive => left.push(path),
                    false if is_object => all.push(path),
                    _ => {}
                }
            }
        }
        all.sort();
        match all.is_empty() {
            true => Err(Trouble::local(format!(
                "error reading [{}]: recognized file extensions are [.json .yaml .yml]",
                place.display()
            ))),
            false => Ok(all),
        }
    }
}

fn fetch(address: &str) -> Outcome<String> {
    let (scheme, rest) = address.split_once("://").unwrap_or(("https", address));
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    let server =
        Https::new(&format!("{scheme}://{place}"), &Authority::System, Identity::default())?;
    let answer = server.open(&get(format!("/{path}"), "*/*"))?;
    if answer.code() != 200 {
        let code = answer.code();
        let why =
            format!("unable to read URL \"{address}\", server reported {code}, status code={code}");
        return Err(Trouble::local(why));
    }
    let bytes = answer.bytes(BYTES_MAX).map_err(|error| Trouble::local(error.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The objects of a text, which lines with three dashes divide; lists are what is in them.
fn documents(text: &str, place: &str, all: &mut Vec<Document>) -> Outcome<()> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        match line.strip_prefix("---") {
            Some(rest) if rest.trim().is_empty() || rest.starts_with([' ', '\t']) => {
                let rest = rest.trim();
                let rest = if rest.starts_with('#') { "" } else { rest };
                parts.push(format!("{rest}\n"));
            }
            _ => {
                let last = parts.last_mut().expect("there is a part");
                last.push_str(line);
                last.push('\n');
            }
        }
    }
    for part in parts {
        let bad = |error| Trouble::local(format!("error parsing {place}: {error}"));
        let object = objects::yaml::parse(&part).map_err(bad)?;
        if !object.is_null() {
            add(object, place, all)?;
        }
    }
    Ok(())
}

fn add(mut object: Value, place: &str, all: &mut Vec<Document>) -> Outcome<()> {
    let is_set = |field: &str| object[field].as_str().is_some_and(|word| !word.is_empty());
    let lacking: Vec<String> = ["apiVersion", "kind"]
        .iter()
        .filter(|field| !is_set(field))
        .map(|field| format!("{field} not set"))
        .collect();
    if !lacking.is_empty() {
        let lacking = match &lacking[..] {
            [only] => only.clone(),
            all => format!("[{}]", all.join(", ")),
        };
        return Err(Trouble::local(format!(
            "error validating \"{place}\": error validating data: {lacking}; if you choose to ignore these errors, turn validation off with --validate=false"
        )));
    }
    if let (true, Value::Array(items)) =
        (object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")), object["items"].take())
    {
        return items.into_iter().try_for_each(|item| add(item, place, all));
    }
    all.push(Document { object, place: place.to_owned() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_several_objects() {
        let text = "# a\n---\napiVersion: v1\nkind: A\n--- # b\n\n---\n\
            {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: B}]}\n";
        let mut all = Vec::new();
        documents(text, "f", &mut all).unwrap();
        let kinds: Vec<&str> = all.iter().filter_map(|one| one.object["kind"].as_str()).collect();
        assert_eq!(kinds, ["A", "B"]);
        let error = documents("kind: A\n", "f", &mut all).unwrap_err().words();
        assert!(error.contains("apiVersion not set"), "{error}");
    }
}
