//! Running a parsed template over a value.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::func::{self, Function, Param};
use super::item::{Item, sorted};
use super::node::{Branch, Call, Command, Node, Number, Operand, Pipe, Term};
use super::quote::quote;
use super::{DEPTH_MAX, Mode, OUTPUT_MAX, STEPS_MAX, Template, print};

/// Runs `template` and appends to `out`. `labels` answers Docker's `.Label "key"`.
///
/// The error is Go's message, `template: :LINE:COLUMN: executing "NAME" at <NODE>: REASON`.
pub(super) fn execute(
    template: &Template,
    value: &Value,
    labels: Option<&BTreeMap<String, String>>,
    out: &mut String,
) -> Result<(), String> {
    let dot = Item::of(value);
    let mut run = Run {
        template,
        labels,
        root: value,
        out: String::new(),
        name: "",
        here: None,
        variables: vec![("$", dot.clone())],
        made: 0,
        steps: 0,
        depth: 0,
    };
    let list = template.bodies.get("").map_or(&[] as &[Node], Vec::as_slice);
    let done = run.list(&dot, list).map_err(|reason| run.located(&reason));
    // What was written before the error is shown too, as Go does.
    out.push_str(&run.out);
    done.map(|_| ())
}

/// How a list of nodes was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// What was being evaluated last, for the error's place.
#[derive(Clone, Copy)]
enum Here<'t> {
    Operand(&'t Operand),
    Command(&'t Command),
    Pipe(&'t Pipe),
    Template(&'t Call),
}

impl Here<'_> {
    fn at(self) -> usize {
        match self {
            Self::Operand(node) => node.at,
            Self::Command(node) => node.at,
            Self::Pipe(node) => node.at,
            Self::Template(node) => node.at,
        }
    }
}

impl fmt::Display for Here<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operand(node) => node.fmt(f),
            Self::Command(node) => node.fmt(f),
            Self::Pipe(node) => node.fmt(f),
            Self::Template(node) => node.fmt(f),
        }
    }
}

struct Run<'t, 'v> {
    template: &'t Template,
    labels: Option<&'v BTreeMap<String, String>>,
    root: &'v Value,
    out: String,
    /// The template being run; the outermost has no name.
    name: &'t str,
    here: Option<Here<'t>>,
    variables: Vec<(&'t str, Item<'v>)>,
    /// Bytes written and returned by functions, which [`OUTPUT_MAX`] bounds.
    made: usize,
    steps: usize,
    depth: usize,
}

type Done<T> = Result<T, String>;

impl<'t, 'v> Run<'t, 'v> {
    fn located(&self, reason: &str) -> String {
        let Some(here) = self.here else { return format!("template: : {reason}") };
        let before = &self.template.text[..here.at()];
        let line = 1 + before.matches('\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1);
        let name = quote(self.name);
        format!("template: :{line}:{column}: executing {name} at <{here}>: {reason}")
    }

    fn step(&mut self) -> Done<()> {
        self.steps += 1;
        if self.steps > STEPS_MAX { Err(format!("more than {STEPS_MAX} steps")) } else { Ok(()) }
    }

    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Done<T>) -> Done<T> {
        if self.depth == DEPTH_MAX {
            return Err(format!("exceeded maximum template depth ({DEPTH_MAX})"));
        }
        self.depth += 1;
        let done = run(self);
        self.depth -= 1;
        done
    }

    fn count(&mut self, bytes: usize) -> Done<()> {
        self.made = self.made.saturating_add(bytes);
        if self.made > OUTPUT_MAX {
            return Err(format!("output longer than {OUTPUT_MAX} bytes"));
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Done<()> {
        self.count(text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    fn list(&mut self, dot: &Item<'v>, list: &'t [Node]) -> Done<Flow> {
        for node in list {
            self.step()?;
            let flow = self.deeper(|run| run.node(dot, node))?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, dot: &Item<'v>, node: &'t Node) -> Done<Flow> {
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Action(pipe) => {
                let item = self.pipe(dot, pipe)?;
                if pipe.names.is_empty() {
                    self.show(&item)?;
                }
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::If(branch) => return self.either(dot, branch, false),
            Node::With(branch) => return self.either(dot, branch, true),
            Node::Range(branch) => return self.range(dot, branch),
            Node::Template(call) => self.call(dot, call)?,
        }
        Ok(Flow::On)
    }

    fn show(&mut self, item: &Item<'v>) -> Done<()> {
        match item {
            Item::Missing => self.write("<no value>"),
            Item::Str(text) => self.write(text),
            _ => self.write(&print::sprint(std::slice::from_ref(item))),
        }
    }

    fn either(&mut self, dot: &Item<'v>, branch: &'t Branch, sets_dot: bool) -> Done<Flow> {
        let mark = self.variables.len();
        let item = self.pipe(dot, &branch.pipe)?;
        let flow = match item.truth() {
            true if sets_dot => self.list(&item, &branch.body),
            true => self.list(dot, &branch.body),
            false => self.list(dot, &branch.otherwise),
        };
        self.variables.truncate(mark);
        flow
    }

    fn range(&mut self, dot: &Item<'v>, branch: &'t Branch) -> Done<Flow> {
        let mark = self.variables.len();
        let item = self.pipe(dot, &branch.pipe)?;
        let flow = match &item {
            Item::Int(count) if branch.pipe.names.len() > 1 => {
                return Err(format!("can't use {count} to iterate over more than one variable"));
            }
            Item::Int(count) => {
                let pairs = (0..(*count).max(0)).map(|index| (Item::Missing, Item::Int(index)));
                self.iterate(branch, pairs)?
            }
            Item::Map(map) => {
                let pairs = sorted(map).into_iter();
                self.iterate(branch, pairs.map(|(key, value)| (Item::text(key), Item::of(value))))?
            }
            Item::List(_) | Item::Strings(_) => {
                let pair = |index| Some((Item::Int(index as i128), item.element(index)?));
                self.iterate(branch, (0..item.len().unwrap_or(0)).filter_map(pair))?
            }
            Item::Missing | Item::Nil => None,
            other => {
                let shown = print::sprint(std::slice::from_ref(other));
                return Err(format!("range can't iterate over {shown}"));
            }
        };
        let flow = match flow {
            Some(()) => Flow::On,
            None => self.list(dot, &branch.otherwise)?,
        };
        self.variables.truncate(mark);
        Ok(flow)
    }

    /// Runs the body for every pair of index and element; `None` if there was none.
    fn iterate(
        &mut self,
        branch: &'t Branch,
        pairs: impl Iterator<Item = (Item<'v>, Item<'v>)>,
    ) -> Done<Option<()>> {
        let mark = self.variables.len();
        let mut ran = None;
        for (index, element) in pairs {
            self.step()?;
            ran = Some(());
            self.bind(&branch.pipe, &index, &element)?;
            let flow = self.list(&element, &branch.body)?;
            self.variables.truncate(mark);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(ran)
    }

    /// Sets the loop's variables: index and element, or the element alone.
    fn bind(&mut self, pipe: &'t Pipe, index: &Item<'v>, element: &Item<'v>) -> Done<()> {
        let names = pipe.names.len();
        for (place, name) in pipe.names.iter().enumerate() {
            let item = if place + 1 == names { element.clone() } else { index.clone() };
            if pipe.assigns {
                self.assign(name, item)?;
            } else {
                // The pipeline has pushed the names, so they are the topmost variables.
                let slot = self.variables.len() - names + place;
                self.variables[slot].1 = item;
            }
        }
        Ok(())
    }

    fn assign(&mut self, name: &str, item: Item<'v>) -> Done<()> {
        match self.variables.iter_mut().rev().find(|(known, _)| *known == name) {
            Some(slot) => slot.1 = item,
            None => return Err(format!("undefined variable: {name}")),
        }
        Ok(())
    }

    fn call(&mut self, dot: &Item<'v>, call: &'t Call) -> Done<()> {
        self.here = Some(Here::Template(call));
        let template = self.template;
        let Some((name, body)) = template.bodies.get_key_value(&call.name) else {
            return Err(format!("template {} not defined", quote(&call.name)));
        };
        let dot = match &call.pipe {
            Some(pipe) => self.pipe(dot, pipe)?,
            None => Item::Missing,
        };
        let outer = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
        let caller = std::mem::replace(&mut self.name, name);
        self.list(&dot, body)?;
        self.name = caller;
        self.variables = outer;
        Ok(())
    }

    fn pipe(&mut self, dot: &Item<'v>, pipe: &'t Pipe) -> Done<Item<'v>> {
        self.step()?;
        self.here = Some(Here::Pipe(pipe));
        let mut last = None;
        for command in &pipe.commands {
            let item = self.deeper(|run| run.command(dot, command, last.take()))?;
            last = Some(item.settled());
        }
        let item = last.unwrap_or(Item::Missing);
        for name in &pipe.names {
            if pipe.assigns {
                self.assign(name, item.clone())?;
            } else {
                self.variables.push((name, item.clone()));
            }
        }
        Ok(item)
    }

    /// Evaluates one stage; `last` is the value of the stage before, which becomes the last argument.
    fn command(
        &mut self,
        dot: &Item<'v>,
        command: &'t Command,
        last: Option<Item<'v>>,
    ) -> Done<Item<'v>> {
        let first = &command.args[0];
        match &first.term {
            Term::Function(name) => {
                self.here = Some(Here::Operand(first));
                return self.function(dot, name, (Here::Command(command), &command.args), last);
            }
            Term::Field(names) if names.len() == 1 && names[0] == "Label" => {
                if let Some(item) = self.label(dot, command, last.as_ref())? {
                    return Ok(item);
                }
            }
            _ => {}
        }
        if command.args.len() == 1 && last.is_none() {
            if matches!(first.term, Term::Nil) {
                self.here = Some(Here::Operand(first));
                return Err("nil is not a command".to_owned());
            }
            return self.operand(dot, first);
        }
        self.with_arguments(dot, first)
    }

    /// Why something that is no function cannot be given arguments.
    fn with_arguments(&mut self, dot: &Item<'v>, first: &'t Operand) -> Done<Item<'v>> {
        if !matches!(first.term, Term::Pipe(_)) {
            self.here = Some(Here::Operand(first));
        }
        let names = match &first.term {
            Term::Field(names) | Term::Chain(_, names) => names,
            Term::Variable(_, names) if !names.is_empty() => names,
            _ => return Err(format!("can't give argument to non-function {first}")),
        };
        let receiver = match &first.term {
            Term::Field(_) => self.fields(dot.clone(), &names[..names.len() - 1])?,
            Term::Variable(name, _) => {
                let item = self.variable(name)?;
                self.fields(item, &names[..names.len() - 1])?
            }
            Term::Chain(inner, _) => {
                let item = self.operand(dot, inner)?;
                self.fields(item, &names[..names.len() - 1])?
            }
            _ => Item::Missing,
        };
        let last = &names[names.len() - 1];
        match receiver {
            Item::Missing => Ok(Item::Missing),
            Item::Map(_) => Err(format!("{last} is not a method but has arguments")),
            other => self.field(other, last, true),
        }
    }

    /// Docker's `.Label "key"`, the one method with an argument among its formats.
    fn label(
        &mut self,
        dot: &Item<'v>,
        command: &'t Command,
        last: Option<&Item<'v>>,
    ) -> Done<Option<Item<'v>>> {
        let is_root = match (dot, self.root) {
            (Item::Map(map), Value::Object(root)) => std::ptr::eq(*map, root),
            _ => false,
        };
        let header = self.template.mode == Mode::Header;
        if !is_root || (self.labels.is_none() && !header) {
            return Ok(None);
        }
        let key = match (&command.args[1..], last) {
            ([key], None) => self.argument(dot, Param::Str, key)?,
            ([], Some(key)) => self.checked(key.clone(), Param::Str)?,
            (given, last) => {
                let given = given.len() + usize::from(last.is_some());
                return Err(format!("wrong number of args for Label: want 1 got {given}"));
            }
        };
        let Item::Str(key) = key else { return Ok(None) };
        let shown = match self.labels {
            Some(labels) if !header => labels.get(&*key).cloned().unwrap_or_default(),
            // The header of a label is the last part of its name.
            _ => key.rsplit('.').next().unwrap_or(&key).replace(['-', '_'], " "),
        };
        Ok(Some(Item::text(shown)))
    }

    fn variable(&self, name: &str) -> Done<Item<'v>> {
        let found = self.variables.iter().rev().find(|(known, _)| *known == name);
        found.map(|(_, item)| item.clone()).ok_or_else(|| format!("undefined variable: {name}"))
    }

    fn operand(&mut self, dot: &Item<'v>, operand: &'t Operand) -> Done<Item<'v>> {
        self.here = Some(Here::Operand(operand));
        match &operand.term {
            Term::Dot => Ok(dot.clone()),
            Term::Nil => Ok(Item::Missing),
            Term::Bool(value) => Ok(Item::Bool(*value)),
            Term::Number { value: Number::Float(value), .. } => Ok(Item::Float(*value)),
            Term::Number { text, value: Number::Int(value) } => match i64::try_from(*value) {
                Ok(_) => Ok(Item::Int(*value)),
                Err(_) => Err(format!("{text} overflows int")),
            },
            Term::Str { value, .. } => Ok(Item::text(value)),
            Term::Function(name) => {
                let call = (Here::Operand(operand), std::slice::from_ref(operand));
                self.function(dot, name, call, None)
            }
            Term::Field(names) => self.fields(dot.clone(), names),
            Term::Variable(name, names) => {
                let item = self.variable(name)?;
                self.fields(item, names)
            }
            Term::Chain(inner, names) => {
                if let Term::Nil = inner.term {
                    return Err(format!("indirection through explicit nil in {operand}"));
                }
                let item = self.deeper(|run| run.operand(dot, inner))?;
                self.fields(item, names)
            }
            Term::Pipe(pipe) => self.pipe(dot, pipe),
        }
    }

    fn fields(&self, item: Item<'v>, names: &[String]) -> Done<Item<'v>> {
        let mut item = item;
        for (depth, name) in names.iter().enumerate() {
            item = self.field(item, name, depth == 0)?;
        }
        Ok(item)
    }

    /// The field `name`; `settled` tells whether Go would know the value's own type by now, or
    /// still see the interface that holds it.
    fn field(&self, item: Item<'v>, name: &str, settled: bool) -> Done<Item<'v>> {
        let strict = self.template.mode == Mode::Strict;
        match item {
            Item::Missing if strict => Err(format!("nil data; no entry for key {}", quote(name))),
            Item::Missing => Ok(Item::Missing),
            Item::Nil => Err(format!("nil pointer evaluating interface {{}}.{name}")),
            Item::Map(map) => match map.get(name) {
                Some(value) => Ok(Item::of(value)),
                None if strict => Err(format!("map has no entry for key {}", quote(name))),
                None => Ok(Item::Missing),
            },
            other => {
                let kind = if settled { other.type_name() } else { "interface {}" };
                Err(format!("can't evaluate field {name} in type {kind}"))
            }
        }
    }

    /// Calls a function; `call` is the node an error names and the operands, the name among them.
    fn function(
        &mut self,
        dot: &Item<'v>,
        name: &str,
        (node, operands): (Here<'t>, &'t [Operand]),
        last: Option<Item<'v>>,
    ) -> Done<Item<'v>> {
        let Some(function) = func::find(name) else {
            return Err(format!("{} is not a defined function", quote(name)));
        };
        let operands = &operands[1..];
        check_count(function, operands.len() + usize::from(last.is_some()))?;
        let mut args = Vec::with_capacity(operands.len() + 1);
        let decides = |item: &Item<'_>| match name {
            "and" => !item.truth(),
            "or" => item.truth(),
            _ => false,
        };
        for operand in operands {
            let item = self.argument(dot, param(function, args.len()), operand)?;
            if decides(&item) {
                return Ok(item);
            }
            args.push(item);
        }
        if let Some(last) = last {
            args.push(self.checked(last, param(function, args.len()))?);
        }
        if self.template.mode == Mode::Header && function.keeps_header() {
            return Ok(args.swap_remove(0));
        }
        let answer = (function.run)(&args);
        let item = answer.map_err(|reason| {
            self.here = Some(node);
            let called = operands.first().filter(|_| name == "call" && !args[0].is_nil());
            let reason = match called {
                Some(called) => reason.replacen("function", &format!("function {called}"), 1),
                None => reason,
            };
            format!("error calling {name}: {reason}")
        })?;
        self.count(item.len().unwrap_or(0))?;
        Ok(item)
    }

    fn argument(&mut self, dot: &Item<'v>, param: Param, operand: &'t Operand) -> Done<Item<'v>> {
        let wanted = match param {
            Param::Any => return self.deeper(|run| run.operand(dot, operand)),
            Param::Str => "string",
            Param::Int => "int",
        };
        self.here = Some(Here::Operand(operand));
        match &operand.term {
            Term::Nil => Err(format!("cannot assign nil to {wanted}")),
            Term::Str { .. } if param == Param::Str => self.operand(dot, operand),
            Term::Number { value: Number::Int(_), .. } if param == Param::Int => {
                self.operand(dot, operand)
            }
            Term::Number { value: Number::Float(value), .. }
                if param == Param::Int && value.fract() == 0.0 && value.abs() < 1e18 =>
            {
                Ok(Item::Int(*value as i128))
            }
            Term::Bool(_) | Term::Number { .. } | Term::Str { .. } => {
                let wanted = if param == Param::Int { "integer" } else { wanted };
                Err(format!("expected {wanted}; found {operand}"))
            }
            _ => {
                let item = self.deeper(|run| run.operand(dot, operand))?;
                self.checked(item, param)
            }
        }
    }

    fn checked(&self, item: Item<'v>, param: Param) -> Done<Item<'v>> {
        let wanted = match (param, &item) {
            (Param::Any, _) | (Param::Str, Item::Str(_)) | (Param::Int, Item::Int(_)) => {
                return Ok(item);
            }
            (Param::Str, _) => "string",
            (Param::Int, _) => "int",
        };
        match item {
            Item::Missing => Err(format!("invalid value; expected {wanted}")),
            Item::Nil => {
                Err(format!("wrong type for value; expected {wanted}; got interface {{}}"))
            }
            _ => Err(format!("wrong type for value; expected {wanted}; got {}", item.type_name())),
        }
    }
}

fn param(function: &Function, index: usize) -> Param {
    function.params.get(index).copied().unwrap_or(Param::Any)
}

fn check_count(function: &Function, given: usize) -> Done<()> {
    let (name, wanted) = (function.name, function.params.len());
    if given < wanted && function.variadic {
        return Err(format!("wrong number of args for {name}: want at least {wanted} got {given}"));
    }
    if given != wanted && !function.variadic {
        return Err(format!("wrong number of args for {name}: want {wanted} got {given}"));
    }
    Ok(())
}
