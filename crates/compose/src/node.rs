//! A document as a tree, where every node knows its place.

use crate::error::{Error, Place, Result};

/// What a scalar is, by YAML's core schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// Any other number.
    Float,
    /// Anything else, and all that is quoted.
    Text,
}

/// What a tag says about merging.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mark {
    /// It is merged by the rules.
    #[default]
    Merged,
    /// `!reset`: what was there is removed.
    Reset,
    /// `!override`: it stands in the place of what was there.
    Override,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A single word, as it was written.
    Scalar(Kind, String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Map),
}

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it holds.
    pub value: Value,
    /// Where it stands.
    pub place: Place,
    /// What is said about merging.
    pub mark: Mark,
}

/// Nodes are equal that say the same, wherever they stand.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// A mapping, in the order in which it was written.
#[derive(Debug, Clone, Default)]
pub struct Map(Vec<(String, Node)>);

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().all(|(key, node)| other.get(key) == Some(node))
    }
}

impl Map {
    /// What stands behind a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// As [`Map::get`], to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.0.iter_mut().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// Puts a node behind a key, in the place of what was there.
    pub fn set(&mut self, key: &str, node: Node) {
        match self.get_mut(key) {
            Some(known) => *known = node,
            None => self.0.push((key.to_owned(), node)),
        }
    }

    /// Adds an entry whose key is known to be new.
    pub(crate) fn push(&mut self, key: String, node: Node) {
        self.0.push((key, node));
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        let index = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(index).1)
    }

    /// Takes an entry out, and says where it was.
    pub(crate) fn remove_in_place(&mut self, key: &str) -> Option<(usize, Node)> {
        let index = self.0.iter().position(|(name, _)| name == key)?;
        Some((index, self.0.remove(index).1))
    }

    /// Puts a new entry where another was.
    pub(crate) fn insert_at(&mut self, index: usize, key: String, node: Node) {
        self.0.insert(index, (key, node));
    }

    /// All entries.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Node)> {
        self.0.iter().map(|(key, node)| (key.as_str(), node))
    }

    /// All entries, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Node)> {
        self.0.iter_mut().map(|(key, node)| (key.as_str(), node))
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sorts by the keys.
    pub fn sort(&mut self) {
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
}

impl IntoIterator for Map {
    type Item = (String, Node);
    type IntoIter = std::vec::IntoIter<(String, Node)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Node {
    /// A node at a place.
    #[must_use]
    pub fn new(value: Value, place: &Place) -> Self {
        Self { value, place: place.clone(), mark: Mark::Merged }
    }

    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>, place: &Place) -> Self {
        Self::new(Value::Scalar(Kind::Text, text.into()), place)
    }

    /// A whole number.
    #[must_use]
    pub fn int(number: i64, place: &Place) -> Self {
        Self::new(Value::Scalar(Kind::Int, number.to_string()), place)
    }

    /// `true` or `false`.
    #[must_use]
    pub fn bool(value: bool, place: &Place) -> Self {
        Self::new(Value::Scalar(Kind::Bool, value.to_string()), place)
    }

    /// Nothing.
    #[must_use]
    pub fn null(place: &Place) -> Self {
        Self::new(Value::Scalar(Kind::Null, String::new()), place)
    }

    /// A mapping.
    #[must_use]
    pub fn map(map: Map, place: &Place) -> Self {
        Self::new(Value::Map(map), place)
    }

    /// A sequence of texts.
    #[must_use]
    pub fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>, place: &Place) -> Self {
        let list = texts.into_iter().map(|text| Self::text(text, place)).collect();
        Self::new(Value::List(list), place)
    }

    /// The same value, with another's mark.
    #[must_use]
    pub(crate) fn marked(mut self, mark: Mark) -> Self {
        self.mark = mark;
        self
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(Kind::Null, _))
    }

    /// The word, if it is one; `None` for nothing.
    #[must_use]
    pub fn word(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(Kind::Null, _) | Value::List(_) | Value::Map(_) => None,
            Value::Scalar(_, text) => Some(text),
        }
    }

    /// Its elements, if it is a sequence.
    #[must_use]
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// Its entries, if it is a mapping.
    #[must_use]
    pub fn entries(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// As [`Node::entries`], to be changed.
    pub fn entries_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// What stands behind a key of a mapping, unless it is nothing.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?.get(key).filter(|node| !node.is_null())
    }

    /// As [`Node::get`], through several mappings.
    #[must_use]
    pub fn path(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The word behind a key.
    #[must_use]
    pub fn word_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.word()
    }

    /// Whether `true` stands behind a key.
    #[must_use]
    pub fn is(&self, key: &str) -> bool {
        self.word_of(key) == Some("true")
    }

    /// The words of the sequence behind a key.
    #[must_use]
    pub fn words_of(&self, key: &str) -> Vec<&str> {
        self.get(key).map(Node::items).unwrap_or_default().iter().filter_map(Node::word).collect()
    }

    /// The names of what stands behind a key, with the word of each.
    #[must_use]
    pub fn pairs_of(&self, key: &str) -> Vec<(&str, Option<&str>)> {
        let map = self.get(key).and_then(Node::entries);
        map.into_iter().flat_map(Map::iter).map(|(key, node)| (key, node.word())).collect()
    }

    /// The whole number behind a key.
    #[must_use]
    pub fn int_of(&self, key: &str) -> Option<i64> {
        crate::scalar::integer(self.word_of(key)?)
    }

    /// What it is called where something else was expected.
    pub(crate) fn noun(&self) -> &'static str {
        match &self.value {
            Value::Scalar(Kind::Null, _) => "nothing",
            Value::Scalar(Kind::Bool, _) => "a boolean",
            Value::Scalar(Kind::Int | Kind::Float, _) => "a number",
            Value::Scalar(Kind::Text, _) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The failure that something at this path is of the wrong kind.
    pub(crate) fn must<T>(&self, path: &str, be: &str) -> Result<T> {
        Err(Error::at(&self.place, format!("{path} must be {be}, and is {}", self.noun())))
    }
}
