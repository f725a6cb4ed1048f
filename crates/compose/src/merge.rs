//! Several files become one: what a later one says of the same thing.

use crate::node::{Kind, Map, Mark, Node, Value};
use crate::shape::{Field, Shape, Unique};

/// `over` on top of `base`, both in the one form of `shape`. `None` if `over` removes it.
pub(crate) fn merge(base: Node, over: Node, shape: &Shape) -> Option<Node> {
    match over.mark {
        Mark::Reset => return None,
        Mark::Override => return Some(over.marked(Mark::Merged)),
        Mark::Merged => {}
    }
    if over.is_null() && !matches!(shape, Shape::Command) {
        return Some(base);
    }
    Some(match shape {
        Shape::Command | Shape::Test => over,
        Shape::Fields(fields) => merge_fields(base, over, fields),
        Shape::Map(inner) => merge_maps(base, over, |_| **inner),
        Shape::Pairs(_) => merge_maps(base, over, |_| Shape::Word),
        Shape::List(_, unique) | Shape::Texts(unique) => merge_lists(base, over, *unique),
        Shape::Short(_, inner) | Shape::IntOr(inner) => return merge(base, over, inner),
        Shape::Any => match (&base.value, &over.value) {
            (Value::Map(_), Value::Map(_)) => merge_maps(base, over, |_| Shape::Any),
            (Value::List(_), Value::List(_)) => merge_lists(base, over, Unique::No),
            _ => over,
        },
        _ => over,
    })
}

fn merge_fields(base: Node, over: Node, fields: &[Field]) -> Node {
    let of = |key: &str| {
        fields.iter().find(|field| field.name == key).map_or(Shape::Any, |field| field.shape)
    };
    // Options of another driver mean nothing to this one.
    if fields.iter().any(|field| field.name == "options")
        && let (Some(old), Some(new)) = (base.word_of("driver"), over.word_of("driver"))
        && old != new
    {
        return over;
    }
    merge_maps(base, over, of)
}

fn merge_maps(base: Node, over: Node, shape: impl Fn(&str) -> Shape) -> Node {
    let place = over.place.clone();
    let (base, over) = match (base.value, over.value) {
        (Value::Map(base), Value::Map(over)) => (base, over),
        // What was nothing, or one number, is a mapping now, or the other way round.
        (_, value) => return Node::new(value, &place),
    };
    let mut merged = base;
    for (key, node) in over {
        match merged.remove_in_place(&key) {
            None if node.mark == Mark::Reset => {}
            None => merged.push(key, node.marked(Mark::Merged)),
            Some((index, known)) => {
                if let Some(node) = merge(known, node, &shape(&key)) {
                    merged.insert_at(index, key, node);
                }
            }
        }
    }
    Node::map(merged, &place)
}

fn merge_lists(base: Node, over: Node, unique: Unique) -> Node {
    let place = over.place.clone();
    let items = |node: Node| match node.value {
        Value::List(items) => items,
        _ => vec![node],
    };
    let mut all = items(base);
    all.extend(items(over));
    Node::new(Value::List(distinct(all, unique)), &place)
}

/// A list without what a later element stands in the place of.
fn distinct(items: Vec<Node>, unique: Unique) -> Vec<Node> {
    let mut all: Vec<Node> = Vec::with_capacity(items.len());
    let mut keys: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    for item in items {
        match key(&item, unique) {
            Some(key) => match keys.get(&key) {
                Some(index) => all[*index] = item,
                None => {
                    keys.insert(key, all.len());
                    all.push(item);
                }
            },
            None => all.push(item),
        }
    }
    all
}

fn key(item: &Node, unique: Unique) -> Option<String> {
    let field = |name: &str| item.word_of(name).map(str::to_owned);
    match unique {
        Unique::No => None,
        Unique::Name => {
            item.word().map(|word| word.split('=').next().unwrap_or_default().to_owned())
        }
        Unique::Whole => item.word().map(str::to_owned),
        Unique::By(name) => field(name),
        Unique::Mount(directory) => {
            let named = || field("source").map(|source| format!("{directory}/{source}"));
            field("target").or_else(named)
        }
        Unique::Port => {
            let or = |name: &str, default: &str| field(name).unwrap_or_else(|| default.to_owned());
            Some(format!(
                "{}:{}:{}/{}",
                or("host_ip", "0.0.0.0"),
                or("published", ""),
                field("target")?,
                or("protocol", "tcp")
            ))
        }
    }
}

/// A tree of one file as if it were merged with nothing: without what is removed, and with every
/// list distinct.
pub(crate) fn settle(node: Node, shape: &Shape) -> Node {
    let place = node.place.clone();
    match (node.value, shape) {
        (value, Shape::Short(_, inner) | Shape::IntOr(inner)) => {
            settle(Node::new(value, &place), inner)
        }
        (Value::Map(map), shape) => {
            let mut settled = Map::default();
            for (key, node) in map {
                let inner = match shape {
                    Shape::Fields(fields) => {
                        let field = fields.iter().find(|field| field.name == key);
                        field.map_or(Shape::Any, |field| field.shape)
                    }
                    Shape::Map(inner) => **inner,
                    _ => Shape::Any,
                };
                if node.mark != Mark::Reset {
                    settled.push(key, settle(node, &inner));
                }
            }
            Node::map(settled, &place)
        }
        (Value::List(items), Shape::List(inner, unique)) => {
            let items = items.into_iter().filter(|item| item.mark != Mark::Reset);
            let items = items.map(|item| settle(item, inner)).collect();
            Node::new(Value::List(distinct(items, *unique)), &place)
        }
        (Value::List(items), Shape::Texts(unique)) => {
            Node::new(Value::List(distinct(items, *unique)), &place)
        }
        (Value::Scalar(Kind::Null, _), _) => Node::null(&place),
        (value, _) => Node::new(value, &place),
    }
}
