//! Text becomes a tree (cel-spec, `doc/langdef.md`, "Syntax").

use std::sync::Arc;

use crate::call;
use crate::value::Value;

/// Bytes of an expression.
const EXPRESSION_BYTES_MAX: usize = 64 << 10;
/// How deep an expression may be nested.
const DEPTH_MAX: usize = 64;
/// Words that cannot be names.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("<input>:1:{column}: {why}")]
pub struct ParseError {
    /// In bytes, from 1.
    pub column: usize,
    /// What is wrong.
    pub why: String,
}

type Result<T> = std::result::Result<T, ParseError>;

/// An expression that can be evaluated.
#[derive(Debug, Clone)]
pub struct Program {
    pub(crate) root: Expression,
}

#[derive(Debug, Clone)]
pub(crate) enum Expression {
    Literal(Value),
    Name(Arc<str>),
    /// A field; behind `?` an absent one is no error, but nothing.
    Field(Box<Expression>, Arc<str>, bool),
    /// Whether a field is there.
    Has(Box<Expression>, Arc<str>),
    Index(Box<Expression>, Box<Expression>, bool),
    Call(Option<Box<Expression>>, Arc<str>, Vec<Expression>),
    List(Vec<Expression>),
    Map(Vec<(Expression, Expression)>),
    Not(Box<Expression>),
    Negative(Box<Expression>),
    Both(Operator, Box<Expression>, Box<Expression>),
    Choice(Box<[Expression; 3]>),
    /// A macro over the items of a list or the keys of a map, each with this name.
    Each(Each, Box<Expression>, Arc<str>, Vec<Expression>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// What a macro makes of the items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Each {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Name(String),
    Literal(Value),
    Sign(&'static str),
    End,
}

/// Signs, longer ones first.
const SIGNS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",",
    "(", ")", "[", "]", "{", "}",
];

/// Operators by how strongly they bind, the weakest first.
const LEVELS: &[&[(&str, Operator)]] = &[
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[
        ("==", Operator::Equal),
        ("!=", Operator::Unequal),
        ("<=", Operator::AtMost),
        (">=", Operator::AtLeast),
        ("<", Operator::Less),
        (">", Operator::Greater),
        ("in", Operator::In),
    ],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Remainder)],
];

impl Program {
    /// Reads an expression.
    ///
    /// # Errors
    /// [`ParseError`]: also for functions that there are not.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > EXPRESSION_BYTES_MAX {
            let why = format!("the expression is longer than {EXPRESSION_BYTES_MAX} bytes");
            return Err(ParseError { column: 1, why });
        }
        let mut parser = Parser { text, at: 0, token: Token::End, start: 0, depth: 0 };
        parser.advance()?;
        let root = parser.expression()?;
        match parser.token {
            Token::End => Ok(Self { root }),
            _ => Err(parser.wrong("Syntax error: something follows the expression")),
        }
    }

    /// Whether the expression asks for a name that it has not given itself.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        self.root.uses(name)
    }
}

impl Expression {
    fn uses(&self, name: &str) -> bool {
        let in_each = |all: &[Expression]| all.iter().any(|one| one.uses(name));
        match self {
            Self::Literal(_) => false,
            Self::Name(own) => **own == *name,
            Self::Field(of, ..) | Self::Has(of, _) | Self::Not(of) | Self::Negative(of) => {
                of.uses(name)
            }
            Self::Index(a, b, _) | Self::Both(_, a, b) => a.uses(name) || b.uses(name),
            Self::Call(of, _, all) => of.as_ref().is_some_and(|of| of.uses(name)) || in_each(all),
            Self::List(all) => in_each(all),
            Self::Map(all) => all.iter().any(|(key, value)| key.uses(name) || value.uses(name)),
            Self::Choice(all) => in_each(&all[..]),
            Self::Each(_, of, own, all) => of.uses(name) || (**own != *name && in_each(all)),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Behind the token.
    at: usize,
    token: Token,
    /// Where the token begins.
    start: usize,
    depth: usize,
}

impl Parser<'_> {
    fn wrong(&self, why: impl Into<String>) -> ParseError {
        ParseError { column: self.start + 1, why: why.into() }
    }

    fn advance(&mut self) -> Result<()> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(byte) if byte.is_ascii_whitespace() => self.at += 1,
                Some(b'/') if bytes.get(self.at + 1) == Some(&b'/') => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find('\n').unwrap_or(rest.len());
                }
                _ => break,
            }
        }
        self.start = self.at;
        let rest = &self.text[self.at..];
        let Some(first) = rest.chars().next() else {
            self.token = Token::End;
            return Ok(());
        };
        if let Some((literal, length)) = crate::text::quoted(rest).map_err(|why| self.wrong(why))? {
            self.token = Token::Literal(literal);
            self.at += length;
            return Ok(());
        }
        let is_number = first.is_ascii_digit()
            || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()));
        if is_number {
            let (literal, length) = crate::text::number(rest).map_err(|why| self.wrong(why))?;
            self.token = Token::Literal(literal);
            self.at += length;
            return Ok(());
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            self.at += length;
            self.token = match &rest[..length] {
                "true" => Token::Literal(Value::Bool(true)),
                "false" => Token::Literal(Value::Bool(false)),
                "null" => Token::Literal(Value::Null),
                "in" => Token::Sign("in"),
                word => Token::Name(word.to_owned()),
            };
            return Ok(());
        }
        match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => {
                self.at += sign.len();
                self.token = Token::Sign(sign);
                Ok(())
            }
            None => Err(self.wrong(format!("Syntax error: token recognition error at: '{first}'"))),
        }
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.token, Token::Sign(own) if own == sign)
    }

    fn skip(&mut self, sign: &str) -> Result<bool> {
        let is = self.is(sign);
        if is {
            self.advance()?;
        }
        Ok(is)
    }

    fn need(&mut self, sign: &str) -> Result<()> {
        match self.skip(sign)? {
            true => Ok(()),
            false => Err(self.wrong(format!("Syntax error: expecting '{sign}'"))),
        }
    }

    fn name(&mut self) -> Result<String> {
        let name = match &self.token {
            Token::Name(name) => name.clone(),
            _ => return Err(self.wrong("Syntax error: a name is expected")),
        };
        self.advance()?;
        Ok(name)
    }

    fn expression(&mut self) -> Result<Expression> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.wrong(format!("more than {DEPTH_MAX} levels of nesting")));
        }
        let condition = self.level(0)?;
        let whole = match self.skip("?")? {
            false => condition,
            true => {
                let yes = self.level(0)?;
                self.need(":")?;
                Expression::Choice(Box::new([condition, yes, self.expression()?]))
            }
        };
        self.depth -= 1;
        Ok(whole)
    }

    fn level(&mut self, level: usize) -> Result<Expression> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.level(level + 1)?;
        let mut count = 0;
        loop {
            let own = match &self.token {
                Token::Sign(sign) => operators.iter().find(|(known, _)| known == sign),
                _ => None,
            };
            let Some((_, operator)) = own else { return Ok(left) };
            // A chain is a tree as deep as it is long.
            count += 1;
            if count > DEPTH_MAX * 4 {
                return Err(self.wrong("too many operators in a row"));
            }
            self.advance()?;
            let right = self.level(level + 1)?;
            left = Expression::Both(*operator, Box::new(left), Box::new(right));
        }
    }

    fn unary(&mut self) -> Result<Expression> {
        let mut signs = Vec::new();
        while self.is("!") || self.is("-") {
            signs.push(self.is("!"));
            if signs.len() > DEPTH_MAX {
                return Err(self.wrong("too many operators in a row"));
            }
            self.advance()?;
        }
        let mut whole = self.member()?;
        for is_not in signs.into_iter().rev() {
            whole = match (is_not, whole) {
                (true, whole) => Expression::Not(Box::new(whole)),
                (false, whole) => Expression::Negative(Box::new(whole)),
            };
        }
        Ok(whole)
    }

    fn member(&mut self) -> Result<Expression> {
        let mut whole = self.primary()?;
        let mut count = 0;
        loop {
            count += 1;
            if count > DEPTH_MAX {
                return Err(self.wrong(format!("more than {DEPTH_MAX} steps in a row")));
            }
            if self.skip(".")? {
                let is_optional = self.skip("?")?;
                let name = self.name()?;
                whole = match self.is("(") && !is_optional {
                    true => self.method(whole, &name)?,
                    false => Expression::Field(Box::new(whole), name.into(), is_optional),
                };
            } else if self.skip("[")? {
                let is_optional = self.skip("?")?;
                let index = self.expression()?;
                self.need("]")?;
                whole = Expression::Index(Box::new(whole), Box::new(index), is_optional);
            } else {
                return Ok(whole);
            }
        }
    }

    fn primary(&mut self) -> Result<Expression> {
        match self.token.clone() {
            Token::Literal(value) => {
                self.advance()?;
                Ok(Expression::Literal(value))
            }
            Token::Name(name) => {
                self.advance()?;
                if RESERVED.contains(&name.as_str()) {
                    return Err(self.wrong(format!("reserved identifier: {name}")));
                }
                match self.is("(") {
                    true => self.function(&name),
                    false => Ok(Expression::Name(name.into())),
                }
            }
            Token::Sign("(") => {
                self.advance()?;
                let inner = self.expression()?;
                self.need(")")?;
                Ok(inner)
            }
            Token::Sign("[") => {
                self.advance()?;
                Ok(Expression::List(self.until("]")?))
            }
            Token::Sign("{") => self.map(),
            Token::End => Err(self.wrong("Syntax error: mismatched input '<EOF>'")),
            Token::Sign(sign) => {
                Err(self.wrong(format!("Syntax error: mismatched input '{sign}'")))
            }
        }
    }

    fn until(&mut self, end: &str) -> Result<Vec<Expression>> {
        let mut all = Vec::new();
        while !self.skip(end)? {
            all.push(self.expression()?);
            if !self.is(end) {
                self.need(",")?;
            }
        }
        Ok(all)
    }

    fn map(&mut self) -> Result<Expression> {
        self.need("{")?;
        let mut all = Vec::new();
        while !self.skip("}")? {
            let key = self.expression()?;
            self.need(":")?;
            all.push((key, self.expression()?));
            if !self.is("}") {
                self.need(",")?;
            }
        }
        Ok(Expression::Map(all))
    }

    fn function(&mut self, name: &str) -> Result<Expression> {
        let start = self.start;
        self.need("(")?;
        let mut all = self.until(")")?;
        if name == "has" {
            return match (all.pop(), all.is_empty()) {
                (Some(Expression::Field(of, field, false)), true) => Ok(Expression::Has(of, field)),
                _ => Err(self.wrong("invalid argument to has() macro")),
            };
        }
        if !call::is_function(name, all.len()) {
            let why = format!("undeclared reference to '{name}' (in container '')");
            return Err(ParseError { column: start + 1, why });
        }
        Ok(Expression::Call(None, name.into(), all))
    }

    fn method(&mut self, of: Expression, name: &str) -> Result<Expression> {
        let start = self.start;
        self.need("(")?;
        let mut all = self.until(")")?;
        let each = match (name, all.len()) {
            ("all", 2) => Some(Each::All),
            ("exists", 2) => Some(Each::Exists),
            ("exists_one" | "existsOne", 2) => Some(Each::ExistsOne),
            ("map", 2 | 3) => Some(Each::Map),
            ("filter", 2) => Some(Each::Filter),
            _ => None,
        };
        if let Some(each) = each {
            return match all.remove(0) {
                Expression::Name(name) => Ok(Expression::Each(each, Box::new(of), name, all)),
                _ => Err(self.wrong("argument must be a simple name")),
            };
        }
        let is_optional = matches!(&of, Expression::Name(own) if **own == *"optional");
        let full = format!("optional.{name}");
        if is_optional && call::is_function(&full, all.len()) {
            return Ok(Expression::Call(None, full.into(), all));
        }
        if !call::is_method(name, all.len()) {
            let why = format!("undeclared reference to '{name}' (in container '')");
            return Err(ParseError { column: start + 1, why });
        }
        Ok(Expression::Call(Some(Box::new(of)), name.into(), all))
    }
}
