//! Trees become values, within a budget: every step costs, and long values cost more.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::call;
use crate::parse::{Each, Expression, Operator, Program};
use crate::value::{Key, Value};

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A field or key that is not there.
    #[error("no such key: {0}")]
    Key(String),
    /// An operation on values that it is not for.
    #[error("no such overload: {0}")]
    Overload(String),
    /// A number that is too large, a division by zero, a text of the wrong form.
    #[error("{0}")]
    Value(String),
    /// More steps than there may be.
    #[error("operation cancelled: actual cost limit exceeded")]
    Budget,
}

pub(crate) type Result<T> = std::result::Result<T, EvalError>;

/// What an expression knows, and may still do.
pub(crate) struct Scope<'a> {
    names: Vec<(Arc<str>, Value)>,
    budget: &'a mut u64,
}

impl Program {
    /// The value of the expression, where these names stand for these values. What it costs is taken
    /// from the budget.
    ///
    /// # Errors
    /// [`EvalError`].
    pub fn evaluate(&self, names: &[(&str, Value)], budget: &mut u64) -> Result<Value> {
        let names = names.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
        Scope { names, budget }.value(&self.root)
    }
}

impl Scope<'_> {
    /// Takes a cost from the budget.
    pub(crate) fn pay(&mut self, cost: u64) -> Result<()> {
        let left = self.budget.checked_sub(cost);
        *self.budget = left.unwrap_or(0);
        left.map(drop).ok_or(EvalError::Budget)
    }

    fn value(&mut self, of: &Expression) -> Result<Value> {
        self.pay(1)?;
        match of {
            Expression::Literal(value) => Ok(value.clone()),
            Expression::Name(name) => self.named(name),
            Expression::Field(of, name, is_optional) => {
                let of = self.value(of)?;
                select(&of, &Key::String(name.clone()), *is_optional)
            }
            Expression::Has(of, name) => {
                let of = self.value(of)?;
                match select(&of, &Key::String(name.clone()), true)? {
                    Value::Optional(found) => Ok(Value::Bool(found.is_some())),
                    _ => Ok(Value::Bool(true)),
                }
            }
            Expression::Index(of, index, is_optional) => {
                let (of, index) = (self.value(of)?, self.value(index)?);
                at(&of, &index, *is_optional)
            }
            Expression::Call(of, name, all) => {
                let of = of.as_ref().map(|of| self.value(of)).transpose()?;
                let all = all.iter().map(|one| self.value(one)).collect::<Result<Vec<_>>>()?;
                call::call(self, of.as_ref(), name, &all)
            }
            Expression::List(all) => {
                let all = all.iter().map(|one| self.value(one)).collect::<Result<Vec<_>>>()?;
                Ok(Value::list(all))
            }
            Expression::Map(all) => self.map(all),
            Expression::Not(of) => match self.value(of)? {
                Value::Bool(truth) => Ok(Value::Bool(!truth)),
                other => Err(overload("!_", &[&other])),
            },
            Expression::Negative(of) => negative(&self.value(of)?),
            Expression::Both(operator, a, b) => self.both(*operator, a, b),
            Expression::Choice(all) => match self.value(&all[0])? {
                Value::Bool(true) => self.value(&all[1]),
                Value::Bool(false) => self.value(&all[2]),
                other => Err(overload("_?_:_", &[&other])),
            },
            Expression::Each(each, of, name, all) => self.each(*each, of, name, all),
        }
    }

    fn named(&self, name: &str) -> Result<Value> {
        let found = self.names.iter().rev().find(|(own, _)| **own == *name);
        if let Some((_, value)) = found {
            return Ok(value.clone());
        }
        let types = [
            "bool",
            "int",
            "uint",
            "double",
            "string",
            "bytes",
            "list",
            "map",
            "type",
            "null_type",
        ];
        match types.iter().find(|known| **known == name) {
            Some(known) => Ok(Value::Type(known)),
            None => {
                Err(EvalError::Value(format!("undeclared reference to '{name}' (in container '')")))
            }
        }
    }

    fn map(&mut self, all: &[(Expression, Expression)]) -> Result<Value> {
        let mut map = BTreeMap::new();
        for (key, value) in all {
            let key = self.value(key)?;
            let value = self.value(value)?;
            let key = key.key().ok_or_else(|| overload("{}", &[&key]))?;
            if map.insert(key.clone(), value).is_some() {
                return Err(EvalError::Value(format!("Failed with repeated key: {}", shown(&key))));
            }
        }
        Ok(Value::Map(Arc::new(map)))
    }

    fn both(&mut self, operator: Operator, a: &Expression, b: &Expression) -> Result<Value> {
        if let Operator::And | Operator::Or = operator {
            return self.logical(operator == Operator::Or, a, b);
        }
        let (a, b) = (self.value(a)?, self.value(b)?);
        self.pay(a.size().min(b.size()))?;
        let compared = |is: fn(std::cmp::Ordering) -> bool| match a.order(&b) {
            Some(order) => Ok(Value::Bool(is(order))),
            None => Err(overload("_<_", &[&a, &b])),
        };
        match operator {
            Operator::Equal => Ok(Value::Bool(a == b)),
            Operator::Unequal => Ok(Value::Bool(a != b)),
            Operator::Less => compared(std::cmp::Ordering::is_lt),
            Operator::AtMost => compared(std::cmp::Ordering::is_le),
            Operator::Greater => compared(std::cmp::Ordering::is_gt),
            Operator::AtLeast => compared(std::cmp::Ordering::is_ge),
            Operator::In => {
                self.pay(b.size())?;
                match &b {
                    Value::List(items) => Ok(Value::Bool(items.contains(&a))),
                    Value::Map(map) => {
                        Ok(Value::Bool(a.key().is_some_and(|key| map.contains_key(&key))))
                    }
                    _ => Err(overload("@in", &[&a, &b])),
                }
            }
            _ => {
                self.pay(a.size() + b.size())?;
                crate::call::arithmetic(operator, &a, &b)
            }
        }
    }

    /// `&&` and `||`: one side can decide, whatever is wrong with the other.
    fn logical(&mut self, is_or: bool, a: &Expression, b: &Expression) -> Result<Value> {
        let truth = |value: Result<Value>| match value? {
            Value::Bool(truth) => Ok(truth),
            other => Err(overload(if is_or { "_||_" } else { "_&&_" }, &[&other])),
        };
        let first = truth(self.value(a));
        if first == Ok(is_or) || first == Err(EvalError::Budget) {
            return first.map(Value::Bool);
        }
        let second = truth(self.value(b));
        match (first, second) {
            (_, Ok(second)) if second == is_or => Ok(Value::Bool(is_or)),
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(_), Ok(_)) => Ok(Value::Bool(!is_or)),
        }
    }

    fn each(
        &mut self,
        each: Each,
        of: &Expression,
        name: &Arc<str>,
        all: &[Expression],
    ) -> Result<Value> {
        let items: Vec<Value> = match self.value(of)? {
            Value::List(items) => items.to_vec(),
            Value::Map(map) => map.keys().map(of_key).collect(),
            other => return Err(overload("comprehension", &[&other])),
        };
        let (mut made, mut count, mut failed) = (Vec::new(), 0, None);
        for item in items {
            self.pay(1)?;
            let number = self.names.len();
            self.names.push((name.clone(), item.clone()));
            let outcome = self.once(each, &item, all);
            self.names.truncate(number);
            match (each, outcome) {
                (_, Err(EvalError::Budget)) => return Err(EvalError::Budget),
                // One item can decide, whatever is wrong with another.
                (Each::All | Each::Exists, Err(error)) => failed = Some(error),
                (_, Err(error)) => return Err(error),
                (Each::All, Ok((false, _))) => return Ok(Value::Bool(false)),
                (Each::Exists, Ok((true, _))) => return Ok(Value::Bool(true)),
                (Each::ExistsOne, Ok((true, _))) => count += 1,
                (Each::Map | Each::Filter, Ok((true, value))) => made.push(value),
                (_, Ok(_)) => {}
            }
        }
        match (each, failed) {
            (_, Some(error)) => Err(error),
            (Each::All, None) => Ok(Value::Bool(true)),
            (Each::Exists, None) => Ok(Value::Bool(false)),
            (Each::ExistsOne, None) => Ok(Value::Bool(count == 1)),
            (Each::Map | Each::Filter, None) => Ok(Value::list(made)),
        }
    }

    /// What a macro makes of one item: whether it counts, and what it becomes.
    fn once(&mut self, each: Each, item: &Value, all: &[Expression]) -> Result<(bool, Value)> {
        let truth = |value: Value| match value {
            Value::Bool(truth) => Ok(truth),
            other => Err(overload("comprehension", &[&other])),
        };
        match (each, all) {
            (Each::Map, [value]) => Ok((true, self.value(value)?)),
            (Each::Map, [condition, value]) => match truth(self.value(condition)?)? {
                true => Ok((true, self.value(value)?)),
                false => Ok((false, Value::Null)),
            },
            (_, [condition]) => Ok((truth(self.value(condition)?)?, item.clone())),
            _ => Err(EvalError::Value("a macro with other arguments".to_owned())),
        }
    }
}

pub(crate) fn overload(name: &str, values: &[&Value]) -> EvalError {
    let types: Vec<&str> = values.iter().map(|value| value.type_name()).collect();
    EvalError::Overload(format!("{name}({})", types.join(", ")))
}

fn of_key(key: &Key) -> Value {
    match key {
        Key::Bool(truth) => Value::Bool(*truth),
        Key::Int(number) => match i64::try_from(*number) {
            Ok(number) => Value::Int(number),
            Err(_) => Value::Uint(u64::try_from(*number).unwrap_or(u64::MAX)),
        },
        Key::String(text) => Value::String(text.clone()),
    }
}

fn shown(key: &Key) -> String {
    match key {
        Key::Bool(truth) => truth.to_string(),
        Key::Int(number) => number.to_string(),
        Key::String(text) => text.to_string(),
    }
}

fn maybe(found: Option<Value>, is_optional: bool, key: &Key) -> Result<Value> {
    match (found, is_optional) {
        (found, true) => Ok(Value::Optional(found.map(Arc::new))),
        (Some(found), false) => Ok(found),
        (None, false) => Err(EvalError::Key(shown(key))),
    }
}

fn select(of: &Value, key: &Key, is_optional: bool) -> Result<Value> {
    match of {
        Value::Map(map) => maybe(map.get(key).cloned(), is_optional, key),
        // What is asked of nothing is nothing, and of something that may be absent may be.
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => select(inner, key, true),
        other => Err(overload("select", &[other])),
    }
}

fn at(of: &Value, index: &Value, is_optional: bool) -> Result<Value> {
    match of {
        Value::List(items) => {
            let Some(Key::Int(place)) = index.key() else {
                return Err(overload("_[_]", &[of, index]));
            };
            let found = usize::try_from(place).ok().and_then(|place| items.get(place)).cloned();
            match (found, is_optional) {
                (None, false) => Err(EvalError::Value(format!("index out of bounds: {place}"))),
                (found, _) => maybe(found, is_optional, &Key::Int(place)),
            }
        }
        Value::Map(_) => match index.key() {
            Some(key) => select(of, &key, is_optional),
            None => Err(overload("_[_]", &[of, index])),
        },
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => at(inner, index, true),
        _ => Err(overload("_[_]", &[of, index])),
    }
}

fn negative(of: &Value) -> Result<Value> {
    match of {
        Value::Int(number) => number.checked_neg().map(Value::Int).ok_or_else(call::overflow),
        Value::Double(number) => Ok(Value::Double(-number)),
        other => Err(overload("-_", &[other])),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn evaluated(text: &str) -> Result<Value> {
        let object = json!({
            "a": 1, "b": "text", "list": [1, 2, 3], "map": {"x": 1, "y": 2},
            "objects": [{"name": "p", "port": 80}, {"name": "q", "port": 90}], "d": 1.5,
        });
        let program = Program::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        program.evaluate(&[("self", Value::of_json(&object))], &mut 100_000)
    }

    #[test]
    fn expressions_are_true() {
        for text in [
            "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 7 % 4 == 3 && -7 / 2 == -3",
            "self.a == 1 && self.b != 'x' && self.d > 1 && self.a < 2u",
            "'a' in ['a', 'b'] && !(3 in [1, 2]) && 'x' in self.map",
            "has(self.a) && !has(self.nothing) && has(self.map.x)",
            "self.list.all(i, i > 0) && self.list.exists(i, i == 2) && self.list.exists_one(i, i > 2)",
            "self.list.map(i, i * 2) == [2, 4, 6] && self.list.filter(i, i > 1) == [2, 3]",
            "self.list.map(i, i > 1, i * 2) == [4, 6] && self.map.all(k, k in ['x', 'y'])",
            "self.objects.all(o, o.port < 100 ? o.name.size() == 1 : false)",
            "self.objects.exists(o, o.name == 'q' && o.port == 90)",
            "size('äö') == 2 && size([1]) == 1 && self.map.size() == 2",
            "'abc'.startsWith('a') && 'abc'.endsWith('c') && 'abc'.contains('b') && 'abc'.matches('^a.c$')",
            "int('3') == 3 && string(3) == '3' && double(1) == 1.0 && uint(1) == 1u && bytes('a') == b'a'",
            "type(1) == int && type('a') == string && bool('true')",
            "{'a': 1, 'b': [1]}.b[0] == 1 && {1: 'x'}[1] == 'x'",
            "true || 1 / 0 == 1",
            "1 / 0 == 1 || true",
            "!(false && 1 / 0 == 1)",
            "timestamp('2026-01-02T03:04:05Z').getFullYear() == 2026",
            "timestamp('2026-01-02T03:04:05Z') - timestamp('2026-01-01T03:04:05Z') == duration('24h')",
            "duration('90m').getHours() == 1 && duration('1h30m') > duration('80m')",
            "'a-b-c'.split('-') == ['a', 'b', 'c'] && ['a', 'b'].join('-') == 'a-b'",
            "'AbC'.lowerAscii() == 'abc' && ' x '.trim() == 'x' && 'hello'.substring(1, 3) == 'el'",
            "'hello'.indexOf('l') == 2 && 'hello'.lastIndexOf('l') == 3 && 'aXa'.replace('a', 'b') == 'bXb'",
            "[1, 2, 3].isSorted() && [1, 2].sum() == 3 && [3, 1].min() == 1 && [3, 1].max() == 3",
            "[1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2",
            "'abc 123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]') == ['1', '2']",
            "quantity('1Gi').isGreaterThan(quantity('500Mi')) && isQuantity('1') && !isQuantity('x')",
            "quantity('1500m').add(quantity('500m')).compareTo(quantity('2')) == 0",
            "url('https://a.b:80/c?d=e').getHost() == 'a.b:80' && isURL('http://a') && !isURL('::')",
            "url('https://a.b:80/c').getHostname() == 'a.b' && url('https://a.b:80/c').getPort() == '80'",
            "isIP('1.2.3.4') && !isIP('1.2.3') && isCIDR('10.0.0.0/8')",
            "self.?a.orValue(5) == 1 && self.?nothing.orValue(5) == 5 && !self.?nothing.hasValue()",
            "self[?'a'].hasValue() && optional.of(1).value() == 1 && self.?nothing.?more == optional.none()",
            "r'\\d' == '\\\\d' && \"a\\u00e4\" == 'aä' && '''x'y''' == \"x'y\" && 0x10 == 16 && 1e3 == 1000.0",
            "dyn(1) == 1 && [1, 2] + [3] == [1, 2, 3] && 'a' + 'b' == 'ab'",
        ] {
            assert_eq!(evaluated(text), Ok(Value::Bool(true)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (text, words) in [
            ("self.nothing", "no such key: nothing"),
            ("self.list[7]", "index out of bounds: 7"),
            ("1 / 0", "division by zero"),
            ("9223372036854775807 + 1", "integer overflow"),
            ("'a' + 1", "no such overload: _+_(string, int)"),
            ("nobody", "undeclared reference to 'nobody'"),
            ("int('x')", "type conversion error"),
        ] {
            let error = evaluated(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        for (text, words) in [
            ("1 +", "mismatched input '<EOF>'"),
            ("self.nosuch()", "undeclared reference to 'nosuch'"),
            ("'a", "does not end"),
            ("has(self)", "invalid argument to has() macro"),
            ("a b", "something follows"),
            ("1 & 2", "token recognition error"),
        ] {
            let error = Program::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(Program::parse(&"(".repeat(10_000)).is_err());
        assert!(Program::parse(&format!("1{}", "+1".repeat(10_000))).is_err());
    }

    #[test]
    fn nothing_takes_longer_than_its_budget() {
        let text = "[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, \
                    [1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, a + b + c + d + e > 0)))))";
        let program = Program::parse(text).unwrap();
        assert_eq!(program.evaluate(&[], &mut 10_000), Err(EvalError::Budget));
        let text = "['xxxxxxxxxxxxxxxx'].map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).size() == 1";
        assert_eq!(Program::parse(text).unwrap().evaluate(&[], &mut 1000), Ok(Value::Bool(true)));
    }

    #[test]
    fn names_that_are_used_are_known() {
        let uses = |text: &str| Program::parse(text).unwrap().uses("oldSelf");
        assert!(uses("self == oldSelf") && uses("[1].all(i, i == oldSelf.x)"));
        assert!(!uses("self.oldSelf == 1") && !uses("[1].all(oldSelf, oldSelf == 1)"));
    }
}
