//! Files that are made of objects, and replaced all at once when these change.
//!
//! ```text
//! <volume>/..<number>/a    the files
//! <volume>/..data          symbolic link to the directory above; replaced by one rename
//! <volume>/a               symbolic link to ..data/a
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::Value;

use super::{Origins, failed};
use crate::env::{Sources, field, resource};
use crate::field::{items, text};

/// The mode of files that say none.
const MODE: u32 = 0o644;
/// Seconds that a token is good for, if nobody says.
const TOKEN_S: i64 = 3600;

/// Files by their paths, with their modes.
pub(crate) type Files = BTreeMap<String, (Vec<u8>, u32)>;

/// The files of a volume, if it is one that is made of objects.
///
/// # Errors
/// What is missing.
pub(crate) fn of(
    pod: &Value,
    volume: &Value,
    origins: &dyn Origins,
) -> Result<Option<Files>, String> {
    for kind in ["configMap", "secret", "downwardAPI"] {
        if volume[kind].is_object() {
            let mode = mode(&volume[kind]["defaultMode"], MODE);
            return source(pod, (kind, &volume[kind]), mode, origins).map(Some);
        }
    }
    let projected = &volume["projected"];
    if !projected.is_object() {
        return Ok(None);
    }
    let default = mode(&projected["defaultMode"], MODE);
    let mut files = Files::new();
    for part in items(projected, "sources") {
        for kind in ["configMap", "secret", "downwardAPI", "serviceAccountToken"] {
            if part[kind].is_object() {
                files.extend(source(pod, (kind, &part[kind]), default, origins)?);
            }
        }
        if part["clusterTrustBundle"].is_object() || part["podCertificate"].is_object() {
            return Err("clusterTrustBundle and podCertificate are not supported".to_owned());
        }
    }
    Ok(Some(files))
}

fn mode(value: &Value, default: u32) -> u32 {
    value.as_u64().and_then(|mode| u32::try_from(mode).ok()).unwrap_or(default) & 0o7777
}

fn source(
    pod: &Value,
    (kind, source): (&str, &Value),
    default: u32,
    origins: &dyn Origins,
) -> Result<Files, String> {
    match kind {
        "downwardAPI" => downward(pod, source, default, origins),
        "serviceAccountToken" => {
            let seconds = source["expirationSeconds"].as_i64().unwrap_or(TOKEN_S);
            let token = origins.token(text(source, &["audience"]), seconds)?;
            let path = checked(text(source, &["path"]))?;
            Ok([(path, (token.into_bytes(), default))].into())
        }
        kind => data(kind, source, default, origins),
    }
}

/// The entries of a `ConfigMap` or `Secret`: all, or those that are named.
fn data(kind: &str, source: &Value, default: u32, from: &dyn Sources) -> Result<Files, String> {
    let (kind, word) = match kind {
        "configMap" => ("ConfigMap", "configmap"),
        _ => ("Secret", "secret"),
    };
    let name = match text(source, &["secretName"]) {
        "" => text(source, &["name"]),
        name => name,
    };
    let is_optional = source["optional"] == true;
    let Some(data) = from.data(kind, name) else {
        return match is_optional {
            true => Ok(Files::new()),
            false => Err(format!("{word} \"{name}\" not found")),
        };
    };
    if source["items"].is_null() {
        return Ok(data.into_iter().map(|(key, value)| (key, (value, default))).collect());
    }
    let mut files = Files::new();
    for item in items(source, "items") {
        let key = text(item, &["key"]);
        match data.get(key) {
            Some(value) => {
                let path = checked(text(item, &["path"]))?;
                files.insert(path, (value.clone(), mode(&item["mode"], default)));
            }
            None if is_optional => {}
            None => return Err(format!("references non-existent {word} key: {key}")),
        }
    }
    Ok(files)
}

fn downward(
    pod: &Value,
    source: &Value,
    default: u32,
    from: &dyn Sources,
) -> Result<Files, String> {
    let mut files = Files::new();
    for item in items(source, "items") {
        let value = match item["fieldRef"].is_object() {
            true => {
                let path = text(&item["fieldRef"], &["fieldPath"]);
                field(pod, path, from).ok_or_else(|| format!("unsupported fieldPath: {path}"))?
            }
            false => resource(pod, &Value::Null, &item["resourceFieldRef"], from)?,
        };
        let path = checked(text(item, &["path"]))?;
        files.insert(path, (value.into_bytes(), mode(&item["mode"], default)));
    }
    Ok(files)
}

fn checked(path: &str) -> Result<String, String> {
    let is_bad = path.is_empty()
        || path.starts_with('/')
        || path.starts_with("..")
        || path.split('/').any(|part| part == "..");
    if is_bad { Err(format!("the path {path:?} leaves its volume")) } else { Ok(path.to_owned()) }
}

/// Makes a directory show files, all at once; nothing is written if it does already. Whoever has it
/// mounted can only read it, so that the links in it are ours.
///
/// # Errors
/// Of the file system.
pub(crate) fn write(place: &Path, files: &Files, group: Option<i64>) -> Result<(), String> {
    let data = place.join("..data");
    let old = fs::read_link(&data).ok();
    if old.is_some() && is_same(&data, files) {
        return Ok(());
    }
    let fail = |error: std::io::Error| failed("write files below", place, error);
    fs::create_dir_all(place).map_err(fail)?;
    let number = jiff::Timestamp::now().as_nanosecond();
    let fresh = format!("..{number}");
    let directory = place.join(&fresh);
    fs::create_dir(&directory).map_err(fail)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).map_err(fail)?;
    for (path, (content, mode)) in files {
        write_one(&directory.join(path), content, *mode, group).map_err(fail)?;
    }
    let link = place.join("..data_tmp");
    let _ = fs::remove_file(&link);
    symlink(&fresh, &link).map_err(fail)?;
    fs::rename(&link, &data).map_err(fail)?;
    let tops: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for top in &tops {
        let shown = place.join(top);
        if fs::symlink_metadata(&shown).is_err() {
            symlink(Path::new("..data").join(top), &shown).map_err(fail)?;
        }
    }
    for entry in fs::read_dir(place).map_err(fail)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !tops.contains(&*name) {
            fs::remove_file(entry.path()).map_err(fail)?;
        }
    }
    if let Some(old) = old {
        // What stays takes room and nothing else.
        let _ = fs::remove_dir_all(place.join(old));
    }
    Ok(())
}

fn write_one(path: &Path, content: &[u8], mode: u32, group: Option<i64>) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, content)?;
    let mut mode = mode;
    if let Some(group) = group.and_then(|group| u32::try_from(group).ok()) {
        std::os::unix::fs::chown(path, None, Some(group))?;
        // The group reads what its owner does.
        mode |= (mode & 0o400) >> 3;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn is_same(data: &Path, files: &Files) -> bool {
    let same = |(path, (content, mode)): (&String, &(Vec<u8>, u32))| {
        let path = data.join(path);
        let found = fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & *mode == *mode);
        found && fs::read(&path).is_ok_and(|bytes| bytes == *content)
    };
    files.iter().all(same) && count(data) == files.len()
}

fn count(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_at_once() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("v");
        let file = |text: &str| (text.as_bytes().to_vec(), 0o640);
        let one: Files = [("a".to_owned(), file("1")), ("d/b".to_owned(), file("2"))].into();
        write(&place, &one, None).unwrap();
        assert_eq!(fs::read_to_string(place.join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(place.join("d/b")).unwrap(), "2");
        assert_eq!(fs::metadata(place.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        let before = fs::read_link(place.join("..data")).unwrap();
        write(&place, &one, None).unwrap();
        assert_eq!(fs::read_link(place.join("..data")).unwrap(), before);
        let two: Files = [("c".to_owned(), file("3"))].into();
        write(&place, &two, None).unwrap();
        assert!(fs::symlink_metadata(place.join("a")).is_err());
        assert_eq!(fs::read_to_string(place.join("c")).unwrap(), "3");
        assert!(!place.join(before).exists());
    }

    #[test]
    fn paths_stay_in_their_volume() {
        for bad in ["", "/a", "..data", "a/../b"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
        assert_eq!(checked("a/b").unwrap(), "a/b");
    }
}
