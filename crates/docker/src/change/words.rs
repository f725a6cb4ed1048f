//! Words of a Dockerfile instruction: quotes, escapes and variables (Dockerfile reference,
//! "Environment replacement").

/// What is left of a line.
pub(super) struct Words<'a>(pub(super) &'a str);

impl<'a> Words<'a> {
    /// Takes the next word, without regard to quotes, if it is `wanted`.
    pub(super) fn next_if(&mut self, wanted: impl Fn(&str) -> bool) -> Option<&'a str> {
        let text = self.0.trim_start();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        if word.is_empty() || !wanted(word) {
            return None;
        }
        self.0 = rest;
        Some(word)
    }
}

/// The words of a line, still quoted: blanks separate, unless they are quoted or escaped.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (Some('\''), _) => {}
            (_, '\\') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A word without its quotes and escapes, with variables in the place of their names.
pub(super) fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => out.push(c),
            (_, '\\') => {
                let next = rest.chars().next();
                rest = &rest[next.map_or(0, char::len_utf8)..];
                // In double quotes, a backslash only escapes what means something there.
                if quote.is_some() && !matches!(next, Some('"' | '$' | '\\')) {
                    out.push('\\');
                }
                out.extend(next);
            }
            (_, '$') => {
                let (value, after) = substitute(rest, variable);
                out.push_str(&value);
                rest = after;
            }
            (_, c) => out.push(c),
        }
    }
    out
}

/// What stands for `NAME`, `{NAME}`, `{NAME:-DEFAULT}` or `{NAME:+OTHER}`, and the text behind it.
fn substitute<'a>(text: &'a str, variable: &dyn Fn(&str) -> Option<String>) -> (String, &'a str) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let Some(inner) = text.strip_prefix('{') else {
        let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        return match name {
            "" => ("$".to_owned(), rest),
            name => (variable(name).unwrap_or_default(), rest),
        };
    };
    let Some(end) = inner.find('}') else { return (format!("${text}"), "") };
    let (expression, rest) = (&inner[..end], &inner[end + 1..]);
    let value = |name: &str| variable(name).filter(|value| !value.is_empty());
    let found = match expression.split_once(':') {
        Some((name, other)) if other.starts_with('-') => {
            value(name).unwrap_or_else(|| expand(&other[1..], variable))
        }
        Some((name, other)) if other.starts_with('+') => {
            value(name).map(|_| expand(&other[1..], variable)).unwrap_or_default()
        }
        _ => variable(expression).unwrap_or_default(),
    };
    (found, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_together_what_is_quoted() {
        assert_eq!(split(r#"a "b c"=d e\ f 'g h'  i"#), ["a", "\"b c\"=d", "e\\ f", "'g h'", "i"]);
    }

    #[test]
    fn names_stand_for_values() {
        let variable = |name: &str| (name == "A").then(|| "x".to_owned());
        for (text, expected) in [
            ("$A-${A}", "x-x"),
            ("'$A' \"$A\" \\$A", "$A x $A"),
            ("${B:-y}${A:-y}${A:+z}${B:+z}", "yxz"),
            ("$B|$|${A", "|$|${A"),
            (r#""a\"b\c""#, r#"a"b\c"#),
        ] {
            assert_eq!(expand(text, &variable), expected, "{text}");
        }
    }
}
