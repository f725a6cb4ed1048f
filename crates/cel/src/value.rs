//! Values: what expressions are about, and what they become.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use objects::Quantity;

/// A value of the language.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing.
    Null,
    /// A truth.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is not negative, written `1u`.
    Uint(u64),
    /// A number.
    Double(f64),
    /// A text.
    String(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A list.
    List(Arc<[Value]>),
    /// A map, and what objects are: their fields are keys.
    Map(Arc<BTreeMap<Key, Value>>),
    /// A point in time.
    Timestamp(Timestamp),
    /// A time from one point to another.
    Duration(SignedDuration),
    /// An amount of a resource.
    Quantity(Quantity),
    /// An address on the web, in its parts.
    Url(Arc<crate::text::Url>),
    /// A value that may be absent.
    Optional(Option<Arc<Value>>),
    /// The type of a value.
    Type(&'static str),
}

/// What a map is asked by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A truth.
    Bool(bool),
    /// A whole number, of either kind.
    Int(i128),
    /// A text.
    String(Arc<str>),
}

impl Value {
    /// A text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::String(text.into())
    }

    pub(crate) fn list(items: Vec<Value>) -> Self {
        Self::List(items.into())
    }

    /// As a key of a map; `None` if it cannot be one.
    #[must_use]
    pub fn key(&self) -> Option<Key> {
        Some(match self {
            Self::Bool(truth) => Key::Bool(*truth),
            Self::Int(number) => Key::Int(i128::from(*number)),
            Self::Uint(number) => Key::Int(i128::from(*number)),
            Self::Double(number) if number.fract() == 0.0 && number.abs() < 1e18 => {
                Key::Int(*number as i128)
            }
            Self::String(text) => Key::String(text.clone()),
            _ => return None,
        })
    }

    /// What its type is called.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "net.url.URL",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
        }
    }

    /// A value without types of a schema: whole numbers are `int`.
    #[must_use]
    pub fn of_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Null,
            Json::Bool(truth) => Self::Bool(*truth),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Self::Int(whole),
                (None, Some(number)) => Self::Double(number),
                _ => Self::Null,
            },
            Json::String(text) => Self::text(text),
            Json::Array(items) => Self::list(items.iter().map(Self::of_json).collect()),
            Json::Object(fields) => {
                let field = |(name, value): (&String, &Json)| {
                    (Key::String(name.as_str().into()), Self::of_json(value))
                };
                Self::Map(Arc::new(fields.iter().map(field).collect()))
            }
        }
    }

    /// Which of two comes first; `None` if that cannot be said.
    pub(crate) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::String(a), Self::String(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Quantity(a), Self::Quantity(b)) => Some(a.cmp(b)),
            _ => match (self.whole(), other.whole()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => self.number()?.partial_cmp(&other.number()?),
            },
        }
    }

    fn whole(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(i128::from(*number)),
            Self::Uint(number) => Some(i128::from(*number)),
            _ => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Double(number) => Some(*number),
            other => other.whole().map(|whole| whole as f64),
        }
    }

    /// How much it is to look at all of it.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::String(text) => text.len() as u64 / 10,
            Self::Bytes(bytes) => bytes.len() as u64 / 10,
            Self::List(items) => items.iter().map(|item| 1 + item.size()).sum(),
            Self::Map(fields) => fields.values().map(|value| 1 + value.size()).sum(),
            _ => 0,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => a == b,
            (Self::Type(a), Self::Type(b)) => a == b,
            _ => self.order(other) == Some(Ordering::Equal),
        }
    }
}
