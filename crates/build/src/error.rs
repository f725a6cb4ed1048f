//! Why a Dockerfile cannot be built.

use crate::source::{Span, excerpt, position};

/// What is wrong with a Dockerfile or with what was asked of it, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    message: String,
    span: Option<Span>,
    hint: Option<String>,
}

/// The outcome of what may be wrong.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Something is wrong, at no place in particular.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: None, hint: None }
    }

    /// Something is wrong there.
    pub fn at(span: Span, message: impl Into<String>) -> Self {
        Self { message: message.into(), span: Some(span), hint: None }
    }

    /// The same, there, unless a narrower place is known.
    #[must_use]
    pub fn or_at(self, span: Span) -> Self {
        Self { span: self.span.or(Some(span)), ..self }
    }

    /// The same, there: for text that does not stand in the file itself.
    #[must_use]
    pub fn moved_to(self, span: Span) -> Self {
        Self { span: Some(span), ..self }
    }

    /// The same, with what helps.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// What helps, where that is known.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The word that was probably meant, if the message names one.
    #[must_use]
    pub fn suggestion(&self) -> Option<&str> {
        let (_, rest) = self.message.rsplit_once(MEANT)?;
        rest.split_once("?)").map(|(word, _)| word)
    }

    /// Where it stands.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        self.span
    }

    /// The lines of the file that it is about, if it is about any.
    #[must_use]
    pub fn excerpt(&self, name: &str, text: &str) -> Option<String> {
        self.span.map(|span| excerpt(name, text, span))
    }

    /// The number of its line, from 1.
    #[must_use]
    pub fn line(&self, text: &str) -> Option<usize> {
        self.span.map(|span| position(text, span.start).0)
    }
}

/// What is appended to a message that has a nearest right word.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
    case_sensitive: bool,
) -> String {
    let found = nearest(word, known, case_sensitive);
    found.map_or_else(String::new, |right| format!(" {MEANT}{right}?)"))
}

/// What is before the word that was probably meant.
const MEANT: &str = "(did you mean ";
/// Edits that a word may be away from what is right.
const DISTANCE_MAX: usize = 2;

/// The known word that this one was probably meant to be, in its own case.
pub(crate) fn nearest<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
    case_sensitive: bool,
) -> Option<String> {
    let fold = |text: &str| match case_sensitive {
        true => text.to_owned(),
        false => text.to_lowercase(),
    };
    let wanted = fold(word);
    let mut best: Option<(usize, String)> = None;
    for right in known.into_iter().map(fold) {
        match distance(&wanted, &right) {
            // Then something else is wrong.
            0 => return None,
            far if far > DISTANCE_MAX => {}
            near if best.as_ref().is_some_and(|(best, _)| *best <= near) => {}
            near => best = Some((near, right)),
        }
    }
    let right = best?.1;
    let is_upper = !case_sensitive && word == word.to_uppercase() && word != word.to_lowercase();
    Some(if is_upper { right.to_uppercase() } else { right })
}

/// Levenshtein's: how many insertions, deletions and replacements lie between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found() {
        let known = ["RUN", "FROM", "COPY", "ENTRYPOINT"];
        let check = |word: &str, expected: Option<&str>| {
            assert_eq!(nearest(word, known, false).as_deref(), expected, "{word}");
        };
        check("RNU", Some("RUN"));
        check("fram", Some("from"));
        check("ENTRYPIONT", Some("ENTRYPOINT"));
        check("xyzzy", None);
        check("run", None);
        assert_eq!(nearest("run", known, true), None);
    }

    #[test]
    fn a_distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "ab"), 2);
    }
}
