//! Strategic merge patches: what lists of structures are merged by stands in the [`Schema`]
//! (apimachinery, `strategicpatch`).
//!
//! | in a patch | means |
//! |---|---|
//! | `$patch: replace`, `$patch: delete` | this structure takes the place of what is there, or removes it |
//! | `$deleteFromPrimitiveList/f: […]` | these values leave the list `f` |
//! | `$setElementOrder/f: […]` | items of the list `f` stand in this order |
//! | `$retainKeys: […]` | fields that are not named here go |

use serde_json::{Map, Value};

use super::DEPTH_MAX;
use crate::schema::{Field, Merge, Schema, Shape, TypeId};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// Why a patch cannot be applied, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    /// A directive that there is not.
    #[error("unknown patch type: {0}")]
    Directive(String),
    /// `$patch: merge` for a list.
    #[error("merging lists cannot yet be specified in the patch")]
    MergedList,
    /// An item that does not say which one it is.
    #[error("map: {item} does not contain declared merge key: {key}")]
    Key {
        /// The item, as JSON.
        item: String,
        /// The field that is missing.
        key: String,
    },
    /// A directive's value, or an item, is not what it must be.
    #[error("invalid patch format: {0}")]
    Format(String),
    /// Structures in structures without end.
    #[error("the patch is nested too deeply")]
    Depth,
}

type Result<T> = std::result::Result<T, StrategicError>;

/// Applies a patch to an object of a type.
///
/// # Errors
/// [`StrategicError`]; the object is then in between.
pub fn strategic_merge(
    schema: &Schema,
    of: TypeId,
    target: &mut Map<String, Value>,
    patch: Map<String, Value>,
) -> Result<()> {
    Patcher { schema }.merge(Some(of), target, patch, 0)
}

struct Patcher<'a> {
    schema: &'a Schema,
}

impl<'a> Patcher<'a> {
    fn field(&self, of: Option<TypeId>, name: &str) -> Option<&'a Field> {
        self.schema.field(of?, name)
    }

    fn merge(
        &self,
        of: Option<TypeId>,
        target: &mut Map<String, Value>,
        mut patch: Map<String, Value>,
        depth: usize,
    ) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(StrategicError::Depth);
        }
        match patch.shift_remove(DIRECTIVE) {
            None => {}
            Some(Value::String(word)) if word == "replace" => {
                *target = patch;
                return Ok(());
            }
            Some(Value::String(word)) if word == "delete" => {
                target.clear();
                return Ok(());
            }
            Some(Value::String(word)) if word == "merge" => {}
            Some(other) => return Err(StrategicError::Directive(other.to_string())),
        }
        retain_keys(target, &mut patch)?;
        self.put_in_order(of, target, &mut patch, depth)?;
        for (key, value) in patch {
            if let Some(name) = key.strip_prefix(DELETE_FROM_LIST) {
                delete_from_list(target, name, &value)?;
            } else {
                self.merge_field(of, target, key, value, depth)?;
            }
        }
        Ok(())
    }

    fn merge_field(
        &self,
        of: Option<TypeId>,
        target: &mut Map<String, Value>,
        key: String,
        value: Value,
        depth: usize,
    ) -> Result<()> {
        let field = self.field(of, &key);
        match (target.get_mut(&key), value) {
            (_, Value::Null) => {
                target.shift_remove(&key);
            }
            (Some(Value::Object(old)), Value::Object(new)) => {
                let inner = field.and_then(|field| inner(&field.shape));
                self.merge(inner, old, new, depth + 1)?;
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                *old = self.merge_list(field, old, new, depth)?;
            }
            (_, new) => {
                if let Some(new) = without_directives(new, depth)? {
                    target.insert(key, new);
                }
            }
        }
        Ok(())
    }

    /// Merges two lists, or replaces one by the other, as the field wants it.
    fn merge_list(
        &self,
        field: Option<&'a Field>,
        old: &[Value],
        new: Vec<Value>,
        depth: usize,
    ) -> Result<Vec<Value>> {
        match field.map_or(Merge::Replace, |field| field.merge) {
            Merge::Replace => {
                let kept = new.into_iter().map(|item| without_directives(item, depth));
                kept.filter_map(Result::transpose).collect()
            }
            Merge::Union => {
                let mut merged = old.to_owned();
                let added = new.iter().filter(|item| !old.contains(item));
                added.for_each(|item| push_unique(&mut merged, item));
                Ok(in_order(merged, &new, old, None))
            }
            Merge::By(key) => {
                let inner = field.and_then(|field| inner(&field.shape));
                self.merge_items(inner, key, old, new, depth)
            }
        }
    }

    fn merge_items(
        &self,
        of: Option<TypeId>,
        key: &'static str,
        old: &[Value],
        new: Vec<Value>,
        depth: usize,
    ) -> Result<Vec<Value>> {
        let mut merged = old.to_owned();
        let mut plain = Vec::with_capacity(new.len());
        let mut replaces = false;
        for item in new {
            let directive = item.get(DIRECTIVE).map(|word| word.as_str().unwrap_or_default());
            match directive {
                None => plain.push(item),
                Some("delete") => {
                    let gone = key_of(&item, key)?;
                    merged.retain(|item| item.get(key) != Some(gone));
                }
                Some("replace") => replaces = true,
                Some("merge") => return Err(StrategicError::MergedList),
                Some(other) => return Err(StrategicError::Directive(other.to_owned())),
            }
        }
        if replaces {
            return Ok(plain);
        }
        for item in &plain {
            let name = key_of(item, key)?;
            let Value::Object(fields) = item.clone() else {
                return Err(StrategicError::Format(item.to_string()));
            };
            match merged.iter_mut().find(|item| item.get(key) == Some(name)) {
                Some(Value::Object(found)) => self.merge(of, found, fields, depth + 1)?,
                _ => {
                    let mut made = Map::new();
                    self.merge(of, &mut made, fields, depth + 1)?;
                    merged.push(Value::Object(made));
                }
            }
        }
        Ok(in_order(merged, &plain, old, Some(key)))
    }

    /// Merges the lists whose order the patch gives, and orders them.
    fn put_in_order(
        &self,
        of: Option<TypeId>,
        target: &mut Map<String, Value>,
        patch: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<()> {
        let directives: Vec<String> =
            patch.keys().filter(|key| key.starts_with(ELEMENT_ORDER)).cloned().collect();
        for directive in directives {
            let name = &directive[ELEMENT_ORDER.len()..];
            let Some(Value::Array(order)) = patch.shift_remove(&directive) else {
                return Err(StrategicError::Format(directive));
            };
            let field = self.field(of, name);
            let new = patch.shift_remove(name);
            if new == Some(Value::Null) {
                target.shift_remove(name);
                continue;
            }
            let old = match target.get(name) {
                Some(Value::Array(old)) => old.clone(),
                _ => Vec::new(),
            };
            let merged = match new {
                Some(Value::Array(new)) => self.merge_list(field, &old, new, depth)?,
                Some(_) => return Err(StrategicError::Format(name.to_owned())),
                None if target.contains_key(name) => old.clone(),
                None => continue,
            };
            let key = match field.map(|field| field.merge) {
                Some(Merge::By(key)) => Some(key),
                _ => None,
            };
            target.insert(name.to_owned(), in_order(merged, &order, &old, key).into());
        }
        Ok(())
    }
}

/// The structure that a field holds, or its items or values are.
fn inner(shape: &Shape) -> Option<TypeId> {
    match shape {
        Shape::Object(of) => Some(*of),
        Shape::List(inner) | Shape::Map(inner) => self::inner(inner),
        Shape::Scalar(_) => None,
    }
}

fn key_of<'v>(item: &'v Value, key: &str) -> Result<&'v Value> {
    let missing = || StrategicError::Key { item: item.to_string(), key: key.to_owned() };
    item.get(key).ok_or_else(missing)
}

fn retain_keys(target: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<()> {
    let Some(kept) = patch.shift_remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(kept) = kept else {
        return Err(StrategicError::Format(RETAIN_KEYS.to_owned()));
    };
    let is_kept = |key: &str| kept.iter().any(|name| name.as_str() == Some(key));
    if let Some(stray) = patch.keys().find(|key| !key.starts_with('$') && !is_kept(key)) {
        return Err(StrategicError::Format(format!("{stray} is not among the keys to retain")));
    }
    target.retain(|key, _| is_kept(key));
    Ok(())
}

fn delete_from_list(target: &mut Map<String, Value>, name: &str, gone: &Value) -> Result<()> {
    let Value::Array(gone) = gone else {
        return Err(StrategicError::Format(format!("{DELETE_FROM_LIST}{name}")));
    };
    if let Some(Value::Array(list)) = target.get_mut(name) {
        list.retain(|item| !gone.contains(item));
    }
    Ok(())
}

fn push_unique(list: &mut Vec<Value>, item: &Value) {
    if !list.contains(item) {
        list.push(item.clone());
    }
}

/// Puts what the patch names into the patch's order, between what it does not, which keeps the order
/// that it had.
fn in_order(merged: Vec<Value>, patch: &[Value], old: &[Value], key: Option<&str>) -> Vec<Value> {
    let is_same = |a: &Value, b: &Value| match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    };
    let place = |list: &[Value], item: &Value| list.iter().position(|other| is_same(other, item));
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(patch, item).is_some());
    named.sort_by_key(|item| place(patch, item));
    others.sort_by_key(|item| place(old, item));
    let mut ordered = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(left), Some(right)) = (others.peek(), named.peek()) {
        let is_first = matches!((place(old, left), place(old, right)), (Some(l), Some(r)) if l < r);
        ordered.extend(if is_first { others.next() } else { named.next() });
    }
    ordered.extend(others);
    ordered.extend(named);
    ordered
}

/// What a patch adds where nothing was: no directives, and nothing that one removes.
fn without_directives(value: Value, depth: usize) -> Result<Option<Value>> {
    if depth > DEPTH_MAX {
        return Err(StrategicError::Depth);
    }
    match value {
        Value::Object(mut fields) => {
            match fields.shift_remove(DIRECTIVE) {
                Some(Value::String(word)) if word == "delete" => return Ok(None),
                _ => {}
            }
            let mut plain = Map::new();
            for (key, value) in fields {
                let is_directive = key == RETAIN_KEYS
                    || key.starts_with(DELETE_FROM_LIST)
                    || key.starts_with(ELEMENT_ORDER);
                if is_directive || value.is_null() {
                    continue;
                }
                if let Some(value) = without_directives(value, depth + 1)? {
                    plain.insert(key, value);
                }
            }
            Ok(Some(Value::Object(plain)))
        }
        Value::Array(items) => {
            let kept = items.into_iter().map(|item| without_directives(item, depth + 1));
            let kept: Result<Vec<Value>> = kept.filter_map(Result::transpose).collect();
            Ok(Some(Value::Array(kept?)))
        }
        plain => Ok(Some(plain)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(api_version: &str, kind: &str, target: Value, patch: Value) -> Result<Value> {
        let schema = Schema::built_in();
        let (Value::Object(mut target), Value::Object(patch)) = (target, patch) else { panic!() };
        let of = schema.kind(api_version, kind).unwrap();
        strategic_merge(schema, of, &mut target, patch)?;
        Ok(Value::Object(target))
    }

    /// A pod's specification is patched, and what it then is.
    fn check(target: Value, patch: Value, expected: Value) {
        let spec = |spec: Value| json!({"spec": spec});
        let is = patched("v1", "Pod", spec(target), spec(patch)).unwrap();
        assert_eq!(is, spec(expected));
    }

    #[test]
    fn items_are_merged_by_their_names() {
        let target =
            json!({"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}]});
        check(
            target.clone(),
            json!({"containers": [{"name": "a", "image": "2", "args": ["y"]}]}),
            json!({"containers": [{"name": "a", "image": "2", "args": ["y"]}, {"name": "b"}]}),
        );
        // What is new stands before what the patch does not name, as upstream has it.
        check(
            target.clone(),
            json!({"containers": [{"name": "c"}]}),
            json!({"containers": [{"name": "c"}, {"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}]}),
        );
        check(
            target.clone(),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b"}]}),
        );
        check(
            target.clone(),
            json!({"containers": [{"$patch": "replace"}, {"name": "d"}]}),
            json!({"containers": [{"name": "d"}]}),
        );
        check(
            target,
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                   "containers": [{"name": "a", "args": null}]}),
            json!({"containers": [{"name": "b"}, {"name": "a", "image": "1"}]}),
        );
    }

    #[test]
    fn ports_of_a_service_are_merged_by_their_numbers() {
        let is = patched(
            "v1",
            "Service",
            json!({"spec": {"ports": [{"port": 80, "name": "web"}], "selector": {"a": "b"}}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}], "selector": {"a": null, "c": "d"}}}),
        );
        let expected = json!({"spec": {"ports": [{"port": 80, "name": "web", "targetPort": 8080}], "selector": {"c": "d"}}});
        assert_eq!(is, Ok(expected));
    }

    #[test]
    fn other_lists_are_replaced() {
        check(
            json!({"tolerations": [{"key": "a"}], "nodeSelector": {"a": "b"}}),
            json!({"tolerations": [{"key": "b"}], "nodeSelector": {"c": "d"}}),
            json!({"tolerations": [{"key": "b"}], "nodeSelector": {"a": "b", "c": "d"}}),
        );
    }

    #[test]
    fn sets_grow_and_shrink() {
        let is = patched(
            "v1",
            "Pod",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}),
        );
        assert_eq!(is, Ok(json!({"metadata": {"finalizers": ["c", "b"]}})));
    }

    #[test]
    fn keys_that_are_not_retained_go() {
        let is = patched(
            "apps/v1",
            "Deployment",
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        );
        assert_eq!(is, Ok(json!({"spec": {"strategy": {"type": "Recreate"}}})));
    }

    #[test]
    fn what_is_new_has_no_directives() {
        check(
            json!({}),
            json!({"containers": [{"name": "a", "image": null, "$patch": "merge"}], "securityContext": {"runAsUser": null}}),
            json!({"containers": [{"name": "a"}], "securityContext": {}}),
        );
    }

    #[test]
    fn wrong_patches_are_told() {
        let fails = |patch: Value| {
            let target = json!({"spec": {"containers": [{"name": "a"}]}});
            patched("v1", "Pod", target, json!({"spec": patch})).unwrap_err().to_string()
        };
        let said = fails(json!({"containers": [{"image": "x"}]}));
        assert_eq!(said, "map: {\"image\":\"x\"} does not contain declared merge key: name");
        assert!(fails(json!({"$patch": "nonsense"})).contains("unknown patch type"));
        assert!(fails(json!({"$retainKeys": ["a"], "b": 1})).contains("retain"));
        assert!(fails(json!({"containers": [{"$patch": "merge"}]})).contains("merging lists"));
        let mut deep = json!(1);
        for _ in 0..200 {
            deep = json!({"a": deep});
        }
        assert!(fails(json!({"nodeSelector": deep})).contains("deeply"));
    }
}
