//! Rows through `--format`: a table, JSON lines, or a template of the user's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Map, Value};

use super::printable_line;
use crate::template::{self, Mode, Template};

/// Narrowest column of a table, in characters.
const WIDTH_MIN: usize = 10;
/// Spaces between columns.
const PADDING: usize = 3;

/// What is shown of one object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// The object `.` stands for.
    pub(crate) fields: Value,
    /// What `.Label "key"` looks up.
    pub(crate) labels: BTreeMap<String, String>,
}

impl Row {
    /// The same, with all text as it may be shown in a cell, as most is anyway.
    fn printable(&self) -> Cow<'_, Self> {
        if is_printable(&self.fields) && self.labels.values().all(|value| is_plain(value)) {
            return Cow::Borrowed(self);
        }
        let label =
            |(key, value): (&String, &String)| (key.clone(), printable_line(value).into_owned());
        let labels = self.labels.iter().map(label).collect();
        Cow::Owned(Self { fields: printable(&self.fields), labels })
    }
}

fn is_plain(text: &str) -> bool {
    matches!(printable_line(text), Cow::Borrowed(_))
}

fn is_printable(value: &Value) -> bool {
    match value {
        Value::String(text) => is_plain(text),
        Value::Array(values) => values.iter().all(is_printable),
        Value::Object(fields) => fields.values().all(is_printable),
        _ => true,
    }
}

fn printable(value: &Value) -> Value {
    match value {
        Value::String(text) => printable_line(text).into(),
        Value::Array(values) => values.iter().map(printable).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.clone(), printable(value))).collect()
        }
        other => other.clone(),
    }
}

impl From<Value> for Row {
    fn from(fields: Value) -> Self {
        Self { fields, labels: BTreeMap::new() }
    }
}

/// A parsed `--format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A template whose tabs separate columns, under a line of headers.
    Table(String),
    /// One object a line.
    Json,
    /// One line an item.
    Template(String),
}

/// Why rows could not be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderError {
    /// The user's template is wrong.
    #[error(transparent)]
    Template(#[from] template::Error),
    /// The output is gone.
    #[error("write output")]
    Write(#[from] io::Error),
}

impl Format {
    /// Reads the value of `--format`; without one, and for plain `table`, `default_table` is taken.
    ///
    /// In a table's template `\t` and `\n` may be spelt with a backslash, since shells pass them so.
    pub(crate) fn parse(value: Option<&str>, default_table: &str) -> Self {
        let spelt = |text: &str| text.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n");
        let value = value.unwrap_or_default();
        match value.strip_prefix("table") {
            _ if value.is_empty() => Self::Table(spelt(default_table)),
            Some(template) if template.trim().is_empty() => Self::Table(spelt(default_table)),
            Some(template) => Self::Table(spelt(template)),
            None if value == "json" => Self::Json,
            None => Self::Template(spelt(value)),
        }
    }
}

/// Writes `rows`; `headers` names the header of every field a table may show.
///
/// # Errors
/// A template that does not parse or does not fit the rows, which a field no row has does not, and
/// what `out` answers.
/// Nothing is written unless every row could be shown.
pub(crate) fn render(
    out: &mut dyn Write,
    format: &Format,
    headers: &[(&str, &str)],
    rows: &[Row],
) -> Result<(), RenderError> {
    let text = match format {
        Format::Table(template) => columns(&table(template, headers, rows)?),
        Format::Json => body("{{json .}}", rows.iter().map(Cow::Borrowed))?,
        Format::Template(template) => body(template, rows.iter().map(Cow::Borrowed))?,
    };
    Ok(out.write_all(text.as_bytes())?)
}

fn table(template: &str, headers: &[(&str, &str)], rows: &[Row]) -> Result<String, RenderError> {
    let named: Map<String, Value> =
        headers.iter().map(|(field, header)| ((*field).to_owned(), (*header).into())).collect();
    let mut text = String::new();
    Template::parse(template)?.mode(Mode::Header).execute(&Value::Object(named), &mut text)?;
    text.push('\n');
    text.push_str(&body(template, rows.iter().map(Row::printable))?);
    Ok(text)
}

fn body<'a>(
    template: &str,
    rows: impl Iterator<Item = Cow<'a, Row>>,
) -> Result<String, RenderError> {
    let template = Template::parse(template)?.mode(Mode::Strict);
    let mut text = String::new();
    for row in rows {
        template.execute_labelled(&row.fields, &row.labels, &mut text)?;
        text.push('\n');
    }
    Ok(text)
}

/// Aligns the cells that tabs end, as Go's `text/tabwriter` does with Docker's settings.
///
/// A column is a run of neighbouring lines that have a cell there, so that a line with fewer cells
/// parts the columns above it from those below. What follows a line's last tab is in no column.
fn columns(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let most = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..most {
        let mut start = 0;
        while start < lines.len() {
            let run = lines[start..].iter().take_while(|cells| cells.len() > column + 1).count();
            let width = width(&lines[start..start + run], column);
            for line in &mut widths[start..start + run] {
                line[column] = width;
            }
            start += run + 1;
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        line(&mut out, cells, widths);
    }
    out
}

fn width(lines: &[Vec<&str>], column: usize) -> usize {
    let cells = lines.iter().map(|cells| cells[column].chars().count() + PADDING);
    cells.fold(WIDTH_MIN, usize::max)
}

fn line(out: &mut String, cells: &[&str], widths: &[usize]) {
    for (index, cell) in cells.iter().enumerate() {
        out.push_str(cell);
        let width = widths.get(index).copied().unwrap_or(0);
        out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HEADERS: &[(&str, &str)] =
        &[("ID", "CONTAINER ID"), ("Names", "NAMES"), ("Status", "STATUS"), ("Size", "SIZE")];

    fn rows() -> Vec<Row> {
        let labels = BTreeMap::from([("com.example.my-key".to_owned(), "seven".to_owned())]);
        let fields = json!({"ID": "4c01db0b339c", "Names": "web", "Status": "Up 2 hours"});
        let other = json!({"ID": "x", "Names": "a-much-longer-name", "Status": ""});
        vec![Row { fields, labels }, other.into()]
    }

    fn check(format: Option<&str>, expected: &str) {
        let mut out = Vec::new();
        let format = Format::parse(format, "{{.ID}}\\t{{.Names}}\\t{{.Status}}");
        render(&mut out, &format, HEADERS, &rows()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn every_kind_of_format() {
        let default = "CONTAINER ID   NAMES                STATUS\n\
                       4c01db0b339c   web                  Up 2 hours\n\
                       x              a-much-longer-name   \n";
        check(None, default);
        check(Some("table"), default);
        check(Some("{{.ID}}"), "4c01db0b339c\nx\n");
        check(Some("{{.ID}}\\t{{.Names}}"), "4c01db0b339c\tweb\nx\ta-much-longer-name\n");
        check(
            Some("json"),
            "{\"ID\":\"4c01db0b339c\",\"Names\":\"web\",\"Status\":\"Up 2 hours\"}\n\
             {\"ID\":\"x\",\"Names\":\"a-much-longer-name\",\"Status\":\"\"}\n",
        );
    }

    #[test]
    fn headers_keep_their_case_and_padding() {
        check(
            Some("table {{upper .Names}}\\t{{truncate .ID 4}}\\t{{json .Names}}"),
            "NAMES                CONTAINER ID   NAMES\n\
             WEB                  4c01           \"web\"\n\
             A-MUCH-LONGER-NAME   x              \"a-much-longer-name\"\n",
        );
        check(Some("table {{pad .ID 1 2}}|"), " CONTAINER ID  |\n 4c01db0b339c  |\n x  |\n");
    }

    #[test]
    fn labels_are_looked_up_and_head_their_column() {
        check(
            Some("table {{.ID}}\\t{{.Label \"com.example.my-key\"}}"),
            "CONTAINER ID   my key\n4c01db0b339c   seven\nx              \n",
        );
    }

    #[test]
    fn a_bad_template_writes_nothing() {
        for (template, reason) in [
            ("{{.ID}}{{.ID.x}}", "<.ID.x>: can't evaluate field x in type interface {}"),
            ("{{.ID}}{{.ID_of}}", "<.ID_of>: map has no entry for key \"ID_of\""),
        ] {
            let mut out = Vec::new();
            let format = Format::parse(Some(template), "");
            let error = render(&mut out, &format, HEADERS, &rows()).unwrap_err().to_string();
            assert!(error.starts_with("template parsing error: template: :1:"), "{error}");
            assert!(error.ends_with(reason), "{error}");
            assert!(out.is_empty());
        }
    }

    #[test]
    fn an_empty_list_still_has_headers() {
        let mut out = Vec::new();
        let format = Format::parse(None, "{{.ID}}\t{{.Names}}");
        render(&mut out, &format, HEADERS, &[]).unwrap();
        assert_eq!(out, b"CONTAINER ID   NAMES\n");
    }

    /// Each pair was produced by Go's `tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)`.
    #[test]
    fn columns_align_as_in_go() {
        for (text, expected) in [
            ("a\tb\tc\n", "a         b         c\n"),
            ("a\tb\n\nlong cell here\tx\n", "a         b\n\nlong cell here   x\n"),
            (
                "a\tb\tc\nno tabs\nx\tyyyyyyyyyyyyy\tz\n",
                "a         b         c\nno tabs\nx         yyyyyyyyyyyyy   z\n",
            ),
            ("é\tü\nlänger als zehn\tx\n", "é                 ü\nlänger als zehn   x\n"),
            ("a\t\tb\n\t\tc\n", "a                   b\n                    c\n"),
            (
                "1\t2\t3\t4\n1\t2\n1\t2222222222\t3\t4\n",
                "1         2         3         4\n1         2\n1         2222222222   3         4\n",
            ),
            ("exactly7\tx\n", "exactly7   x\n"),
            ("seven77\tx\n", "seven77   x\n"),
        ] {
            assert_eq!(columns(text), expected, "{text:?}");
        }
    }
}
