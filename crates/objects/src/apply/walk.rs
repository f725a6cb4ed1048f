//! Walks through values beside their types: which fields there are, what two of them merge to, what
//! differs, what goes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{ApplyError, Changes, Element, FieldSet};
use crate::schema::{Field, Schema, Shape, Topology, TypeId};

/// How deep values may go. Deeper ones would use up the stack.
const DEPTH_MAX: usize = 128;

pub(super) struct Walker<'a> {
    pub(super) schema: &'a Schema,
}

/// What a value is for its owners.
#[derive(Clone)]
enum Kind<'a> {
    /// One owner for all of it.
    Leaf,
    /// A structure of a type, or one that no schema describes.
    Structure(Option<TypeId>),
    /// A map with values of a shape.
    Map(&'a Shape),
    /// A list whose items have owners.
    List(&'a Topology, &'a Shape),
}

impl<'a> Walker<'a> {
    /// The fields that an object has.
    pub(super) fn fields_of(
        &self,
        of: Option<TypeId>,
        object: &Value,
    ) -> Result<FieldSet, ApplyError> {
        self.fields(&Kind::Structure(of), object, 0)
    }

    /// An object with what a configuration wants in it.
    pub(super) fn merge(
        &self,
        of: Option<TypeId>,
        object: &Value,
        config: &Value,
    ) -> Result<Value, ApplyError> {
        self.merged(&Kind::Structure(of), Some(object), config, 0)
    }

    /// What differs from one object to another.
    pub(super) fn compare(
        &self,
        of: Option<TypeId>,
        old: &Value,
        new: &Value,
    ) -> Result<Changes, ApplyError> {
        let mut changes = Changes { set: FieldSet::default(), removed: FieldSet::default() };
        self.changes(&Kind::Structure(of), Some(old), Some(new), &mut changes, 0)?;
        Ok(changes)
    }

    /// An object without the fields that are in `gone` and not in `kept`.
    pub(super) fn prune(
        &self,
        of: Option<TypeId>,
        object: &Value,
        gone: &FieldSet,
        kept: &FieldSet,
    ) -> Value {
        self.pruned(&Kind::Structure(of), object, gone, kept)
    }

    fn kind_of_field(&self, field: Option<&'a Field>, value: &Value) -> Kind<'a> {
        let Some(field) = field else { return unknown(value) };
        if field.topology == Topology::Atomic {
            return Kind::Leaf;
        }
        match &field.shape {
            Shape::Object(of) if self.schema.get(*of).is_atomic => Kind::Leaf,
            Shape::Object(of) => Kind::Structure(Some(*of)),
            Shape::Map(value) => Kind::Map(value),
            Shape::List(item) if field.topology != Topology::Unsaid => {
                Kind::List(&field.topology, item)
            }
            Shape::List(_) | Shape::Scalar(_) => Kind::Leaf,
        }
    }

    fn kind_of_shape(&self, shape: &'a Shape, value: &Value) -> Kind<'a> {
        match shape {
            Shape::Object(of) if self.schema.get(*of).is_atomic => Kind::Leaf,
            Shape::Object(of) => Kind::Structure(Some(*of)),
            Shape::Map(value) => Kind::Map(value),
            _ if value.is_object() => Kind::Structure(None),
            _ => Kind::Leaf,
        }
    }

    /// What a part is, given what it is a part of.
    fn kind_below(&self, kind: &Kind<'a>, element: &Element, value: &Value) -> Kind<'a> {
        match (kind, element) {
            (Kind::Structure(Some(of)), Element::Field(name)) => {
                self.kind_of_field(self.schema.field(*of, name), value)
            }
            (Kind::Map(shape) | Kind::List(_, shape), _) => self.kind_of_shape(shape, value),
            _ => unknown(value),
        }
    }

    /// Whether a step leads to a field that a type names, as opposed to a key of a map.
    fn is_named(&self, kind: &Kind<'a>, element: &Element) -> bool {
        match (kind, element) {
            (Kind::Structure(Some(of)), Element::Field(name)) => {
                self.schema.field(*of, name).is_some()
            }
            _ => false,
        }
    }

    /// A structure that a type names, with something in it: who has that has it.
    fn is_frame(&self, kind: &Kind<'a>, element: &Element, value: &Value) -> bool {
        let below = self.kind_below(kind, element, value);
        self.is_named(kind, element) && matches!(below, Kind::Structure(_)) && !is_hollow(value)
    }

    /// The parts of a value, with the steps that lead to them; none of a leaf.
    fn parts<'v>(
        &self,
        kind: &Kind<'a>,
        value: Option<&'v Value>,
    ) -> Result<Vec<(Element, &'v Value)>, ApplyError> {
        match (kind, value) {
            (Kind::Structure(_) | Kind::Map(_), Some(Value::Object(fields))) => {
                Ok(fields.iter().map(|(key, value)| (Element::Field(key.clone()), value)).collect())
            }
            (Kind::List(topology, item), Some(Value::Array(items))) => {
                let mut parts: Vec<(Element, &Value)> = Vec::with_capacity(items.len());
                let mut seen = std::collections::BTreeSet::new();
                for value in items {
                    let element = self.element(topology, item, value)?;
                    if !seen.insert(element.clone()) {
                        let words = format!("duplicate entries for key {element}");
                        return Err(ApplyError::Item(words));
                    }
                    parts.push((element, value));
                }
                Ok(parts)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// How an item of a list is told from the others.
    fn element(
        &self,
        topology: &Topology,
        item: &Shape,
        value: &Value,
    ) -> Result<Element, ApplyError> {
        let Topology::Keyed(keys) = topology else { return Ok(Element::Value(value.to_string())) };
        let default = |key: &str| match item {
            Shape::Object(of) => self.schema.field(*of, key).and_then(|field| field.default),
            _ => None,
        };
        let mut found = BTreeMap::new();
        for key in keys {
            let own = value.get(*key).filter(|value| !value.is_null()).cloned();
            let implied = || default(key).and_then(|text| serde_json::from_str(text).ok());
            if let Some(value) = own.or_else(implied) {
                found.insert((*key).to_owned(), value);
            }
        }
        if found.is_empty() {
            let words = format!(
                "associative list with keys has an element that omits key field {:?} \
                 (and doesn't have default value)",
                keys.first().copied().unwrap_or_default()
            );
            return Err(ApplyError::Item(words));
        }
        Ok(Element::key(found))
    }

    fn fields(&self, kind: &Kind<'a>, value: &Value, depth: usize) -> Result<FieldSet, ApplyError> {
        check_depth(depth)?;
        let mut set = FieldSet::default();
        for (element, part) in self.parts(kind, Some(value))? {
            let below = self.kind_below(kind, &element, part);
            let is_whole = matches!(below, Kind::Leaf) || is_hollow(part);
            let is_item =
                !matches!(kind, Kind::Structure(Some(_))) || !self.is_named(kind, &element);
            if !matches!(below, Kind::Leaf) {
                set.insert_below(element.clone(), &self.fields(&below, part, depth + 1)?);
            }
            if is_whole || is_item {
                set.insert(element);
            }
        }
        Ok(set)
    }

    fn merged(
        &self,
        kind: &Kind<'a>,
        old: Option<&Value>,
        new: &Value,
        depth: usize,
    ) -> Result<Value, ApplyError> {
        check_depth(depth)?;
        match (kind, old, new) {
            (Kind::Structure(_) | Kind::Map(_), Some(Value::Object(old)), Value::Object(new)) => {
                let mut result = old.clone();
                for (key, value) in new {
                    let below = self.kind_below(kind, &Element::Field(key.clone()), value);
                    let merged = self.merged(&below, old.get(key), value, depth + 1)?;
                    result.insert(key.clone(), merged);
                }
                Ok(Value::Object(result))
            }
            (Kind::List(..), Some(Value::Array(_)), Value::Array(_)) => {
                self.merged_list(kind, old, new, depth)
            }
            _ => Ok(new.clone()),
        }
    }

    /// Items of the configuration in its order, and the others before the next one that both have.
    fn merged_list(
        &self,
        kind: &Kind<'a>,
        old: Option<&Value>,
        new: &Value,
        depth: usize,
    ) -> Result<Value, ApplyError> {
        let (old, new) = (self.parts(kind, old)?, self.parts(kind, Some(new))?);
        let wanted: BTreeMap<&Element, &Value> =
            new.iter().map(|(element, value)| (element, *value)).collect();
        let there: BTreeMap<&Element, &Value> =
            old.iter().map(|(element, value)| (element, *value)).collect();
        let mut result = Vec::with_capacity(old.len() + new.len());
        let mut others = old.iter().peekable();
        for (element, value) in &new {
            while let Some((other, kept)) = others.next_if(|(other, _)| other != element) {
                if !wanted.contains_key(other) {
                    result.push((*kept).clone());
                } else if !there.contains_key(element) {
                    // A new item stands where the configuration has it: before this one, perhaps.
                    break;
                }
            }
            let below = self.kind_below(kind, element, value);
            result.push(self.merged(&below, there.get(element).copied(), value, depth + 1)?);
        }
        let rest = others.filter(|(element, _)| !wanted.contains_key(element));
        result.extend(rest.map(|(_, value)| (*value).clone()));
        Ok(Value::Array(result))
    }

    fn changes(
        &self,
        kind: &Kind<'a>,
        old: Option<&Value>,
        new: Option<&Value>,
        changes: &mut Changes,
        depth: usize,
    ) -> Result<(), ApplyError> {
        check_depth(depth)?;
        let (old, new) = (self.parts(kind, old)?, self.parts(kind, new)?);
        let before: BTreeMap<&Element, &Value> = old.iter().map(|(e, v)| (e, *v)).collect();
        let after: BTreeMap<&Element, &Value> = new.iter().map(|(e, v)| (e, *v)).collect();
        for (element, value) in &old {
            if !after.contains_key(element) {
                let kind = self.kind_below(kind, element, value);
                changes.removed.insert(element.clone());
                changes.removed.insert_below(element.clone(), &self.all(&kind, value, depth + 1)?);
            }
        }
        for (element, value) in &new {
            let below = self.kind_below(kind, element, value);
            let Some(old) = before.get(element) else {
                changes.set.insert_below(element.clone(), &self.all(&below, value, depth + 1)?);
                if !self.is_frame(kind, element, value) {
                    changes.set.insert(element.clone());
                }
                continue;
            };
            if old == value {
                continue;
            }
            if matches!(below, Kind::Leaf) || !is_alike(old, value) {
                changes.set.insert(element.clone());
                continue;
            }
            let mut inner = Changes { set: FieldSet::default(), removed: FieldSet::default() };
            self.changes(&below, Some(old), Some(value), &mut inner, depth + 1)?;
            changes.set.insert_below(element.clone(), &inner.set);
            changes.removed.insert_below(element.clone(), &inner.removed);
        }
        Ok(())
    }

    /// The fields of a value that is new as a whole.
    fn all(&self, kind: &Kind<'a>, value: &Value, depth: usize) -> Result<FieldSet, ApplyError> {
        check_depth(depth)?;
        let mut set = FieldSet::default();
        for (element, part) in self.parts(kind, Some(value))? {
            let below = self.kind_below(kind, &element, part);
            set.insert_below(element.clone(), &self.all(&below, part, depth + 1)?);
            if !self.is_frame(kind, &element, part) {
                set.insert(element);
            }
        }
        Ok(set)
    }

    fn pruned(&self, kind: &Kind<'a>, value: &Value, gone: &FieldSet, kept: &FieldSet) -> Value {
        let none = FieldSet::default();
        let Ok(parts) = self.parts(kind, Some(value)) else { return value.clone() };
        let mut result = Vec::with_capacity(parts.len());
        for (element, part) in parts {
            let Some((is_gone, gone_below)) = gone.at(&element) else {
                result.push((element, part.clone()));
                continue;
            };
            let kept_below = kept.at(&element);
            if kept_below.is_none() && (is_gone || self.is_named(kind, &element)) {
                continue;
            }
            let kept_below = kept_below.map_or(&none, |(_, below)| below);
            let below = self.kind_below(kind, &element, part);
            let part = match below {
                Kind::Leaf => part.clone(),
                below => self.pruned(&below, part, gone_below, kept_below),
            };
            result.push((element, part));
        }
        match value {
            Value::Object(_) => {
                Value::Object(result.into_iter().filter_map(named).collect::<Map<String, Value>>())
            }
            Value::Array(_) => Value::Array(result.into_iter().map(|(_, value)| value).collect()),
            other => other.clone(),
        }
    }
}

fn named((element, value): (Element, Value)) -> Option<(String, Value)> {
    match element {
        Element::Field(name) => Some((name, value)),
        _ => None,
    }
}

/// What nobody has described: structures by their fields, lists as a whole.
fn unknown<'a>(value: &Value) -> Kind<'a> {
    if value.is_object() { Kind::Structure(None) } else { Kind::Leaf }
}

fn is_hollow(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

fn is_alike(a: &Value, b: &Value) -> bool {
    (a.is_object() && b.is_object()) || (a.is_array() && b.is_array())
}

fn check_depth(depth: usize) -> Result<(), ApplyError> {
    match depth > DEPTH_MAX {
        true => Err(ApplyError::Item("the object is nested too deeply".to_owned())),
        false => Ok(()),
    }
}
