//! The values a template computes with, named and judged as Go would.

use std::rc::Rc;

use serde_json::{Map, Value};

/// A value during execution. Lists and objects of the input are borrowed, never copied.
#[derive(Clone, Debug)]
pub(super) enum Item<'v> {
    /// No value at all: a missing key (Go's invalid `reflect.Value`).
    Missing,
    /// A JSON `null` (Go's nil interface).
    Nil,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<str>),
    List(&'v [Value]),
    /// What `split` returns.
    Strings(Rc<[Rc<str>]>),
    Map(&'v Map<String, Value>),
}

impl<'v> Item<'v> {
    pub(super) fn of(value: &'v Value) -> Self {
        match value {
            Value::Null => Self::Nil,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => {
                let int = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
                int.map_or_else(|| Self::Float(number.as_f64().unwrap_or(0.0)), Self::Int)
            }
            Value::String(text) => Self::text(text),
            Value::Array(list) => Self::List(list),
            Value::Object(map) => Self::Map(map),
        }
    }

    pub(super) fn text(text: impl AsRef<str>) -> Self {
        Self::Str(Rc::from(text.as_ref()))
    }

    /// A null that has come out of a pipeline is no value any more.
    pub(super) fn settled(self) -> Self {
        if let Self::Nil = self { Self::Missing } else { self }
    }

    pub(super) fn is_nil(&self) -> bool {
        matches!(self, Self::Missing | Self::Nil)
    }

    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Missing | Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            _ => self.len() != Some(0),
        }
    }

    /// The number of bytes, elements or keys of what has such a number.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Self::Str(text) => Some(text.len()),
            Self::List(list) => Some(list.len()),
            Self::Strings(list) => Some(list.len()),
            Self::Map(map) => Some(map.len()),
            _ => None,
        }
    }

    /// The element at `index` of a list; `None` beyond its end and for all else.
    pub(super) fn element(&self, index: usize) -> Option<Self> {
        match self {
            Self::List(list) => list.get(index).map(Self::of),
            Self::Strings(list) => list.get(index).map(|text| Self::Str(text.clone())),
            _ => None,
        }
    }

    /// Go's name of the value's type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Strings(_) => "[]string",
            Self::Map(_) => "map[string]interface {}",
        }
    }
}

/// The entries of an object in the order of their keys, in which Go prints and ranges over a map.
pub(super) fn sorted(map: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let mut entries: Vec<_> = map.iter().map(|(key, value)| (key.as_str(), value)).collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries
}
