//! Targets: what groups, inheritance and matrices come to, and what `--set` changes.

use std::collections::{BTreeMap, BTreeSet};

use build::Glob;
use engine::{Error, Kind, Result};
use hcl::eval::Context;
use serde_json::{Map, Value, json};

use super::hcl::{Attributes, Source, evaluate, identifier};

const DEFAULT: &str = "default";
/// Targets of one matrix.
const MATRIX_MAX: usize = 1000;
/// Parents of parents.
const DEPTH_MAX: usize = 50;

/// Attributes of a target, in the order in which `--print` shows them, and what they are.
const ATTRIBUTES: &[(&str, Shape)] = &[
    ("annotations", Shape::List),
    ("attest", Shape::List),
    ("context", Shape::Text),
    ("contexts", Shape::Map),
    ("dockerfile", Shape::Text),
    ("dockerfile-inline", Shape::Text),
    ("args", Shape::Map),
    ("labels", Shape::Map),
    ("tags", Shape::List),
    ("cache-from", Shape::List),
    ("cache-to", Shape::List),
    ("target", Shape::Text),
    ("secret", Shape::List),
    ("ssh", Shape::List),
    ("platforms", Shape::List),
    ("output", Shape::List),
    ("pull", Shape::Truth),
    ("no-cache", Shape::Truth),
    ("network", Shape::Text),
    ("no-cache-filter", Shape::List),
    ("shm-size", Shape::Text),
    ("ulimits", Shape::List),
    ("entitlements", Shape::List),
    ("extra-hosts", Shape::Map),
];
/// Attributes that are no part of what comes out.
const OWN: &[&str] = &["inherits", "matrix", "name", "description"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Truth,
    List,
    Map,
}

/// A target that nothing has to be looked up for.
pub(super) type Target = Map<String, Value>;

/// What is built.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The groups that were asked for, and their targets.
    pub(super) groups: BTreeMap<String, Vec<String>>,
    /// In the order in which they are built.
    pub(super) targets: Vec<(String, Target)>,
}

/// Everything that files say, once variables are known.
pub(super) struct Resolver<'a> {
    source: &'a Source,
    context: Context<'a>,
    /// What matrices have made: the names of each one's targets.
    families: BTreeMap<String, Vec<String>>,
    /// The target that each name is of, and the values of its matrix.
    members: BTreeMap<String, (&'a Attributes, BTreeMap<String, hcl::Value>)>,
    overrides: &'a [Override],
}

/// `--set TARGET.KEY=VALUE`
#[derive(Debug)]
pub(super) struct Override {
    targets: Glob,
    pattern: String,
    key: String,
    below: Option<String>,
    value: Option<String>,
    adds: bool,
}

impl Override {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong =
            || Error::invalid(format!("invalid override {text}, expected target.key=value"));
        let (path, value) = match text.split_once('=') {
            Some((path, value)) => (path, Some(value.to_owned())),
            None => (text, None),
        };
        let (path, adds) = match path.strip_suffix('+') {
            Some(path) => (path, true),
            None => (path, false),
        };
        let mut parts = path.splitn(3, '.');
        let (Some(pattern), Some(key)) = (parts.next(), parts.next()) else { return Err(wrong()) };
        let below = parts.next().map(str::to_owned);
        let key = match key {
            "platform" => "platforms",
            "secrets" => "secret",
            "outputs" => "output",
            "tag" => "tags",
            key => key,
        };
        let shape = shape(key)
            .ok_or_else(|| Error::invalid(format!("invalid override {text}: unknown key {key}")))?;
        if (shape == Shape::Map) != below.is_some() || value.is_none() && shape != Shape::Map {
            return Err(wrong());
        }
        let targets = Glob::parse(pattern).map_err(|error| Error::invalid(error.to_string()))?;
        let (pattern, key) = (pattern.to_owned(), key.to_owned());
        Ok(Self { targets, pattern, key, below, value, adds })
    }

    fn apply(&self, target: &mut Target, is_first: bool) {
        match (shape(&self.key), &self.below, &self.value) {
            (Some(Shape::Map), Some(name), value) => {
                // A name alone is the variable of our own environment.
                let value = value.clone().or_else(|| std::env::var(name).ok());
                let map = target.entry(self.key.clone()).or_insert_with(|| json!({}));
                if let (Some(map), Some(value)) = (map.as_object_mut(), value) {
                    map.insert(name.clone(), Value::String(value));
                }
            }
            (Some(Shape::List), _, Some(value)) => {
                let list = target.entry(self.key.clone()).or_insert_with(|| json!([]));
                let Some(list) = list.as_array_mut() else { return };
                if is_first && !self.adds {
                    list.clear();
                }
                if !value.is_empty() {
                    list.push(Value::String(value.clone()));
                }
            }
            (Some(Shape::Truth), _, Some(value)) => {
                target.insert(self.key.clone(), Value::Bool(matches!(&**value, "true" | "1")));
            }
            (Some(Shape::Text), _, Some(value)) => {
                target.insert(self.key.clone(), Value::String(value.clone()));
            }
            _ => {}
        }
    }
}

/// Whether an attribute is a list of words.
pub(super) fn is_list(key: &str) -> bool {
    shape(key) == Some(Shape::List)
}

fn shape(key: &str) -> Option<Shape> {
    ATTRIBUTES.iter().find(|(name, _)| *name == key).map(|(_, shape)| *shape)
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        source: &'a Source,
        context: Context<'a>,
        overrides: &'a [Override],
    ) -> Result<Self> {
        let mut this = Self {
            source,
            context,
            families: BTreeMap::new(),
            members: BTreeMap::new(),
            overrides,
        };
        for (name, attributes) in &source.targets {
            this.spread(name, attributes)?;
        }
        for wanted in overrides {
            if !this.members.keys().any(|name| wanted.targets.matches(name)) {
                let pattern = &wanted.pattern;
                let message = format!("could not find any target matching '{pattern}'");
                return Err(Error::new(Kind::NotFound, message));
            }
        }
        Ok(this)
    }

    /// Makes the targets of a matrix, or the one.
    fn spread(&mut self, name: &str, attributes: &'a Attributes) -> Result<()> {
        let Some(matrix) = attributes.get("matrix") else {
            self.members.insert(name.to_owned(), (attributes, BTreeMap::new()));
            return Ok(());
        };
        let wrong = |why: &str| Error::invalid(format!("the matrix of target {name:?}: {why}"));
        let naming = attributes.get("name").ok_or_else(|| wrong("it needs a name"))?;
        let hcl::Value::Object(axes) = hcl::eval::Evaluate::evaluate(matrix, &self.context)
            .map_err(|error| {
                Error::caused(
                    Kind::Invalid,
                    format!("read the matrix of {name}"),
                    error.to_string(),
                )
            })?
        else {
            return Err(wrong("it is no map"));
        };
        let mut all: Vec<BTreeMap<String, hcl::Value>> = vec![BTreeMap::new()];
        for (axis, values) in axes {
            let hcl::Value::Array(values) = values else { return Err(wrong("it has lists")) };
            all = all
                .iter()
                .flat_map(|known| {
                    values.iter().map(|value| {
                        let mut point = known.clone();
                        point.insert(axis.clone(), value.clone());
                        point
                    })
                })
                .collect();
            if all.len() > MATRIX_MAX {
                return Err(wrong("it has too many targets"));
            }
        }
        for point in all {
            let context = self.context_at(&point)?;
            let member = match evaluate(naming, &context)? {
                Value::String(member) if is_name(&member) => member,
                other => return Err(wrong(&format!("{other} is no name"))),
            };
            if self.members.insert(member.clone(), (attributes, point)).is_some() {
                return Err(wrong(&format!("two targets are called {member}")));
            }
            self.families.entry(name.to_owned()).or_default().push(member);
        }
        Ok(())
    }

    fn context_at(&self, point: &BTreeMap<String, hcl::Value>) -> Result<Context<'a>> {
        let mut context = self.context.clone();
        for (name, value) in point {
            context.declare_var(identifier(name)?, value.clone());
        }
        Ok(context)
    }

    /// What the names of targets and groups stand for.
    pub(super) fn plan(&self, names: &[String]) -> Result<Plan> {
        let wanted = match names {
            [] => vec![DEFAULT.to_owned()],
            names => names.to_vec(),
        };
        let mut plan = Plan::default();
        let mut order = Vec::new();
        for name in &wanted {
            let members = self.members_of(name, 0)?;
            let is_group = members != [name.clone()];
            if is_group && name != DEFAULT {
                plan.groups.insert(name.clone(), members.clone());
            }
            order.extend(members);
        }
        let mut seen = BTreeSet::new();
        order.retain(|name| seen.insert(name.clone()));
        plan.groups.insert(
            DEFAULT.to_owned(),
            match &wanted[..] {
                [one] if one == DEFAULT => order.clone(),
                wanted => wanted.to_vec(),
            },
        );
        let mut done = BTreeSet::new();
        for name in &order {
            self.place(name, &mut plan.targets, &mut done, 0)?;
        }
        Ok(plan)
    }

    /// Puts a target behind those whose results it uses.
    fn place(
        &self,
        name: &str,
        targets: &mut Vec<(String, Target)>,
        done: &mut BTreeSet<String>,
        depth: usize,
    ) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Error::invalid(format!("target {name} needs itself")));
        }
        if done.contains(name) {
            return Ok(());
        }
        let target = self.target(name)?;
        for (_, place) in target.get("contexts").and_then(Value::as_object).into_iter().flatten() {
            if let Some(needed) = place.as_str().and_then(|place| place.strip_prefix("target:")) {
                self.place(needed, targets, done, depth + 1)?;
            }
        }
        done.insert(name.to_owned());
        targets.push((name.to_owned(), target));
        Ok(())
    }

    fn members_of(&self, name: &str, depth: usize) -> Result<Vec<String>> {
        if depth > DEPTH_MAX {
            return Err(Error::invalid(format!("group {name} is a part of itself")));
        }
        if let Some(group) = self.source.groups.get(name) {
            let targets = match group.get("targets") {
                Some(expression) => evaluate(expression, &self.context)?,
                None => json!([]),
            };
            let names = texts("targets", &targets)?;
            let mut members = Vec::new();
            for name in names {
                members.extend(self.members_of(&name, depth + 1)?);
            }
            return Ok(members);
        }
        if let Some(family) = self.families.get(name) {
            return Ok(family.clone());
        }
        match self.members.contains_key(name) {
            true => Ok(vec![name.to_owned()]),
            false => {
                let error = Error::new(Kind::NotFound, format!("failed to find target {name}"));
                let known: Vec<&str> = self.source.groups.keys().map(String::as_str).collect();
                let targets = self.members.keys().map(String::as_str);
                let known: Vec<&str> = known.into_iter().chain(targets).collect();
                Err(error.hint(format!("there are {}", known.join(", "))))
            }
        }
    }

    /// A target with what it has from others, and what `--set` says.
    fn target(&self, name: &str) -> Result<Target> {
        let mut target = self.inherited(name, 0)?;
        let mut set: BTreeSet<&str> = BTreeSet::new();
        for change in self.overrides.iter().filter(|change| change.targets.matches(name)) {
            change.apply(&mut target, set.insert(&change.key));
        }
        target.entry("context").or_insert_with(|| json!("."));
        target.entry("dockerfile").or_insert_with(|| json!("Dockerfile"));
        let sorted = ATTRIBUTES.iter().filter_map(|(key, _)| {
            let value = target.remove(*key)?;
            (!is_empty(&value)).then(|| ((*key).to_owned(), value))
        });
        Ok(sorted.collect())
    }

    fn inherited(&self, name: &str, depth: usize) -> Result<Target> {
        if depth > DEPTH_MAX {
            return Err(Error::invalid(format!("target {name} inherits from itself")));
        }
        let Some((attributes, point)) = self.members.get(name) else {
            return Err(Error::new(Kind::NotFound, format!("failed to find target {name}")));
        };
        let context = self.context_at(point)?;
        let mut target = Target::new();
        if let Some(parents) = attributes.get("inherits") {
            for parent in texts("inherits", &evaluate(parents, &context)?)? {
                for (key, value) in self.inherited(&parent, depth + 1)? {
                    merge(&mut target, key, value);
                }
            }
        }
        for (key, expression) in *attributes {
            if OWN.contains(&key.as_str()) {
                continue;
            }
            let Some(shape) = shape(key) else {
                let message = format!("{key} of target {name} is not supported");
                return Err(Error::new(Kind::Unsupported, message));
            };
            let value = evaluate(expression, &context)?;
            if let Some(value) = shaped(key, shape, value)? {
                merge(&mut target, key.clone(), value);
            }
        }
        Ok(target)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn merge(target: &mut Target, key: String, value: Value) {
    match (target.get_mut(&key), value) {
        (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
        // What these say adds up.
        (Some(Value::Array(old)), Value::Array(new))
            if matches!(&*key, "annotations" | "attest") =>
        {
            old.extend(new);
        }
        (_, value) => drop(target.insert(key, value)),
    }
}

/// A value as its attribute has it; `None` for one that says nothing.
fn shaped(key: &str, shape: Shape, value: Value) -> Result<Option<Value>> {
    let wrong = |value: &Value| Error::invalid(format!("{value} is no value of {key}"));
    Ok(Some(match (shape, value) {
        (_, Value::Null) => return Ok(None),
        (Shape::Text, value) => Value::String(scalar(key, &value)?),
        (Shape::Truth, Value::Bool(value)) => Value::Bool(value),
        (Shape::List, Value::Array(items)) => {
            let item = |item: Value| match item {
                // `{ type = "registry", ref = "x" }`, in the words of the command line.
                Value::Object(fields) => {
                    let field = |(name, value): (String, Value)| {
                        Ok(format!("{name}={}", scalar(key, &value)?))
                    };
                    let fields = fields.into_iter().map(field).collect::<Result<Vec<_>>>()?;
                    Ok(Value::String(fields.join(",")))
                }
                item => scalar(key, &item).map(Value::String),
            };
            let given = items.into_iter().filter(|item| !item.is_null());
            Value::Array(given.map(item).collect::<Result<_>>()?)
        }
        (Shape::Map, Value::Object(map)) => {
            let given = map.into_iter().filter(|(_, value)| !value.is_null());
            let entry =
                |(name, value): (String, Value)| Ok((name, Value::String(scalar(key, &value)?)));
            Value::Object(given.map(entry).collect::<Result<_>>()?)
        }
        (_, value) => return Err(wrong(&value)),
    }))
}

fn scalar(key: &str, value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        value => Err(Error::invalid(format!("{value} is no value of {key}"))),
    }
}

fn texts(key: &str, value: &Value) -> Result<Vec<String>> {
    let Value::Array(items) = value else {
        return Err(Error::invalid(format!("{key} is no list")));
    };
    items.iter().map(|item| scalar(key, item)).collect()
}
