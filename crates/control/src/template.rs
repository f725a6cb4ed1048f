//! Pods of templates, and which template a pod is of.

use client::Object;
use serde_json::{Value, json};

use crate::object::{name, namespace, owner_reference};

/// Letters of names that are made: no vowels, so that they spell nothing (apimachinery,
/// `util/rand`).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A pod of an owner's template. The server finds its name.
pub(crate) fn pod(template: &Value, owner: &Object) -> Value {
    let metadata = &template["metadata"];
    let mut own = json!({
        "generateName": format!("{}-", generated(name(owner))),
        "namespace": namespace(owner),
        "ownerReferences": [owner_reference(owner)],
    });
    for field in ["labels", "annotations", "finalizers"] {
        if !metadata[field].is_null() {
            own[field] = metadata[field].clone();
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": own,
        "spec": template["spec"],
    })
}

/// What made names may begin with: the end is cut so that a suffix fits into a label.
fn generated(name: &str) -> &str {
    let end = name.len().min(57);
    name.get(..end).unwrap_or(name)
}

/// A short name of a template: the same for the same content, whatever the order of its fields.
pub(crate) fn hash(template: &Value, collisions: i64) -> String {
    let mut hash = Fnv::new();
    feed(&mut hash, template);
    if collisions > 0 {
        hash.write(&collisions.to_le_bytes());
    }
    spell(hash.0)
}

/// Any number as a word of the alphabet.
pub(crate) fn spell(number: u32) -> String {
    let digits = number.to_string();
    let letter = |byte: u8| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]);
    digits.bytes().map(letter).collect()
}

/// FNV-1a of 32 bits.
struct Fnv(u32);

impl Fnv {
    fn new() -> Self {
        Self(0x811c_9dc5)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

fn feed(hash: &mut Fnv, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().filter(|key| !map[*key].is_null()).collect();
            keys.sort();
            hash.write(b"{");
            for key in keys {
                hash.write(key.as_bytes());
                hash.write(b":");
                feed(hash, &map[key]);
            }
            hash.write(b"}");
        }
        Value::Array(items) => {
            hash.write(b"[");
            for item in items {
                feed(hash, item);
                hash.write(b",");
            }
            hash.write(b"]");
        }
        other => hash.write(other.to_string().as_bytes()),
    }
}

/// Whether two templates make the same pods, but for a label that tells them apart.
pub(crate) fn is_same(a: &Value, b: &Value, label: &str) -> bool {
    let plain = |template: &Value| {
        let mut template = template.clone();
        if let Some(labels) =
            template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut)
        {
            labels.shift_remove(label);
        }
        if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.shift_remove("creationTimestamp");
            metadata.retain(|_, value| !value.as_object().is_some_and(serde_json::Map::is_empty));
        }
        template
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_content() {
        let a = json!({"metadata": {"labels": {"x": "1", "y": "2"}}, "spec": {"a": 1}});
        let b =
            json!({"spec": {"a": 1}, "metadata": {"labels": {"y": "2", "x": "1"}, "name": null}});
        assert_eq!(hash(&a, 0), hash(&b, 0));
        assert_ne!(hash(&a, 0), hash(&a, 1));
        assert_ne!(hash(&a, 0), hash(&json!({"spec": {"a": 2}}), 0));
        assert!(hash(&a, 0).bytes().all(|byte| ALPHABET.contains(&byte)));
    }

    #[test]
    fn templates_are_compared_without_the_label_that_tells_them_apart() {
        let a = json!({"metadata": {"labels": {"x": "1", "hash": "h"}}, "spec": {}});
        let b = json!({"metadata": {"labels": {"x": "1"}, "creationTimestamp": null}, "spec": {}});
        assert!(is_same(&a, &b, "hash"));
        assert!(!is_same(&a, &b, "other"));
    }
}
