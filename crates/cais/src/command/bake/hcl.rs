//! HCL and its JSON: a file as expressions, and expressions as values.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use engine::{Error, Kind, Result};
use hcl::eval::{Context, Evaluate as _, Func, FuncArgs, FuncDef, ParamType};
use hcl::expr::{ObjectKey, TemplateExpr};
use hcl::{Body, Expression, Identifier, Value};

use super::function;

/// Functions that files define.
const FUNCTIONS_MAX: usize = 16;
/// Calls of such functions within each other.
const CALLS_MAX: usize = 64;

/// What is said about a target or a group: attributes that are not evaluated yet.
pub(super) type Attributes = BTreeMap<String, Expression>;

/// Everything that files say.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// What a variable is if nobody says otherwise.
    pub(super) variables: BTreeMap<String, Expression>,
    pub(super) groups: BTreeMap<String, Attributes>,
    pub(super) targets: BTreeMap<String, Attributes>,
    functions: BTreeMap<String, Function>,
}

/// A function that a file defines.
#[derive(Debug, Clone)]
struct Function {
    params: Vec<String>,
    variadic: Option<String>,
    result: Expression,
}

impl Source {
    /// Adds a file: what a later one says counts, maps are put together.
    pub(super) fn add(&mut self, name: &str, text: &str) -> Result<()> {
        let wrong = |why: String| Error::caused(Kind::Invalid, format!("parse {name}"), why);
        let is_json = name.ends_with(".json") || text.trim_start().starts_with('{');
        match is_json {
            true => {
                let value: serde_json::Value =
                    serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
                self.add_json(value).map_err(wrong)
            }
            false => {
                let body: Body = hcl::parse(text).map_err(|error| wrong(error.to_string()))?;
                self.add_body(&body).map_err(wrong)
            }
        }
    }

    /// Adds what another file came to, in which nothing is evaluated any more.
    pub(super) fn add_literal(&mut self, mut value: serde_json::Value) -> Result<()> {
        escape(&mut value);
        self.add_json(value).map_err(|why| Error::caused(Kind::Invalid, "read targets", why))
    }

    fn add_body(&mut self, body: &Body) -> std::result::Result<(), String> {
        for attribute in body.attributes() {
            self.variables.insert(attribute.key().to_owned(), attribute.expr().clone());
        }
        for block in body.blocks() {
            let kind = block.identifier();
            let [label] = block.labels() else {
                return Err(format!("a block {kind} has one name"));
            };
            let mut attributes = Attributes::new();
            for attribute in block.body().attributes() {
                attributes.insert(attribute.key().to_owned(), attribute.expr().clone());
            }
            if let Some(inner) = block.body().blocks().next()
                && !(kind == "variable" && inner.identifier() == "validation")
            {
                return Err(format!("{kind} {:?}: a block {}", label.as_str(), inner.identifier()));
            }
            self.add_block(kind, label.as_str(), attributes)?;
        }
        Ok(())
    }

    fn add_json(&mut self, value: serde_json::Value) -> std::result::Result<(), String> {
        let serde_json::Value::Object(kinds) = value else { return Err("it is no object".into()) };
        for (kind, named) in kinds {
            let serde_json::Value::Object(named) = named else {
                self.variables.insert(kind, expression(named));
                continue;
            };
            for (name, attributes) in named {
                let serde_json::Value::Object(attributes) = attributes else {
                    return Err(format!("{kind} {name:?} is no object"));
                };
                let attributes =
                    attributes.into_iter().map(|(key, value)| (key, expression(value)));
                self.add_block(&kind, &name, attributes.collect())?;
            }
        }
        Ok(())
    }

    fn add_block(
        &mut self,
        kind: &str,
        name: &str,
        mut attributes: Attributes,
    ) -> std::result::Result<(), String> {
        match kind {
            "variable" => {
                let default = attributes.remove("default").unwrap_or(Expression::Null);
                self.variables.insert(name.to_owned(), default);
            }
            "group" => self.groups.entry(name.to_owned()).or_default().extend(attributes),
            "target" => {
                let known = self.targets.entry(name.to_owned()).or_default();
                for (key, new) in attributes {
                    let merged = match (known.remove(&key), new) {
                        (Some(Expression::Object(mut old)), Expression::Object(new)) => {
                            old.extend(new);
                            Expression::Object(old)
                        }
                        (_, new) => new,
                    };
                    known.insert(key, merged);
                }
            }
            "function" => {
                let function = function_of(name, &mut attributes)?;
                self.functions.insert(name.to_owned(), function);
                if self.functions.len() > FUNCTIONS_MAX {
                    return Err(format!("more than {FUNCTIONS_MAX} functions"));
                }
            }
            kind => return Err(format!("a block {kind} is not known")),
        }
        Ok(())
    }

    /// The values of all variables: what was given, else what they are by default.
    pub(super) fn context(&self, given: &BTreeMap<String, String>) -> Result<Context<'static>> {
        let mut context = Context::new();
        function::declare(&mut context);
        self.declare_functions(&mut context);
        let mut pending: BTreeSet<&String> = self.variables.keys().collect();
        let mut failure = None;
        while !pending.is_empty() {
            let before = pending.len();
            let names: Vec<&String> = pending.iter().copied().collect();
            for name in names {
                let identifier = identifier(name)?;
                match self.variables[name].evaluate(&context) {
                    Ok(default) => {
                        let value = match given.get(name) {
                            Some(text) => typed(name, text, &default)?,
                            None => default,
                        };
                        context.declare_var(identifier, value.clone());
                        USER.with_borrow_mut(|user| {
                            user.variables.insert(name.clone(), value);
                        });
                        pending.remove(name);
                    }
                    Err(error) => failure = Some(format!("{name}: {error}")),
                }
            }
            if pending.len() == before {
                let why = failure.unwrap_or_default();
                return Err(Error::caused(Kind::Invalid, "evaluate the variables", why));
            }
        }
        Ok(context)
    }

    fn declare_functions(&self, context: &mut Context<'_>) {
        USER.with_borrow_mut(|user| {
            user.functions = self.functions.values().cloned().collect();
            user.variables.clear();
        });
        for (name, place) in self.functions.keys().zip(PLACES) {
            let definition = FuncDef::builder().variadic_param(ParamType::Any).build(*place);
            if let Ok(name) = Identifier::new(name.as_str()) {
                context.declare_func(name, definition);
            }
        }
    }
}

fn function_of(name: &str, attributes: &mut Attributes) -> std::result::Result<Function, String> {
    let words = |expression: Option<Expression>| -> Vec<String> {
        let Some(Expression::Array(items)) = expression else { return Vec::new() };
        items
            .into_iter()
            .filter_map(|item| match item {
                Expression::Variable(variable) => Some(variable.as_str().to_owned()),
                Expression::String(text) => Some(text),
                _ => None,
            })
            .collect()
    };
    let params = words(attributes.remove("params"));
    let variadic = match attributes.remove("variadic_params") {
        Some(Expression::Variable(variable)) => Some(variable.as_str().to_owned()),
        Some(Expression::String(text)) => Some(text),
        _ => None,
    };
    let result = attributes.remove("result");
    let result = result.ok_or_else(|| format!("function {name:?} has no result"))?;
    Ok(Function { params, variadic, result })
}

/// What the functions of files are and see: functions of the evaluator are plain functions, which can
/// hold nothing of their own.
#[derive(Default)]
struct User {
    functions: Vec<Function>,
    variables: BTreeMap<String, Value>,
    depth: usize,
}

thread_local! {
    static USER: RefCell<User> = RefCell::default();
}

/// The function of the file at each place.
const PLACES: &[Func; FUNCTIONS_MAX] = &[
    call::<0>, call::<1>, call::<2>, call::<3>, call::<4>, call::<5>, call::<6>, call::<7>,
    call::<8>, call::<9>, call::<10>, call::<11>, call::<12>, call::<13>, call::<14>, call::<15>,
];

fn call<const PLACE: usize>(args: FuncArgs) -> std::result::Result<Value, String> {
    let (function, variables, functions) = USER.with_borrow_mut(|user| {
        user.depth += 1;
        (user.functions.get(PLACE).cloned(), user.variables.clone(), user.functions.len())
    });
    let result = (|| {
        let function = function.ok_or("no such function")?;
        if USER.with_borrow(|user| user.depth) > CALLS_MAX {
            return Err("functions call each other without an end".to_owned());
        }
        let mut args = args.into_values();
        if args.len() < function.params.len()
            || args.len() > function.params.len() && function.variadic.is_none()
        {
            let count = function.params.len();
            return Err(format!("{count} arguments are needed, {} are given", args.len()));
        }
        let rest = args.split_off(function.params.len());
        let mut context = Context::new();
        function::declare(&mut context);
        debug_assert!(functions <= FUNCTIONS_MAX);
        let named = function.params.iter().cloned().zip(args);
        let rest = function.variadic.iter().map(|name| (name.clone(), Value::Array(rest.clone())));
        for (name, value) in variables.into_iter().chain(named).chain(rest) {
            let name = Identifier::new(name.as_str()).map_err(|error| error.to_string())?;
            context.declare_var(name, value);
        }
        function.result.evaluate(&context).map_err(|error| error.to_string())
    })();
    USER.with_borrow_mut(|user| user.depth -= 1);
    result
}

/// A name that variables can have.
pub(super) fn identifier(name: &str) -> Result<Identifier> {
    Identifier::new(name).map_err(|_| Error::invalid(format!("{name:?} is no name of a variable")))
}

/// The value of a text, as the default's kind has it.
fn typed(name: &str, text: &str, default: &Value) -> Result<Value> {
    let wrong = || Error::invalid(format!("{text:?} is no value of the variable {name}"));
    match default {
        Value::Bool(_) => match text {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(Value::Bool(false)),
            _ => Err(wrong()),
        },
        Value::Number(_) => {
            let number: serde_json::Number = text.parse().map_err(|_| wrong())?;
            match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => Ok(Value::from(number)),
                (None, Some(number)) => Ok(Value::from(number)),
                _ => Err(wrong()),
            }
        }
        Value::Array(_) => {
            Ok(Value::Array(text.split(',').map(|item| Value::from(item.trim())).collect()))
        }
        Value::Object(_) => Err(wrong()),
        Value::Null | Value::String(_) => Ok(Value::from(text)),
    }
}

/// JSON, in whose strings there are templates.
/// Makes texts of a value what they are as templates.
fn escape(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            *text = text.replace("${", "$${").replace("%{", "%%{");
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(escape),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(escape),
        _ => {}
    }
}

fn expression(value: serde_json::Value) -> Expression {
    match value {
        serde_json::Value::Null => Expression::Null,
        serde_json::Value::Bool(value) => Expression::Bool(value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(number) => Expression::from(number),
            None => Expression::from(number.as_f64().unwrap_or(0.0)),
        },
        serde_json::Value::String(text) if text.contains("${") || text.contains("%{") => {
            Expression::TemplateExpr(Box::new(TemplateExpr::from(text)))
        }
        serde_json::Value::String(text) => Expression::String(text),
        serde_json::Value::Array(items) => {
            Expression::Array(items.into_iter().map(expression).collect())
        }
        serde_json::Value::Object(map) => {
            let key = |key: String| ObjectKey::Expression(Expression::String(key));
            Expression::Object(
                map.into_iter().map(|(name, value)| (key(name), expression(value))).collect(),
            )
        }
    }
}

/// The value of an attribute, as JSON.
pub(super) fn evaluate(
    expression: &Expression,
    context: &Context<'_>,
) -> Result<serde_json::Value> {
    let value = expression.evaluate(context).map_err(|error| {
        Error::caused(Kind::Invalid, "evaluate an expression", error.to_string())
    })?;
    serde_json::to_value(&value)
        .map_err(|error| Error::caused(Kind::Invalid, "evaluate an expression", error))
}
