//! Text becomes trees: anchors, merge keys and tags, with bounds on what a file may ask for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use crate::error::{Error, Place, Result};
use crate::node::{Kind, Map, Mark, Node, Value};
use crate::scalar;

/// The longest file, in bytes.
pub const FILE_BYTES_MAX: usize = 4 << 20;
/// How deep nodes may lie in each other.
const DEPTH_MAX: usize = 64;
/// How many nodes a file may have once its aliases stand for what they name.
const NODES_MAX: usize = 200_000;
/// How many bytes of words, counted in the same way.
const WORD_BYTES_MAX: usize = 64 << 20;

/// The documents of a file that is called `file`.
///
/// # Errors
/// If it is no YAML, or asks for too much.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Node>> {
    let file: Arc<str> = file.into();
    if text.len() > FILE_BYTES_MAX {
        let place = Place { file, line: 0, column: 0 };
        return Err(Error::at(&place, format!("the file is larger than {FILE_BYTES_MAX} bytes")));
    }
    let parser = Parser::new_from_str(text);
    let mut builder = Builder { parser, file, anchors: HashMap::new(), nodes: 0, bytes: 0 };
    let mut documents = Vec::new();
    loop {
        match builder.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::DocumentStart(_), _) => {
                let (event, span) = builder.next()?;
                documents.push(builder.node(event, span, 0)?);
            }
            _ => {}
        }
    }
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    file: Arc<str>,
    /// What anchors name, and how many nodes and bytes of words that is.
    anchors: HashMap<usize, (Node, usize, usize)>,
    nodes: usize,
    bytes: usize,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span)> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, Span::default())),
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let marker = error.marker();
                let place = self.place(marker.line(), marker.col());
                Err(Error::at(&place, format!("yaml: {}", error.info())))
            }
        }
    }

    fn place(&self, line: usize, column: usize) -> Place {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place { file: self.file.clone(), line: number(line), column: number(column + 1) }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node> {
        let place = self.place(span.start.line(), span.start.col());
        self.count(1, &place)?;
        if depth > DEPTH_MAX {
            return Err(Error::at(&place, format!("more than {DEPTH_MAX} levels of nesting")));
        }
        let (before, bytes_before) = (self.nodes, self.bytes);
        let (node, anchor) = match event {
            Event::Alias(id) => {
                let Some(&(_, count, bytes)) = self.anchors.get(&id) else {
                    return Err(Error::at(&place, "an alias names what it is a part of"));
                };
                self.count(count, &place)?;
                self.count_bytes(bytes, &place)?;
                let node = self.anchors[&id].0.clone();
                (Node { place, ..node }, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count_bytes(text.len(), &place)?;
                (scalar_node(&text, style, tag.as_deref(), &place)?, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                let list = self.list(depth)?;
                let mark = mark(tag.as_deref(), &place)?;
                (Node::new(Value::List(list), &place).marked(mark), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                let map = self.map(depth)?;
                let mark = mark(tag.as_deref(), &place)?;
                (Node::map(map, &place).marked(mark), anchor)
            }
            _ => (Node::null(&place), 0),
        };
        if anchor > 0 {
            let (nodes, bytes) = (self.nodes - before + 1, self.bytes - bytes_before);
            self.anchors.insert(anchor, (node.clone(), nodes, bytes));
        }
        Ok(node)
    }

    fn count(&mut self, nodes: usize, place: &Place) -> Result<()> {
        self.nodes += nodes;
        match self.nodes > NODES_MAX {
            true => Err(Error::at(place, format!("more than {NODES_MAX} values"))
                .hint("aliases count as often as they are used")),
            false => Ok(()),
        }
    }

    fn count_bytes(&mut self, bytes: usize, place: &Place) -> Result<()> {
        self.bytes += bytes;
        match self.bytes > WORD_BYTES_MAX {
            true => Err(Error::at(place, format!("more than {WORD_BYTES_MAX} bytes of words"))
                .hint("aliases count as often as they are used")),
            false => Ok(()),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(list),
                (event, span) => list.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Map> {
        let mut map = Map::default();
        let mut keys = HashSet::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let is_plain = matches!(event, Event::Scalar(_, ScalarStyle::Plain, ..));
            let key = self.node(event, span, depth + 1)?;
            let Value::Scalar(_, text) = key.value else {
                return Err(Error::at(&key.place, format!("a key is {}", key.noun())));
            };
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            if text == "<<" && is_plain {
                merged.push(node);
            } else if keys.insert(text.clone()) {
                map.push(text, node);
            } else {
                return Err(Error::at(&key.place, format!("the key {text} is there twice")));
            }
        }
        for node in merged {
            merge_in(&mut map, &mut keys, node)?;
        }
        Ok(map)
    }
}

/// `<<`: what is not there yet; of several mappings, the first that has it.
fn merge_in(map: &mut Map, keys: &mut HashSet<String>, node: Node) -> Result<()> {
    match node.value {
        Value::Map(other) => {
            for (key, node) in other {
                if keys.insert(key.clone()) {
                    map.push(key, node);
                }
            }
            Ok(())
        }
        Value::List(list) => list.into_iter().try_for_each(|node| match node.value {
            Value::Map(_) => merge_in(map, keys, node),
            _ => node.must("<<", "a mapping or a list of mappings"),
        }),
        Value::Scalar(Kind::Null, _) => Ok(()),
        Value::Scalar(..) => node.must("<<", "a mapping or a list of mappings"),
    }
}

fn scalar_node(text: &str, style: ScalarStyle, tag: Option<&Tag>, place: &Place) -> Result<Node> {
    let core = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    let kind = match (style, core) {
        (_, Some("str")) => Kind::Text,
        (ScalarStyle::Plain, _) => scalar::kind(text),
        _ => Kind::Text,
    };
    let text = match kind {
        Kind::Null => String::new(),
        Kind::Bool => text.to_ascii_lowercase(),
        _ => text.to_owned(),
    };
    let mark = mark(tag, place)?;
    Ok(Node::new(Value::Scalar(kind, text), place).marked(mark))
}

fn mark(tag: Option<&Tag>, place: &Place) -> Result<Mark> {
    match tag {
        None => Ok(Mark::Merged),
        Some(tag) if tag.is_yaml_core_schema() => Ok(Mark::Merged),
        Some(tag) => match (tag.handle.as_str(), tag.suffix.as_str()) {
            ("!", "reset") => Ok(Mark::Reset),
            ("!", "override") => Ok(Mark::Override),
            (handle, suffix) => {
                Err(Error::at(place, format!("the tag {handle}{suffix} is not known"))
                    .hint("tags are !reset and !override"))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::json;

    fn read(text: &str) -> String {
        match parse("f", text) {
            Ok(all) => all.iter().map(|node| json(node).to_string()).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn scalars_lists_and_maps() {
        assert_eq!(
            read("a: 1\nb: [x, 'y', 2.5, true, ~]\n"),
            r#"{"a":1,"b":["x","y",2.5,true,null]}"#
        );
        assert_eq!(read("a: '1'\nb: !!str 2"), r#"{"a":"1","b":"2"}"#);
        assert_eq!(read("a: 1\n---\nb: 2"), r#"{"a":1} {"b":2}"#);
        assert_eq!(read(""), "");
    }

    #[test]
    fn anchors_and_merge_keys() {
        let text = "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz:\n  <<: [{a: 5}, *x]\n";
        assert_eq!(read(text), r#"{"x":{"a":1,"b":2},"y":{"b":3,"a":1},"z":{"a":5,"b":2}}"#);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert_eq!(read("a: 1\na: 2"), "f:2:1: the key a is there twice");
        assert!(read("a: [1").starts_with("f:"));
        assert_eq!(read("a: !foo 1"), "f:1:4: the tag !foo is not known");
        assert!(read("a: &a [*a]").contains("alias"));
    }

    #[test]
    fn a_small_file_cannot_ask_for_much() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            let list = vec![format!("*a{}", i - 1); 10].join(", ");
            text += &format!("a{i}: &a{i} [{list}]\n");
        }
        assert!(read(&text).contains("more than 200000 values"));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(read(&deep).contains("levels of nesting"), "{}", read(&deep));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(1000));
        assert!(read(&long).contains("bytes of words"));
    }

    #[test]
    fn tags_of_merging_are_kept() {
        let node = parse("f", "a: !reset null\nb: !override [1]").unwrap().remove(0);
        assert_eq!(node.entries().unwrap().get("a").unwrap().mark, Mark::Reset);
        assert_eq!(node.get("b").unwrap().mark, Mark::Override);
    }
}
