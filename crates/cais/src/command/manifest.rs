//! `cais manifest …`

pub(super) mod annotate;
pub(super) mod create;
pub(super) mod inspect;
pub(super) mod push;
pub(super) mod rm;

use serde::Serialize;
use serde_json::Value;

/// JSON with this before each level.
fn indented(value: &Value, indent: &str) -> String {
    let mut text = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut out = serde_json::Serializer::with_formatter(&mut text, form);
    // A tree of values that is in memory can be written to memory.
    let _ = value.serialize(&mut out);
    String::from_utf8_lossy(&text).into_owned()
}
