//! The functions of bake files that people use, by the names of HashiCorp's standard library.

use hcl::eval::{Context, Func, FuncArgs, FuncDef, ParamType};
use hcl::{Identifier, Number, Value};
use oci::Digest;

type Outcome = Result<Value, String>;

/// Name, the least and the greatest number of arguments, and what is done.
const FUNCTIONS: &[(&str, usize, usize, Func)] = &[
    ("add", 2, 2, |args| arithmetic(&args, |a, b| a + b)),
    ("subtract", 2, 2, |args| arithmetic(&args, |a, b| a - b)),
    ("multiply", 2, 2, |args| arithmetic(&args, |a, b| a * b)),
    ("divide", 2, 2, |args| arithmetic(&args, |a, b| a / b)),
    ("and", 2, 2, |args| Ok(Value::Bool(truth(&args[0])? && truth(&args[1])?))),
    ("or", 2, 2, |args| Ok(Value::Bool(truth(&args[0])? || truth(&args[1])?))),
    ("not", 1, 1, |args| Ok(Value::Bool(!truth(&args[0])?))),
    ("equal", 2, 2, |args| Ok(Value::Bool(args[0] == args[1]))),
    ("notequal", 2, 2, |args| Ok(Value::Bool(args[0] != args[1]))),
    ("greaterthan", 2, 2, |args| Ok(Value::Bool(number(&args[0])? > number(&args[1])?))),
    ("lessthan", 2, 2, |args| Ok(Value::Bool(number(&args[0])? < number(&args[1])?))),
    ("coalesce", 1, usize::MAX, |args| {
        let mut given = args.into_values().into_iter();
        given.find(|value| !value.is_null()).ok_or_else(|| "all arguments are null".to_owned())
    }),
    ("concat", 1, usize::MAX, |args| {
        let lists = args.into_values().into_iter().map(list);
        Ok(Value::Array(lists.collect::<Result<Vec<_>, _>>()?.concat()))
    }),
    ("compact", 1, 1, |args| {
        let mut items = list(args[0].clone())?;
        items.retain(|item| !matches!(item, Value::String(text) if text.is_empty()));
        Ok(Value::Array(items))
    }),
    ("distinct", 1, 1, |args| {
        let mut items: Vec<Value> = Vec::new();
        for item in list(args[0].clone())? {
            if !items.contains(&item) {
                items.push(item);
            }
        }
        Ok(Value::Array(items))
    }),
    ("contains", 2, 2, |args| Ok(Value::Bool(list(args[0].clone())?.contains(&args[1])))),
    ("flatten", 1, 1, |args| {
        let mut items = Vec::new();
        flatten(list(args[0].clone())?, &mut items);
        Ok(Value::Array(items))
    }),
    ("reverse", 1, 1, |args| {
        let mut items = list(args[0].clone())?;
        items.reverse();
        Ok(Value::Array(items))
    }),
    ("sort", 1, 1, |args| {
        let mut items = texts(&args[0])?;
        items.sort();
        Ok(items.into())
    }),
    ("length", 1, 1, |args| match &args[0] {
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(map) => Ok(map.len().into()),
        value => Ok(text(value)?.chars().count().into()),
    }),
    ("keys", 1, 1, |args| match &args[0] {
        Value::Object(map) => Ok(map.keys().cloned().collect::<Vec<String>>().into()),
        _ => Err("a map is needed".to_owned()),
    }),
    ("values", 1, 1, |args| match &args[0] {
        Value::Object(map) => Ok(Value::Array(map.values().cloned().collect())),
        _ => Err("a map is needed".to_owned()),
    }),
    ("lookup", 2, 3, |args| {
        let values = args.into_values();
        let Value::Object(map) = &values[0] else { return Err("a map is needed".to_owned()) };
        let found = map.get(&text(&values[1])?).or_else(|| values.get(2)).cloned();
        found.ok_or_else(|| "there is no such key".to_owned())
    }),
    ("merge", 1, usize::MAX, |args| {
        let mut merged = hcl::Map::new();
        for value in args.into_values() {
            match value {
                Value::Object(map) => merged.extend(map),
                Value::Null => {}
                _ => return Err("maps are needed".to_owned()),
            }
        }
        Ok(Value::Object(merged))
    }),
    ("element", 2, 2, |args| {
        let items = list(args[0].clone())?;
        let place = number(&args[1])?;
        match items.len() {
            0 => Err("the list is empty".to_owned()),
            count => Ok(items[(place as usize) % count].clone()),
        }
    }),
    ("slice", 3, 3, |args| {
        let items = list(args[0].clone())?;
        let (from, to) = (number(&args[1])? as usize, number(&args[2])? as usize);
        items
            .get(from..to)
            .map(|part| Value::Array(part.to_vec()))
            .ok_or_else(|| format!("there are only {} elements", items.len()))
    }),
    ("join", 2, 2, |args| Ok(texts(&args[1])?.join(&text(&args[0])?).into())),
    ("split", 2, 2, |args| {
        let (separator, whole) = (text(&args[0])?, text(&args[1])?);
        Ok(whole.split(&separator).map(str::to_owned).collect::<Vec<String>>().into())
    }),
    ("format", 1, usize::MAX, |args| format_text(&args.into_values())),
    ("lower", 1, 1, |args| Ok(text(&args[0])?.to_lowercase().into())),
    ("upper", 1, 1, |args| Ok(text(&args[0])?.to_uppercase().into())),
    ("trimspace", 1, 1, |args| Ok(text(&args[0])?.trim().into())),
    ("trim", 2, 2, |args| {
        let cut = text(&args[1])?;
        Ok(text(&args[0])?.trim_matches(|c| cut.contains(c)).into())
    }),
    ("trimprefix", 2, 2, |args| {
        let (whole, part) = (text(&args[0])?, text(&args[1])?);
        Ok(whole.strip_prefix(&part).unwrap_or(&whole).into())
    }),
    ("trimsuffix", 2, 2, |args| {
        let (whole, part) = (text(&args[0])?, text(&args[1])?);
        Ok(whole.strip_suffix(&part).unwrap_or(&whole).into())
    }),
    ("replace", 3, 3, |args| {
        Ok(text(&args[0])?.replace(&text(&args[1])?, &text(&args[2])?).into())
    }),
    ("substr", 3, 3, |args| {
        let whole: Vec<char> = text(&args[0])?.chars().collect();
        let (from, length) = (number(&args[1])?, number(&args[2])?);
        let from = if from < 0.0 { whole.len() as f64 + from } else { from };
        let from = from.max(0.0) as usize;
        let rest = whole.get(from..).unwrap_or_default();
        let length = if length < 0.0 { rest.len() } else { (length as usize).min(rest.len()) };
        Ok(rest[..length].iter().collect::<String>().into())
    }),
    ("sha256", 1, 1, |args| Ok(Digest::of(text(&args[0])?.as_bytes()).hex().into())),
    ("jsonencode", 1, 1, |args| {
        serde_json::to_string(&args[0]).map(Value::from).map_err(|error| error.to_string())
    }),
    ("timestamp", 0, 0, |_| {
        Ok(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into())
    }),
];

/// Makes all of them known.
pub(super) fn declare(context: &mut Context<'_>) {
    for (name, least, most, function) in FUNCTIONS {
        let mut definition = FuncDef::builder().params(vec![ParamType::Any; *least]);
        if most > least {
            definition = definition.variadic_param(ParamType::Any);
        }
        if let Ok(name) = Identifier::new(*name) {
            context.declare_func(name, definition.build(*function));
        }
    }
}

fn truth(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "a boolean is needed".to_owned())
}

fn number(value: &Value) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| "a number is needed".to_owned())
}

fn arithmetic(args: &FuncArgs, operation: fn(f64, f64) -> f64) -> Outcome {
    let result = operation(number(&args[0])?, number(&args[1])?);
    whole(result).ok_or_else(|| "the result is no number".to_owned())
}

/// A number, without a fraction where it has none.
fn whole(number: f64) -> Option<Value> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match number.fract() == 0.0 && number.abs() < EXACT_MAX {
        true => Some(Value::from(number as i64)),
        false => Number::from_f64(number).map(Value::Number),
    }
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        _ => Err("a text is needed".to_owned()),
    }
}

fn list(value: Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Null => Ok(Vec::new()),
        _ => Err("a list is needed".to_owned()),
    }
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    list(value.clone())?.iter().map(text).collect()
}

fn flatten(items: Vec<Value>, into: &mut Vec<Value>) {
    for item in items {
        match item {
            Value::Array(items) => flatten(items, into),
            item => into.push(item),
        }
    }
}

/// `format`, with `%s`, `%d`, `%v`, `%q` and `%%`.
fn format_text(args: &[Value]) -> Outcome {
    let pattern = text(&args[0])?;
    let mut values = args[1..].iter();
    let mut result = String::new();
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            result.push(c);
            continue;
        }
        match rest.next() {
            Some('%') => result.push('%'),
            Some(verb @ ('s' | 'd' | 'v' | 'q')) => {
                let value = text(values.next().ok_or("too few arguments")?)?;
                match verb {
                    'q' => result.push_str(&format!("{value:?}")),
                    _ => result.push_str(&value),
                }
            }
            other => return Err(format!("%{} is not supported", other.unwrap_or(' '))),
        }
    }
    match values.next() {
        Some(_) => Err("too many arguments".to_owned()),
        None => Ok(result.into()),
    }
}
