//! JSON patches (RFC 6902), bounded: what they copy and how deep they build.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::failure::Failure;
use crate::request::BODY_BYTES_MAX;

/// Operations of a patch (upstream's `MaxJSONPatchOperations`).
const OPERATIONS_MAX: usize = 10_000;
/// How deep an object may be built. Deeper ones would use up the stack when they are dropped.
const DEPTH_MAX: usize = 128;

/// Does what a patch says to an object.
///
/// # Errors
/// A [`Failure`] of what is no patch, cannot be done, or is too much; the object is then in between.
pub(crate) fn patch(object: &mut Value, document: &Value) -> Result<(), Failure> {
    let refused = |why: String| Failure {
        code: 422,
        reason: "Invalid",
        message: format!("the server rejected our request due to an error in our request: {why}"),
        details: Value::Null,
    };
    let operations: Vec<PatchOperation> = serde_json::from_value(document.clone())
        .map_err(|why| Failure::bad_request(format!("error decoding patch: {why}")))?;
    if operations.len() > OPERATIONS_MAX {
        let message = format!("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}");
        return Err(Failure { code: 413, reason: "RequestEntityTooLarge", ..refused(message) });
    }
    let mut copied = 0;
    for (operation, said) in operations.iter().zip(document.as_array().into_iter().flatten()) {
        let text = |field: &str| said[field].as_str().unwrap_or_default();
        let moved = object.pointer(text("from")).filter(|_| said["from"].is_string());
        if said["op"] == "copy" {
            copied += moved.map_or(0, |value| value.to_string().len() as u64);
        }
        if copied > BODY_BYTES_MAX {
            return Err(Failure::too_large(BODY_BYTES_MAX));
        }
        let value = moved.or_else(|| said.get("value")).unwrap_or(&Value::Null);
        let place = text("path").matches('/').count();
        if place > DEPTH_MAX || is_deeper(value, DEPTH_MAX - place) {
            return Err(refused("the object would be nested too deeply".to_owned()));
        }
        json_patch::patch(object, std::slice::from_ref(operation))
            .map_err(|why| refused(why.to_string()))?;
    }
    Ok(())
}

fn is_deeper(value: &Value, than: usize) -> bool {
    let is_below = |value: &Value| than == 0 || is_deeper(value, than - 1);
    match value {
        Value::Array(items) => items.iter().any(is_below),
        Value::Object(fields) => fields.values().any(is_below),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_are_done_one_after_another() {
        let mut object = json!({"a": 1});
        let document = json!([
            {"op": "test", "path": "/a", "value": 1},
            {"op": "add", "path": "/b", "value": [2]},
            {"op": "copy", "from": "/b", "path": "/c"},
            {"op": "move", "from": "/a", "path": "/d"},
            {"op": "remove", "path": "/b"},
        ]);
        patch(&mut object, &document).unwrap();
        assert_eq!(object, json!({"c": [2], "d": 1}));
        let wrong = json!([{"op": "test", "path": "/d", "value": 2}]);
        assert_eq!(patch(&mut object, &wrong).unwrap_err().code, 422);
        assert_eq!(patch(&mut object, &json!({"op": "add"})).unwrap_err().code, 400);
    }

    #[test]
    fn nobody_makes_much_of_little() {
        let mut object = json!({"a": "x".repeat(1000)});
        let doubled: Vec<Value> =
            (0..40).map(|n| json!({"op": "copy", "from": "", "path": format!("/c{n}")})).collect();
        let failure = patch(&mut object, &doubled.into()).unwrap_err();
        assert!(failure.code == 413 || failure.message.contains("deeply"), "{failure:?}");
        let mut object = json!({});
        let deep: Vec<Value> =
            (1..200).map(|n| json!({"op": "add", "path": "/a".repeat(n), "value": {}})).collect();
        assert!(patch(&mut object, &deep.into()).unwrap_err().message.contains("deeply"));
        let many = vec![json!({"op": "add", "path": "/a", "value": 1}); OPERATIONS_MAX + 1];
        assert_eq!(patch(&mut json!({}), &many.into()).unwrap_err().code, 413);
    }
}
