//! Whoever asks.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Who is known.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// Who is not.
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Who may do everything, whatever the roles are.
pub(crate) const MASTERS: &str = "system:masters";
/// The name of whoever is not known.
pub(crate) const ANONYMOUS: &str = "system:anonymous";
/// What the names of service accounts begin with.
pub(crate) const ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// The group of all service accounts.
pub(crate) const ACCOUNTS: &str = "system:serviceaccounts";

/// Whoever asks, as `UserInfo` of `authentication.k8s.io` has it.
///
/// The default is nobody: without a name and without groups, who may do nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// What tells two users of one name apart; empty if nothing does.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user who is known, in these groups and in that of all who are.
    #[must_use]
    pub fn known(name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self { name: name.to_owned(), groups, ..Self::default() }
    }

    /// A service account.
    #[must_use]
    pub fn account(namespace: &str, name: &str) -> Self {
        let own = format!("{ACCOUNTS}:{namespace}");
        Self::known(&format!("{ACCOUNT_PREFIX}{namespace}:{name}"), &[ACCOUNTS, &own])
    }

    /// Whoever administers the cluster, and may do everything.
    #[must_use]
    pub fn administrator() -> Self {
        Self::known("kubernetes-admin", &[MASTERS])
    }

    /// Somebody of whom nothing is known.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// Whether the user is in a group.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// Whether the user may do everything.
    pub(crate) fn is_master(&self) -> bool {
        self.is_in(MASTERS)
    }

    /// The namespace and the name of a service account.
    pub(crate) fn as_account(&self) -> Option<(&str, &str)> {
        account_of(&self.name)
    }

    /// The node that the user is.
    pub(crate) fn as_node(&self) -> Option<&str> {
        let is_node = self.is_in("system:nodes");
        self.name.strip_prefix("system:node:").filter(|name| is_node && !name.is_empty())
    }

    /// As `UserInfo`.
    pub(crate) fn to_json(&self) -> Value {
        let mut info = json!({"username": self.name});
        if !self.uid.is_empty() {
            info["uid"] = self.uid.clone().into();
        }
        if !self.groups.is_empty() {
            info["groups"] = json!(self.groups);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

/// The namespace and the name of the service account that a user name is of.
pub(crate) fn account_of(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(ACCOUNT_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty()).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_who_is_a_node_and_who_a_service_account() {
        let account = User::account("a", "b");
        assert_eq!(account.as_account(), Some(("a", "b")));
        assert_eq!(account.groups, [ACCOUNTS, "system:serviceaccounts:a", AUTHENTICATED]);
        assert_eq!(User::known("system:node:n", &["system:nodes"]).as_node(), Some("n"));
        assert_eq!(User::known("system:node:n", &[]).as_node(), None);
        assert_eq!(User::known("system:serviceaccount:x", &[]).as_account(), None);
        assert!(User::administrator().is_master() && !User::anonymous().is_in(AUTHENTICATED));
    }
}
