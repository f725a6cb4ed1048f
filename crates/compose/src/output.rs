//! A project as `config` shows it.

use crate::node::{Map, Node, Value};
use crate::project::{Project, Resource};
use crate::schema::FILE;
use crate::shape::Shape;

impl Project {
    /// The whole project in the one form, in the order in which Compose writes it.
    #[must_use]
    pub fn model(&self) -> Node {
        let place = crate::error::Place { file: "".into(), line: 0, column: 0 };
        let mut root = Map::default();
        root.set("name", Node::text(self.name.as_str(), &place));
        let mut services = Map::default();
        for service in self.services.values() {
            services.set(&service.name, service.node.clone());
        }
        root.set("services", Node::map(services, &place));
        let sections = [
            ("networks", &self.networks),
            ("volumes", &self.volumes),
            ("secrets", &self.secrets),
            ("configs", &self.configs),
        ];
        for (section, all) in sections {
            let mut map = Map::default();
            for Resource { key, node, .. } in all.values() {
                map.set(key, node.clone());
            }
            if !map.is_empty() {
                root.set(section, Node::map(map, &place));
            }
        }
        for (key, node) in &self.extensions {
            root.set(key, node.clone());
        }
        ordered(Node::map(root, &place), &FILE)
    }
}

/// A tree whose mappings are in the order of their keys: the schema's where it has one, and that of
/// letters elsewhere.
pub(crate) fn ordered(node: Node, shape: &Shape) -> Node {
    let place = node.place.clone();
    match (node.value, shape) {
        (value, Shape::Short(_, inner) | Shape::IntOr(inner)) => {
            ordered(Node::new(value, &place), inner)
        }
        (Value::Map(mut entries), Shape::Fields(fields)) => {
            let mut map = Map::default();
            for field in *fields {
                if let Some(node) = entries.remove(field.name) {
                    map.set(field.name, ordered(node, &field.shape));
                }
            }
            entries.sort();
            for (key, node) in entries {
                map.set(&key, node);
            }
            Node::map(map, &place)
        }
        (Value::Map(mut entries), shape) => {
            let inner = match shape {
                Shape::Map(inner) => **inner,
                _ => Shape::Any,
            };
            if !matches!(shape, Shape::Any) {
                entries.sort();
            }
            let mut map = Map::default();
            for (key, node) in entries {
                map.set(&key, ordered(node, &inner));
            }
            Node::map(map, &place)
        }
        (Value::List(items), Shape::List(inner, _)) => {
            let items = items.into_iter().map(|item| ordered(item, inner)).collect();
            Node::new(Value::List(items), &place)
        }
        (value, _) => Node::new(value, &place),
    }
}

/// A tree whose mappings are all in the order of letters.
pub(crate) fn sorted(node: Node) -> Node {
    let place = node.place.clone();
    match node.value {
        Value::Map(mut entries) => {
            entries.sort();
            let mut map = Map::default();
            for (key, node) in entries {
                map.push(key, sorted(node));
            }
            Node::map(map, &place)
        }
        Value::List(items) => {
            Node::new(Value::List(items.into_iter().map(sorted).collect()), &place)
        }
        value => Node::new(value, &place),
    }
}
