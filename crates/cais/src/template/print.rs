//! How Go's `fmt` writes values: `Sprint`, `Sprintln`, `Sprintf`.

use super::float;
use super::item::{Item, sorted};
use super::quote::{is_print, quote_with};
use super::{OUTPUT_MAX, WIDTH_MAX};

/// Operands in their default form, a space between two of which neither is a string.
pub(super) fn sprint(args: &[Item<'_>]) -> String {
    let mut out = String::new();
    let mut after_string = true;
    for (index, arg) in args.iter().enumerate() {
        let is_string = matches!(arg, Item::Str(_));
        if index > 0 && !is_string && !after_string {
            out.push(' ');
        }
        after_string = is_string;
        Spec::default().value(&mut out, arg, 'v');
        if out.len() > OUTPUT_MAX {
            break;
        }
    }
    out
}

/// Operands in their default form with spaces between them and a line feed at the end.
pub(super) fn sprintln(args: &[Item<'_>]) -> String {
    let mut out = String::new();
    for (index, arg) in args.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        Spec::default().value(&mut out, arg, 'v');
        if out.len() > OUTPUT_MAX {
            break;
        }
    }
    out.push('\n');
    out
}

/// A float as Go's JSON encoder writes it: exponents only below 1e-6 and from 1e21 on.
pub(super) fn json_float(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return format!("{value}");
    }
    // Rust writes `1e-7` where Go's formatter writes `1e-07` and its encoder then drops the zero.
    let text = format!("{value:e}");
    if text.contains("e-") { text } else { text.replace('e', "e+") }
}

/// The directive being carried out.
#[derive(Clone, Copy, Debug, Default)]
struct Spec {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    /// `%#v`
    go_syntax: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

impl Spec {
    fn value(&self, out: &mut String, item: &Item<'_>, verb: char) {
        self.nested(out, item, verb, false);
    }

    fn nested(&self, out: &mut String, item: &Item<'_>, verb: char, inside: bool) {
        let done = match item {
            Item::Missing | Item::Nil => self.nil(out, verb, inside),
            Item::Bool(value) => match verb {
                't' | 'v' => self.pad(out, if *value { "true" } else { "false" }),
                _ => false,
            },
            Item::Int(value) => self.int(out, *value, verb),
            Item::Float(value) => self.float(out, *value, verb),
            Item::Str(text) => self.text(out, text, verb),
            Item::List(_) | Item::Strings(_) => self.list(out, item, verb),
            Item::Map(map) => {
                self.open(out, item, "map[");
                for (index, (key, value)) in sorted(map).into_iter().enumerate() {
                    self.separate(out, index);
                    self.nested(out, &Item::text(key), verb, true);
                    out.push(':');
                    self.nested(out, &Item::of(value), verb, true);
                }
                self.close(out)
            }
        };
        if !done {
            self.bad_verb(out, item, verb);
        }
    }

    fn list(&self, out: &mut String, item: &Item<'_>, verb: char) -> bool {
        self.open(out, item, "[");
        for index in 0..item.len().unwrap_or(0) {
            self.separate(out, index);
            if let Some(element) = item.element(index) {
                self.nested(out, &element, verb, true);
            }
        }
        self.close(out)
    }

    fn open(&self, out: &mut String, item: &Item<'_>, plain: &str) {
        if self.go_syntax {
            out.push_str(item.type_name());
            out.push('{');
        } else {
            out.push_str(plain);
        }
    }

    fn separate(&self, out: &mut String, index: usize) {
        match index {
            0 => {}
            _ if self.go_syntax => out.push_str(", "),
            _ => out.push(' '),
        }
    }

    fn close(&self, out: &mut String) -> bool {
        out.push(if self.go_syntax { '}' } else { ']' });
        true
    }

    fn nil(&self, out: &mut String, verb: char, inside: bool) -> bool {
        match (inside, verb) {
            (true, _) if self.go_syntax => {
                out.push_str("interface {}(nil)");
                true
            }
            (true, _) => {
                out.push_str("<nil>");
                true
            }
            (false, 'v') => self.pad(out, "<nil>"),
            (false, _) => false,
        }
    }

    fn bad_verb(&self, out: &mut String, item: &Item<'_>, verb: char) {
        out.push_str("%!");
        out.push(verb);
        out.push('(');
        if item.is_nil() {
            out.push_str("<nil>");
        } else {
            out.push_str(item.type_name());
            out.push('=');
            self.value(out, item, 'v');
        }
        out.push(')');
    }

    /// Writes `text` padded to the width.
    fn pad(&self, out: &mut String, text: &str) -> bool {
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        if self.minus {
            out.push_str(text);
            out.extend(std::iter::repeat_n(' ', missing));
        } else {
            out.extend(std::iter::repeat_n(if self.zero { '0' } else { ' ' }, missing));
            out.push_str(text);
        }
        true
    }

    fn text(&self, out: &mut String, text: &str, verb: char) -> bool {
        let short: String = match self.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text.to_owned(),
        };
        match verb {
            'v' if self.go_syntax => self.quoted(out, &short),
            'v' | 's' => self.pad(out, &short),
            'q' => self.quoted(out, &short),
            'x' | 'X' => {
                let bytes = text.as_bytes();
                let most = self.precision.unwrap_or(bytes.len()).min(bytes.len());
                self.pad(out, &self.hex(&bytes[..most], verb == 'X'))
            }
            _ => false,
        }
    }

    fn quoted(&self, out: &mut String, text: &str) -> bool {
        let fits_backquotes =
            |c: char| c == '\t' || (c >= ' ' && c != '`' && c != '\x7f' && c != '\u{feff}');
        if self.sharp && text.chars().all(fits_backquotes) {
            return self.pad(out, &format!("`{text}`"));
        }
        self.pad(out, &quote_with(text, '"', self.plus))
    }

    fn hex(&self, bytes: &[u8], upper: bool) -> String {
        let prefix = match (self.sharp, upper) {
            (false, _) => "",
            (true, false) => "0x",
            (true, true) => "0X",
        };
        let mut text = String::with_capacity(bytes.len() * 2 + 2);
        for (index, byte) in bytes.iter().enumerate() {
            if index > 0 && self.space {
                text.push(' ');
            }
            if index == 0 || self.space {
                text.push_str(prefix);
            }
            text.push_str(&if upper { format!("{byte:02X}") } else { format!("{byte:02x}") });
        }
        text
    }

    fn int(&self, out: &mut String, value: i128, verb: char) -> bool {
        let size = value.unsigned_abs();
        let (prefix, digits) = match verb {
            'v' | 'd' => ("", size.to_string()),
            'b' => ("0b", format!("{size:b}")),
            'o' => ("0", format!("{size:o}")),
            'O' => ("0o", format!("{size:o}")),
            'x' => ("0x", format!("{size:x}")),
            'X' => ("0X", format!("{size:X}")),
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 's' | 't' => return false,
            _ => return self.code_point(out, value, verb),
        };
        if self.precision == Some(0) && value == 0 {
            return Self { zero: false, ..*self }.pad(out, "");
        }
        let sign = self.sign(value < 0);
        let mut least = self.precision.unwrap_or(0);
        if self.precision.is_none() && self.zero && !self.minus {
            // Go counts the sign into the zero-filled width, but not the prefix.
            least = self.width.unwrap_or(0).saturating_sub(sign.len());
        }
        let zeros = "0".repeat(least.saturating_sub(digits.len()));
        let starts_with_zero = !zeros.is_empty() || digits.starts_with('0');
        let shows_prefix = verb == 'O' || (self.sharp && !(verb == 'o' && starts_with_zero));
        let prefix = if shows_prefix { prefix } else { "" };
        Self { zero: false, ..*self }.pad(out, &format!("{sign}{prefix}{zeros}{digits}"))
    }

    fn code_point(&self, out: &mut String, value: i128, verb: char) -> bool {
        let known = u32::try_from(value).ok().and_then(char::from_u32);
        let c = known.unwrap_or('\u{fffd}');
        match verb {
            'c' => self.pad(out, c.encode_utf8(&mut [0; 4])),
            'q' => self.pad(out, &quote_with(c.encode_utf8(&mut [0; 4]), '\'', self.plus)),
            'U' => {
                let digits = self.precision.unwrap_or(4).max(4);
                let shown = known.filter(|c| self.sharp && is_print(*c));
                let shown = shown.map_or(String::new(), |c| format!(" '{c}'"));
                let text = format!("U+{:0digits$X}{shown}", value as u64);
                Self { zero: false, ..*self }.pad(out, &text)
            }
            _ => false,
        }
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            _ => "",
        }
    }

    fn float(&self, out: &mut String, value: f64, verb: char) -> bool {
        let size = value.abs();
        let digits = match verb {
            'v' | 'g' | 'G' => float::general(size, self.precision),
            'e' | 'E' => float::exponent(size, Some(self.precision.unwrap_or(6))),
            'f' | 'F' => format!("{size:.*}", self.precision.unwrap_or(6)),
            'b' => float::binary(size),
            'x' | 'X' => float::hexadecimal(size, self.precision),
            _ => return false,
        };
        let digits = if matches!(verb, 'E' | 'G' | 'X') { digits.to_uppercase() } else { digits };
        let digits = match verb {
            'v' | 'g' | 'G' if self.sharp => {
                float::with_point(&digits, self.precision.unwrap_or(6))
            }
            'e' | 'E' | 'f' | 'F' if self.sharp => float::with_point(&digits, 0),
            _ => digits,
        };
        let sign = self.sign(value.is_sign_negative());
        if !self.zero || self.minus {
            return self.pad(out, &format!("{sign}{digits}"));
        }
        let zeros = self.width.unwrap_or(0).saturating_sub(sign.len() + digits.len());
        out.push_str(sign);
        out.push_str(&"0".repeat(zeros));
        out.push_str(&digits);
        true
    }
}

/// Formats by a format string. Mistakes in it show up in the result, as in Go.
pub(super) fn sprintf(format: &str, args: &[Item<'_>]) -> String {
    let mut printer =
        Printer { rest: format, args, next: 0, reordered: false, good: true, out: String::new() };
    while let Some(at) = printer.rest.find('%') {
        printer.out.push_str(&printer.rest[..at]);
        printer.rest = &printer.rest[at + 1..];
        printer.directive();
        if printer.out.len() > OUTPUT_MAX {
            break;
        }
    }
    printer.out.push_str(printer.rest);
    printer.extra();
    printer.out
}

struct Printer<'f, 'a, 'v> {
    rest: &'f str,
    args: &'a [Item<'v>],
    next: usize,
    /// Whether any directive named its argument, as in `%[2]d`.
    reordered: bool,
    /// Whether the argument numbers of this directive were sound.
    good: bool,
    out: String,
}

impl<'v> Printer<'_, '_, 'v> {
    fn accept(&mut self, c: char) -> bool {
        let stripped = self.rest.strip_prefix(c);
        self.rest = stripped.unwrap_or(self.rest);
        stripped.is_some()
    }

    fn directive(&mut self) {
        self.good = true;
        let mut spec = self.flags();
        self.argument_number();
        spec.width = self.size(&mut spec, "%!(BADWIDTH)");
        if self.accept('.') {
            self.argument_number();
            let negative = self.rest.starts_with('-');
            spec.precision =
                self.size(&mut Spec::default(), "%!(BADPREC)").or((!negative).then_some(0));
        }
        self.argument_number();
        let mut chars = self.rest.chars();
        let Some(verb) = chars.next() else {
            return self.out.push_str("%!(NOVERB)");
        };
        self.rest = chars.as_str();
        if verb == '%' {
            return self.out.push('%');
        }
        if !self.good {
            return self.complain(verb, "BADINDEX");
        }
        let Some(item) = self.argument() else {
            return self.complain(verb, "MISSING");
        };
        if verb == 'w' {
            return Spec::default().bad_verb(&mut self.out, &item, verb);
        }
        if verb == 'v' {
            spec.go_syntax = std::mem::take(&mut spec.sharp);
            spec.plus = false;
        }
        match verb {
            'T' => spec.text(&mut self.out, item.type_name(), 's'),
            _ => {
                spec.value(&mut self.out, &item, verb);
                true
            }
        };
    }

    fn complain(&mut self, verb: char, what: &str) {
        self.out.push_str("%!");
        self.out.push(verb);
        self.out.push('(');
        self.out.push_str(what);
        self.out.push(')');
    }

    fn flags(&mut self) -> Spec {
        let mut spec = Spec::default();
        loop {
            let flag = match self.rest.as_bytes().first() {
                Some(b'+') => &mut spec.plus,
                Some(b'-') => &mut spec.minus,
                Some(b'#') => &mut spec.sharp,
                Some(b' ') => &mut spec.space,
                Some(b'0') => &mut spec.zero,
                _ => return spec,
            };
            *flag = true;
            self.rest = &self.rest[1..];
        }
    }

    fn argument(&mut self) -> Option<Item<'v>> {
        let item = self.args.get(self.next).cloned()?;
        self.next += 1;
        Some(item)
    }

    /// `[N]` before a verb, a width or a precision.
    fn argument_number(&mut self) {
        if !self.rest.starts_with('[') {
            return;
        }
        self.reordered = true;
        let Some(end) = self.rest.find(']') else {
            self.rest = &self.rest[1..];
            self.good = false;
            return;
        };
        let number = self.rest[1..end].parse::<usize>().ok();
        self.rest = &self.rest[end + 1..];
        match number.filter(|number| (1..=self.args.len()).contains(number)) {
            Some(number) => self.next = number - 1,
            None => self.good = false,
        }
    }

    /// A width or precision: digits, or `*` for one among the arguments.
    fn size(&mut self, spec: &mut Spec, complaint: &str) -> Option<usize> {
        if self.accept('*') {
            let size = match self.argument() {
                Some(Item::Int(size)) if size.unsigned_abs() <= WIDTH_MAX as u128 => size,
                _ => {
                    self.out.push_str(complaint);
                    return None;
                }
            };
            spec.minus |= size < 0;
            return usize::try_from(size.unsigned_abs()).ok();
        }
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.parse().ok().filter(|size| *size <= WIDTH_MAX)
    }

    /// What was given and not asked for.
    fn extra(&mut self) {
        if self.reordered || self.next >= self.args.len() {
            return;
        }
        self.out.push_str("%!(EXTRA ");
        for (index, arg) in self.args[self.next..].iter().enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            if !arg.is_nil() {
                self.out.push_str(arg.type_name());
                self.out.push('=');
            }
            Spec::default().value(&mut self.out, arg, 'v');
        }
        self.out.push(')');
    }
}
