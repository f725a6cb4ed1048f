//! Go's `text/template`, as Docker's `--format` uses it, over JSON values.
//!
//! The whole language is here save complex numbers and calling function values, with the functions
//! of `text/template` and Docker's `json`, `split`, `join`, `title`, `lower`, `upper`, `pad` and
//! `truncate`.
//! Objects stand for Go's `map[string]any`, arrays for `[]any`, whole numbers for `int`, other
//! numbers for `float64`.
//! Strings are UTF-8 here, so an operation that would cut a character in two stops before it.

mod exec;
mod float;
mod func;
mod item;
mod lex;
mod node;
mod parse;
mod print;
mod quote;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

/// A number of no sign as Go's `%.Ng` writes it, with `digits` significant digits at most.
pub(crate) fn general_float(size: f64, digits: usize) -> String {
    float::general(size, Some(digits))
}

/// Bytes of a template's text.
pub(crate) const TEXT_MAX: usize = 256 << 10;
/// Bytes that one execution may write and its functions may return.
pub(crate) const OUTPUT_MAX: usize = 64 << 20;
/// Actions and iterations of one execution.
pub(crate) const STEPS_MAX: usize = 1_000_000;
/// Levels of `if`, `range`, parentheses and the like within one template text.
const NESTING_MAX: usize = 100;
/// Levels of evaluation, which `{{template}}` may make deeper than the text is.
const DEPTH_MAX: usize = 400;
/// A width or precision in `printf`, as Go has it.
const WIDTH_MAX: usize = 1_000_000;
/// Parts that `split` returns.
const ELEMENTS_MAX: usize = 1_000_000;

/// A template that does not parse or cannot be executed, in Go's words with Docker's prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template parsing error: {0}")]
pub(crate) struct Error(String);

/// What a template is executed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A missing key prints `<no value>`.
    #[default]
    Lenient,
    /// A missing key is an error, as for `docker inspect`.
    Strict,
    /// The values are the headers of a table: Docker's functions other than `pad` leave them as
    /// they are, and `.Label "key"` is the last part of the key.
    Header,
}

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    text: String,
    bodies: parse::Bodies,
    mode: Mode,
}

impl Template {
    /// Parses `text`, with functions and variables checked.
    ///
    /// # Errors
    /// The first mistake, as `template: :LINE: REASON`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let bodies = parse::parse(text).map_err(Error)?;
        Ok(Self { text: text.to_owned(), bodies, mode: Mode::default() })
    }

    /// The same template, executed in `mode`.
    #[must_use]
    pub(crate) fn mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Executes the template on `value` and appends what it prints to `out`.
    ///
    /// # Errors
    /// What cannot be evaluated, or a bound exceeded; `out` then holds what was printed before.
    pub(crate) fn execute(&self, value: &Value, out: &mut String) -> Result<(), Error> {
        exec::execute(self, value, None, out).map_err(Error)
    }

    /// Like [`Self::execute`], with `.Label "key"` answered from `labels`.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub(crate) fn execute_labelled(
        &self,
        value: &Value,
        labels: &BTreeMap<String, String>,
        out: &mut String,
    ) -> Result<(), Error> {
        exec::execute(self, value, Some(labels), out).map_err(Error)
    }
}
