//! Whole objects, as `docker inspect` shows them.

use std::io::Write;

use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::table::RenderError;
use crate::template::{Mode, Template};

/// Writes `values`: without a format as an indented JSON array, for `json` as one on a single line,
/// else each through the template, in which a missing key is an error.
///
/// # Errors
/// A template that does not parse or does not fit a value, and what `out` answers.
/// The values that fit are written even so, as Docker does.
pub(crate) fn inspect(
    out: &mut dyn Write,
    format: Option<&str>,
    values: &[Value],
) -> Result<(), RenderError> {
    let (text, error) = match format.unwrap_or_default() {
        "" => (indented(values)?, None),
        "json" => shown(&Template::parse("{{json .}}")?, &[values.into()]),
        template => shown(&Template::parse(template)?.mode(Mode::Strict), values),
    };
    out.write_all(text.as_bytes())?;
    error.map_or(Ok(()), Err)
}

fn shown(template: &Template, values: &[Value]) -> (String, Option<RenderError>) {
    let mut text = String::new();
    let mut first = None;
    for value in values {
        let start = text.len();
        match template.execute(value, &mut text) {
            Ok(()) => text.push('\n'),
            Err(error) => {
                text.truncate(start);
                first = first.or(Some(error.into()));
            }
        }
    }
    (text, first)
}

/// Docker indents by four spaces.
fn indented(values: &[Value]) -> Result<String, RenderError> {
    let mut text = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    values.serialize(&mut serializer).map_err(std::io::Error::from)?;
    text.push(b'\n');
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(format: Option<&str>, expected: &str, reason: Option<&str>) {
        let values = [json!({"Id": "a", "Size": 1.0, "Tags": []}), json!({"Id": "b<"})];
        let mut out = Vec::new();
        let error = inspect(&mut out, format, &values).err().map(|error| error.to_string());
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{format:?}");
        match (&error, reason) {
            (None, None) => {}
            (Some(error), Some(reason)) if error.ends_with(reason) => {}
            _ => panic!("{format:?}: {error:?}"),
        }
    }

    #[test]
    fn every_format() {
        let indented = "[\n    {\n        \"Id\": \"a\",\n        \"Size\": 1.0,\n        \
            \"Tags\": []\n    },\n    {\n        \"Id\": \"b<\"\n    }\n]\n";
        check(None, indented, None);
        check(Some("json"), "[{\"Id\":\"a\",\"Size\":1,\"Tags\":[]},{\"Id\":\"b<\"}]\n", None);
        check(Some("{{.Id}}"), "a\nb<\n", None);
        check(Some("{{json .Id}}"), "\"a\"\n\"b<\"\n", None);
        check(Some("{{.Size}}"), "1\n", Some("map has no entry for key \"Size\""));
        check(Some("{{.Id"), "", Some("template: :1: unclosed action"));
        let mut out = Vec::new();
        inspect(&mut out, None, &[]).unwrap();
        assert_eq!(out, b"[]\n");
    }
}
