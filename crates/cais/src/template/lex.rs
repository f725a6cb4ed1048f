//! Template text to tokens.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The lexer gave up here; the reason stands in [`Tokens::fault`].
    Fault,
    Eof,
    Text,
    Open,
    Close,
    Space,
    Pipe,
    Assign,
    Declare,
    LeftParen,
    RightParen,
    /// A printable ASCII character with no meaning of its own, such as a comma.
    Char,
    Quoted,
    RawQuoted,
    CharConstant,
    Number,
    Complex,
    Bool,
    Nil,
    Dot,
    Field,
    Variable,
    Identifier,
    Keyword,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    pub(super) text: &'t str,
    /// Byte offset in the template.
    pub(super) at: usize,
}

/// All tokens of a template; the last one is `Eof` or `Fault`.
#[derive(Debug)]
pub(super) struct Tokens<'t> {
    pub(super) list: Vec<Token<'t>>,
    pub(super) fault: String,
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";
const TRIM_CLOSE: &str = "-}}";
const KEYWORDS: &[&str] =
    &["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"];

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Go's `%#U`: the code point, and the character itself where it is printable.
fn code_point(c: Option<char>) -> String {
    match c {
        // Go's lexer marks the end of the input by the rune -1.
        None => "U+FFFFFFFFFFFFFFFF".to_owned(),
        Some(c) if super::quote::is_print(c) => format!("U+{:04X} '{c}'", u32::from(c)),
        Some(c) => format!("U+{:04X}", u32::from(c)),
    }
}

pub(super) fn lex(input: &str) -> Tokens<'_> {
    let mut lexer = Lexer { input, start: 0, pos: 0, parens: 0, inside: false, list: Vec::new() };
    let fault = loop {
        let step = if lexer.inside { lexer.action() } else { lexer.text() };
        match step {
            Ok(true) => {}
            Ok(false) => break String::new(),
            Err(fault) => {
                lexer.emit(Kind::Fault);
                break fault;
            }
        }
    };
    Tokens { list: lexer.list, fault }
}

struct Lexer<'t> {
    input: &'t str,
    start: usize,
    pos: usize,
    parens: usize,
    inside: bool,
    list: Vec<Token<'t>>,
}

/// `Ok(false)` ends the input; an error is the lexer's message.
type Step = Result<bool, String>;

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.input[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn word(&self) -> &'t str {
        &self.input[self.start..self.pos]
    }

    fn emit(&mut self, kind: Kind) {
        self.list.push(Token { kind, text: self.word(), at: self.start });
        self.start = self.pos;
    }

    fn skip(&mut self, count: usize) {
        self.pos += count;
        self.start = self.pos;
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.skip(rest.len() - rest.trim_start_matches(is_space).len());
    }

    /// Text up to the next action, and that action's opening delimiter.
    fn text(&mut self) -> Step {
        let Some(found) = self.rest().find(OPEN) else {
            self.pos = self.input.len();
            if self.pos > self.start {
                self.emit(Kind::Text);
            }
            self.emit(Kind::Eof);
            return Ok(false);
        };
        let open = self.pos + found;
        let trims = trims_left(&self.input[open + OPEN.len()..]);
        let text = &self.input[self.pos..open];
        let kept = if trims { text.trim_end_matches(is_space) } else { text };
        self.pos += kept.len();
        if !kept.is_empty() {
            self.emit(Kind::Text);
        }
        self.pos = open;
        self.start = open;
        self.open(if trims { OPEN.len() + 2 } else { OPEN.len() })
    }

    fn open(&mut self, length: usize) -> Step {
        if self.rest()[length..].starts_with("/*") {
            self.skip(length);
            return self.comment();
        }
        self.pos += OPEN.len();
        self.emit(Kind::Open);
        self.skip(length - OPEN.len());
        self.parens = 0;
        self.inside = true;
        Ok(true)
    }

    fn comment(&mut self) -> Step {
        let end = self.rest()[2..].find("*/").ok_or("unclosed comment")?;
        self.pos += 2 + end + 2;
        let trims = self.closes().ok_or("comment ends before closing delimiter")?;
        self.skip(if trims { 1 + TRIM_CLOSE.len() } else { CLOSE.len() });
        if trims {
            self.skip_spaces();
        }
        Ok(true)
    }

    /// Whether the closing delimiter stands here, and if so whether it trims the text after it.
    fn closes(&self) -> Option<bool> {
        let rest = self.rest();
        if rest.starts_with(is_space) && rest[1..].starts_with(TRIM_CLOSE) {
            return Some(true);
        }
        rest.starts_with(CLOSE).then_some(false)
    }

    fn close(&mut self, trims: bool) -> Step {
        if self.parens > 0 {
            return Err("unclosed left paren".to_owned());
        }
        if trims {
            self.skip(2);
        }
        self.pos += CLOSE.len();
        self.emit(Kind::Close);
        if trims {
            self.skip_spaces();
        }
        self.inside = false;
        Ok(true)
    }

    fn action(&mut self) -> Step {
        if let Some(trims) = self.closes() {
            return self.close(trims);
        }
        let c = self.next().ok_or("unclosed action")?;
        match c {
            _ if is_space(c) => self.spaces(),
            '=' => self.emit(Kind::Assign),
            ':' if self.next() == Some('=') => self.emit(Kind::Declare),
            ':' => return Err("expected :=".to_owned()),
            '|' => self.emit(Kind::Pipe),
            '"' => self.quoted('"', Kind::Quoted).ok_or("unterminated quoted string")?,
            '\'' => {
                self.quoted('\'', Kind::CharConstant).ok_or("unterminated character constant")?;
            }
            '`' => self.raw_quoted()?,
            '$' => self.name(Kind::Variable)?,
            // A dot that ends the input is a number to Go's lexer, too.
            '.' if self.peek().is_some_and(|c| !c.is_ascii_digit()) => self.dotted()?,
            '.' | '+' | '-' | '0'..='9' => self.number()?,
            _ if is_word(c) => self.identifier()?,
            '(' => {
                self.parens += 1;
                self.emit(Kind::LeftParen);
            }
            ')' => {
                self.parens = self.parens.checked_sub(1).ok_or("unexpected right paren")?;
                self.emit(Kind::RightParen);
            }
            '!'..='~' => self.emit(Kind::Char),
            _ => {
                let what = code_point(Some(c));
                return Err(format!("unrecognized character in action: {what}"));
            }
        }
        Ok(true)
    }

    /// A run of spaces, save the last one where it belongs to a trimming delimiter.
    fn spaces(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.pos += 1;
        }
        if self.rest().starts_with(TRIM_CLOSE) {
            self.pos -= 1;
        }
        if self.pos > self.start {
            self.emit(Kind::Space);
        }
    }

    fn quoted(&mut self, quote: char, kind: Kind) -> Option<()> {
        loop {
            match self.next()? {
                '\n' => return None,
                '\\' if self.next()? == '\n' => return None,
                c if c == quote => break,
                _ => {}
            }
        }
        self.emit(kind);
        Some(())
    }

    fn raw_quoted(&mut self) -> Result<(), String> {
        let end = self.rest().find('`').ok_or("unterminated raw quoted string")?;
        self.pos += end + 1;
        self.emit(Kind::RawQuoted);
        Ok(())
    }

    fn dotted(&mut self) -> Result<(), String> {
        if self.at_terminator() {
            self.emit(Kind::Dot);
            return Ok(());
        }
        self.name(Kind::Field)
    }

    fn name(&mut self, kind: Kind) -> Result<(), String> {
        self.words()?;
        self.emit(kind);
        Ok(())
    }

    fn words(&mut self) -> Result<(), String> {
        while self.peek().is_some_and(is_word) {
            self.next();
        }
        if self.at_terminator() {
            return Ok(());
        }
        Err(format!("bad character {}", code_point(self.peek())))
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(c) => is_space(c) || self.rest().starts_with(CLOSE),
        }
    }

    fn identifier(&mut self) -> Result<(), String> {
        self.words()?;
        let kind = match self.word() {
            "true" | "false" => Kind::Bool,
            "nil" => Kind::Nil,
            word if KEYWORDS.contains(&word) => Kind::Keyword,
            _ => Kind::Identifier,
        };
        self.emit(kind);
        Ok(())
    }

    fn number(&mut self) -> Result<(), String> {
        self.pos = self.start;
        let mut good = self.scan_number();
        let complex = good && matches!(self.peek(), Some('+' | '-'));
        if complex {
            good = self.scan_number() && self.word().ends_with('i');
        }
        if !good {
            return Err(format!("bad number syntax: {}", super::quote::quote(self.word())));
        }
        let imaginary = self.word().ends_with('i');
        self.emit(if complex || imaginary { Kind::Complex } else { Kind::Number });
        Ok(())
    }

    fn accept(&mut self, set: &str) -> bool {
        let found = self.peek().is_some_and(|c| set.contains(c));
        if found {
            self.pos += 1;
        }
        found
    }

    fn scan_number(&mut self) -> bool {
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        while self.accept(digits) {}
        if self.accept(".") {
            while self.accept(digits) {}
        }
        let exponent = match digits.len() {
            11 => "eE",
            23 => "pP",
            _ => "",
        };
        if self.accept(exponent) {
            self.accept("+-");
            while self.accept("0123456789_") {}
        }
        self.accept("i");
        if self.peek().is_some_and(is_word) {
            self.next();
            return false;
        }
        true
    }
}

fn trims_left(after: &str) -> bool {
    after.starts_with('-') && after[1..].starts_with(is_space)
}
