//! Instructions that say values: ENV, LABEL, ARG, EXPOSE, VOLUME and those of one argument.

use crate::error::{Error, Result};
use crate::language::instruction::{ArgDefinition, Command, Pair};
use crate::language::parse::Raw;
use crate::language::word::{Word, json, plain_words, words};

pub(super) fn env(raw: &Raw<'_>) -> Result<Command> {
    pairs(raw).map(Command::Env)
}

pub(super) fn label(raw: &Raw<'_>) -> Result<Command> {
    pairs(raw).map(Command::Label)
}

/// `name=value …`, or the old `name value`.
fn pairs(raw: &Raw<'_>) -> Result<Vec<Pair>> {
    raw.flags(&[])?;
    let (name, rest) = (&raw.name, raw.parts.rest);
    let words = words(rest, raw.escape);
    let Some(first) = words.first() else {
        return Err(raw.error(format!("{name} requires at least one argument")));
    };
    if !first.text.contains('=') {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let value = rest[end..].trim_start();
        if value.is_empty() {
            return Err(raw.error(format!("{name} must have two arguments")));
        }
        let span = raw.rest_span();
        let (name, value) = (rest[..end].to_owned(), value.to_owned());
        return Ok(vec![Pair { name, value, is_legacy: true, span }]);
    }
    words.iter().map(|word| pair(raw, word)).collect()
}

fn pair(raw: &Raw<'_>, word: &Word) -> Result<Pair> {
    let span = raw.span_of(word);
    match word.text.split_once('=') {
        None => Err(Error::at(
            span,
            format!(
                "Syntax error - can't find = in {:?}. Must be of the form: name=value",
                word.text
            ),
        )),
        Some(("", _)) => Err(Error::at(span, format!("{} names can not be blank", raw.name))),
        Some((name, value)) => {
            let (name, value) = (name.to_owned(), value.to_owned());
            Ok(Pair { name, value, is_legacy: false, span })
        }
    }
}

pub(super) fn arg(raw: &Raw<'_>) -> Result<Command> {
    raw.flags(&[])?;
    let words = words(raw.parts.rest, raw.escape);
    if words.is_empty() {
        return Err(raw.error("ARG requires at least one argument"));
    }
    let definitions = words.iter().map(|word| {
        let (name, default) = match word.text.split_once('=') {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (word.text.as_str(), None),
        };
        let span = raw.span_of(word);
        match name {
            "" => Err(Error::at(span, "ARG names can not be blank")),
            name => Ok(ArgDefinition { name: name.to_owned(), default, span }),
        }
    });
    definitions.collect::<Result<_>>().map(Command::Arg)
}

pub(super) fn expose(raw: &Raw<'_>) -> Result<Command> {
    raw.flags(&[])?;
    let mut ports: Vec<String> =
        plain_words(raw.parts.rest).into_iter().map(|word| word.text).collect();
    if ports.is_empty() {
        return Err(raw.error("EXPOSE requires at least one argument"));
    }
    ports.sort();
    Ok(Command::Expose(ports))
}

pub(super) fn volume(raw: &Raw<'_>) -> Result<Command> {
    raw.flags(&[])?;
    let rest = raw.parts.rest;
    let volumes = match json(rest).map_err(|error| error.or_at(raw.rest_span()))? {
        Some(volumes) => volumes,
        None => plain_words(rest).into_iter().map(|word| word.text).collect(),
    };
    if volumes.is_empty() {
        return Err(raw.error("VOLUME requires at least one argument"));
    }
    let volumes: Vec<String> = volumes.iter().map(|volume| volume.trim().to_owned()).collect();
    match volumes.iter().any(String::is_empty) {
        true => Err(raw.error("VOLUME specified can not be an empty string")),
        false => Ok(Command::Volume(volumes)),
    }
}

/// The one argument of an instruction, spaces and all.
pub(super) fn one(raw: &Raw<'_>, flags: &'static [&'static str]) -> Result<String> {
    raw.flags(flags)?;
    match raw.parts.rest {
        "" => Err(raw.error(format!("{} requires exactly one argument", raw.name))),
        rest => Ok(rest.to_owned()),
    }
}
