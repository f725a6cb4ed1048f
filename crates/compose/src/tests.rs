//! Whole projects, from text to what comes of them.

mod creating;
mod loading;
mod planning;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{Error, Project, Request};

/// Files by their names below `/p`, of which the first is the project's.
pub(crate) fn load_all(files: &[(&str, &str)], profiles: &[&str]) -> Result<Project, Error> {
    let own = files.iter().filter(|(name, _)| name.starts_with("compose"));
    let own: Vec<(PathBuf, String)> =
        own.map(|(name, text)| (Path::new("/p").join(name), (*text).to_owned())).collect();
    let read = |path: &Path| {
        let found = files.iter().find(|(name, _)| Path::new("/p").join(name) == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    };
    let environment = BTreeMap::from([("TAG".to_owned(), "1.2".to_owned())]);
    let request = Request {
        files: own,
        directory: "/p".into(),
        name: None,
        environment,
        interpolates: true,
        home: "/home/u".into(),
        read: &read,
    };
    let profiles: Vec<String> = profiles.iter().map(|profile| (*profile).to_owned()).collect();
    Project::load(&request, &profiles)
}

pub(crate) fn load(text: &str) -> Project {
    load_all(&[("compose.yaml", text)], &[]).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn failure(text: &str) -> String {
    match load_all(&[("compose.yaml", text)], &[]) {
        Ok(project) => format!("no failure: {}", crate::yaml(&project.model())),
        Err(error) => match error.hint_text() {
            Some(hint) => format!("{error} [{hint}]"),
            None => error.to_string(),
        },
    }
}
