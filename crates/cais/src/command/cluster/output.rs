//! Forms in which objects are printed: `-o json`, `yaml`, `name`, `jsonpath`, `custom-columns` and
//! `go-template`.

use serde_json::{Map, Value, json};

use super::columns::Columns;
use super::jsonpath::{Path, Template, shown};
use super::kind::Kinds;
use super::{Outcome, Trouble, name, yaml};

/// What objects are printed as.
#[derive(Debug)]
pub(crate) enum Form {
    /// A table of the server's.
    Table {
        is_wide: bool,
    },
    Json,
    Yaml,
    Name,
    JsonPath(Template),
    /// As one text of JSON.
    JsonPathAsJson(Path),
    Columns(Vec<(String, Path)>, bool),
    GoTemplate(crate::template::Template),
}

const FORMS: &str = "custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,name,template,templatefile,wide,yaml";

impl Form {
    /// Reads what follows `-o`.
    pub(crate) fn parse(text: Option<&str>, has_headers: bool) -> Outcome<Self> {
        let text = text.unwrap_or_default();
        let (form, argument) = match text.split_once('=') {
            Some((form, argument)) => (form, argument),
            None => (text, ""),
        };
        let from_file = || {
            std::fs::read_to_string(argument).map_err(|error| {
                Trouble::local(format!("error reading --template {argument}, {error}"))
            })
        };
        Ok(match form {
            "" => Self::Table { is_wide: false },
            "wide" => Self::Table { is_wide: true },
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            "name" => Self::Name,
            "jsonpath" if argument.is_empty() => {
                return Err(Trouble::local("template format specified but no template given"));
            }
            "jsonpath" => Self::JsonPath(Template::parse(argument)?),
            "jsonpath-file" => Self::JsonPath(Template::parse(&from_file()?)?),
            "jsonpath-as-json" => Self::JsonPathAsJson(Path::parse(argument)?),
            "custom-columns" => Self::Columns(columns(argument)?, has_headers),
            "custom-columns-file" => Self::Columns(columns_of_file(&from_file()?)?, has_headers),
            "go-template" | "template" => go_template(argument)?,
            "go-template-file" | "templatefile" => go_template(&from_file()?)?,
            _ => {
                return Err(Trouble::local(format!(
                    "unable to match a printer suitable for the output format \"{text}\", allowed formats are: {FORMS}"
                )));
            }
        })
    }

    /// Prints an object, or a list of them, that need no table.
    pub(crate) fn print(&self, object: &Value, kinds: &Kinds) -> Outcome<String> {
        Ok(match self {
            Self::Table { .. } => String::new(),
            Self::Json => json(object) + "\n",
            Self::Yaml => yaml::write(object),
            Self::Name => names(object, kinds),
            Self::JsonPath(template) => template.print(object),
            Self::JsonPathAsJson(path) => json(&Value::Array(path.all(object))) + "\n",
            Self::Columns(columns, has_headers) => table(columns, *has_headers, object),
            Self::GoTemplate(template) => {
                let mut out = String::new();
                template.execute(object, &mut out).map_err(|error| {
                    Trouble::local(format!("error executing template: {error}"))
                })?;
                out
            }
        })
    }

    /// Whether the whole object is shown, so that who owns its fields is left out.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }
}

fn go_template(text: &str) -> Outcome<Form> {
    let parsed = crate::template::Template::parse(text);
    parsed
        .map(Form::GoTemplate)
        .map_err(|error| Trouble::local(format!("error parsing template {text}, {error}")))
}

/// `NAME:PATH,…`
fn columns(text: &str) -> Outcome<Vec<(String, Path)>> {
    if text.is_empty() {
        return Err(Trouble::local("custom-columns format specified but no custom columns given"));
    }
    let column = |part: &str| {
        let (header, path) = part.split_once(':').ok_or_else(|| {
            Trouble::local(format!(
                "unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>"
            ))
        })?;
        Ok((header.to_owned(), Path::parse(path)?))
    };
    text.split(',').map(column).collect()
}

/// A line of names over a line of paths.
fn columns_of_file(text: &str) -> Outcome<Vec<(String, Path)>> {
    let mut lines = text.lines();
    let (headers, paths) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let (headers, paths): (Vec<_>, Vec<_>) =
        (headers.split_whitespace().collect(), paths.split_whitespace().collect());
    if headers.len() != paths.len() || headers.is_empty() {
        let why = format!(
            "number of headers ({}) and field specifications ({}) don't match",
            headers.len(),
            paths.len()
        );
        return Err(Trouble::local(why));
    }
    let pair = |(header, path): (&&str, &&str)| Ok(((*header).to_owned(), Path::parse(path)?));
    headers.iter().zip(&paths).map(pair).collect()
}

fn table(columns: &[(String, Path)], has_headers: bool, object: &Value) -> String {
    let mut text = String::new();
    if has_headers {
        let headers: Vec<&str> = columns.iter().map(|(header, _)| header.as_str()).collect();
        text += &(headers.join("\t") + "\n");
    }
    for item in items(object) {
        let cell = |(_, path): &(String, Path)| {
            let found: Vec<String> = path.all(item).iter().map(cell).collect();
            if found.is_empty() { "<none>".to_owned() } else { found.join(",") }
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        text += &(cells.join("\t") + "\n");
    }
    Columns::of_tables().set(&text)
}

/// As Go prints a value with `%v`.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Array(items) => {
            let all: Vec<String> = items.iter().map(cell).collect();
            format!("[{}]", all.join(" "))
        }
        Value::Object(fields) => {
            let mut all: Vec<(&String, String)> =
                fields.iter().map(|(k, v)| (k, cell(v))).collect();
            all.sort();
            let all: Vec<String> =
                all.iter().map(|(key, value)| format!("{key}:{value}")).collect();
            format!("map[{}]", all.join(" "))
        }
        value => shown(value),
    }
}

/// The objects of a list, or the one object.
pub(crate) fn items(object: &Value) -> Vec<&Value> {
    match object["items"]
        .as_array()
        .filter(|_| object["kind"].as_str().is_some_and(|k| k.ends_with("List")))
    {
        Some(items) => items.iter().collect(),
        None => vec![object],
    }
}

fn names(object: &Value, kinds: &Kinds) -> String {
    let line = |item: &&Value| format!("{}\n", reference(item, kinds));
    items(object).iter().map(line).collect()
}

/// `deployment.apps/web`
pub(crate) fn reference(object: &Value, kinds: &Kinds) -> String {
    let kind = match kinds.of(object) {
        Some(kind) => kind.short(),
        None => {
            let group =
                object["apiVersion"].as_str().and_then(|v| v.split_once('/')).map(|(g, _)| g);
            let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
            group.map_or(kind.clone(), |group| format!("{kind}.{group}"))
        }
    };
    format!("{kind}/{}", name(object))
}

/// A list of objects of any kinds.
pub(crate) fn list(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "items": Value::Array(items), "kind": "List", "metadata": {"resourceVersion": ""}})
}

/// Leaves out who owns which fields.
pub(crate) fn without_managers(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        without_managers(item);
    }
}

/// Fields by their names, as Go's JSON has them.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            let pairs = keys.into_iter().map(|key| (key.clone(), sorted(&fields[key])));
            Value::Object(pairs.collect::<Map<String, Value>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        value => value.clone(),
    }
}

/// Signs that Go writes as numbers, so that JSON may stand in a page.
fn escaped(text: &str) -> String {
    let text = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    text.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// JSON on one line.
pub(crate) fn compact(value: &Value) -> String {
    sorted(value).to_string()
}

/// JSON, indented by four blanks.
pub(crate) fn json(value: &Value) -> String {
    use serde::Serialize as _;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // A value is always JSON, and memory takes all of it.
    let _ = sorted(value).serialize(&mut serializer);
    escaped(&String::from_utf8_lossy(&bytes))
}

#[cfg(test)]
mod tests {
    use super::super::kind::tests::some;
    use super::*;

    #[test]
    fn objects_have_many_forms() {
        let object = json!({
            "kind": "Deployment", "apiVersion": "apps/v1",
            "metadata": {"name": "web", "labels": {"b": "<c>"}},
        });
        let print =
            |form: &str| Form::parse(Some(form), true).unwrap().print(&object, &some()).unwrap();
        assert_eq!(print("name"), "deployment.apps/web\n");
        assert!(print("json").contains("\"b\": \"\\u003cc\\u003e\""));
        assert_eq!(print("jsonpath={.metadata.name}"), "web");
        assert_eq!(print("go-template={{.metadata.name}}"), "web");
        assert_eq!(
            print("custom-columns=N:.metadata.name,L:.metadata.labels,X:.x"),
            "N     L            X\nweb   map[b:<c>]   <none>\n"
        );
        let error = Form::parse(Some("nonsense"), true).unwrap_err().words();
        assert!(error.contains("allowed formats are"), "{error}");
    }
}
