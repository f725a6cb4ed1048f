//! What stands where in a Compose file, and the one form in which everything goes on: short
//! spellings become long ones, words become what they stand for.

use crate::error::{Error, Place, Result, nearest};
use crate::node::{Kind, Map, Mark, Node, Value};
use crate::scalar;

/// What a node has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Anything at all.
    Any,
    /// A text.
    Text,
    /// A text, which may be written as a number or a truth.
    Word,
    /// One of these words.
    OneOf(&'static [&'static str]),
    Bool,
    Int,
    Float,
    /// A size, which becomes the number of bytes.
    Bytes,
    /// A duration, which becomes Go's spelling of it.
    Duration,
    /// The mode of a file, which becomes its octal digits.
    Mode,
    /// A command: a line that is split as a shell does, or a list of words.
    Command,
    /// The test of a health check: a line for the shell, or a list.
    Test,
    /// One text or a list of them.
    Texts(Unique),
    /// A list.
    List(&'static Shape, Unique),
    /// `NAME=value` in a list, or a mapping; becomes a mapping. Says what a name without a value
    /// is.
    Pairs(Bare),
    /// A mapping with any keys.
    Map(&'static Shape),
    /// A mapping with these keys.
    Fields(&'static [Field]),
    /// A whole number, or the rest.
    IntOr(&'static Shape),
    /// A truth or a text.
    BoolOrText,
    /// What may be written shorter, with the function that makes it long.
    Short(fn(Node, &str) -> Result<Node>, &'static Shape),
}

/// When an element of a later list stands in the place of one of an earlier.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unique {
    /// Never.
    No,
    /// If they are the same up to `=`.
    Name,
    /// If they are the same.
    Whole,
    /// If the field is the same.
    By(&'static str),
    /// If they publish the same port.
    Port,
    /// If they are mounted at the same place; the directory is where those without a place go.
    Mount(&'static str),
}

/// What a name without a value means.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bare {
    /// The empty value.
    Empty,
    /// The value of the environment's variable of that name.
    Inherited,
}

/// A key of a mapping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
}

/// Brings a node into the one form, or says what is wrong with it.
pub(crate) fn normal(node: Node, shape: &Shape, path: &str) -> Result<Node> {
    if node.mark == Mark::Reset {
        return Ok(Node::null(&node.place).marked(Mark::Reset));
    }
    let mark = node.mark;
    normal_value(node, shape, path).map(|node| node.marked(mark))
}

fn normal_value(node: Node, shape: &Shape, path: &str) -> Result<Node> {
    let place = node.place.clone();
    match shape {
        Shape::Any => Ok(node),
        Shape::Text => match node.value {
            Value::Scalar(Kind::Text, _) => Ok(node),
            _ => node.must(path, "a string"),
        },
        Shape::Word => match &node.value {
            Value::Scalar(kind, text) if *kind != Kind::Null => {
                Ok(Node::text(text.clone(), &place))
            }
            _ => node.must(path, "a string or a number"),
        },
        Shape::OneOf(words) => match node.word() {
            Some(word) if words.contains(&word) => Ok(node),
            Some(word) => Err(one_of(&place, path, word, words)),
            None => node.must(path, "a string"),
        },
        Shape::Bool => match node.word().and_then(scalar::truth) {
            Some(value) => Ok(Node::bool(value, &place)),
            None => node.must(path, "a boolean"),
        },
        Shape::Int => match node.word().and_then(scalar::integer) {
            Some(number) => Ok(Node::int(number, &place)),
            None => node.must(path, "a whole number"),
        },
        Shape::Float => float(&node, path),
        Shape::Bytes => match node.word().and_then(scalar::bytes) {
            Some(bytes) => Ok(Node::text(bytes.to_string(), &place)),
            None => node.must(path, "a size").map_err(|error| error.hint("as in 512m or 2g")),
        },
        Shape::Duration => match node.word().and_then(scalar::nanoseconds) {
            Some(ns) => Ok(Node::text(scalar::duration(ns), &place)),
            None => node
                .must(path, "a duration")
                .map_err(|error| error.hint("as in 500ms, 30s or 1m30s")),
        },
        Shape::Mode => match crate::short::mode(&node) {
            Some(mode) => Ok(Node::text(format!("{mode:04o}"), &place)),
            None => node.must(path, "the mode of a file"),
        },
        Shape::Command => command(node, path),
        Shape::Test => match node.word() {
            Some(line) => Ok(Node::texts(["CMD-SHELL", line], &place)),
            None => normal(node, &Shape::List(&Shape::Word, Unique::No), path),
        },
        Shape::Texts(unique) => {
            let node = match node.word() {
                Some(word) => Node::texts([word], &place),
                None => node,
            };
            normal(node, &Shape::List(&Shape::Word, *unique), path)
        }
        Shape::List(inner, _) => list(node, inner, path),
        Shape::Pairs(bare) => pairs(node, *bare, path),
        Shape::Map(inner) => map(node, inner, path),
        Shape::Fields(fields) => self::fields(node, fields, path),
        Shape::IntOr(inner) => match node.word().and_then(scalar::integer) {
            Some(number) => Ok(Node::int(number, &place)),
            None => normal(node, inner, path),
        },
        Shape::BoolOrText => match node.word() {
            Some(_) => Ok(node),
            None => node.must(path, "a boolean or a string"),
        },
        Shape::Short(lengthen, inner) => normal(lengthen(node, path)?, inner, path),
    }
}

fn one_of(place: &Place, path: &str, word: &str, words: &[&'static str]) -> Error {
    let all = words.join(", ");
    let error = Error::at(place, format!("{path} must be one of {all}, and is {word}"));
    match nearest(word, words.iter().copied()) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error,
    }
}

fn float(node: &Node, path: &str) -> Result<Node> {
    match node.word() {
        Some(text) if scalar::integer(text).is_some() => {
            Ok(Node::new(Value::Scalar(Kind::Int, text.to_owned()), &node.place))
        }
        Some(text) if scalar::kind(text) == Kind::Float => {
            Ok(Node::new(Value::Scalar(Kind::Float, text.to_owned()), &node.place))
        }
        _ => node.must(path, "a number"),
    }
}

fn command(node: Node, path: &str) -> Result<Node> {
    match &node.value {
        Value::Scalar(Kind::Null, _) => Ok(node),
        Value::Scalar(_, line) => match scalar::shell_words(line) {
            Some(words) => Ok(Node::texts(words, &node.place)),
            None => Err(Error::at(&node.place, format!("{path}: a quote is not closed"))),
        },
        _ => normal(node, &Shape::List(&Shape::Word, Unique::No), path),
    }
}

fn list(node: Node, inner: &Shape, path: &str) -> Result<Node> {
    match node.value {
        Value::List(items) => {
            let one = |(index, item)| normal(item, inner, &format!("{path}[{index}]"));
            let items = items.into_iter().enumerate().map(one).collect::<Result<_>>()?;
            Ok(Node::new(Value::List(items), &node.place))
        }
        _ => node.must(path, "a list"),
    }
}

fn pairs(node: Node, bare: Bare, path: &str) -> Result<Node> {
    let mut map = Map::default();
    match node.value {
        Value::List(items) => {
            for item in items {
                let Some(text) = item.word() else {
                    return item.must(path, "a list of NAME=value");
                };
                let (name, value) = match (text.split_once('='), bare) {
                    (Some((name, value)), _) => (name, Node::text(value, &item.place)),
                    (None, Bare::Empty) => (text, Node::text("", &item.place)),
                    (None, Bare::Inherited) => (text, Node::null(&item.place)),
                };
                map.set(name, value);
            }
        }
        Value::Map(entries) => {
            for (name, item) in entries {
                let value = match (&item.value, bare) {
                    (Value::Scalar(Kind::Null, _), Bare::Empty) if item.mark == Mark::Merged => {
                        Node::text("", &item.place)
                    }
                    (Value::Scalar(Kind::Null, _), _) => item,
                    (Value::Scalar(_, text), _) => {
                        Node::text(text.clone(), &item.place).marked(item.mark)
                    }
                    _ => {
                        return item
                            .must(&format!("{path}.{name}"), "a string, a number or nothing");
                    }
                };
                map.set(&name, value);
            }
        }
        Value::Scalar(..) => return node.must(path, "a mapping or a list of NAME=value"),
    }
    Ok(Node::map(map, &node.place))
}

fn map(node: Node, inner: &Shape, path: &str) -> Result<Node> {
    let Value::Map(entries) = node.value else { return node.must(path, "a mapping") };
    let mut map = Map::default();
    for (name, child) in entries {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let child = match child.is_null() && child.mark == Mark::Merged {
            true => child,
            false => normal(child, inner, &path)?,
        };
        map.push(name, child);
    }
    Ok(Node::map(map, &node.place))
}

fn fields(node: Node, fields: &[Field], path: &str) -> Result<Node> {
    let Value::Map(entries) = node.value else {
        return node.must(if path.is_empty() { "the file" } else { path }, "a mapping");
    };
    let mut map = Map::default();
    for (name, child) in entries {
        if name.starts_with("x-") {
            map.push(name, child);
            continue;
        }
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            return Err(unknown(&child.place, path, &name, fields));
        };
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let is_nothing = child.is_null() && child.mark == Mark::Merged;
        if !is_nothing || matches!(field.shape, Shape::Command) {
            map.push(name, normal(child, &field.shape, &path)?);
        }
    }
    Ok(Node::map(map, &node.place))
}

fn unknown(place: &Place, path: &str, name: &str, fields: &[Field]) -> Error {
    let what = match path {
        "" => format!("additional properties '{name}' not allowed"),
        path => format!("{path} additional properties '{name}' not allowed"),
    };
    let error = Error::at(place, what);
    match nearest(name, fields.iter().map(|field| field.name)) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint("keys of your own begin with x-"),
    }
}
