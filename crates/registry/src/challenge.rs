//! `WWW-Authenticate` (RFC 9110, section 11.6.1): what a server wants to be told.

use std::collections::BTreeMap;

const HEADER_LENGTH_MAX: usize = 8 << 10;
const PARAMETERS_MAX: usize = 32;

/// One way to authenticate that a server offers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Challenge {
    /// `bearer`, `basic`, …: in lower case.
    pub(crate) scheme: String,
    /// The parameters, their names in lower case.
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Challenge {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Reads one header's value, which may offer several ways.
///
/// Total: what is malformed is passed over, since the remainder may still serve, and a server
/// that makes no sense ends in the refusal it asked for.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    if header.len() > HEADER_LENGTH_MAX {
        return found;
    }
    let mut text = Scanner(header);
    while let Some(name) = text.word() {
        if !text.take('=') {
            found.push(Challenge { scheme: name, ..Challenge::default() });
            continue;
        }
        let value = text.value();
        match found.last_mut() {
            Some(last) if last.parameters.len() < PARAMETERS_MAX => {
                last.parameters.entry(name).or_insert(value);
            }
            _ => {}
        }
    }
    found
}

/// What is left of a header.
struct Scanner<'a>(&'a str);

impl Scanner<'_> {
    /// The next token in lower case, whatever separates it from the last one.
    fn word(&mut self) -> Option<String> {
        let start = self.0.find(is_token)?;
        let rest = &self.0[start..];
        let end = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
        self.0 = &rest[end..];
        Some(rest[..end].to_ascii_lowercase())
    }

    fn take(&mut self, wanted: char) -> bool {
        match self.0.trim_start().strip_prefix(wanted) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// A quoted string, or everything up to a space or comma.
    fn value(&mut self) -> String {
        if !self.take('"') {
            let text = self.0.trim_start();
            let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
            self.0 = &text[end..];
            return text[..end].to_owned();
        }
        let mut value = String::new();
        let mut chars = self.0.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return value;
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        self.0 = "";
        value
    }
}

/// `tchar` of RFC 9110.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(header: &str, expected: &[(&str, &[(&str, &str)])]) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let expected: Vec<Challenge> = expected
            .iter()
            .map(|(scheme, parameters)| Challenge {
                scheme: (*scheme).to_owned(),
                parameters: parameters.iter().map(own).collect(),
            })
            .collect();
        assert_eq!(parse(header), expected, "{header}");
    }

    #[test]
    fn challenges_are_read_as_servers_write_them() {
        check(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
            &[(
                "bearer",
                &[
                    ("realm", "https://auth.docker.io/token"),
                    ("service", "registry.docker.io"),
                    ("scope", "repository:a/b:pull,push"),
                ],
            )],
        );
        check("Basic", &[("basic", &[])]);
        check(r#"BASIC Realm = "a \"b\" , c""#, &[("basic", &[("realm", r#"a "b" , c"#)])]);
        check(
            r#"Negotiate, Bearer realm=x, Basic realm="y""#,
            &[("negotiate", &[]), ("bearer", &[("realm", "x")]), ("basic", &[("realm", "y")])],
        );
    }

    #[test]
    fn malformed_challenges_are_passed_over() {
        check("", &[]);
        check(",,= \"", &[]);
        check("realm=\"x\"", &[]);
        check("Bearer realm=\"unterminated", &[("bearer", &[("realm", "unterminated")])]);
        check("Bearer realm=a,realm=b", &[("bearer", &[("realm", "a")])]);
        check(&format!("Bearer realm={}", "a".repeat(HEADER_LENGTH_MAX)), &[]);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[a-zé=,\" \\\\]{0,60}") {
            parse(&text);
        }
    }
}
