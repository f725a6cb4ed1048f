//! The document of version 2 in Protocol Buffers, as `openapi_v2.proto` of gnostic has it: what kubectl
//! from before Kubernetes 1.24 asks for, and reads nothing else.

use serde_json::Value;

/// The document, which is one of version 2.
#[must_use]
pub fn encode(document: &Value) -> Vec<u8> {
    let info = Message::default()
        .text(1, &document["info"]["title"])
        .text(2, &document["info"]["version"]);
    let paths = fields(&document["paths"]).fold(Message::default(), |paths, (name, item)| {
        paths.message(2, &named(name, &path_item(item)))
    });
    let definitions = &document["definitions"];
    Message::default()
        .text(1, &document["swagger"])
        .message(2, &info)
        .message(8, &paths)
        .message(9, &schemas(definitions))
        .0
}

/// What each method of a path does.
fn path_item(item: &Value) -> Message {
    const METHODS: [(&str, u32); 7] = [
        ("get", 2),
        ("put", 3),
        ("post", 4),
        ("delete", 5),
        ("options", 6),
        ("head", 7),
        ("patch", 8),
    ];
    let there = METHODS.iter().filter(|(method, _)| item[*method].is_object());
    there.fold(Message::default(), |message, (method, number)| {
        message.message(*number, &operation(&item[*method]))
    })
}

fn operation(operation: &Value) -> Message {
    let mut message = Message::default().texts(6, &operation["produces"]);
    for parameter in items(&operation["parameters"]) {
        // `ParametersItem` of a `Parameter` of a `NonBodyParameter`.
        let own = Message::default().message(2, &non_body(parameter));
        message = message.message(8, &Message::default().message(1, &own));
    }
    let responses = fields(&operation["responses"]).map(|(code, response)| {
        let schema = Message::default().message(1, &schema(&response["schema"]));
        let own = Message::default().text(1, &response["description"]).message(2, &schema);
        named(code, &Message::default().message(1, &own))
    });
    let responses = responses.fold(Message::default(), |all, one| all.message(1, &one));
    extensions(message.message(9, &responses), 13, operation)
}

fn non_body(parameter: &Value) -> Message {
    let (place, kind) = match parameter["in"].as_str() {
        Some("path") => (4, 5),
        Some("header") => (1, 5),
        _ => (3, 6),
    };
    let own = Message::default()
        .flag(1, &parameter["required"])
        .text(2, &parameter["in"])
        .text(3, &parameter["description"])
        .text(4, &parameter["name"])
        .text(kind, &parameter["type"]);
    Message::default().message(place, &own)
}

/// Schemas by their names: `Definitions`, and `Properties`, which are the same.
fn schemas(all: &Value) -> Message {
    fields(all).fold(Message::default(), |message, (name, own)| {
        message.message(1, &named(name, &schema(own)))
    })
}

fn schema(own: &Value) -> Message {
    let mut message = Message::default()
        .text(1, &own["$ref"])
        .text(2, &own["format"])
        .text(3, &own["title"])
        .text(4, &own["description"])
        .any(5, &own["default"])
        .text(13, &own["pattern"])
        .flag(16, &own["uniqueItems"])
        .texts(19, &own["required"]);
    for value in items(&own["enum"]) {
        message = message.any(20, value);
    }
    match &own["additionalProperties"] {
        Value::Null => {}
        Value::Bool(may) => {
            let item = Message::default().flag(2, &Value::Bool(*may));
            message = message.message(21, &item);
        }
        inner => message = message.message(21, &Message::default().message(1, &schema(inner))),
    }
    if own["type"].is_string() {
        message = message.message(22, &Message::default().text(1, &own["type"]));
    }
    if own["items"].is_object() {
        message = message.message(23, &Message::default().message(1, &schema(&own["items"])));
    }
    if own["properties"].is_object() {
        message = message.message(25, &schemas(&own["properties"]));
    }
    extensions(message, 31, own)
}

/// Fields that begin with `x-`.
fn extensions(message: Message, number: u32, own: &Value) -> Message {
    let all = fields(own).filter(|(name, value)| name.starts_with("x-") && !value.is_null());
    all.fold(message, |message, (name, value)| message.message(number, &named(name, &any(value))))
}

/// A value of any kind, as YAML, of which JSON is a part.
fn any(value: &Value) -> Message {
    Message::default().string(2, &value.to_string())
}

fn named(name: &str, value: &Message) -> Message {
    Message::default().string(1, name).message(2, value)
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A message that is being written. What is not there is left out.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn text(self, number: u32, value: &Value) -> Self {
        match value.as_str() {
            None | Some("") => self,
            Some(text) => self.string(number, text),
        }
    }

    fn texts(self, number: u32, values: &Value) -> Self {
        items(values).iter().fold(self, |message, value| message.text(number, value))
    }

    fn flag(mut self, number: u32, value: &Value) -> Self {
        if *value == true {
            self.put(u64::from(number) << 3);
            self.put(1);
        }
        self
    }

    fn any(self, number: u32, value: &Value) -> Self {
        if value.is_null() { self } else { self.message(number, &any(value)) }
    }

    fn string(self, number: u32, text: &str) -> Self {
        self.bytes(number, text.as_bytes())
    }

    fn message(self, number: u32, inner: &Self) -> Self {
        self.bytes(number, &inner.0)
    }

    fn bytes(mut self, number: u32, bytes: &[u8]) -> Self {
        self.put(u64::from(number) << 3 | 2);
        self.put(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn put(&mut self, mut number: u64) {
        while number >= 128 {
            self.0.push((number % 128 + 128) as u8);
            number /= 128;
        }
        self.0.push(number as u8);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_written_field_by_field() {
        let document = json!({
            "swagger": "2.0", "info": {"title": "K", "version": "u"},
            "paths": {"/a": {"get": {"produces": ["j"],
                "parameters": [{"name": "n", "in": "query", "type": "string"}]}}},
            "definitions": {"D": {"type": "object", "x-y": true,
                "properties": {"p": {"$ref": "#/definitions/E"}}}},
        });
        let parameter = b"\x42\x18\x0a\x16\x12\x14\x1a\x12\x12\x05query\x22\x01n\x32\x06string";
        let operation = [&b"\x32\x01j"[..], parameter, b"\x4a\x00"].concat();
        let written = encode(&document);
        let has = |part: &[u8]| written.windows(part.len()).any(|window| window == part);
        assert!(written.starts_with(b"\x0a\x032.0\x12\x06\x0a\x01K\x12\x01u\x42"));
        assert!(has(&operation), "{written:x?}");
        assert!(has(b"\x0a\x01p\x12\x11\x0a\x0f#/definitions/E"), "{written:x?}");
        assert!(has(b"\xfa\x01\x0d\x0a\x03x-y\x12\x06\x12\x04true"), "{written:x?}");
        assert!(has(b"\xb2\x01\x08\x0a\x06object"), "{written:x?}");
    }
}
