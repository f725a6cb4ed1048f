//! Tokens to nodes: a recursive descent with the messages of Go's `text/template/parse`.

use std::collections::BTreeMap;

use super::func;
use super::lex::{Kind, Token, Tokens, lex};
use super::node::{Branch, Call, Command, List, Node, Number, Operand, Pipe, Term};
use super::quote::{quote, unquote};
use super::{NESTING_MAX, TEXT_MAX};

/// What a template text defines: its own body under the empty name, and every `define` and `block`.
pub(super) type Bodies = BTreeMap<String, List>;

/// Parses `text`; the error is Go's message, `template: :LINE: REASON`.
pub(super) fn parse(text: &str) -> Result<Bodies, String> {
    if text.len() > TEXT_MAX {
        return Err(format!("template: longer than {TEXT_MAX} bytes"));
    }
    let mut parser = Parser {
        text,
        tokens: lex(text),
        next: 0,
        seen: 0,
        action_at: None,
        scope: Scope::new(),
        depth: 0,
        bodies: Bodies::new(),
    };
    parser.top().map_err(|reason| {
        let line = parser.line(parser.tokens.list[parser.seen].at);
        format!("template: :{line}: {reason}")
    })?;
    Ok(parser.bodies)
}

/// What a body may refer to. A `define` or `block` starts afresh.
struct Scope {
    variables: Vec<String>,
    ranges: usize,
}

impl Scope {
    fn new() -> Self {
        Self { variables: vec!["$".to_owned()], ranges: 0 }
    }
}

struct Parser<'t> {
    text: &'t str,
    tokens: Tokens<'t>,
    /// Index of the token to be read next.
    next: usize,
    /// Index of the token looked at last, whose line an error names.
    seen: usize,
    /// Where the action being parsed began.
    action_at: Option<usize>,
    scope: Scope,
    depth: usize,
    bodies: Bodies,
}

type Parsed<T> = Result<T, String>;

/// What ended a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    End,
    Else,
}

impl Stop {
    fn spelling(self) -> &'static str {
        match self {
            Self::End => "{{end}}",
            Self::Else => "{{else}}",
        }
    }
}

enum Item {
    Node(Node),
    Stop(Stop),
}

impl<'t> Parser<'t> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count()
    }

    fn peek(&mut self) -> Token<'t> {
        // The last token is Eof or Fault and is never passed.
        self.seen = self.next.min(self.tokens.list.len() - 1);
        self.tokens.list[self.seen]
    }

    fn read(&mut self) -> Token<'t> {
        let token = self.peek();
        self.next = self.seen + 1;
        token
    }

    fn peek_word(&mut self) -> Token<'t> {
        while self.peek().kind == Kind::Space {
            self.next += 1;
        }
        self.peek()
    }

    fn read_word(&mut self) -> Token<'t> {
        self.peek_word();
        self.read()
    }

    fn unexpected(&self, token: Token<'_>, context: &str) -> String {
        if token.kind != Kind::Fault {
            return format!("unexpected {} in {context}", spelling(token));
        }
        let fault = &self.tokens.fault;
        match self.action_at.map(|at| self.line(at)) {
            Some(line) if line != self.line(token.at) => {
                let extra = format!(" in action started at :{line}");
                let extra = if fault.ends_with(" action") { &extra[10..] } else { &extra };
                format!("{fault}{extra}")
            }
            _ => fault.clone(),
        }
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token<'t>> {
        let token = self.read_word();
        if token.kind == kind { Ok(token) } else { Err(self.unexpected(token, context)) }
    }

    fn is_keyword(token: Token<'_>, word: &str) -> bool {
        token.kind == Kind::Keyword && token.text == word
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == NESTING_MAX {
            return Err("max expression depth exceeded".to_owned());
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn top(&mut self) -> Parsed<()> {
        let mut list = List::new();
        while self.peek().kind != Kind::Eof {
            if self.at_define() {
                self.definition()?;
                continue;
            }
            match self.item()? {
                Item::Node(node) => list.push(node),
                Item::Stop(stop) => return Err(format!("unexpected {}", stop.spelling())),
            }
        }
        self.add(String::new(), list)
    }

    /// Passes `{{define` if that is what stands here.
    fn at_define(&mut self) -> bool {
        let start = self.next;
        let found = self.read().kind == Kind::Open && Self::is_keyword(self.read_word(), "define");
        if !found {
            self.next = start;
        }
        found
    }

    fn add(&mut self, name: String, list: List) -> Parsed<()> {
        // A body of nothing but space counts as none, so that a later definition replaces it.
        match self.bodies.get(&name) {
            Some(body) if !is_empty(body) && is_empty(&list) => {}
            Some(body) if !is_empty(body) => {
                let name = quote(&name);
                return Err(format!("template: multiple definition of template {name}"));
            }
            _ => {
                self.bodies.insert(name, list);
            }
        }
        Ok(())
    }

    fn definition(&mut self) -> Parsed<()> {
        let context = "define clause";
        let token = self.read_word();
        let name = self.template_name(token, context)?;
        self.expect(Kind::Close, context)?;
        self.body(name, context)
    }

    /// The body of a `define` or `block`, up to its `{{end}}`.
    fn body(&mut self, name: String, context: &str) -> Parsed<()> {
        let outer = std::mem::replace(&mut self.scope, Scope::new());
        let (list, stop) = self.deeper(Self::list)?;
        if stop != Stop::End {
            return Err(format!("unexpected {} in {context}", stop.spelling()));
        }
        self.scope = outer;
        self.add(name, list)
    }

    fn template_name(&self, token: Token<'_>, context: &str) -> Parsed<String> {
        match token.kind {
            Kind::Quoted | Kind::RawQuoted => {
                unquote(token.text).ok_or_else(|| "invalid syntax".to_owned())
            }
            _ => Err(self.unexpected(token, context)),
        }
    }

    fn list(&mut self) -> Parsed<(List, Stop)> {
        let mut list = List::new();
        while self.peek_word().kind != Kind::Eof {
            match self.item()? {
                Item::Node(node) => list.push(node),
                Item::Stop(stop) => return Ok((list, stop)),
            }
        }
        Err("unexpected EOF".to_owned())
    }

    fn item(&mut self) -> Parsed<Item> {
        let token = self.read_word();
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(token.text.to_owned()))),
            Kind::Open => {
                self.action_at = Some(token.at);
                let item = self.action()?;
                self.action_at = None;
                Ok(item)
            }
            _ => Err(self.unexpected(token, "input")),
        }
    }

    fn action(&mut self) -> Parsed<Item> {
        let token = self.peek_word();
        if token.kind != Kind::Keyword || token.text == "define" {
            let pipe = self.pipeline("command", Kind::Close)?;
            return Ok(Item::Node(Node::Action(pipe)));
        }
        self.read();
        let node = match token.text {
            "end" => {
                self.expect(Kind::Close, "end")?;
                return Ok(Item::Stop(Stop::End));
            }
            "else" => return self.otherwise(),
            "if" => Node::If(self.branch("if")?),
            "with" => Node::With(self.branch("with")?),
            "range" => Node::Range(self.branch("range")?),
            "template" => Node::Template(self.template()?),
            "block" => Node::Template(self.block()?),
            "break" => self.jump("{{break}}", Node::Break)?,
            _ => self.jump("{{continue}}", Node::Continue)?,
        };
        Ok(Item::Node(node))
    }

    /// `{{else}}`, or `{{else if` and `{{else with`, whose keyword is left for [`Self::branch`].
    fn otherwise(&mut self) -> Parsed<Item> {
        let token = self.peek_word();
        if !Self::is_keyword(token, "if") && !Self::is_keyword(token, "with") {
            self.expect(Kind::Close, "else")?;
        }
        Ok(Item::Stop(Stop::Else))
    }

    fn jump(&mut self, spelling: &str, node: Node) -> Parsed<Node> {
        self.expect(Kind::Close, spelling)?;
        if self.scope.ranges == 0 {
            return Err(format!("{spelling} outside {{{{range}}}}"));
        }
        Ok(node)
    }

    fn branch(&mut self, word: &'static str) -> Parsed<Branch> {
        let visible = self.scope.variables.len();
        let pipe = self.pipeline(word, Kind::Close)?;
        let loops = usize::from(word == "range");
        self.scope.ranges += loops;
        let (body, stop) = self.deeper(Self::list)?;
        self.scope.ranges -= loops;
        let otherwise = match stop {
            Stop::End => List::new(),
            Stop::Else => self.deeper(|parser| parser.else_list(word))?,
        };
        self.scope.variables.truncate(visible);
        Ok(Branch { pipe, body, otherwise })
    }

    fn else_list(&mut self, word: &'static str) -> Parsed<List> {
        let next = self.peek();
        if word != "range" && Self::is_keyword(next, word) {
            self.read();
            let branch = self.branch(word)?;
            return Ok(vec![if word == "if" { Node::If(branch) } else { Node::With(branch) }]);
        }
        let (list, stop) = self.list()?;
        if stop != Stop::End {
            return Err(format!("expected end; found {}", stop.spelling()));
        }
        Ok(list)
    }

    fn template(&mut self) -> Parsed<Call> {
        let context = "template clause";
        let token = self.read_word();
        let name = self.template_name(token, context)?;
        let pipe = if self.peek_word().kind == Kind::Close {
            self.read();
            None
        } else {
            Some(self.pipeline(context, Kind::Close)?)
        };
        Ok(Call { at: token.at, name, pipe })
    }

    fn block(&mut self) -> Parsed<Call> {
        let context = "block clause";
        let token = self.read_word();
        let name = self.template_name(token, context)?;
        let pipe = Some(self.pipeline(context, Kind::Close)?);
        self.body(name.clone(), context)?;
        Ok(Call { at: token.at, name, pipe })
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        let at = self.peek_word().at;
        let mut pipe = Pipe { at, names: Vec::new(), assigns: false, commands: Vec::new() };
        while self.declaration(&mut pipe, context)? {}
        loop {
            let token = self.peek_word();
            if token.kind == end {
                self.read();
                break;
            }
            if !starts_operand(token.kind) {
                return Err(self.unexpected(token, context));
            }
            pipe.commands.push(self.command()?);
        }
        check_pipeline(pipe, context)
    }

    /// Reads `$x :=`, `$x =` or `$x,`; true if another name must follow.
    fn declaration(&mut self, pipe: &mut Pipe, context: &str) -> Parsed<bool> {
        let start = self.next;
        let variable = self.peek_word();
        if variable.kind != Kind::Variable {
            return Ok(false);
        }
        self.read();
        let sign = self.peek_word();
        let comma = sign.kind == Kind::Char && sign.text == ",";
        if !comma && !matches!(sign.kind, Kind::Assign | Kind::Declare) {
            self.next = start;
            return Ok(false);
        }
        self.read();
        pipe.assigns = sign.kind == Kind::Assign;
        pipe.names.push(variable.text.to_owned());
        self.scope.variables.push(variable.text.to_owned());
        if !comma {
            return Ok(false);
        }
        if context != "range" || pipe.names.len() > 1 {
            return Err(format!("too many declarations in {context}"));
        }
        match self.peek_word().kind {
            Kind::Variable | Kind::Close | Kind::RightParen => Ok(true),
            _ => Err("range can only initialize variables".to_owned()),
        }
    }

    fn command(&mut self) -> Parsed<Command> {
        let at = self.peek_word().at;
        let mut args = Vec::new();
        loop {
            self.peek_word();
            args.extend(self.operand()?);
            let token = self.peek();
            match token.kind {
                Kind::Space => continue,
                Kind::Close | Kind::RightParen => {}
                Kind::Pipe => {
                    self.read();
                }
                _ => return Err(self.unexpected(token, "operand")),
            }
            break;
        }
        if args.is_empty() {
            return Err("empty command".to_owned());
        }
        Ok(Command { at, args })
    }

    fn operand(&mut self) -> Parsed<Option<Operand>> {
        let Some(mut operand) = self.term()? else { return Ok(None) };
        let at = self.peek().at;
        let mut names = Vec::new();
        while self.peek().kind == Kind::Field {
            names.push(self.read().text[1..].to_owned());
        }
        if names.is_empty() {
            return Ok(Some(operand));
        }
        if operand.term.is_literal() {
            let text = quote(&operand.to_string());
            return Err(format!("unexpected . after term {text}"));
        }
        operand.term = match operand.term {
            Term::Field(mut first) => {
                first.append(&mut names);
                Term::Field(first)
            }
            Term::Variable(name, mut first) => {
                first.append(&mut names);
                Term::Variable(name, first)
            }
            term => Term::Chain(Box::new(Operand { at: operand.at, term }), names),
        };
        Ok(Some(Operand { at, ..operand }))
    }

    fn term(&mut self) -> Parsed<Option<Operand>> {
        let token = self.peek_word();
        if !starts_operand(token.kind) {
            return Ok(None);
        }
        self.read();
        let text = token.text;
        let term = match token.kind {
            Kind::Identifier if func::find(text).is_none() => {
                return Err(format!("function {} not defined", quote(text)));
            }
            Kind::Identifier => Term::Function(text.to_owned()),
            Kind::Dot => Term::Dot,
            Kind::Nil => Term::Nil,
            Kind::Bool => Term::Bool(text == "true"),
            Kind::Field => Term::Field(vec![text[1..].to_owned()]),
            Kind::Variable if !self.scope.variables.iter().any(|name| name == text) => {
                return Err(format!("undefined variable {}", quote(text)));
            }
            Kind::Variable => Term::Variable(text.to_owned(), Vec::new()),
            Kind::Complex => return Err(format!("complex number {text} is not supported")),
            Kind::LeftParen => {
                let inner =
                    |parser: &mut Self| parser.pipeline("parenthesized pipeline", Kind::RightParen);
                let pipe = self.deeper(inner)?;
                return Ok(Some(Operand { at: pipe.at, term: Term::Pipe(Box::new(pipe)) }));
            }
            Kind::Quoted | Kind::RawQuoted => Term::Str {
                literal: text.to_owned(),
                value: unquote(text).ok_or("invalid syntax")?,
            },
            _ => Term::Number { text: text.to_owned(), value: number(text)? },
        };
        Ok(Some(Operand { at: token.at, term }))
    }
}

fn is_empty(list: &List) -> bool {
    list.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
}

fn starts_operand(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Bool
            | Kind::CharConstant
            | Kind::Complex
            | Kind::Dot
            | Kind::Field
            | Kind::Identifier
            | Kind::Number
            | Kind::Nil
            | Kind::Quoted
            | Kind::RawQuoted
            | Kind::Variable
            | Kind::LeftParen
    )
}

fn check_pipeline(pipe: Pipe, context: &str) -> Parsed<Pipe> {
    if pipe.commands.is_empty() {
        return Err(format!("missing value for {context}"));
    }
    let literal =
        pipe.commands.iter().skip(1).position(|command| command.args[0].term.is_literal());
    match literal {
        Some(index) => Err(format!("non executable command in pipeline stage {}", index + 2)),
        None => Ok(pipe),
    }
}

/// How Go's messages name a token.
fn spelling(token: Token<'_>) -> String {
    match token.kind {
        Kind::Eof => "EOF".to_owned(),
        Kind::Keyword | Kind::Dot | Kind::Nil => format!("<{}>", token.text),
        _ if token.text.chars().count() > 10 => {
            let start: String = token.text.chars().take(10).collect();
            format!("{}...", quote(&start))
        }
        _ => quote(token.text),
    }
}

/// The value of a number or character constant, by Go's rules for untyped constants.
fn number(text: &str) -> Parsed<Number> {
    if text.starts_with('\'') {
        let value = unquote(text).ok_or("invalid syntax")?;
        let mut chars = value.chars();
        return match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(Number::Int(u32::from(c).into())),
            (None, _) => Err("invalid syntax".to_owned()),
            _ => Err(format!("malformed character constant: {text}")),
        };
    }
    if let Some(value) = integer(text) {
        return Ok(Number::Int(value));
    }
    if let Some(value) = hex_float(text) {
        return Ok(Number::Float(value));
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && text.contains(['.', 'e', 'E']) => {
            Ok(Number::Float(value))
        }
        Ok(value) if value.is_finite() => Err(format!("integer overflow: {}", quote(text))),
        _ => Err(format!("illegal number syntax: {}", quote(text))),
    }
}

fn integer(text: &str) -> Option<i128> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    if digits.contains("__") || digits.ends_with('_') || (radix == 10 && digits.starts_with('_')) {
        return None;
    }
    let value = u64::from_str_radix(&digits.replace('_', ""), radix).ok().map(i128::from)?;
    Some(if text.starts_with('-') { -value } else { value })
}

/// `0x1.8p1`: hexadecimal digits times a power of two.
fn hex_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text).to_ascii_lowercase();
    let (mantissa, power) = unsigned.strip_prefix("0x")?.split_once('p')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = u64::from_str_radix(&format!("{whole}{fraction}"), 16).ok()?;
    let shift = i32::try_from(fraction.len()).ok()?.checked_mul(4)?;
    let power = power.parse::<i32>().ok()?.checked_sub(shift)?;
    let value = digits as f64 * 2f64.powi(power);
    value.is_finite().then_some(if text.starts_with('-') { -value } else { value })
}
