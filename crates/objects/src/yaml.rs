//! One object in YAML, as JSON: the words of YAML 1.1 for truths, as upstream's reader has them.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::{Map, Number, Value};

/// How deep values may lie in each other.
const DEPTH_MAX: usize = 64;
/// How many values there may be once aliases stand for what they name.
const VALUES_MAX: usize = 200_000;
/// How many bytes of words, counted in the same way.
const WORD_BYTES_MAX: usize = 16 << 20;

/// Why a text is no object in YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// It is no YAML.
    #[error("yaml: line {line}: {why}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// It is YAML that no JSON can be, or too much.
    #[error("yaml: {0}")]
    Value(String),
}

type Result<T> = std::result::Result<T, YamlError>;

/// Reads the one document of a text. JSON is YAML, too.
///
/// # Errors
/// [`YamlError`].
pub fn parse(text: &str) -> Result<Value> {
    let mut reader =
        Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), values: 0, bytes: 0 };
    let mut document = None;
    loop {
        match reader.next()? {
            Event::StreamEnd => return Ok(document.unwrap_or_default()),
            Event::DocumentStart(_) if document.is_some() => {
                return Err(YamlError::Value("there is more than one document".to_owned()));
            }
            Event::DocumentStart(_) => {
                let event = reader.next()?;
                document = Some(reader.value(event, 0)?);
            }
            _ => {}
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// What anchors name, and how many values and bytes that is.
    anchors: HashMap<usize, (Value, usize, usize)>,
    values: usize,
    bytes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>> {
        match self.parser.next_event() {
            None => Ok(Event::StreamEnd),
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => {
                Err(YamlError::Syntax { line: error.marker().line(), why: error.info().to_owned() })
            }
        }
    }

    fn value(&mut self, event: Event<'a>, depth: usize) -> Result<Value> {
        self.count(1, 0)?;
        if depth > DEPTH_MAX {
            return Err(YamlError::Value(format!("more than {DEPTH_MAX} levels of nesting")));
        }
        let (values, bytes) = (self.values, self.bytes);
        let (value, anchor) = match event {
            Event::Alias(id) => {
                let Some((value, values, bytes)) = self.anchors.get(&id).cloned() else {
                    return Err(YamlError::Value("an alias names what it is a part of".to_owned()));
                };
                self.count(values, bytes)?;
                (value, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(0, text.len())?;
                (scalar(&text, style, tag.as_deref())?, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.map(depth)?, anchor),
            _ => (Value::Null, 0),
        };
        if anchor > 0 {
            let size = (self.values - values + 1, self.bytes - bytes);
            self.anchors.insert(anchor, (value.clone(), size.0, size.1));
        }
        Ok(value)
    }

    fn count(&mut self, values: usize, bytes: usize) -> Result<()> {
        self.values += values;
        self.bytes += bytes;
        match self.values > VALUES_MAX || self.bytes > WORD_BYTES_MAX {
            true => {
                let why = "the document becomes too large once its aliases are what they name";
                Err(YamlError::Value(why.to_owned()))
            }
            false => Ok(()),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Value::Array(list)),
                event => list.push(self.value(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value> {
        let (mut map, mut merged) = (Map::new(), Vec::new());
        loop {
            let event = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let (key, is_plain) = match event {
                Event::Scalar(text, style, ..) => (text.into_owned(), style == ScalarStyle::Plain),
                _ => return Err(YamlError::Value("a key is no text".to_owned())),
            };
            self.count(0, key.len())?;
            let event = self.next()?;
            let value = self.value(event, depth + 1)?;
            if key == "<<" && is_plain {
                merged.push(value);
            } else if map.contains_key(&key) {
                return Err(YamlError::Value(format!("key {key:?} already set in map")));
            } else {
                map.insert(key, value);
            }
        }
        for value in merged {
            merge(&mut map, value)?;
        }
        Ok(Value::Object(map))
    }
}

/// `<<`: what is not there yet; of several mappings, the first that has it.
fn merge(map: &mut Map<String, Value>, value: Value) -> Result<()> {
    match value {
        Value::Object(other) => {
            for (key, value) in other {
                map.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Array(all) => all.into_iter().try_for_each(|value| merge(map, value)),
        _ => Err(YamlError::Value(
            "map merge requires map or sequence of maps as the value".to_owned(),
        )),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value> {
    let core = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    if style != ScalarStyle::Plain || core == Some("str") {
        return Ok(text.into());
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => true.into(),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => false.into(),
        _ => match number(text) {
            Some(number) => number,
            None => text.into(),
        },
    })
}

fn number(text: &str) -> Option<Value> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let plain = digits.replace('_', "");
    let radix = |prefix: &str, radix| {
        let rest = plain.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
        i64::from_str_radix(&format!("{sign}{rest}"), radix).ok()
    };
    let octal = || radix("0", 8).filter(|_| plain.len() > 1);
    let whole = radix("0x", 16)
        .or_else(|| radix("0o", 8))
        .or_else(|| radix("0b", 2))
        .or_else(octal)
        .or_else(|| format!("{sign}{plain}").parse().ok());
    if let Some(whole) = whole {
        return Some(whole.into());
    }
    if let (true, Ok(large)) = (sign.is_empty(), plain.parse::<u64>()) {
        return Some(large.into());
    }
    let is_float = plain.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b))
        && plain.bytes().any(|b| b.is_ascii_digit());
    let float: f64 = format!("{sign}{plain}").parse().ok().filter(|_| is_float)?;
    Number::from_f64(float).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_becomes_the_json_that_upstream_reads() {
        for (text, expected) in [
            (
                "a: 1\nb: [x, 'yes', yes, 1.5, ~]\n",
                json!({"a": 1, "b": ["x", "yes", true, 1.5, null]}),
            ),
            ("{\"a\": {\"b\": \"c\"}}", json!({"a": {"b": "c"}})),
            (
                "a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}\n",
                json!({"a": {"b": 1}, "c": {"b": 1}, "d": {"e": 2, "b": 1}}),
            ),
            (
                "a: 0x10\nb: 010\nc: 1e3\nd: 1.2.3\ne: -5\nf: 12h\n",
                json!({"a": 16, "b": 8, "c": 1000.0, "d": "1.2.3", "e": -5, "f": "12h"}),
            ),
            ("a: |\n  one\n  two\n", json!({"a": "one\ntwo\n"})),
            ("--- \na: b\n", json!({"a": "b"})),
            ("a: !!str 1\n1: x\n", json!({"a": "1", "1": "x"})),
            ("", json!(null)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for (text, words) in [
            ("a: b\na: c\n", "key \"a\" already set in map"),
            ("a: b\n--- \nc: d\n", "more than one document"),
            ("a: [", "line"),
            ("? {a: b}\n: c\n", "a key is no text"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let mut bomb = "a0: &a0 [x]\n".to_owned();
        for n in 1..40 {
            bomb += &format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1);
        }
        assert!(parse(&bomb).unwrap_err().to_string().contains("too large"));
        assert!(parse(&"[".repeat(100)).is_err());
    }
}
