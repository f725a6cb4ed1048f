//! Tables of objects: the server makes the rows, kubectl's way of showing them is here.

use serde_json::Value;

use super::columns::Columns;
use super::word;

/// What asks for a table.
pub(crate) const ACCEPT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

/// How tables are shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct How {
    pub(crate) is_wide: bool,
    pub(crate) no_headers: bool,
    pub(crate) with_namespace: bool,
    /// What stands before names: `deployment.apps`.
    pub(crate) kind: Option<String>,
    pub(crate) show_labels: bool,
    pub(crate) labels: Vec<String>,
}

/// A table as it grows: rows after rows, with a head each time the columns are others.
#[derive(Debug)]
pub(crate) struct Sheet {
    columns: Columns,
    heads: Option<Vec<String>>,
    text: String,
}

impl Sheet {
    pub(crate) fn new(columns: Columns) -> Self {
        Self { columns, heads: None, text: String::new() }
    }

    /// Adds the rows of a table, each with cells in front.
    pub(crate) fn add(&mut self, table: &Value, how: &How, front: &[(&str, &str)]) {
        let definitions: Vec<&Value> = super::list(table, "/columnDefinitions").collect();
        let is_shown = |of: &Value| how.is_wide || of["priority"].as_i64().unwrap_or(0) == 0;
        let mut heads: Vec<String> = front.iter().map(|(head, _)| (*head).to_owned()).collect();
        if how.with_namespace {
            heads.push("NAMESPACE".to_owned());
        }
        let shown = definitions.iter().filter(|of| is_shown(of));
        heads.extend(shown.map(|of| word(of, "/name").to_uppercase()));
        let last = |label: &String| label.rsplit('/').next().unwrap_or_default().to_uppercase();
        heads.extend(how.labels.iter().map(last));
        if how.show_labels {
            heads.push("LABELS".to_owned());
        }
        if self.heads.as_ref() != Some(&heads) {
            if !how.no_headers {
                self.text += &(heads.join("\t") + "\n");
            }
            self.heads = Some(heads);
        }
        for row in super::list(table, "/rows") {
            let mut cells: Vec<String> = front.iter().map(|(_, cell)| (*cell).to_owned()).collect();
            cells.extend(self::cells(row, &definitions, how));
            self.text += &(cells.join("\t") + "\n");
        }
    }

    /// What has been added since the last time, set in columns.
    pub(crate) fn take(&mut self) -> String {
        let text = std::mem::take(&mut self.text);
        if text.is_empty() { text } else { self.columns.set(&text) }
    }
}

fn cells(row: &Value, definitions: &[&Value], how: &How) -> Vec<String> {
    let mut cells = Vec::new();
    if how.with_namespace {
        cells.push(word(row, "/object/metadata/namespace").to_owned());
    }
    for (definition, value) in definitions.iter().zip(super::list(row, "/cells")) {
        if !how.is_wide && definition["priority"].as_i64().unwrap_or(0) != 0 {
            continue;
        }
        let is_name = definition["format"] == "name" && definition["type"] == "string";
        cells.push(match (&how.kind, is_name) {
            (Some(kind), true) => format!("{kind}/{}", cell(value)),
            _ => cell(value),
        });
    }
    let labels = &row["object"]["metadata"]["labels"];
    let label = |name: &String| labels[name].as_str().unwrap_or_default().to_owned();
    cells.extend(how.labels.iter().map(label));
    if how.show_labels {
        cells.push(pairs(labels, ",").unwrap_or_else(|| "<none>".to_owned()));
    }
    cells
}

/// A cell, as far as its first line goes.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let text = match text.find(['\u{c}', '\n', '\r']) {
        Some(end) => format!("{}...", &text[..end]),
        None => text,
    };
    crate::output::printable_line(&text).into_owned()
}

/// `a=b,c=d`, sorted; none without any.
pub(crate) fn pairs(labels: &Value, between: &str) -> Option<String> {
    let fields = labels.as_object().filter(|fields| !fields.is_empty())?;
    let mut pairs: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort();
    Some(pairs.join(between))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_shown_as_they_are_asked_for() {
        let table = json!({
            "columnDefinitions": [
                {"name": "Name", "type": "string", "format": "name", "priority": 0},
                {"name": "Ready", "type": "integer", "format": "", "priority": 0},
                {"name": "IP", "type": "string", "format": "", "priority": 1},
            ],
            "rows": [{
                "cells": ["x", 1, null],
                "object": {"metadata": {"namespace": "n", "labels": {"app": "a", "b": "c"}}},
            }],
        });
        let show = |how: How| {
            let mut sheet = Sheet::new(Columns::of_tables());
            sheet.add(&table, &how, &[]);
            sheet.take()
        };
        assert_eq!(show(How::default()), "NAME   READY\nx      1\n");
        let wide = How { is_wide: true, with_namespace: true, ..How::default() };
        assert_eq!(show(wide), "NAMESPACE   NAME   READY   IP\nn           x      1       \n");
        let labelled = How {
            labels: vec!["e/app".to_owned()],
            show_labels: true,
            kind: Some("pod".to_owned()),
            no_headers: true,
            ..How::default()
        };
        assert_eq!(show(labelled), "pod/x   1           app=a,b=c\n");
    }
}
