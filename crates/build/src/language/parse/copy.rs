//! COPY and ADD.

use crate::error::{Error, Result};
use crate::language::flag::Flags;
use crate::language::heredoc::heredoc;
use crate::language::instruction::{Command, Copy};
use crate::language::parse::Raw;
use crate::language::word::{Word, json, plain_words};
use crate::source::Span;

pub(super) fn add(raw: &Raw<'_>) -> Result<Command> {
    let words = words(raw)?;
    let known = &["chown", "chmod", "link", "keep-git-dir", "checksum", "unpack", "exclude"];
    let mut flags = raw.flags(known)?;
    let mut add = shared(&mut flags)?;
    add.keep_git_dir = flags.boolean("keep-git-dir")?;
    add.unpack = flags.boolean("unpack")?;
    add.checksum = flags.string("checksum")?.map(|(value, _)| value);
    files(raw, words, &mut add)?;
    Ok(Command::Add(add))
}

pub(super) fn copy(raw: &Raw<'_>) -> Result<Command> {
    let words = words(raw)?;
    let mut flags = raw.flags(&["chown", "from", "chmod", "link", "exclude", "parents"])?;
    let mut copy = shared(&mut flags)?;
    copy.parents = flags.boolean("parents")?.unwrap_or(false);
    if let Some((from, span)) = flags.string("from")? {
        if from.contains('$') {
            let message = "variable expansion is not supported for --from, define a new stage with \
                           FROM using ARG from global scope as a workaround";
            return Err(Error::at(span, message));
        }
        (copy.from, copy.from_span) = (Some(from).filter(|from| !from.is_empty()), span);
    }
    files(raw, words, &mut copy)?;
    Ok(Command::Copy(copy))
}

fn shared(flags: &mut Flags<'_>) -> Result<Copy> {
    let exclude = flags.strings("exclude")?.into_iter().map(|(value, _)| value).collect();
    let given =
        |flag: Option<(String, Span)>| flag.map(|(value, _)| value).filter(|v| !v.is_empty());
    Ok(Copy {
        chown: given(flags.string("chown")?),
        chmod: given(flags.string("chmod")?),
        link: flags.boolean("link")?.unwrap_or(false),
        exclude,
        ..Copy::default()
    })
}

/// Sources and destination.
fn words(raw: &Raw<'_>) -> Result<Vec<Word>> {
    let rest = raw.parts.rest;
    let words: Vec<Word> = match json(rest).map_err(|error| error.or_at(raw.rest_span()))? {
        None => plain_words(rest),
        Some(words) => {
            words.into_iter().map(|text| Word { text, start: 0, end: rest.len() }).collect()
        }
    };
    match words.len() {
        0 | 1 => Err(raw.error(format!(
            "{} requires at least two arguments, but only one was provided. Destination could not \
             be determined",
            raw.name
        ))),
        _ => Ok(words),
    }
}

fn files(raw: &Raw<'_>, mut words: Vec<Word>, copy: &mut Copy) -> Result<()> {
    let destination = words.pop().expect("there are two words at least");
    if heredoc(&destination.text)?.is_some() {
        let message = format!("{} cannot accept a heredoc as a destination", raw.name);
        return Err(Error::at(raw.span_of(&destination), message));
    }
    copy.destination = destination.text;
    for word in words {
        match heredoc(&word.text)? {
            Some(announced) => {
                let bodies = raw.line.heredocs.iter();
                let body = bodies.rev().find(|body| body.name == announced.name);
                let content = body.map(|body| body.content.clone()).unwrap_or_default();
                copy.inline.push(crate::language::heredoc::Heredoc { content, ..announced });
            }
            None => {
                copy.source_spans.push(raw.span_of(&word));
                copy.sources.push(word.text);
            }
        }
    }
    Ok(())
}
