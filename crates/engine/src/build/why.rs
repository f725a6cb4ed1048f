//! Why the steps of the last build were done, or were not.
//!
//! What each step depended on is kept by build; the next build of the same Dockerfile is compared
//! with it.

use std::collections::BTreeMap;

use build::{Difference, Key};
use oci::Digest;
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::error::{Kind, Result};
use crate::file::{read_json, write_shared_json};

/// Of the files of one step that are kept by name.
pub(crate) const FILES_MAX: usize = 10_000;
/// Of the files that are named as changed.
const SHOWN_MAX: usize = 10;

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Its outcome was known.
    Cached,
    /// It was done since it is the first of its kind: nothing is known to compare it with.
    First,
    /// It was done since it was asked for anew.
    Asked,
    /// It was done since what it left was removed meanwhile.
    Removed,
    /// It was done since something differs.
    Changed {
        /// What it is called in the key.
        field: String,
        /// What it was.
        before: Option<String>,
        /// What it is.
        after: Option<String>,
        /// The files that differ, the first of them, each with `A`, `C` or `D` before its name.
        files: Vec<String>,
    },
}

/// A step of the last build, and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Explained {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub verdict: Verdict,
    key: Key,
    /// The digests of its context's files, if they are not too many.
    files: BTreeMap<String, String>,
}

/// The steps of a build, and those of the build before.
#[derive(Debug, Default)]
pub(crate) struct Account {
    name: String,
    before: Vec<Explained>,
    now: Vec<Explained>,
}

impl Account {
    /// Takes down a step whose outcome is known, or not.
    pub(crate) fn add(
        &mut self,
        name: &str,
        key: &Key,
        files: BTreeMap<String, String>,
        (is_known, is_asked): (bool, bool),
    ) {
        let verdict = match (is_known, is_asked) {
            (true, _) => Verdict::Cached,
            (_, true) => Verdict::Asked,
            _ => self.compare(name, key, &files),
        };
        self.now.push(Explained { name: name.to_owned(), verdict, key: key.clone(), files });
    }

    /// Compares with the step of the same name, else with that at the same place.
    fn compare(&self, name: &str, key: &Key, files: &BTreeMap<String, String>) -> Verdict {
        let place = |name: &str| name.split_once('/').map(|(place, _)| place.to_owned());
        let mut same = self.before.iter().filter(|old| old.name == name);
        let by_place = || self.before.iter().find(|old| place(&old.name) == place(name));
        let Some(old) = same.next().or_else(by_place) else { return Verdict::First };
        match old.key.difference(key) {
            None => Verdict::Removed,
            Some(Difference { field, before, after }) => {
                Verdict::Changed { field, before, after, files: changed(&old.files, files) }
            }
        }
    }
}

/// The names of files that differ.
fn changed(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let mut found: BTreeMap<&String, char> = BTreeMap::new();
    for (name, digest) in new {
        match old.get(name) {
            None => drop(found.insert(name, 'A')),
            Some(before) if before != digest => drop(found.insert(name, 'C')),
            Some(_) => {}
        }
    }
    found.extend(old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name, 'D')));
    found.into_iter().take(SHOWN_MAX).map(|(name, how)| format!("{how} {name}")).collect()
}

impl Engine {
    /// An account of a build of the Dockerfile with this name, and what the last one left.
    pub(crate) fn open_account(&self, name: &str) -> Result<Account> {
        let name = format!("{}.json", Digest::of(name.as_bytes()).hex());
        // What cannot be read says nothing.
        let before = read_json(&self.build_dir("last")?.join(&name)).unwrap_or_default();
        Ok(Account { name, before, now: Vec::new() })
    }

    pub(crate) fn close_account(&self, account: &Account) -> Result<()> {
        write_shared_json(&self.build_dir("last")?, &account.name, &account.now)
    }

    /// The steps of the last build of the Dockerfile with this name ([`crate::BuildOptions::name`]).
    ///
    /// # Errors
    /// [`Kind::NotFound`] if there was none.
    pub fn why_cache(&self, name: &str) -> Result<Vec<Explained>> {
        let file = format!("{}.json", Digest::of(name.as_bytes()).hex());
        read_json(&self.root.join("build/last").join(file)).map_err(|error| match error.kind() {
            Kind::NotFound => {
                crate::Error::new(Kind::NotFound, format!("no build of {name} is known"))
                    .hint("`cais build` makes one")
            }
            _ => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fields: &[(&str, &str)]) -> Key {
        let fields = fields.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Key::new(fields.collect())
    }

    #[test]
    fn the_first_difference_is_the_reason() {
        let files = |names: &[(&str, &str)]| -> BTreeMap<String, String> {
            names.iter().map(|(name, digest)| ((*name).into(), (*digest).into())).collect()
        };
        let mut old = Account::default();
        let nothing = BTreeMap::new;
        old.add(
            "[1/3] COPY a b",
            &key(&[("content.0", "1")]),
            files(&[("a", "1"), ("z", "1")]),
            (false, false),
        );
        old.add("[2/3] RUN x", &key(&[("run.args.2", "x")]), nothing(), (false, false));
        assert_eq!(old.now[0].verdict, Verdict::First);
        let mut new = Account { before: old.now, ..Account::default() };
        new.add(
            "[1/3] COPY a b",
            &key(&[("content.0", "2")]),
            files(&[("a", "2"), ("n", "1")]),
            (false, false),
        );
        new.add("[2/3] RUN y", &key(&[("run.args.2", "y")]), nothing(), (false, false));
        new.add("[2/3] RUN x", &key(&[("run.args.2", "x")]), nothing(), (false, false));
        new.add("[3/3] RUN z", &key(&[]), nothing(), (false, true));
        let verdict = |index: usize| new.now[index].verdict.clone();
        let changed = |field: &str, before: &str, after: &str, files: &[&str]| Verdict::Changed {
            field: field.into(),
            before: Some(before.into()),
            after: Some(after.into()),
            files: files.iter().map(|name| (*name).into()).collect(),
        };
        assert_eq!(verdict(0), changed("content.0", "1", "2", &["C a", "A n", "D z"]));
        assert_eq!(verdict(1), changed("run.args.2", "x", "y", &[]));
        assert_eq!((verdict(2), verdict(3)), (Verdict::Removed, Verdict::Asked));
    }
}
