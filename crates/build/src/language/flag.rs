//! The flags of instructions: `--name=value`.

use crate::error::{Error, Result, did_you_mean};
use crate::language::line::Line;
use crate::language::word::Word;
use crate::source::Span;

/// The flags of one instruction, each to be taken by its name.
pub(crate) struct Flags<'a> {
    line: &'a Line,
    words: Vec<(Word, bool)>,
    known: &'static [&'static str],
}

/// A flag that was given.
pub(crate) struct Flag {
    pub(crate) value: Option<String>,
    pub(crate) span: Span,
}

impl<'a> Flags<'a> {
    /// # Errors
    /// For a flag that is not known.
    pub(crate) fn new(
        line: &'a Line,
        words: Vec<Word>,
        known: &'static [&'static str],
    ) -> Result<Self> {
        for word in &words {
            let name = name(&word.text);
            if !known.contains(&&name[2..]) {
                let nearest = did_you_mean(&name[2..], known.iter().copied(), true);
                let message = format!("unknown flag: {name}{nearest}");
                return Err(Error::at(line.span_of(word.start, word.end), message));
            }
        }
        Ok(Self { line, words: words.into_iter().map(|word| (word, false)).collect(), known })
    }

    /// All flags of a name.
    pub(crate) fn all(&mut self, wanted: &str) -> Vec<Flag> {
        debug_assert!(self.known.contains(&wanted), "a flag that is taken is known");
        let mut found = Vec::new();
        for (word, is_taken) in &mut self.words {
            if name(&word.text)[2..] != *wanted {
                continue;
            }
            *is_taken = true;
            let value = word.text.split_once('=').map(|(_, value)| value.to_owned());
            found.push(Flag { value, span: self.line.span_of(word.start, word.end) });
        }
        found
    }

    /// The values of all flags of a name.
    pub(crate) fn strings(&mut self, wanted: &str) -> Result<Vec<(String, Span)>> {
        let flags = self.all(wanted).into_iter();
        flags.map(|flag| Ok((required(wanted, &flag)?, flag.span))).collect()
    }

    /// The value of a flag that is given once at most.
    pub(crate) fn string(&mut self, wanted: &str) -> Result<Option<(String, Span)>> {
        match &self.once(wanted)? {
            None => Ok(None),
            Some(flag) => Ok(Some((required(wanted, flag)?, flag.span))),
        }
    }

    /// A flag that is true or false; true where it has no value.
    pub(crate) fn boolean(&mut self, wanted: &str) -> Result<Option<bool>> {
        let Some(flag) = self.once(wanted)? else { return Ok(None) };
        match flag.value.as_deref().map(str::to_lowercase).as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some("") => Err(missing(wanted, flag.span)),
            Some(value) => {
                let message = format!("expecting boolean value for flag --{wanted}, not: {value}");
                Err(Error::at(flag.span, message))
            }
        }
    }

    fn once(&mut self, wanted: &str) -> Result<Option<Flag>> {
        let mut flags = self.all(wanted);
        if let Some(second) = flags.get(1) {
            return Err(Error::at(second.span, format!("duplicate flag specified: --{wanted}")));
        }
        Ok(flags.pop())
    }
}

fn name(word: &str) -> &str {
    word.split('=').next().unwrap_or(word)
}

fn required(name: &str, flag: &Flag) -> Result<String> {
    flag.value.clone().ok_or_else(|| missing(name, flag.span))
}

fn missing(name: &str, span: Span) -> Error {
    Error::at(span, format!("missing a value on flag: --{name}"))
}
