//! Here-documents: `<<NAME`, `<<-NAME` and their quoted forms.

use crate::error::Result;
use crate::language::expand::{Lexer, none};

/// A text that follows its instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// What ends it; for COPY and ADD also the name of the file.
    pub name: String,
    /// Whether variables in it are expanded: unless a part of its name was quoted.
    pub expand: bool,
    /// Whether tabs at the beginnings of its lines are taken away.
    pub chomp: bool,
    /// What it says, as written.
    pub content: String,
}

impl Heredoc {
    /// What it says, without the tabs that are not meant.
    #[must_use]
    pub fn text(&self) -> String {
        match self.chomp {
            false => self.content.clone(),
            true => {
                let lines = self.content.split_inclusive('\n');
                lines.map(|line| line.trim_start_matches('\t')).collect()
            }
        }
    }
}

/// Whether a line is an instruction that may have here-documents, and could have one.
pub(crate) fn may_have_heredocs(line: &str) -> bool {
    let mut words = line.split_whitespace().map(str::to_lowercase);
    let mut instruction = words.next();
    if instruction.as_deref() == Some("onbuild") {
        instruction = words.next();
    }
    let takes = matches!(instruction.as_deref(), Some("add" | "copy" | "run"));
    takes && line.contains("<<") && !super::word::is_json(line)
}

/// The here-documents that a line announces, without their bodies.
pub(crate) fn heredocs(line: &str) -> Result<Vec<Heredoc>> {
    let lexer =
        Lexer { raw_quotes: true, raw_escapes: true, keeps_unset: true, ..Lexer::new('\\') };
    // A line that is no sentence of a shell is a matter of the shell that gets it.
    let Ok(line) = lexer.expand(line, &none) else { return Ok(Vec::new()) };
    let found: Result<Vec<_>> = line.words.iter().map(|word| heredoc(word)).collect();
    Ok(found?.into_iter().flatten().collect())
}

/// The here-document that a word announces, if it does.
pub(crate) fn heredoc(word: &str) -> Result<Option<Heredoc>> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = rest.strip_prefix("<<") else { return Ok(None) };
    let (rest, chomp) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let lexer = Lexer { keeps_unset: true, ..Lexer::new('\\') };
    let plain = lexer.expand(rest, &none)?;
    let [name] = &plain.words[..] else { return Ok(None) };
    let raw = Lexer { raw_quotes: true, ..lexer }.expand(rest, &none)?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let expand = raw.words.first().is_some_and(|raw| quotes(raw) == quotes(name));
    let name = name.clone();
    Ok(Some(Heredoc { name, expand, chomp, content: String::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expected: Option<(&str, bool, bool)>) {
        let found = heredoc(word).unwrap();
        let found = found.as_ref().map(|h| (h.name.as_str(), h.expand, h.chomp));
        assert_eq!(found, expected, "{word}");
    }

    #[test]
    fn all_forms_are_known() {
        check("<<EOF", Some(("EOF", true, false)));
        check("<<-EOF", Some(("EOF", true, true)));
        check("3<<EOF", Some(("EOF", true, false)));
        check("<<'EOF'", Some(("EOF", false, false)));
        check("<<\"EOF\"", Some(("EOF", false, false)));
        check("<<E\"O\"F", Some(("EOF", false, false)));
        check("<< EOF", Some(("EOF", true, false)));
        check("<<-\"A B\"", Some(("A B", false, true)));
        check("<<", None);
        check("<EOF", None);
        check("<<<x", None);
        check("x<<EOF", None);
    }

    #[test]
    fn a_line_may_announce_several() {
        let names = |line: &str| -> Vec<String> {
            heredocs(line).unwrap().into_iter().map(|h| h.name).collect()
        };
        assert_eq!(names("COPY <<a <<b /x/"), ["a", "b"]);
        assert_eq!(names("RUN echo '<<EOF'"), Vec::<String>::new());
        assert_eq!(names("RUN cat <<EOF | tr a b"), ["EOF"]);
        assert!(may_have_heredocs("ONBUILD RUN <<EOF"));
        assert!(!may_have_heredocs("ENV a=<<EOF"));
        assert!(!may_have_heredocs("RUN [\"cat\", \"<<EOF\"]"));
    }

    #[test]
    fn tabs_are_taken_from_every_line() {
        let body =
            Heredoc { content: "\ta\n\t\tb\n c\n".into(), ..heredoc("<<-E").unwrap().unwrap() };
        assert_eq!(body.text(), "a\nb\n c\n");
    }
}
