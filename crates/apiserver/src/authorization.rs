//! Who may do what: roles and their bindings, nodes, and those who may do everything.
//!
//! Rules are read from the log once and kept; a look whether a role has changed since costs a look at
//! what happened since. The order is upstream's: the privileged group, nodes, roles.

mod aggregation;
mod attributes;
pub(crate) mod bootstrap;
mod escalation;
mod node;
mod policy;
mod review;
mod rule;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use aggregation::settle;
pub(crate) use attributes::Attributes;
pub(crate) use escalation::check as check_escalation;
pub(crate) use node::claims;
pub(crate) use policy::Cache;
pub(crate) use review::answer as answer_review;

use crate::authentication::User;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::request::Request;

/// What is said to somebody who wants something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed(String),
    /// Nothing allows it; nothing forbids it either, which comes to the same.
    NoOpinion(String),
}

impl Cluster {
    /// Refuses what whoever asks may not do.
    pub(crate) fn authorize(&self, request: &Request) -> Result<(), Failure> {
        let asked = Attributes::of(request);
        let decision = self.decide(&request.user, &asked)?;
        match decision {
            Decision::Allowed(reason) => {
                request.notes.annotate("authorization.k8s.io/decision", "allow");
                request.notes.annotate("authorization.k8s.io/reason", &reason);
                Ok(())
            }
            Decision::NoOpinion(reason) => {
                request.notes.annotate("authorization.k8s.io/decision", "forbid");
                request.notes.annotate("authorization.k8s.io/reason", &reason);
                Err(asked.forbidden(&request.user.name, &reason))
            }
        }
    }

    /// Refuses what whoever asks may not make, where a patch would make it.
    pub(crate) fn authorize_creation(&self, request: &Request) -> Result<(), Failure> {
        let asked = Attributes { verb: "create".to_owned(), ..Attributes::of(request) };
        match self.decide(&request.user, &asked)? {
            Decision::Allowed(_) => Ok(()),
            Decision::NoOpinion(reason) => Err(asked.forbidden(&request.user.name, &reason)),
        }
    }

    /// Whether somebody may do something.
    pub(crate) fn decide(&self, user: &User, asked: &Attributes) -> Result<Decision, Failure> {
        if user.is_master() {
            return Ok(Decision::Allowed(String::new()));
        }
        let mut reasons = Vec::new();
        if let Some(node) = user.as_node() {
            match node::decide(self, node, asked)? {
                Decision::NoOpinion(reason) => reasons.push(reason),
                allowed @ Decision::Allowed(_) => return Ok(allowed),
            }
        }
        match self.policy()?.decide(user, asked) {
            Decision::NoOpinion(reason) => {
                reasons.push(reason);
                reasons.retain(|reason| !reason.is_empty());
                Ok(Decision::NoOpinion(reasons.join("\n")))
            }
            allowed @ Decision::Allowed(_) => Ok(allowed),
        }
    }

    pub(crate) fn may(&self, user: &User, asked: &Attributes) -> Result<bool, Failure> {
        Ok(matches!(self.decide(user, asked)?, Decision::Allowed(_)))
    }

    fn policy(&self) -> Result<Arc<policy::Policy>, Failure> {
        Ok(self.policies.policy(&*self.log)?)
    }
}
