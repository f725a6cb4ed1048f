//! Configurations, secrets, and whatever has no layout of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::{Outcome, word};
use super::Subject;
use super::page::{Page, sorted};

/// Words in names of fields that are written in capital letters.
const ACRONYMS: &[&str] = &["API", "URL", "UID", "OSB", "GUID"];
/// What is shown at the top.
const SHOWN: &[&str] = &[
    ".metadata.managedFields",
    ".metadata.name",
    ".metadata.namespace",
    ".metadata.labels",
    ".metadata.annotations",
];

pub(super) fn config_map(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    page.head(of);
    page.labels_of(of);
    page.line(0, "");
    page.line(0, "Data");
    page.line(0, "====");
    for (key, value) in sorted(&of["data"]) {
        page.line(0, &format!("{key}:"));
        page.line(0, "----");
        page.line(0, value);
        page.line(0, "");
    }
    page.line(0, "");
    page.line(0, "BinaryData");
    page.line(0, "====");
    for (key, value) in sorted(&of["binaryData"]) {
        let length = STANDARD.decode(value).map_or(0, |bytes| bytes.len());
        page.line(0, &format!("{key}: {length} bytes"));
    }
    page.line(0, "");
    Ok(())
}

pub(super) fn secret(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    let of = subject.object;
    page.head(of);
    page.labels_of(of);
    page.line(0, "");
    page.field(0, "Type", word(of, "/type"));
    page.line(0, "");
    page.line(0, "Data");
    page.line(0, "====");
    for (key, value) in sorted(&of["data"]) {
        let bytes = STANDARD.decode(value).unwrap_or_default();
        let is_token = word(of, "/type") == "kubernetes.io/service-account-token" && key == "token";
        match is_token {
            true => page.field(0, key, String::from_utf8_lossy(&bytes)),
            false => page.field(0, key, format!("{} bytes", bytes.len())),
        }
    }
    Ok(())
}

pub(super) fn any(subject: &Subject<'_>, page: &mut Page) -> Outcome<()> {
    page.head(subject.object);
    page.labels_of(subject.object);
    fields(page, 0, subject.object, "");
    Ok(())
}

fn fields(page: &mut Page, level: usize, of: &Value, place: &str) {
    let mut all: Vec<(&String, &Value)> = of.as_object().into_iter().flatten().collect();
    all.sort_by_key(|(key, _)| *key);
    for (key, value) in all {
        let place = format!("{place}.{key}");
        if SHOWN.contains(&place.as_str()) {
            continue;
        }
        match value {
            Value::Object(_) => {
                page.line(level, &format!("{}:", label(key)));
                fields(page, level + 1, value, &place);
            }
            Value::Array(items) => {
                page.line(level, &format!("{}:", label(key)));
                for item in items {
                    match item {
                        Value::Object(_) => fields(page, level + 1, item, &place),
                        item => page.line(level + 1, &text(item)),
                    }
                }
            }
            value => page.field(level, &label(key), text(value)),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// `apiVersion` as `API Version`.
fn label(field: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let letters: Vec<char> = field.chars().collect();
    for (at, letter) in letters.iter().enumerate() {
        let begins = letter.is_uppercase()
            && at > 0
            && (letters[at - 1].is_lowercase()
                || letters.get(at + 1).is_some_and(|next| next.is_lowercase()));
        match words.last_mut() {
            Some(word) if !begins => word.push(*letter),
            _ => words.push(letter.to_string()),
        }
    }
    let capital = |word: String| {
        let upper = word.to_uppercase();
        if ACRONYMS.contains(&upper.as_str()) {
            return upper;
        }
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_uppercase().collect::<String>());
        first.unwrap_or_default() + letters.as_str()
    };
    words.into_iter().map(capital).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_names_for_people() {
        assert_eq!(label("apiVersion"), "API Version");
        assert_eq!(label("creationTimestamp"), "Creation Timestamp");
        assert_eq!(label("uid"), "UID");
        assert_eq!(label("clusterIP"), "Cluster IP");
    }
}
