//! One rule of a role: what it allows, and whether others allow as much.

use serde_json::{Value, json};

use super::Attributes;

/// A rule, as `PolicyRule` of `rbac.authorization.k8s.io` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) paths: Vec<String>,
    pub(crate) verbs: Vec<String>,
}

impl Rule {
    pub(crate) fn read(rule: &Value) -> Self {
        let list = |field: &str| {
            let words = rule[field].as_array().into_iter().flatten();
            words.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            paths: list("nonResourceURLs"),
            verbs: list("verbs"),
        }
    }

    pub(crate) fn read_all(rules: &Value) -> Vec<Self> {
        rules.as_array().into_iter().flatten().map(Self::read).collect()
    }

    /// As `PolicyRule`.
    pub(crate) fn to_json(&self) -> Value {
        let mut rule = json!({"verbs": self.verbs});
        for (field, words) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ] {
            if !words.is_empty() {
                rule[field] = json!(words);
            }
        }
        rule
    }

    /// Whether it allows what is asked for.
    pub(crate) fn allows(&self, asked: &Attributes) -> bool {
        if !has(&self.verbs, &asked.verb) {
            return false;
        }
        if !asked.is_of_resource() {
            return self.paths.iter().any(|own| path_matches(own, &asked.path));
        }
        has(&self.groups, &asked.group)
            && self.has_resource(&asked.resource, &asked.subresource)
            && (self.names.is_empty() || self.names.contains(&asked.name))
    }

    fn has_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|own| match own.as_str() {
            "*" => true,
            own if subresource.is_empty() => own == resource,
            own => own.split_once('/').is_some_and(|(whole, part)| {
                part == subresource && (whole == "*" || whole == resource)
            }),
        })
    }

    /// The parts that each allow one thing, for [`uncovered`].
    fn parts(&self) -> Vec<Self> {
        let one = |word: &String| vec![word.clone()];
        let mut parts = Vec::new();
        for verb in &self.verbs {
            for path in &self.paths {
                parts.push(Self { paths: one(path), verbs: one(verb), ..Self::default() });
            }
            for group in &self.groups {
                for resource in &self.resources {
                    let whole = Self {
                        groups: one(group),
                        resources: one(resource),
                        verbs: one(verb),
                        ..Self::default()
                    };
                    if self.names.is_empty() {
                        parts.push(whole);
                        continue;
                    }
                    let named = |name: &String| Self { names: one(name), ..whole.clone() };
                    parts.extend(self.names.iter().map(named));
                }
            }
        }
        parts
    }

    /// Whether it allows all that a part of another rule allows.
    fn covers(&self, part: &Self) -> bool {
        let all = |own: &[String], theirs: &[String]| theirs.iter().all(|word| has(own, word));
        let covers_paths = part.paths.iter().all(|path| {
            self.paths
                .iter()
                .any(|own| own == path || path_matches(own, path.trim_end_matches('*')))
        });
        let covers_resources = part.resources.iter().all(|resource| {
            let (whole, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            self.resources.contains(resource) || self.has_resource(whole, subresource)
        });
        let covers_names = self.names.is_empty()
            || (!part.names.is_empty() && part.names.iter().all(|name| self.names.contains(name)));
        all(&self.verbs, &part.verbs)
            && all(&self.groups, &part.groups)
            && covers_resources
            && covers_names
            && covers_paths
    }

    /// In one line, as upstream shows rules (`rbac.PolicyRule.CompactString`).
    pub(crate) fn compact(&self) -> String {
        let parts = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.paths),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let shown = parts.iter().filter(|(_, words)| !words.is_empty());
        let shown: Vec<String> =
            shown.map(|(name, words)| format!("{name}:{}", quoted(words))).collect();
        format!("{{{}}}", shown.join(", "))
    }
}

/// What of some rules is not allowed by others, with verbs of the same resources together.
pub(crate) fn uncovered(asked: &[Rule], held: &[Rule]) -> Vec<Rule> {
    let parts = asked.iter().flat_map(Rule::parts);
    let mut missing: Vec<Rule> = Vec::new();
    for part in parts.filter(|part| !held.iter().any(|own| own.covers(part))) {
        let same = missing.iter_mut().find(|known| {
            (&known.groups, &known.resources, &known.names, &known.paths)
                == (&part.groups, &part.resources, &part.names, &part.paths)
        });
        match same {
            Some(known) if known.verbs.contains(&part.verbs[0]) => {}
            Some(known) => known.verbs.extend(part.verbs),
            None => missing.push(part),
        }
    }
    missing.sort();
    missing
}

/// As Go writes a list of strings with `%q`.
pub(crate) fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(" "))
}

fn has(own: &[String], word: &str) -> bool {
    own.iter().any(|own| own == "*" || own == word)
}

/// A star at the end stands for anything, and nowhere else for anything but itself.
fn path_matches(own: &str, path: &str) -> bool {
    match own.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => own == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str]) -> Rule {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Rule {
            groups: list(groups),
            resources: list(resources),
            names: list(names),
            verbs: list(verbs),
            paths: Vec::new(),
        }
    }

    fn asked(verb: &str, group: &str, resource: &str, name: &str) -> Attributes {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        }
    }

    #[test]
    fn a_rule_allows_what_it_names() {
        let get_pods = rule(&[""], &["pods"], &[], &["get"]);
        assert!(get_pods.allows(&asked("get", "", "pods", "x")));
        for (verb, group, resource) in
            [("list", "", "pods"), ("get", "apps", "pods"), ("get", "", "pods/log")]
        {
            assert!(!get_pods.allows(&asked(verb, group, resource, "x")), "{verb} {resource}");
        }
        let scales = rule(&["*"], &["*/scale"], &[], &["*"]);
        assert!(scales.allows(&asked("patch", "apps", "deployments/scale", "x")));
        assert!(!scales.allows(&asked("patch", "apps", "deployments", "x")));
        let named = rule(&[""], &["secrets"], &["a"], &["get", "list"]);
        assert!(named.allows(&asked("get", "", "secrets", "a")));
        assert!(!named.allows(&asked("get", "", "secrets", "b")));
        assert!(!named.allows(&asked("list", "", "secrets", "")));
        assert!(rule(&["*"], &["*"], &[], &["*"]).allows(&asked("x", "y", "z/w", "")));
        let paths =
            Rule { paths: vec!["/api/*".into(), "/x".into()], ..rule(&[], &[], &[], &["get"]) };
        let path = |path: &str| Attributes {
            verb: "get".into(),
            path: path.into(),
            ..asked("", "", "", "")
        };
        assert!(paths.allows(&path("/api/v1")) && paths.allows(&path("/x")));
        assert!(!paths.allows(&path("/x/y")) && !paths.allows(&path("/apis")));
    }

    #[test]
    fn nobody_grants_more_than_is_held() {
        let held = [rule(&[""], &["pods", "secrets"], &[], &["get", "list"])];
        assert!(uncovered(&[rule(&[""], &["pods"], &["x"], &["get"])], &held).is_empty());
        let missing = uncovered(&[rule(&[""], &["pods", "nodes"], &[], &["get", "watch"])], &held);
        let words: Vec<String> = missing.iter().map(Rule::compact).collect();
        assert_eq!(
            words,
            [
                "{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"watch\"]}",
                "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"watch\"]}"
            ]
        );
        let named = [rule(&[""], &["pods"], &["x"], &["get"])];
        assert_eq!(uncovered(&[rule(&[""], &["pods"], &[], &["get"])], &named).len(), 1);
        let star = rule(&["*"], &["*"], &[], &["*"]);
        assert_eq!(uncovered(std::slice::from_ref(&star), &held).len(), 1);
        assert!(uncovered(&held, std::slice::from_ref(&star)).is_empty());
        let star = [star];
        assert!(uncovered(&[rule(&[""], &["pods/exec"], &[], &["create"])], &star).is_empty());
    }
}
