//! The functions of `text/template` and those Docker adds.

use std::rc::Rc;

use serde_json::Value;

use super::item::{Item, sorted};
use super::{ELEMENTS_MAX, OUTPUT_MAX, print, quote};

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Param {
    Any,
    Str,
    Int,
}

pub(super) type Answer<'v> = Result<Item<'v>, String>;

#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) params: &'static [Param],
    /// Whether further arguments of any type may follow.
    pub(super) variadic: bool,
    pub(super) run: for<'v> fn(&[Item<'v>]) -> Answer<'v>,
}

const ANY: Param = Param::Any;

const fn function(
    name: &'static str,
    params: &'static [Param],
    variadic: bool,
    run: for<'v> fn(&[Item<'v>]) -> Answer<'v>,
) -> Function {
    Function { name, params, variadic, run }
}

static FUNCTIONS: &[Function] = &[
    // The evaluator stops at the deciding argument of these two and calls them with that one.
    function("and", &[ANY], true, |args| Ok(args[args.len() - 1].clone())),
    function("or", &[ANY], true, |args| Ok(args[args.len() - 1].clone())),
    function("not", &[ANY], false, |args| Ok(Item::Bool(!args[0].truth()))),
    function("len", &[ANY], false, len),
    function("index", &[ANY], true, index),
    function("slice", &[ANY], true, slice),
    function("print", &[], true, |args| Ok(Item::text(print::sprint(args)))),
    function("println", &[], true, |args| Ok(Item::text(print::sprintln(args)))),
    function("printf", &[Param::Str], true, printf),
    function("html", &[], true, |args| Ok(Item::text(html(&joined(args))))),
    function("js", &[], true, |args| Ok(Item::text(js(&joined(args))))),
    function("urlquery", &[], true, |args| Ok(Item::text(urlquery(&joined(args))))),
    function("call", &[ANY], true, call),
    function("eq", &[ANY], true, |args| eq(&args[0], &args[1..]).map(Item::Bool)),
    function("ne", &[ANY, ANY], false, |args| eq(&args[0], &args[1..]).map(|eq| Item::Bool(!eq))),
    function("lt", &[ANY, ANY], false, |args| lt(&args[0], &args[1]).map(Item::Bool)),
    function("le", &[ANY, ANY], false, |args| le(&args[0], &args[1]).map(Item::Bool)),
    function("gt", &[ANY, ANY], false, |args| le(&args[0], &args[1]).map(|le| Item::Bool(!le))),
    function("ge", &[ANY, ANY], false, |args| lt(&args[0], &args[1]).map(|lt| Item::Bool(!lt))),
    function("json", &[ANY], false, |args| Ok(Item::text(json(&args[0])))),
    function("split", &[Param::Str, Param::Str], false, split),
    function("join", &[ANY, Param::Str], false, join),
    function("title", &[Param::Str], false, |args| Ok(Item::text(title(&text(&args[0]))))),
    function("lower", &[Param::Str], false, |args| Ok(Item::text(text(&args[0]).to_lowercase()))),
    function("upper", &[Param::Str], false, |args| Ok(Item::text(upper(&text(&args[0]))))),
    function("pad", &[Param::Str, Param::Int, Param::Int], false, pad),
    function("truncate", &[Param::Str, Param::Int], false, truncate),
];

/// The functions that leave a table's header as it is; Docker does not override `pad`.
const HEADER_IDENTITIES: &[&str] =
    &["json", "split", "join", "title", "lower", "upper", "truncate"];

pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

impl Function {
    /// Whether the function returns its first argument while a table's header is being made.
    pub(super) fn keeps_header(&self) -> bool {
        HEADER_IDENTITIES.contains(&self.name)
    }
}

/// The text of an argument that was checked to be one.
fn text(item: &Item<'_>) -> Rc<str> {
    if let Item::Str(text) = item { text.clone() } else { Rc::from("") }
}

fn int(item: &Item<'_>) -> i128 {
    if let Item::Int(value) = item { *value } else { 0 }
}

fn joined(args: &[Item<'_>]) -> String {
    // Unlike an argument of `print`, a missing one is shown as such.
    let shown: Vec<_> = args
        .iter()
        .map(|arg| if arg.is_nil() { Item::text("<no value>") } else { arg.clone() })
        .collect();
    print::sprint(&shown)
}

fn len<'v>(args: &[Item<'v>]) -> Answer<'v> {
    match args[0].len() {
        Some(len) => Ok(Item::Int(len as i128)),
        None => match args[0] {
            Item::Missing => Err("reflect: call of reflect.Value.Type on zero Value".to_owned()),
            Item::Nil => Err("len of nil pointer".to_owned()),
            _ => Err(format!("len of type {}", args[0].type_name())),
        },
    }
}

fn position(index: &Item<'_>, max: usize) -> Result<usize, String> {
    match index {
        Item::Int(at) => usize::try_from(*at)
            .ok()
            .filter(|at| *at <= max)
            .ok_or_else(|| format!("index out of range: {at}")),
        Item::Missing | Item::Nil => Err("cannot index slice/array with nil".to_owned()),
        _ => Err(format!("cannot index slice/array with type {}", index.type_name())),
    }
}

fn index<'v>(args: &[Item<'v>]) -> Answer<'v> {
    if args[0].is_nil() {
        return Err("index of untyped nil".to_owned());
    }
    args[1..].iter().try_fold(args[0].clone(), |item, index| step(&item, index))
}

fn step<'v>(item: &Item<'v>, index: &Item<'v>) -> Answer<'v> {
    match item {
        Item::Missing | Item::Nil => Err("index of nil pointer".to_owned()),
        Item::Map(map) => match index {
            Item::Str(key) => Ok(map.get(&**key).map_or(Item::Nil, Item::of)),
            _ if index.is_nil() => Err("value is nil; should be of type string".to_owned()),
            _ => Err(format!("value has type {}; should be string", index.type_name())),
        },
        Item::Str(_) | Item::List(_) | Item::Strings(_) => {
            let at = position(index, item.len().unwrap_or(0))?;
            let byte = |text: &str| text.as_bytes().get(at).map(|byte| Item::Int((*byte).into()));
            let found = match item {
                Item::Str(text) => byte(text),
                _ => item.element(at),
            };
            let kind = if let Item::Str(_) = item { "string" } else { "slice" };
            found.ok_or_else(|| format!("reflect: {kind} index out of range"))
        }
        _ => Err(format!("can't index item of type {}", item.type_name())),
    }
}

fn slice<'v>(args: &[Item<'v>]) -> Answer<'v> {
    let (item, indexes) = (&args[0], &args[1..]);
    if indexes.len() > 3 {
        return Err(format!("too many slice indexes: {}", indexes.len()));
    }
    let len = match item {
        Item::Missing | Item::Nil => return Err("slice of untyped nil".to_owned()),
        Item::Str(_) if indexes.len() == 3 => {
            return Err("cannot 3-index slice a string".to_owned());
        }
        Item::Str(_) | Item::List(_) | Item::Strings(_) => item.len().unwrap_or(0),
        _ => return Err(format!("can't slice item of type {}", item.type_name())),
    };
    let mut bounds = [0, len, len];
    for (bound, index) in bounds.iter_mut().zip(indexes) {
        *bound = position(index, len)?;
    }
    let [from, to, cap] = bounds;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    if to > cap {
        return Err(format!("invalid slice index: {to} > {cap}"));
    }
    Ok(match item {
        Item::List(list) => Item::List(&list[from..to]),
        Item::Strings(list) => Item::Strings(Rc::from(&list[from..to])),
        Item::Str(text) => {
            Item::text(&text[text.floor_char_boundary(from)..text.floor_char_boundary(to)])
        }
        _ => Item::Missing,
    })
}

fn printf<'v>(args: &[Item<'v>]) -> Answer<'v> {
    Ok(Item::text(print::sprintf(&text(&args[0]), &args[1..])))
}

/// No value of JSON is a function, so there is nothing that could be called.
fn call<'v>(args: &[Item<'v>]) -> Answer<'v> {
    match args[0].type_name() {
        "<nil>" => Err("call of nil".to_owned()),
        kind => Err(format!("non-function of type {kind}")),
    }
}

fn incompatible(one: &Item<'_>, other: &Item<'_>) -> String {
    let (one, other) = (one.type_name(), other.type_name());
    format!("incompatible types for comparison: {one} and {other}")
}

fn eq(one: &Item<'_>, others: &[Item<'_>]) -> Result<bool, String> {
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equal(one, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(one: &Item<'_>, other: &Item<'_>) -> Result<bool, String> {
    match (one, other) {
        (Item::Bool(a), Item::Bool(b)) => Ok(a == b),
        (Item::Int(a), Item::Int(b)) => Ok(a == b),
        (Item::Float(a), Item::Float(b)) => Ok(a == b),
        (Item::Str(a), Item::Str(b)) => Ok(a == b),
        _ if one.is_nil() || other.is_nil() => Ok(one.is_nil() && other.is_nil()),
        _ if is_basic(one) || is_basic(other) => Err(incompatible(one, other)),
        _ => Err(incomparable(one, other)),
    }
}

fn incomparable(one: &Item<'_>, other: &Item<'_>) -> String {
    let shown = |item: &Item<'_>| print::sprintf("%s", std::slice::from_ref(item));
    let are_lists = matches!(
        (one, other),
        (Item::List(_) | Item::Strings(_), Item::List(_) | Item::Strings(_))
    );
    if are_lists || one.type_name() == other.type_name() {
        return format!("non-comparable type {}: {}", shown(other), other.type_name());
    }
    let (one_type, other_type) = (one.type_name(), other.type_name());
    format!(
        "non-comparable types {}: {one_type}, {other_type}: {}",
        shown(one),
        print::sprint(std::slice::from_ref(other))
    )
}

fn is_basic(item: &Item<'_>) -> bool {
    matches!(item, Item::Bool(_) | Item::Int(_) | Item::Float(_) | Item::Str(_))
}

fn lt(one: &Item<'_>, other: &Item<'_>) -> Result<bool, String> {
    match (one, other) {
        (Item::Int(a), Item::Int(b)) => Ok(a < b),
        (Item::Float(a), Item::Float(b)) => Ok(a < b),
        (Item::Str(a), Item::Str(b)) => Ok(a < b),
        (Item::Bool(_), Item::Bool(_)) => Err("invalid type for comparison".to_owned()),
        _ if is_basic(one) && is_basic(other) => Err(incompatible(one, other)),
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn le(one: &Item<'_>, other: &Item<'_>) -> Result<bool, String> {
    Ok(lt(one, other)? || equal(one, other)?)
}

/// JSON as Go's encoder writes it without HTML escaping.
fn json(item: &Item<'_>) -> String {
    let mut out = String::new();
    match item {
        Item::Missing | Item::Nil => out.push_str("null"),
        Item::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Item::Int(value) => out.push_str(&value.to_string()),
        Item::Float(value) => out.push_str(&print::json_float(*value)),
        Item::Str(text) => json_text(&mut out, text),
        Item::Map(map) => {
            let entries = map.iter().map(|(key, value)| (Some(key.as_str()), Item::of(value)));
            json_nest(&mut out, '{', entries, '}');
        }
        Item::List(_) | Item::Strings(_) => {
            let elements = (0..item.len().unwrap_or(0)).filter_map(|index| item.element(index));
            json_nest(&mut out, '[', elements.map(|element| (None, element)), ']');
        }
    }
    out
}

fn json_nest<'a>(
    out: &mut String,
    open: char,
    entries: impl Iterator<Item = (Option<&'a str>, Item<'a>)>,
    close: char,
) {
    out.push(open);
    for (index, (key, item)) in entries.enumerate() {
        if index > 0 {
            out.push(',');
        }
        if let Some(key) = key {
            json_text(out, key);
            out.push(':');
        }
        out.push_str(&json(&item));
    }
    out.push(close);
}

fn json_text(out: &mut String, text: &str) {
    let quoted = Value::String(text.to_owned()).to_string();
    // Go escapes the two line separators that JavaScript would take for line ends.
    out.push_str(&quoted.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"));
}

fn split<'v>(args: &[Item<'v>]) -> Answer<'v> {
    let (subject, separator) = (text(&args[0]), text(&args[1]));
    let parts: Vec<Rc<str>> = if separator.is_empty() {
        subject
            .chars()
            .take(ELEMENTS_MAX + 1)
            .map(|c| Rc::from(c.encode_utf8(&mut [0; 4]) as &str))
            .collect()
    } else {
        subject.split(&*separator).take(ELEMENTS_MAX + 1).map(Rc::from).collect()
    };
    if parts.len() > ELEMENTS_MAX {
        return Err(format!("more than {ELEMENTS_MAX} elements"));
    }
    Ok(Item::Strings(parts.into()))
}

fn join<'v>(args: &[Item<'v>]) -> Answer<'v> {
    let separator = text(&args[1]);
    let shown = |item: Item<'_>| print::sprint(std::slice::from_ref(&item));
    let parts: Vec<String> = match &args[0] {
        Item::Missing | Item::Nil => Vec::new(),
        list @ (Item::List(_) | Item::Strings(_)) => (0..list.len().unwrap_or(0))
            .filter_map(|index| list.element(index))
            .map(shown)
            .collect(),
        Item::Map(map) => {
            let mut parts: Vec<_> =
                sorted(map).into_iter().map(|(_, v)| shown(Item::of(v))).collect();
            parts.sort_unstable();
            parts
        }
        other => return Err(format!("expected slice, got {}", other.type_name())),
    };
    if parts.len() * separator.len() > OUTPUT_MAX {
        return Err(format!("output longer than {OUTPUT_MAX} bytes"));
    }
    Ok(Item::text(parts.join(&separator)))
}

fn upper(text: &str) -> String {
    text.chars().map(upper_char).collect()
}

/// Go maps one character to one character, so that `ß` stays what it is.
fn upper_char(c: char) -> char {
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) => upper,
        _ => c,
    }
}

/// `strings.Title`: the first letter of every word in upper case.
fn title(text: &str) -> String {
    let mut after_separator = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if after_separator {
            out.push(upper_char(c));
        } else {
            out.push(c);
        }
        after_separator = match c {
            '_' => false,
            _ if c.is_alphanumeric() => false,
            _ if c.is_ascii() => true,
            _ => c.is_whitespace(),
        };
    }
    out
}

fn pad<'v>(args: &[Item<'v>]) -> Answer<'v> {
    let subject = text(&args[0]);
    if subject.is_empty() {
        return Ok(args[0].clone());
    }
    let width = |item: &Item<'_>| {
        let width = usize::try_from(int(item)).map_err(|_| "strings: negative Repeat count")?;
        if width > OUTPUT_MAX {
            Err(format!("output longer than {OUTPUT_MAX} bytes"))
        } else {
            Ok(width)
        }
    };
    let (before, after) = (" ".repeat(width(&args[1])?), " ".repeat(width(&args[2])?));
    Ok(Item::text(format!("{before}{subject}{after}")))
}

fn truncate<'v>(args: &[Item<'v>]) -> Answer<'v> {
    let subject = text(&args[0]);
    let length = int(&args[1]);
    match usize::try_from(length) {
        Ok(length) if subject.len() < length => Ok(args[0].clone()),
        Ok(length) => Ok(Item::text(&subject[..subject.floor_char_boundary(length)])),
        Err(_) => Err(format!("runtime error: slice bounds out of range [:{length}]")),
    }
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            _ => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            _ if quote::is_print(c) => out.push(c),
            _ => out.push_str(&format!("\\u{:04X}", u32::from(c))),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
