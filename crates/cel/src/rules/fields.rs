//! Fields that a rule asks for and its schema does not have: found when the rule is defined, and not
//! by whoever makes the first object.

use std::sync::Arc;

use serde_json::Value as Json;

use super::escaped;
use crate::parse::{Each, Expression, Program};

/// The name of a field that an expression asks of `self` or `oldSelf`, or of what is in them, and that
/// is not there.
pub(super) fn undefined(program: &Program, schema: &Json, is_whole: bool) -> Option<String> {
    let own = Known { schema: Some(schema), is_whole };
    let mut scope = vec![(Arc::from("self"), own), (Arc::from("oldSelf"), own)];
    walk(&program.root, &mut scope).err()
}

/// What is known of a value.
#[derive(Clone, Copy)]
struct Known<'s> {
    schema: Option<&'s Json>,
    /// Whether it has what every object has.
    is_whole: bool,
}

const NOTHING: Known<'static> = Known { schema: None, is_whole: false };

type Scope<'s> = Vec<(Arc<str>, Known<'s>)>;

fn walk<'s>(of: &Expression, scope: &mut Scope<'s>) -> Result<Known<'s>, String> {
    match of {
        Expression::Name(name) => {
            let found = scope.iter().rev().find(|(own, _)| own == name);
            return Ok(found.map_or(NOTHING, |(_, known)| *known));
        }
        Expression::Field(of, name, _) | Expression::Has(of, name) => {
            let known = walk(of, scope)?;
            return field(known, name);
        }
        Expression::Index(of, index, _) => {
            let known = walk(of, scope)?;
            let _ = walk(index, scope)?;
            return Ok(item(known));
        }
        Expression::Each(each, of, name, all) => {
            let known = walk(of, scope)?;
            let is_list = known.schema.is_some_and(|schema| schema["type"] == "array");
            let own = if is_list { item(known) } else { NOTHING };
            scope.push((name.clone(), own));
            let outcome = all.iter().try_for_each(|one| walk(one, scope).map(drop));
            let _ = scope.pop();
            outcome?;
            return Ok(if *each == Each::Filter { known } else { NOTHING });
        }
        Expression::Literal(_) => {}
        Expression::Not(of) | Expression::Negative(of) => drop(walk(of, scope)?),
        Expression::Both(_, a, b) => {
            let _ = walk(a, scope)?;
            let _ = walk(b, scope)?;
        }
        Expression::Call(of, _, all) => {
            for one in of.iter().map(|of| &**of).chain(all) {
                let _ = walk(one, scope)?;
            }
        }
        Expression::List(all) => all.iter().try_for_each(|one| walk(one, scope).map(drop))?,
        Expression::Map(all) => {
            for (key, value) in all {
                let _ = walk(key, scope)?;
                let _ = walk(value, scope)?;
            }
        }
        Expression::Choice(all) => all.iter().try_for_each(|one| walk(one, scope).map(drop))?,
    }
    Ok(NOTHING)
}

fn field<'s>(of: Known<'s>, name: &str) -> Result<Known<'s>, String> {
    let Some(schema) = of.schema.filter(|schema| schema["type"] == "object") else {
        return Ok(NOTHING);
    };
    let others = &schema["additionalProperties"];
    if others.is_object() {
        return Ok(Known { schema: Some(others), is_whole: false });
    }
    if of.is_whole && ["apiVersion", "kind", "metadata"].contains(&name) {
        return Ok(NOTHING);
    }
    let mut properties = schema["properties"].as_object().into_iter().flatten();
    match properties.find(|(own, _)| escaped(own) == name) {
        Some((_, inner)) => Ok(Known {
            schema: Some(inner),
            is_whole: inner["x-kubernetes-embedded-resource"] == true,
        }),
        None => Err(name.to_owned()),
    }
}

fn item(of: Known<'_>) -> Known<'_> {
    let Some(schema) = of.schema else { return NOTHING };
    let inner = match schema["type"].as_str() {
        Some("array") => &schema["items"],
        Some("object") => &schema["additionalProperties"],
        _ => return NOTHING,
    };
    Known { schema: inner.is_object().then_some(inner), is_whole: false }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_are_not_there_are_found() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "object", "properties": {"b-c": {"type": "string"}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "string"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"v": {}}}},
            "free": {"x-kubernetes-preserve-unknown-fields": true},
        }});
        let found = |text: &str| undefined(&Program::parse(text).unwrap(), &schema, true);
        for text in [
            "self.a.b__dash__c == 'x' && has(self.a)",
            "self.list.all(i, i.n != '') && self.list[0].n == ''",
            "self.list.filter(i, i.n == '').exists(j, j.n == '')",
            "self.map.all(k, self.map[k].v == 1) && self.map.x.v == 1",
            "self.free.whatever.more && self.metadata.name == 'a'",
            "oldSelf.?a.?b__dash__c.orValue('') == ''",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
        for (text, field) in [
            ("self.nosuch", "nosuch"),
            ("true || has(self.a.nosuch)", "nosuch"),
            ("self.list.all(i, i.m == 1)", "m"),
            ("self.list.map(i, self.list[0].m)", "m"),
            ("self.map['x'].w > oldSelf.map['x'].v", "w"),
            ("size(self.a.b) > 1 ? true : false", "b"),
        ] {
            assert_eq!(found(text).as_deref(), Some(field), "{text}");
        }
    }
}
