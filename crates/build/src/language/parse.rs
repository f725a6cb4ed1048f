//! Lines become instructions, and instructions become stages.

mod copy;
mod health;
mod run;
mod value;

use crate::error::{Error, Result, did_you_mean};
use crate::language::directive::check_options;
use crate::language::flag::Flags;
use crate::language::instruction::{Command, Dockerfile, Instruction, Stage};
use crate::language::line::{Line, split};
use crate::language::word::{Parts, Word, parts, plain_words};
use crate::source::Span;

/// All there are.
pub(crate) const INSTRUCTIONS: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// An instruction on its way from text to type.
struct Raw<'a> {
    line: &'a Line,
    parts: Parts<'a>,
    /// The keyword in upper case.
    name: String,
    escape: char,
}

impl Raw<'_> {
    /// The flags, of which `known` may be given.
    fn flags(&self, known: &'static [&'static str]) -> Result<Flags<'_>> {
        Flags::new(self.line, self.parts.flags.clone(), known)
    }

    /// Where a word of the arguments stands in the file.
    fn span_of(&self, word: &Word) -> Span {
        let start = self.parts.rest_start;
        self.line.span_of(start + word.start, start + word.end)
    }

    fn keyword_span(&self) -> Span {
        let start = self.parts.start;
        self.line.span_of(start, start + self.parts.keyword.len())
    }

    /// Where all arguments stand, or the keyword if there are none.
    fn rest_span(&self) -> Span {
        let start = self.parts.rest_start;
        match self.parts.rest {
            "" => self.keyword_span(),
            rest => self.line.span_of(start, start + rest.len()),
        }
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::at(self.rest_span(), message)
    }
}

impl Dockerfile {
    /// Reads a file.
    ///
    /// # Errors
    /// With the place of the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = split(text)?;
        let escape = lines.directives.escape;
        let (mut global_args, mut stages) = (Vec::new(), Vec::<Stage>::new());
        for line in &lines.lines {
            let instruction = instruction(line, escape)?;
            match (&instruction.command, stages.last_mut()) {
                (Command::From, _) => stages.push(stage(line, instruction)?),
                (_, Some(stage)) => stage.instructions.push(instruction),
                (Command::Arg(_), None) => global_args.push(instruction),
                (_, None) => {
                    let message = "no build stage in current context";
                    return Err(Error::at(instruction.keyword_span, message)
                        .hint("only ARG may stand before the first FROM"));
                }
            }
        }
        if stages.is_empty() {
            return Err(match lines.lines.is_empty() {
                true => Error::new("file with no instructions"),
                false => Error::new("dockerfile contains no stages to build"),
            });
        }
        Ok(Self { directives: lines.directives, global_args, stages })
    }
}

impl Instruction {
    /// Reads an instruction that an image has kept for those built on it; `span` is where that image
    /// is named.
    ///
    /// # Errors
    /// If it is not one instruction.
    pub fn parse_trigger(text: &str, span: Span) -> Result<Self> {
        let parse = || {
            let lines = split(text)?;
            let [line] = &lines.lines[..] else {
                return Err(Error::new("onbuild trigger should be a single expression"));
            };
            instruction(&line.moved_to(span), lines.directives.escape)
        };
        let refuse = |error: Error| {
            Error::new(format!("the base image's ONBUILD trigger `{text}`: {error}")).moved_to(span)
        };
        let parsed = parse().map_err(refuse)?;
        match parsed.command {
            Command::From | Command::Maintainer(_) | Command::Onbuild(_) => {
                Err(refuse(Error::new("it isn't allowed as an ONBUILD trigger")))
            }
            _ => Ok(parsed),
        }
    }
}

fn instruction(line: &Line, escape: char) -> Result<Instruction> {
    let parts = parts(&line.text, escape);
    let name = parts.keyword.to_uppercase();
    let raw = Raw { line, parts, name, escape };
    let command = command(&raw).map_err(|error| error.or_at(line.span))?;
    Ok(Instruction {
        keyword: raw.parts.keyword.to_owned(),
        keyword_span: raw.keyword_span(),
        span: line.span,
        text: line.text.trim().to_owned(),
        comments: line.comments.clone(),
        empty: line.empty,
        check: check_options(&line.comments),
        command,
        escape,
    })
}

fn command(raw: &Raw<'_>) -> Result<Command> {
    match raw.name.as_str() {
        "ADD" => copy::add(raw),
        "ARG" => value::arg(raw),
        "CMD" => run::cmd(raw),
        "COPY" => copy::copy(raw),
        "ENTRYPOINT" => run::entrypoint(raw),
        "ENV" => value::env(raw),
        "EXPOSE" => value::expose(raw),
        // Its flags and words are read with its stage.
        "FROM" => Ok(Command::From),
        "HEALTHCHECK" => health::healthcheck(raw),
        "LABEL" => value::label(raw),
        "MAINTAINER" => value::one(raw, &[]).map(Command::Maintainer),
        "ONBUILD" => onbuild(raw),
        "RUN" => run::run(raw),
        "SHELL" => run::shell(raw),
        "STOPSIGNAL" => value::one(raw, &[]).map(Command::StopSignal),
        "USER" => value::one(raw, &[]).map(Command::User),
        "VOLUME" => value::volume(raw),
        "WORKDIR" => value::one(raw, &[]).map(Command::Workdir),
        _ => {
            let keyword = raw.parts.keyword;
            let nearest = did_you_mean(keyword, INSTRUCTIONS.iter().copied(), false);
            let message = format!("unknown instruction: {keyword}{nearest}");
            Err(Error::at(raw.keyword_span(), message))
        }
    }
}

/// FROM: `[--platform=P] base [AS name]`.
fn stage(line: &Line, from: Instruction) -> Result<Stage> {
    let raw = Raw {
        line,
        parts: parts(&line.text, from.escape),
        name: "FROM".to_owned(),
        escape: from.escape,
    };
    let words = plain_words(raw.parts.rest);
    let name = match &words[..] {
        [_] => String::new(),
        [_, r#as, name] if r#as.text.eq_ignore_ascii_case("as") => {
            let lower = name.text.to_lowercase();
            if !is_stage_name(&lower) {
                let text = &name.text;
                let message = format!(
                    "invalid name for build stage: {text:?}, name can't start with a number or \
                     contain symbols"
                );
                return Err(Error::at(raw.span_of(name), message));
            }
            lower
        }
        _ => return Err(raw.error("FROM requires either one or three arguments")),
    };
    let platform = raw.flags(&["platform"])?.string("platform")?.map(|(value, _)| value);
    let base_span = raw.span_of(&words[0]);
    let base = words[0].text.clone();
    Ok(Stage { base, base_span, name, platform, from, instructions: Vec::new() })
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
}

fn onbuild(raw: &Raw<'_>) -> Result<Command> {
    raw.flags(&[])?;
    if raw.parts.rest.is_empty() {
        return Err(raw.error("ONBUILD requires at least one argument"));
    }
    let start = raw.parts.rest_start;
    let inner = parts(raw.parts.rest, raw.escape);
    let name = inner.keyword.to_uppercase();
    let at = raw.line.span_of(start, start + inner.keyword.len());
    match name.as_str() {
        "ONBUILD" => {
            let message = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed";
            return Err(Error::at(at, message));
        }
        "MAINTAINER" | "FROM" => {
            return Err(Error::at(at, format!("{name} isn't allowed as an ONBUILD trigger")));
        }
        _ => {}
    }
    // What is wrong in it is wrong now, not when somebody builds on the image.
    instruction(&raw.line.tail(start), raw.escape)?;
    let mut text = raw.parts.rest.to_owned();
    for heredoc in &raw.line.heredocs {
        text = format!("{text}\n{}{}", heredoc.content, heredoc.name);
    }
    Ok(Command::Onbuild(text))
}
