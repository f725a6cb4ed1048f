//! Fields of JSON objects, where what is missing is empty.

use serde_json::Value;

/// The text at a path of fields; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

/// What is at a path of fields.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, field| &value[*field])
}

/// The items of a list; none if there is no list.
pub(crate) fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// The entries of a map of texts.
pub(crate) fn entries<'a>(
    value: &'a Value,
    field: &str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let map = value[field].as_object().into_iter().flatten();
    map.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// A list of texts.
pub(crate) fn texts(value: &Value, field: &str) -> Vec<String> {
    items(value, field).iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Whether a field is true.
pub(crate) fn is(value: &Value, field: &str) -> bool {
    value[field] == true
}

/// Milliseconds since 1970 of a time in RFC 3339; none if it is no time.
pub(crate) fn millis(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

/// A time as the API writes it.
pub(crate) fn time(millis: i64) -> String {
    objects::time::seconds(millis.div_euclid(1000))
}
