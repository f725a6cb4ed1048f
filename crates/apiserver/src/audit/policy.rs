//! Which requests are told, and how much of them (`Policy` of `audit.k8s.io/v1`).

use serde_json::Value;

use crate::authentication::User;
use crate::authorization::Attributes;
use crate::cluster::items;

/// How much is told, from nothing to everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    None,
    /// Who did what, and how it went.
    Metadata,
    /// What was sent, too.
    Request,
    /// What was answered, too.
    RequestResponse,
}

impl Level {
    const ALL: [Self; 4] = [Self::None, Self::Metadata, Self::Request, Self::RequestResponse];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// What is told of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) level: Level,
    /// Stages that are not told.
    pub(super) omitted: Vec<String>,
    pub(super) omits_managed_fields: bool,
}

/// Rules, of which the first that is about a request decides.
#[derive(Debug)]
pub(super) struct Policy {
    rules: Vec<Rule>,
    omitted: Vec<String>,
    omits_managed_fields: bool,
}

#[derive(Debug)]
struct Rule {
    level: Level,
    users: Vec<String>,
    groups: Vec<String>,
    verbs: Vec<String>,
    namespaces: Vec<String>,
    paths: Vec<String>,
    /// Group, resources and names.
    resources: Vec<(String, Vec<String>, Vec<String>)>,
    omitted: Vec<String>,
    omits_managed_fields: Option<bool>,
}

/// Stages of a request.
const STAGES: &[&str] = &["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];

impl Policy {
    /// Who did what, of everything, when it is done.
    pub(super) fn of_metadata() -> Self {
        let rule = serde_json::json!({"level": "Metadata"});
        let rules = Rule::read(&rule).into_iter().collect();
        Self { rules, omitted: vec!["RequestReceived".to_owned()], omits_managed_fields: true }
    }

    pub(super) fn read(policy: &Value) -> Result<Self, String> {
        let is_policy = policy["kind"] == "Policy"
            && policy["apiVersion"].as_str().is_some_and(|v| v.starts_with("audit.k8s.io/"));
        if !is_policy {
            return Err("it is no Policy of audit.k8s.io/v1".to_owned());
        }
        let rules: Result<Vec<Rule>, String> = items(&policy["rules"])
            .iter()
            .enumerate()
            .map(|(at, rule)| Rule::read(rule).map_err(|why| format!("rules[{at}]: {why}")))
            .collect();
        let rules = rules?;
        if rules.is_empty() {
            return Err("it has no rules".to_owned());
        }
        let omits_managed_fields = policy["omitManagedFields"] == true;
        Ok(Self { rules, omitted: stages(&policy["omitStages"])?, omits_managed_fields })
    }

    pub(super) fn verdict(&self, user: &User, asked: &Attributes) -> Verdict {
        let Some(rule) = self.rules.iter().find(|rule| rule.is_about(user, asked)) else {
            return Verdict {
                level: Level::None,
                omitted: Vec::new(),
                omits_managed_fields: false,
            };
        };
        Verdict {
            level: rule.level,
            omitted: [&*self.omitted, &*rule.omitted].concat(),
            omits_managed_fields: rule.omits_managed_fields.unwrap_or(self.omits_managed_fields),
        }
    }
}

fn words(value: &Value) -> Vec<String> {
    items(value).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn stages(value: &Value) -> Result<Vec<String>, String> {
    let stages = words(value);
    match stages.iter().find(|stage| !STAGES.contains(&stage.as_str())) {
        Some(stage) => Err(format!("there is no stage {stage:?}; there are {}", STAGES.join(", "))),
        None => Ok(stages),
    }
}

impl Rule {
    fn read(rule: &Value) -> Result<Self, String> {
        let word = rule["level"].as_str().unwrap_or_default();
        let level = Level::ALL.into_iter().find(|level| level.word() == word);
        let known = "there are None, Metadata, Request, RequestResponse";
        let level = level.ok_or_else(|| format!("there is no level {word:?}; {known}"))?;
        let resource = |one: &Value| {
            let group = one["group"].as_str().unwrap_or_default().to_owned();
            (group, words(&one["resources"]), words(&one["resourceNames"]))
        };
        Ok(Self {
            level,
            users: words(&rule["users"]),
            groups: words(&rule["userGroups"]),
            verbs: words(&rule["verbs"]),
            namespaces: words(&rule["namespaces"]),
            paths: words(&rule["nonResourceURLs"]),
            resources: items(&rule["resources"]).iter().map(resource).collect(),
            omitted: stages(&rule["omitStages"])?,
            omits_managed_fields: rule["omitManagedFields"].as_bool(),
        })
    }

    fn is_about(&self, user: &User, asked: &Attributes) -> bool {
        let any =
            |words: &[String], word: &str| words.is_empty() || words.iter().any(|own| own == word);
        let is_in_group =
            self.groups.is_empty() || self.groups.iter().any(|group| user.is_in(group));
        any(&self.users, &user.name)
            && is_in_group
            && any(&self.verbs, &asked.verb)
            && self.is_about_place(asked)
    }

    fn is_about_place(&self, asked: &Attributes) -> bool {
        let is_of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if !is_of_resources && self.paths.is_empty() {
            return true;
        }
        if !asked.is_of_resource() {
            return self.paths.iter().any(|path| match path.strip_suffix('*') {
                Some(beginning) => asked.path.starts_with(beginning),
                None => *path == asked.path,
            });
        }
        let is_in_namespace =
            self.namespaces.is_empty() || self.namespaces.contains(&asked.namespace);
        let is_of = |(group, resources, names): &(String, Vec<String>, Vec<String>)| {
            *group == asked.group
                && (resources.is_empty() || resources.iter().any(|own| is_resource(own, asked)))
                && (names.is_empty() || names.contains(&asked.name))
        };
        is_of_resources
            && is_in_namespace
            && (self.resources.is_empty() || self.resources.iter().any(is_of))
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/scale` or `*`; `pods` is not its parts.
fn is_resource(own: &str, asked: &Attributes) -> bool {
    match own.split_once('/') {
        None => own == "*" || (own == asked.resource && asked.subresource.is_empty()),
        Some((whole, part)) => {
            (whole == "*" || whole == asked.resource)
                && (part == asked.subresource || (part == "*" && !asked.subresource.is_empty()))
        }
    }
}
