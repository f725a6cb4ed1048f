//! Lines of a description: a level of indentation, a name, and behind a tab a value.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::super::columns::Columns;
use super::super::{list, word};

/// The longest annotation on one line, in bytes.
const ANNOTATION_BYTES_MAX: usize = 140;
/// What kubectl keeps in objects that it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A description as it grows.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// A line, with a blank pair in front for each level.
    pub(super) fn line(&mut self, level: usize, text: &str) {
        self.text.extend(std::iter::repeat_n("  ", level));
        self.text += text;
        self.text.push('\n');
    }

    /// A name and its value.
    pub(super) fn field(&mut self, level: usize, name: &str, value: impl std::fmt::Display) {
        self.line(level, &format!("{name}:\t{value}"));
    }

    /// The same, if there is a value.
    pub(super) fn field_if(&mut self, level: usize, name: &str, value: &str) {
        if !value.is_empty() {
            self.field(level, name, value);
        }
    }

    /// Labels, one below the other.
    pub(super) fn labels(&mut self, indent: &str, name: &str, labels: &Value) {
        let lines = sorted(labels).into_iter().map(|(key, value)| format!("{key}={value}"));
        self.below(indent, name, lines.collect());
    }

    /// Values, one below the other.
    pub(super) fn below(&mut self, indent: &str, name: &str, lines: Vec<String>) {
        if lines.is_empty() {
            return self.line(0, &format!("{indent}{name}:\t<none>"));
        }
        for (at, line) in lines.into_iter().enumerate() {
            let head = if at == 0 { format!("{indent}{name}:") } else { String::new() };
            self.line(0, &format!("{head}\t{line}"));
        }
    }

    /// Annotations, one below the other, long ones below their names.
    pub(super) fn annotations(&mut self, indent: &str, annotations: &Value) {
        let mut all = sorted(annotations);
        all.remove(LAST_APPLIED);
        let mut lines = Vec::new();
        for (key, value) in all {
            let value = value.strip_suffix('\n').unwrap_or(value);
            if key.len() + value.len() + 2 <= ANNOTATION_BYTES_MAX && !value.contains('\n') {
                lines.push(format!("{key}: {value}"));
                continue;
            }
            lines.push(format!("{key}:"));
            let most = ANNOTATION_BYTES_MAX - 2;
            lines.extend(value.split('\n').map(|line| format!("  {}", shortened(line, most))));
        }
        self.below(indent, "Annotations", lines);
    }

    /// Name, namespace and labels, which nearly all kinds begin with.
    pub(super) fn head(&mut self, object: &Value) {
        self.field(0, "Name", word(object, "/metadata/name"));
        self.field(0, "Namespace", word(object, "/metadata/namespace"));
    }

    pub(super) fn labels_of(&mut self, object: &Value) {
        self.labels("", "Labels", &object["metadata"]["labels"]);
        self.annotations("", &object["metadata"]["annotations"]);
    }

    /// Who controls an object, if anybody does.
    pub(super) fn controller(&mut self, object: &Value) {
        if let Some(owner) = owner(object) {
            let (kind, name) = (word(owner, "/kind"), word(owner, "/name"));
            self.field(0, "Controlled By", format!("{kind}/{name}"));
        }
    }

    /// Conditions with the columns that are wanted; some kinds have a blank behind the first.
    pub(super) fn conditions(&mut self, object: &Value, columns: &[(&str, &str)], blank: &str) {
        let conditions: Vec<&Value> = list(object, "/status/conditions").collect();
        if conditions.is_empty() {
            return;
        }
        let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
        let rules: Vec<String> = heads.iter().map(|head| "-".repeat(head.len())).collect();
        self.line(0, "Conditions:");
        self.line(1, &heads.join("\t"));
        self.line(1, &rules.join("\t"));
        for condition in conditions {
            let cell = |(at, (_, field)): (usize, &(&str, &str))| {
                let value = word(condition, field);
                match (at, *field) {
                    (0, _) => format!("{value}{blank}"),
                    (_, field) if field.ends_with("Time") => time(value),
                    _ => value.to_owned(),
                }
            };
            let cells: Vec<String> = columns.iter().enumerate().map(cell).collect();
            self.line(1, &cells.join("\t"));
        }
    }

    /// Lines as they are, with tabs.
    pub(super) fn bare(&self) -> String {
        crate::output::printable(&self.text).into_owned()
    }

    /// Lines set in columns.
    pub(super) fn set(&self) -> String {
        crate::output::printable(&Columns::of_descriptions().set(&self.text)).into_owned()
    }
}

/// Whoever controls an object.
pub(super) fn owner(object: &Value) -> Option<&Value> {
    list(object, "/metadata/ownerReferences").find(|owner| owner["controller"] == true)
}

/// Texts by their keys.
pub(super) fn sorted(map: &Value) -> BTreeMap<&str, &str> {
    let fields = map.as_object().into_iter().flatten();
    fields.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default())).collect()
}

fn shortened(text: &str, most: usize) -> String {
    let end = text.char_indices().nth(most).map(|(at, _)| at);
    end.map_or(text.to_owned(), |end| format!("{}...", &text[..end]))
}

/// A time as RFC 1123 has it, in this machine's zone.
pub(super) fn time(text: &str) -> String {
    let Ok(time) = text.parse::<Timestamp>() else { return text.to_owned() };
    let time = jiff::ZonedDateTime::new(time, TimeZone::system());
    time.strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
}

/// A number, 0 if it is not there.
pub(super) fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// A number or a text, or what stands for neither.
pub(super) fn scalar(value: &Value, pointer: &str, none: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => none.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// A truth, false if it is not there.
pub(super) fn truth(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}
