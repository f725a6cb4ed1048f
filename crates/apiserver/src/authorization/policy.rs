//! All roles and bindings, as they are now: read from the log once, and again when one has changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::rule::Rule;
use super::{Attributes, Decision};
use crate::authentication::User;
use crate::log::{Log, LogError, Range, Revision};

/// Where roles and bindings are in the log.
const PREFIX: &str = "/rbac.authorization.k8s.io/";

/// Keeps a [`Policy`] as new as the log.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<Option<(Revision, Arc<Policy>)>>);

impl Cache {
    /// The policy of now. It is read again only if a role or a binding has changed.
    pub(crate) fn policy(&self, log: &dyn Log) -> Result<Arc<Policy>, LogError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, policy)) = held.as_mut() {
            match log.events(PREFIX, *seen, Duration::ZERO) {
                Ok((events, now)) if events.is_empty() => {
                    *seen = now;
                    return Ok(policy.clone());
                }
                Ok(_) | Err(LogError::Compacted(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let (policy, revision) = Policy::read(log)?;
        let policy = Arc::new(policy);
        *held = Some((revision, policy.clone()));
        Ok(policy)
    }
}

/// All roles and bindings.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    roles: BTreeMap<RoleName, Vec<Rule>>,
    /// Bindings of the whole cluster.
    cluster: Vec<Binding>,
    /// Those of namespaces.
    bindings: BTreeMap<String, Vec<Binding>>,
}

/// A role by its namespace, which is empty for the cluster's, and its name.
type RoleName = (String, String);

#[derive(Debug)]
struct Binding {
    /// Empty for those of the whole cluster.
    namespace: String,
    name: String,
    subjects: Vec<Value>,
    role: RoleRef,
}

/// The role that a binding gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoleRef {
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl RoleRef {
    pub(crate) fn read(binding: &Value) -> Self {
        let text = |field: &str| binding["roleRef"][field].as_str().unwrap_or_default().to_owned();
        Self { kind: text("kind"), name: text("name") }
    }

    pub(crate) fn is_of_cluster(&self) -> bool {
        self.kind != "Role"
    }
}

impl Policy {
    fn read(log: &dyn Log) -> Result<(Self, Revision), LogError> {
        let page = log.range(Range { prefix: PREFIX, ..Range::default() })?;
        let mut policy = Self::default();
        for entry in &page.entries {
            let object: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
            let text =
                |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (text("namespace"), text("name"));
            match entry.key[PREFIX.len()..].split('/').next() {
                Some("roles" | "clusterroles") => {
                    policy.roles.insert((namespace, name), Rule::read_all(&object["rules"]));
                }
                Some("rolebindings" | "clusterrolebindings") => {
                    let subjects = object["subjects"].as_array().cloned().unwrap_or_default();
                    let role = RoleRef::read(&object);
                    let binding = Binding { namespace: namespace.clone(), name, subjects, role };
                    match namespace.as_str() {
                        "" => policy.cluster.push(binding),
                        _ => policy.bindings.entry(namespace).or_default().push(binding),
                    }
                }
                _ => {}
            }
        }
        Ok((policy, page.revision))
    }

    /// What somebody may do: allowed, or no word on it.
    pub(super) fn decide(&self, user: &User, asked: &Attributes) -> Decision {
        let mut missing = Vec::new();
        for (binding, subject) in self.bindings_of(user, &asked.namespace) {
            match self.rules(&binding.role, &binding.namespace) {
                None => missing.push(not_found(&binding.role)),
                Some(rules) if rules.iter().any(|rule| rule.allows(asked)) => {
                    return Decision::Allowed(reason(binding, subject));
                }
                Some(_) => {}
            }
        }
        missing.dedup();
        match &missing[..] {
            [] => Decision::NoOpinion(String::new()),
            [one] => Decision::NoOpinion(format!("RBAC: {one}")),
            all => Decision::NoOpinion(format!("RBAC: [{}]", all.join(", "))),
        }
    }

    /// All rules that somebody has in a namespace, or in the whole cluster.
    pub(super) fn rules_of(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let bindings = self.bindings_of(user, namespace);
        let rules =
            bindings.filter_map(|(binding, _)| self.rules(&binding.role, &binding.namespace));
        rules.flatten().cloned().collect()
    }

    /// The rules of a role, by whatever refers to it in a namespace.
    pub(super) fn rules(&self, role: &RoleRef, namespace: &str) -> Option<&[Rule]> {
        let namespace = if role.is_of_cluster() { "" } else { namespace };
        self.roles.get(&(namespace.to_owned(), role.name.clone())).map(Vec::as_slice)
    }

    fn bindings_of<'a>(
        &'a self,
        user: &'a User,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Binding, &'a Value)> {
        let own = self.bindings.get(namespace).into_iter().flatten();
        self.cluster.iter().chain(own).filter_map(move |binding| {
            let subject = binding.subjects.iter().find(|s| is_subject(user, s, &binding.namespace));
            subject.map(|subject| (binding, subject))
        })
    }
}

fn is_subject(user: &User, subject: &Value, namespace: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => user.name == name,
        Some("Group") => user.is_in(name),
        Some("ServiceAccount") => {
            let own = subject["namespace"].as_str().filter(|own| !own.is_empty());
            let own = own.unwrap_or(namespace);
            !own.is_empty() && user.as_account() == Some((own, name))
        }
        _ => false,
    }
}

fn not_found(role: &RoleRef) -> String {
    let kind = role.kind.to_lowercase();
    format!("{kind}.rbac.authorization.k8s.io {:?} not found", role.name)
}

/// Why something is allowed, in upstream's words (`clusterRoleBindingDescriber`).
fn reason(binding: &Binding, subject: &Value) -> String {
    let (kind, place) = match binding.namespace.as_str() {
        "" => ("ClusterRoleBinding", binding.name.clone()),
        namespace => ("RoleBinding", format!("{}/{namespace}", binding.name)),
    };
    let text = |field: &str| subject[field].as_str().unwrap_or_default();
    let mut subject = format!("{} {:?}", text("kind"), text("name"));
    if text("kind") == "ServiceAccount" {
        subject.clear();
        let _ = write!(subject, "ServiceAccount \"{}/{}\"", text("name"), text("namespace"));
    }
    let role = &binding.role;
    format!("RBAC: allowed by {kind} {place:?} of {} {:?} to {subject}", role.kind, role.name)
}
