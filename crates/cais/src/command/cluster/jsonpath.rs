//! Templates of JSONPath, as `-o jsonpath=…` has them: text, and in braces paths, texts in quotes and
//! `range … end`.

use serde_json::Value;

use super::Trouble;

/// Steps and templates that may lie within each other.
const DEPTH_MAX: usize = 32;

/// A template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Path(Path),
    Range(Path, Vec<Part>),
}

/// A path, from the object or from the present item.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Path {
    from_root: bool,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Name(String),
    Names(Vec<String>),
    All,
    Below,
    Slice(Option<i64>, Option<i64>, i64),
    Indexes(Vec<i64>),
    Where(Operand, &'static str, Operand),
    Has(Path),
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(Path),
    Value(Value),
}

type Parsed<T> = Result<T, Trouble>;

fn bad(why: impl std::fmt::Display) -> Trouble {
    Trouble::local(format!("error parsing jsonpath: {why}"))
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Parsed<Self> {
        let mut rest = text;
        let (parts, ended) = parts(&mut rest, 0)?;
        if ended {
            return Err(bad("not in range, nothing to end"));
        }
        Ok(Self(parts))
    }

    /// What it prints of an object.
    pub(crate) fn print(&self, object: &Value) -> String {
        let mut out = String::new();
        print(&self.0, object, object, &mut out);
        out
    }
}

fn print(parts: &[Part], root: &Value, item: &Value, out: &mut String) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Path(path) => {
                let words: Vec<String> = path.find(root, item).iter().map(shown).collect();
                out.push_str(&words.join(" "));
            }
            Part::Range(path, inner) => {
                for item in path.find(root, item) {
                    print(inner, root, &item, out);
                }
            }
        }
    }
}

/// As kubectl prints a value: texts as they are, others as JSON.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        value => super::output::compact(value),
    }
}

fn parts(rest: &mut &str, depth: usize) -> Parsed<(Vec<Part>, bool)> {
    if depth > DEPTH_MAX {
        return Err(bad("too many ranges within each other"));
    }
    let mut all = Vec::new();
    while !rest.is_empty() {
        let Some(at) = rest.find('{') else {
            all.push(Part::Text(std::mem::take(rest).to_owned()));
            break;
        };
        if at > 0 {
            all.push(Part::Text(rest[..at].to_owned()));
        }
        let end = end_of_action(&rest[at..]).ok_or_else(|| bad("unclosed action"))?;
        let action = rest[at + 1..at + end].trim();
        *rest = &rest[at + end + 1..];
        if action == "end" {
            return Ok((all, true));
        }
        if let Some(path) = action.strip_prefix("range") {
            let path = Path::parse(path.trim())?;
            let (inner, ended) = parts(rest, depth + 1)?;
            if !ended {
                return Err(bad("unterminated range"));
            }
            all.push(Part::Range(path, inner));
        } else {
            let mut chain = action;
            while !chain.is_empty() {
                all.push(word(&mut chain)?);
                chain = chain.trim_start();
            }
        }
    }
    Ok((all, false))
}

/// Where the action ends that begins here, quotes aside.
fn end_of_action(text: &str) -> Option<usize> {
    let (mut quote, mut is_escaped) = (None, false);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            _ if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), letter) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '}') => return Some(at),
            _ => {}
        }
    }
    None
}

/// A text in quotes, or a path up to the next blank.
fn word(chain: &mut &str) -> Parsed<Part> {
    if chain.starts_with(['"', '\'']) {
        let (text, rest) = quoted(chain)?;
        *chain = rest;
        return Ok(Part::Text(text));
    }
    let (path, rest) = Path::read(chain, 0)?;
    *chain = rest;
    Ok(Part::Path(path))
}

/// A text in quotes at the beginning, and what stands behind it.
fn quoted(text: &str) -> Parsed<(String, &str)> {
    let open = text.chars().next().unwrap_or('"');
    let (mut found, mut is_escaped) = (String::new(), false);
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if is_escaped => {
                found.push(match letter {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                });
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            letter if letter == open => return Ok((found, &text[at + 1..])),
            letter => found.push(letter),
        }
    }
    Err(bad("unterminated quoted string"))
}

impl Path {
    /// Reads a path, in braces or not, whose first dot may be left out.
    pub(crate) fn parse(text: &str) -> Parsed<Self> {
        let text = text.trim();
        let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
        let whole = match inner.starts_with(['.', '$', '@', '[']) {
            true => inner.to_owned(),
            false => format!(".{inner}"),
        };
        match Self::read(&whole, 0)? {
            (path, "") => Ok(path),
            (_, rest) => Err(bad(format!("unrecognized character in action: {rest:?}"))),
        }
    }

    /// Reads the path at the beginning of a text.
    fn read(text: &str, depth: usize) -> Parsed<(Self, &str)> {
        if depth > DEPTH_MAX {
            return Err(bad("too many paths within each other"));
        }
        let mut rest = text;
        let mut path = Self { from_root: false, steps: Vec::new() };
        if let Some(behind) = rest.strip_prefix('$') {
            (path.from_root, rest) = (true, behind);
        } else if let Some(behind) = rest.strip_prefix('@') {
            rest = behind;
        }
        if rest.len() == text.len() && !rest.starts_with(['.', '[']) {
            return Err(bad(format!("unrecognized identifier {text}")));
        }
        loop {
            if let Some(behind) = rest.strip_prefix("..") {
                path.steps.push(Step::Below);
                rest = behind;
                if !rest.starts_with('[') {
                    rest = name(rest, &mut path.steps);
                }
            } else if let Some(behind) = rest.strip_prefix('.') {
                rest = match behind.starts_with('[') {
                    true => behind,
                    false => name(behind, &mut path.steps),
                };
            } else if rest.starts_with('[') {
                let end = end_of_bracket(rest).ok_or_else(|| bad("unterminated array"))?;
                path.steps.push(bracket(rest[1..end].trim(), depth)?);
                rest = &rest[end + 1..];
            } else {
                return Ok((path, rest));
            }
        }
    }

    /// All values that it leads to.
    pub(crate) fn find(&self, root: &Value, item: &Value) -> Vec<Value> {
        let start = if self.from_root { root } else { item };
        let mut found = vec![start.clone()];
        for step in &self.steps {
            found = found.iter().flat_map(|value| step.below(value, root)).collect();
        }
        found
    }

    /// All values in an object.
    pub(crate) fn all(&self, object: &Value) -> Vec<Value> {
        self.find(object, object)
    }
}

/// A name up to the next step; a backslash keeps what follows it in the name.
fn name<'a>(text: &'a str, steps: &mut Vec<Step>) -> &'a str {
    let (mut found, mut is_kept, mut end) = (String::new(), false, text.len());
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_kept => {
                found.push(letter);
                is_kept = false;
            }
            '\\' => is_kept = true,
            '.' | '[' | ' ' | '=' | '!' | '<' | '>' | ')' | '"' | '\'' => {
                end = at;
                break;
            }
            _ => found.push(letter),
        }
    }
    match found.as_str() {
        "" => {}
        "*" => steps.push(Step::All),
        _ => steps.push(Step::Name(found)),
    }
    &text[end..]
}

fn end_of_bracket(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), letter) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, '[') => depth += 1,
            (None, ']') if depth == 1 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(text: &str, depth: usize) -> Parsed<Step> {
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(condition) = text.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return filter(condition.trim(), depth);
    }
    if text.starts_with(['\'', '"']) {
        let mut names = Vec::new();
        let mut rest = text;
        loop {
            let (name, behind) = quoted(rest)?;
            names.push(name);
            match behind.trim_start().strip_prefix(',') {
                Some(behind) => rest = behind.trim_start(),
                None => return Ok(Step::Names(names)),
            }
        }
    }
    let number = |word: &str| {
        word.trim().parse::<i64>().map_err(|_| bad(format!("invalid array index {word}")))
    };
    if text.contains(':') {
        let part = |word: Option<&str>| match word.map(str::trim) {
            None | Some("") => Ok(None),
            Some(word) => number(word).map(Some),
        };
        let mut words = text.split(':');
        let (start, end) = (part(words.next())?, part(words.next())?);
        return Ok(Step::Slice(start, end, part(words.next())?.unwrap_or(1)));
    }
    text.split(',').map(number).collect::<Parsed<_>>().map(Step::Indexes)
}

fn filter(text: &str, depth: usize) -> Parsed<Step> {
    let (left, rest) = operand(text, depth)?;
    let rest = rest.trim_start();
    if rest.is_empty() {
        return match left {
            Operand::Path(path) => Ok(Step::Has(path)),
            Operand::Value(_) => Err(bad("a condition without a path")),
        };
    }
    let known = ["==", "!=", "<=", ">=", "<", ">"].into_iter().find(|word| rest.starts_with(word));
    let word = known.ok_or_else(|| bad(format!("unrecognized operator in {text}")))?;
    let (right, rest) = operand(rest[word.len()..].trim_start(), depth)?;
    match rest.trim() {
        "" => Ok(Step::Where(left, word, right)),
        rest => Err(bad(format!("unrecognized words in a condition: {rest}"))),
    }
}

fn operand(text: &str, depth: usize) -> Parsed<(Operand, &str)> {
    if text.starts_with(['\'', '"']) {
        let (word, rest) = quoted(text)?;
        return Ok((Operand::Value(word.into()), rest));
    }
    if text.starts_with(['@', '$', '.']) {
        let (path, rest) = Path::read(text, depth + 1)?;
        return Ok((Operand::Path(path), rest));
    }
    let end = text.find([' ', '=', '!', '<', '>']).unwrap_or(text.len());
    let value = serde_json::from_str(&text[..end])
        .map_err(|_| bad(format!("unrecognized value in a condition: {}", &text[..end])))?;
    Ok((Operand::Value(value), &text[end..]))
}

impl Step {
    fn below(&self, value: &Value, root: &Value) -> Vec<Value> {
        match (self, value) {
            (Step::Name(name), Value::Object(fields)) => {
                fields.get(name).cloned().into_iter().collect()
            }
            (Step::Names(names), Value::Object(fields)) => {
                names.iter().filter_map(|name| fields.get(name).cloned()).collect()
            }
            (Step::All, Value::Array(items)) => items.clone(),
            (Step::All, Value::Object(fields)) => fields.values().cloned().collect(),
            (Step::Below, value) => {
                let mut all = Vec::new();
                descend(value, &mut all);
                all
            }
            (Step::Indexes(indexes), Value::Array(items)) => {
                let count = items.len() as i64;
                let at = |index: &i64| if *index < 0 { index + count } else { *index };
                let found = indexes.iter().map(at).filter_map(|at| usize::try_from(at).ok());
                found.filter_map(|at| items.get(at).cloned()).collect()
            }
            (Step::Slice(start, end, step), Value::Array(items)) => {
                let count = items.len() as i64;
                let at = |index: i64| if index < 0 { index + count } else { index }.clamp(0, count);
                let range = at(start.unwrap_or(0))..at(end.unwrap_or(count));
                let step = usize::try_from(*step).unwrap_or(1).max(1);
                range.step_by(step).filter_map(|at| items.get(at as usize).cloned()).collect()
            }
            (Step::Has(path), Value::Array(items)) => {
                let has = |item: &&Value| !path.find(root, item).is_empty();
                items.iter().filter(has).cloned().collect()
            }
            (Step::Where(left, word, right), Value::Array(items)) => {
                let is = |item: &&Value| {
                    let (left, right) = (left.value(root, item), right.value(root, item));
                    left.zip(right).is_some_and(|(left, right)| holds(&left, word, &right))
                };
                items.iter().filter(is).cloned().collect()
            }
            _ => Vec::new(),
        }
    }
}

impl Operand {
    fn value(&self, root: &Value, item: &Value) -> Option<Value> {
        match self {
            Self::Value(value) => Some(value.clone()),
            Self::Path(path) => path.find(root, item).into_iter().next(),
        }
    }
}

fn holds(left: &Value, word: &str, right: &Value) -> bool {
    let order = match (left, right) {
        (Value::Number(l), Value::Number(r)) => {
            l.as_f64().zip(r.as_f64()).and_then(|(l, r)| l.partial_cmp(&r))
        }
        (Value::String(l), Value::String(r)) => Some(l.cmp(r)),
        (Value::Bool(l), Value::Bool(r)) => Some(l.cmp(r)),
        _ => None,
    };
    match word {
        "==" => left == right || order.is_some_and(std::cmp::Ordering::is_eq),
        "!=" => left != right,
        "<" => order.is_some_and(std::cmp::Ordering::is_lt),
        "<=" => order.is_some_and(std::cmp::Ordering::is_le),
        ">" => order.is_some_and(std::cmp::Ordering::is_gt),
        _ => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

fn descend(value: &Value, all: &mut Vec<Value>) {
    all.push(value.clone());
    match value {
        Value::Array(items) => items.iter().for_each(|item| descend(item, all)),
        Value::Object(fields) => fields.values().for_each(|item| descend(item, all)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_print_as_kubectl_s() {
        let object = json!({
            "kind": "List", "a": {"b.c": "dotted"}, "n": 5, "t": true,
            "items": [
                {"name": "x", "v": {"p": 1}, "tags": ["r", "s", "t"]},
                {"name": "y", "v": {"p": 2}},
            ],
        });
        for (template, expected) in [
            ("{.kind}", "List"),
            ("kind is {.kind}!", "kind is List!"),
            ("{.items[*].name}", "x y"),
            ("{.items[0].name}{\"\\n\"}", "x\n"),
            ("{.items[-1].name}", "y"),
            ("{.items[0:1].name}", "x"),
            ("{.items[0].tags[1:]}", "s t"),
            ("{.items[?(@.name==\"y\")].v.p}", "2"),
            ("{.items[?(@.v.p>1)].name}", "y"),
            ("{.items[?(@.tags)].name}", "x"),
            ("{range .items[*]}{.name}={.v.p};{end}", "x=1;y=2;"),
            ("{.a.b\\.c} {.a['b.c']}", "dotted dotted"),
            ("{..p}", "1 2"),
            ("{.items[0].v}", "{\"p\":1}"),
            ("{.missing.thing}", ""),
            ("{.n} {.t} {$.kind}", "5 true List"),
            ("{.kind}{'\\t'}{.n}", "List\t5"),
        ] {
            let printed = Template::parse(template).unwrap().print(&object);
            assert_eq!(printed, expected, "{template}");
        }
        for bad in ["{.a", "{range .a}", "{end}", "{.a[}", "{.a[?(@.x ~ 1)]}", "{foo}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
        let path = Path::parse(".items[*].name").unwrap();
        assert_eq!(path.all(&object), [json!("x"), json!("y")]);
    }
}
