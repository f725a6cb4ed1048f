//! Trees become text: YAML as Compose writes it, and JSON.

use serde_json::{Map as Object, Number, Value as Json};

use crate::node::{Kind, Map, Node, Value};
use crate::scalar;

/// A tree as JSON.
#[must_use]
pub fn json(node: &Node) -> Json {
    match &node.value {
        Value::Scalar(Kind::Null, _) => Json::Null,
        Value::Scalar(Kind::Bool, text) => Json::Bool(text == "true"),
        Value::Scalar(Kind::Int, text) => match scalar::integer(text) {
            Some(number) => Json::Number(number.into()),
            None => Json::String(text.clone()),
        },
        Value::Scalar(Kind::Float, text) => {
            let number = text.parse().ok().and_then(Number::from_f64);
            number.map_or_else(|| Json::String(text.clone()), Json::Number)
        }
        Value::Scalar(Kind::Text, text) => Json::String(text.clone()),
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(map) => {
            let entries = map.iter().map(|(key, node)| (key.to_owned(), json(node)));
            Json::Object(entries.collect::<Object<String, Json>>())
        }
    }
}

/// A tree as YAML, in blocks that are indented by two blanks.
#[must_use]
pub fn yaml(node: &Node) -> String {
    let mut out = String::new();
    match &node.value {
        Value::Map(map) if !map.is_empty() => entries(&mut out, map, 0),
        Value::List(items) if !items.is_empty() => elements(&mut out, items, 0),
        _ => {
            inline(&mut out, node, 0);
            out.push('\n');
        }
    }
    out
}

fn entries(out: &mut String, map: &Map, indent: usize) {
    for (key, node) in map.iter() {
        pad(out, indent);
        entry(out, key, node, indent);
    }
}

fn entry(out: &mut String, key: &str, node: &Node, indent: usize) {
    *out += &word(key);
    out.push(':');
    match &node.value {
        Value::Map(map) if !map.is_empty() => {
            out.push('\n');
            entries(out, map, indent + 2);
        }
        Value::List(items) if !items.is_empty() => {
            out.push('\n');
            elements(out, items, indent + 2);
        }
        _ => {
            out.push(' ');
            inline(out, node, indent);
            out.push('\n');
        }
    }
}

fn elements(out: &mut String, items: &[Node], indent: usize) {
    for node in items {
        pad(out, indent);
        *out += "- ";
        match &node.value {
            Value::Map(map) if !map.is_empty() => {
                for (index, (key, node)) in map.iter().enumerate() {
                    if index > 0 {
                        pad(out, indent + 2);
                    }
                    entry(out, key, node, indent + 2);
                }
            }
            Value::List(items) if !items.is_empty() => {
                out.push('\n');
                elements(out, items, indent + 2);
            }
            _ => {
                inline(out, node, indent);
                out.push('\n');
            }
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn inline(out: &mut String, node: &Node, indent: usize) {
    match &node.value {
        Value::Scalar(Kind::Null, _) => *out += "null",
        Value::Scalar(Kind::Text, text) if is_block(text) => block(out, text, indent + 2),
        Value::Scalar(Kind::Text, text) => *out += &word(text),
        Value::Scalar(_, text) => *out += text,
        Value::List(_) => *out += "[]",
        Value::Map(_) => *out += "{}",
    }
}

/// Whether a text is written as lines of its own.
fn is_block(text: &str) -> bool {
    text.trim_end_matches('\n').contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t')
}

fn block(out: &mut String, text: &str, indent: usize) {
    let body = text.trim_end_matches('\n');
    *out += match text.len() - body.len() {
        0 => "|-",
        1 => "|",
        _ => "|+",
    };
    let body = if text.len() - body.len() > 1 { &text[..text.len() - 1] } else { body };
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            pad(out, indent);
            *out += line;
        }
    }
}

/// A text, quoted where it would be read as something else.
fn word(text: &str) -> String {
    if text.chars().any(char::is_control) {
        return Json::String(text.to_owned()).to_string();
    }
    if is_plain(text) {
        return text.to_owned();
    }
    // What looks like another kind is quoted as Go's YAML does it; the rest keeps its backslashes.
    if scalar::kind(text) != Kind::Text || is_old_word(text) {
        return format!("\"{text}\"");
    }
    format!("'{}'", text.replace('\'', "''"))
}

fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let ends = text.starts_with(' ') || text.ends_with([' ', ':']);
    let indicator = ",[]{}#&*!|>'\"%@`".contains(first)
        || ("-?:".contains(first) && (text.len() == 1 || text[1..].starts_with(' ')));
    let inside = text.contains(": ") || text.contains(" #");
    let document = text.starts_with("---") || text.starts_with("...");
    !(ends || indicator || inside || document)
        && scalar::kind(text) == Kind::Text
        && !is_old_word(text)
        && text != "<<"
        && text != "="
}

/// What YAML 1.1 reads as a truth, a number of base 60 or a time.
fn is_old_word(text: &str) -> bool {
    const TRUTHS: &[&str] = &["y", "n", "yes", "no", "on", "off"];
    let sixty = || {
        text.contains(':')
            && text.split(':').all(|part| {
                !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            })
    };
    let date = || {
        let bytes = text.as_bytes();
        bytes.len() >= 8
            && bytes[4] == b'-'
            && bytes.iter().all(|b| b.is_ascii_digit() || b"-:TZ. +".contains(b))
    };
    let special = || {
        matches!(
            text.trim_start_matches(['-', '+']),
            ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN"
        )
    };
    TRUTHS.contains(&text.to_ascii_lowercase().as_str()) || sixty() || date() || special()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Place;
    use crate::yaml::parse;
    use proptest::prelude::*;

    #[test]
    fn yaml_is_written_as_compose_does() {
        let text = "a:\n  b:\n    - x: 1\n      q:\n        - z\n    - '80'\n  c: {}\n  d: []\n  e: null\n";
        let node = parse("f", text).unwrap().remove(0);
        assert_eq!(
            yaml(&node),
            "a:\n  b:\n    - x: 1\n      q:\n        - z\n    - \"80\"\n  c: {}\n  d: []\n  e: null\n"
        );
    }

    #[test]
    fn texts_of_several_lines_are_blocks() {
        let node = parse("f", "a: \"x\\ny\\n\"\nb: \"x\\n\\ny\"").unwrap().remove(0);
        assert_eq!(yaml(&node), "a: |\n  x\n  y\nb: |-\n  x\n\n  y\n");
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "\\PC*|[a-z:#' \"\\n\\-?0-9.{}\\[\\]]{0,12}") {
            let place = Place { file: "f".into(), line: 1, column: 1 };
            let mut map = Map::default();
            map.set("k", Node::texts([text.as_str(), text.as_str()], &place));
            map.set("l", Node::text(text.as_str(), &place));
            let node = Node::map(map, &place);
            let written = yaml(&node);
            let read = parse("f", &written).map(|mut all| all.remove(0));
            prop_assert_eq!(read, Ok(node), "{}", written);
        }
    }
}
