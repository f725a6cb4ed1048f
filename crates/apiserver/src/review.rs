//! Questions that are answered at once: who am I, and what may I.

use serde_json::json;

use crate::failure::Failure;
use crate::request::{Answer, Request};
use crate::target::Target;

/// Answers a review. Everybody who is known may do everything: there are no roles yet.
pub(crate) fn answer(request: &Request, target: &Target) -> Result<Answer, Failure> {
    if request.method != "POST" {
        return Err(Failure::method_not_allowed());
    }
    let asked = request.object()?;
    let of = &*target.resource;
    let mut answer = json!({
        "kind": of.kind,
        "apiVersion": of.api_version(),
        "metadata": {"creationTimestamp": null},
        "spec": asked.get("spec").cloned().unwrap_or_else(|| json!({})),
    });
    answer["status"] = match of.kind {
        "SelfSubjectAccessReview" | "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            json!({"allowed": true, "reason": "there are no roles yet: who is known may do everything"})
        }
        "SelfSubjectRulesReview" => json!({
            "resourceRules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}],
            "nonResourceRules": [{"nonResourceURLs": ["*"], "verbs": ["*"]}],
            "incomplete": false,
        }),
        "SelfSubjectReview" => json!({"userInfo": {
            "username": request.user,
            "groups": ["system:masters", "system:authenticated"],
        }}),
        other => return Err(Failure::not_implemented(other)),
    };
    Ok(Answer::document(201, answer))
}
